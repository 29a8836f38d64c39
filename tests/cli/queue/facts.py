"""Facts for the tests of what is printed."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000_000  # ms
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ID = "0ABCDEFGHJKM0"

ROW: dict[str, Any] = {
    "id": ID,
    "recipient": "0ABCDEFGHJKM1",
    "from": "ann@example.com",
    "to": "bob@example.org",
    "dest": "smtp:_mx/example.org",
    "state": "waiting",
    "due": NOW + 5 * MINUTE,
    "attempts": 3,
    "created": NOW - 3 * HOUR,
    "expires": NOW + 2 * DAY,
    "size": 12_345,
    "last_try": NOW - 20 * MINUTE,
    "last_code": 450,
    "last_reply": "450 4.2.1 mailbox busy",
    "failed_dest": None,
    "lane": 3,
    "account": None,
    "flags": [],
}
MESSAGE: dict[str, Any] = {
    "id": ID,
    "from": "ann@example.com",
    "created": NOW - 3 * HOUR,
    "expires": NOW + 2 * DAY,
    "size": 12_345,
    "accepted_recipients": 2,
    "source": "smtp",
    "account": None,
    "envid": None,
    "flags": [],
    "priority": 0,
    "deliver_by": 0,
    "trace": None,
    "header": "Received: from a by b\nSubject: test",
    "header_cut": False,
}
DEST: dict[str, Any] = {
    "dest": "smtp:_mx/example.org",
    "suspended": False,
    "blocked_until": 0,
    "why": None,
    "fails": 0,
    "first_fail": None,
    "total": 10,
    "waiting": 7,
    "due": 4,
    "held": 2,
    "taken": 1,
    "oldest": NOW - 2 * DAY,
    "ages": [1, 2, 3, 4],
}


def row(**changed: Any) -> dict[str, Any]:
    """A recipient."""
    return {**ROW, **changed}
