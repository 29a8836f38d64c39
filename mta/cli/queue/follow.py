"""`mta queue list --follow`: what has come, changed and gone since the last look (pure).

The first `limit` recipients of the selection are watched, so memory and work are bounded however long the queue is.  A
recipient has changed when its state, destination, attempts, last reply or next try has.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.control.queue_facts import Facts

__all__ = ["Seen", "changes"]

Seen = dict[str, Facts]  # id of the recipient -> what was last known of it
WATCHED = ("state", "dest", "due", "attempts", "last_try", "last_reply")


def changes(before: Seen, after: Seen) -> Iterator[tuple[str, Facts]]:
    """(new | changed | gone, row) for each difference, in the order of the queue; what is gone comes first."""
    for id, row in before.items():
        if id not in after:
            yield "gone", row
    for id, row in after.items():
        known = before.get(id)
        if known is None:
            yield "new", row
        elif any(known[key] != row[key] for key in WATCHED):
            yield "changed", row
