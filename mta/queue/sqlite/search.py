"""What people and sweeps look for in the queue: recipients by what they are, sums, messages that are late.

Functions of a read-only connection, run in threads beside the writer.  Where an index leads to few rows it is used; all
else walks by primary key, which is the order of age, and looks at a bounded number of rows: each call answers with the
place to go on from (0 at the end), and each statement is a read transaction of its own of some milliseconds, so that no
search holds the log (docs/queue.md).  What is found may have changed when it is acted upon: the writer looks again.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import Any

import apsw

from mta.envelope import Claim, Message
from mta.queue.ids import id_at, ms_of
from mta.queue.pattern import as_glob
from mta.queue.sqlite import statements as sql
from mta.queue.state import AGES, DestSummary, Overdue, Place, Row, Selector, State

__all__ = ["Summary", "counts", "is_searched", "late", "late_by", "page"]

LOOK = 10_000  # rows looked at in one call
FEW = 5_000  # ids that are fetched by an index and sorted
EVERY_ID = (1 << 63) - 1
COUNT = "SELECT count(*) FROM delivery WHERE state=%d"  # walks through an index: 25 ms for a million


def is_searched(selector: Selector) -> bool:
    """Has it conditions that no index knows?"""
    return not (selector.to is None and selector.sender is None and selector.account is None and selector.before is None)


def page(db: apsw.Connection, selector: Selector, after: int, limit: int) -> tuple[list[Row], int]:
    """At most `limit` recipients of ids above `after` in their order, and after which id to go on, 0: that was all."""
    values = _conditions(selector)
    if selector.message is not None:
        last = db.execute(sql.LAST_RECIPIENT, (selector.message,)).get or 0
        rows = _rows(db, values, max(after, selector.message), last, limit)
        return rows, rows[-1].id if len(rows) == limit else 0
    ids = _few(db, selector, after)
    return _walk(db, values, after, limit) if ids is None else _each(db, values, ids, limit)


def _conditions(selector: Selector) -> dict[str, Any]:
    return {
        "dest": selector.dest,
        "state": None if selector.state is None else int(selector.state),
        "to": None if selector.to is None else as_glob(selector.to),
        "sender": None if selector.sender is None else as_glob(selector.sender),
        "before": selector.before,
        "account": selector.account,
    }


def _rows(db: apsw.Connection, conditions: dict[str, Any], after: int, last: int, limit: int) -> list[Row]:
    values = conditions | {"after": after, "last": last, "limit": limit}
    return [_row(*row) for row in db.execute(sql.BROWSE, values)]


def _row(id: int, message: int, sender: str, address: str, dest: str, state: int, *others: Any) -> Row:
    return Row(id, message, sender, address, dest, State(state), *others)


def _each(db: apsw.Connection, values: dict[str, Any], ids: list[int], limit: int) -> tuple[list[Row], int]:
    found: list[Row] = []
    for id in ids:
        found += _rows(db, values, id - 1, id, 1)
        if len(found) == limit:
            return found, id
    return found, 0


def _walk(db: apsw.Connection, values: dict[str, Any], after: int, limit: int) -> tuple[list[Row], int]:
    """By primary key, in windows that are small as long as every row is found."""
    found: list[Row] = []
    looked, size = 0, limit + 1
    while looked < LOOK:
        size = min(size * 2, LOOK)
        last = _end(db, sql.WINDOW, after, size)
        found += _rows(db, values, after, last or EVERY_ID, limit - len(found))
        if len(found) == limit:
            return found, found[-1].id
        if last is None:
            return found, 0
        after, looked = last, looked + size
    return found, after


def _end(db: apsw.Connection, text: str, after: int, count: int) -> int | None:
    """The id that is so many rows after that one, None where there are fewer."""
    found: int | None = db.execute(text, (after, count - 1)).get
    return found


def _few(db: apsw.Connection, selector: Selector, after: int) -> list[int] | None:
    """The ids above `after`, sorted, where an index leads to few; None where all must be walked through."""
    found: list[int] = []
    for state in State if selector.state is None else (selector.state,):
        text = _index(selector.dest, state)
        if text is None:
            return None
        cursor = db.execute(text, {"dest": selector.dest, "limit": FEW + 1 - len(found)})
        found += [row[0] for row in cursor]
        if len(found) > FEW:
            return None
    return sorted(id for id in found if id > after)


def _index(dest: str | None, state: State) -> str | None:
    if state is State.WAITING:
        return None if dest is None else sql.READY_DEST
    if state is State.TAKEN:
        return sql.FRESH if dest is None else sql.FRESH_DEST
    return sql.HELD if dest is None else sql.HELD_DEST


# -- sums


def counts(db: apsw.Connection) -> dict[State, int]:
    """The recipients in each state, by the indexes alone; what was claimed from the file counts as waiting."""
    return {state: db.execute(COUNT % state).get for state in State}


class Summary:
    """The recipients of each destination, counted bite by bite; times are ms."""

    def __init__(self, now: int) -> None:
        ages = [id_at(now - age + 1) for age in AGES]
        self._values = {"now": now, "young": ages[0], "middle": ages[1], "old": ages[2]}
        self._sums: dict[str, list[int]] = {}
        self._after = 0

    def bite(self, db: apsw.Connection) -> bool:
        """Count the next rows.  False: that was all."""
        last = _end(db, sql.WINDOW, self._after, LOOK)
        for dest, *sums in db.execute(sql.SUMMARY, self._values | {"after": self._after, "last": last or EVERY_ID}):
            known = self._sums.get(dest)
            if known is None:
                self._sums[dest] = sums
            else:  # the oldest is the one that was seen first
                self._sums[dest] = [known[n] if n == OLDEST else known[n] + sums[n] for n in range(len(sums))]
        self._after = last or 0
        return last is not None

    def largest(self, limit: int) -> list[DestSummary]:
        """Those with the most recipients."""
        names = nsmallest(limit, self._sums, key=lambda name: (-self._sums[name][-1], name))
        return [_summary(name, *self._sums[name]) for name in names]


OLDEST = 4  # column of SUMMARY behind the destination


def _summary(
    name: str, waiting: int, due: int, held: int, taken: int, oldest: int, young: int, middle: int, old: int, count: int
) -> DestSummary:
    ages = (young, middle - young, old - middle, count - old)
    return DestSummary(name, waiting, due, held, taken, ms_of(oldest), ages)


# -- delays


def late(db: apsw.Connection, before: int, after: int, limit: int) -> tuple[list[Overdue], int]:
    """Messages above `after` and begun before a time whose senders are to be warned, and where to go on, 0: that was all."""
    end, border = _end(db, sql.WINDOW_MESSAGES, after, LOOK), id_at(before) - 1
    last = border if end is None else min(end, border)
    found: list[Overdue] = []
    for id, nrcpt in list(db.execute(sql.LATE, {"after": after, "last": last, "limit": LOOK})):
        found += _overdue(db, id, nrcpt)
        if len(found) == limit:
            return found, id
    return found, 0 if end is None or end >= border else end


def late_by(db: apsw.Connection, now: int, after: Place, limit: int) -> tuple[list[Overdue], Place | None]:
    """Messages whose time has passed, behind a place in the order of these times; and where to go on, None: that was all."""
    found: list[Overdue] = []
    rows = list(db.execute(sql.LATE_BY, {"now": now, "by": after[0], "after": after[1], "limit": LOOK}))
    for id, nrcpt, by in rows:
        found += _overdue(db, id, nrcpt)
        if len(found) == limit:
            return found, (by, id)
    return found, (rows[-1][2], rows[-1][0]) if len(rows) == LOOK else None


def _overdue(db: apsw.Connection, id: int, nrcpt: int) -> list[Overdue]:
    """The message, where it has recipients that wait and whose sender is to hear of it."""
    claims = tuple(Claim(*row) for row in db.execute(sql.LATE_RECIPIENTS, (id, id + nrcpt)))
    envelope = db.execute(sql.LOAD, (id,)).fetchone() if claims else None
    return [] if envelope is None else [Overdue(Message(*envelope[:-1]), claims)]
