"""One message as a sheet for people: facts in, lines out (pure).

Envelope, flags, every recipient with its attempts, last reply and next try, and the header.  The attempts before the last
one are in the log.  What strangers wrote is printed without its control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mta.cli.queue.table import age, plain, size
from mta.control.queue_facts import Facts

__all__ = ["Line", "header_lines", "sheet"]

Line = tuple[str, str]  # label, text


def sheet(message: Facts, rows: Sequence[Facts], now: int) -> Iterator[Line]:
    """The lines about a message and its recipients.  now: ms since the epoch."""
    yield "id", message["id"]
    yield "from", plain(message["from"]) or "<>"
    yield "begun", f"{moment(message['created'])} ({age(now - message['created'])} ago), {_end(message['expires'], now)}"
    yield "size", f"{size(message['size'])}; {len(rows)} of {message['accepted_recipients']} recipients left"
    account = f", account {plain(message['account'])}" if message["account"] else ""
    yield "source", f"{plain(message['source'])}{account}"
    if message["flags"]:
        yield "flags", " ".join(message["flags"])
    if message["priority"]:
        yield "priority", f"{message['priority']:+}"
    if message["deliver_by"]:
        yield "deliver by", _deliver_by(message, now)
    if message["envid"]:
        yield "envid", plain(message["envid"])
    if message["trace"]:
        yield "trace", plain(message["trace"])
    for row in rows:
        yield from _recipient(row, now)


def _end(expires: int, now: int) -> str:
    return f"expires in {age(expires - now)}" if expires > now else "expired"


def _deliver_by(message: Facts, now: int) -> str:
    """RFC 2852: until when, and what then."""
    by, flags = message["deliver_by"], message["flags"]
    left = f"in {age(by - now)}" if by > now else f"{age(now - by)} ago"
    otherwise = "it goes back" if "BY_RETURN" in flags else "its sender is told"
    return f"{moment(by)} ({left}), else {otherwise}{'; traced' if 'BY_TRACE' in flags else ''}"


def _recipient(row: Facts, now: int) -> Iterator[Line]:
    yield "to", plain(row["to"])
    yield "  where", f"{row['state']} at {plain(row['dest'])}"
    if row["failed_dest"]:
        yield "  failed at", plain(row["failed_dest"])
    if row["state"] == "waiting":
        yield "  next try", moment(row["due"]) + (f" (in {age(row['due'] - now)})" if row["due"] > now else " (due)")
    tried = f", the last {moment(row['last_try'])} ({age(now - row['last_try'])} ago)" if row["last_try"] else ""
    yield "  attempts", f"{row['attempts']}{tried}"
    if row["last_reply"]:
        yield "  last reply", plain(row["last_reply"])


def header_lines(message: Facts) -> Iterator[str]:
    """The header section, line by line."""
    for line in message["header"].split("\n"):
        if line:
            yield plain(line.replace("\t", " "))
    if message["header_cut"]:
        yield "(cut here: the header is longer)"


def moment(ms: int) -> str:
    """A time as people write it, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
