"""Who has what: the claims of this process, which are never written, and how waiting work is found.

Lives on the writer's thread, between its transactions.  A claimed row stays `state=0` in the file: `taken` hides it, and a
crash forgets it, which is right, for it is then still waiting.  A cursor for each lane only saves the walk over rows that
are taken already; its law: every waiting row at or before it is taken.  So whatever makes a row waiting says so
(`appeared`), and what touches many rows drops the cursors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import apsw

from mta.envelope import Claim, Want
from mta.queue.sqlite import statements as sql
from mta.queue.state import Lane

__all__ = ["Claims"]

LOWEST = (-(1 << 63), 0)  # before every (due, id)

Damaged = Callable[[Want, UnicodeDecodeError], None]


class Claims:
    """taken: id of a recipient -> recipients of its message, 0 where that is not known or its body is in a file.

    removed: taken ones that an operator removed; they go when they are settled, whatever became of them.
    """

    __slots__ = ("_cursors", "removed", "taken")

    def __init__(self) -> None:
        self.taken: dict[int, int] = {}
        self.removed: set[int] = set()
        self._cursors: dict[tuple[str, int], tuple[int, int]] = {}

    def claim(self, db: apsw.Connection, wants: Sequence[Want], now: int, damaged: Damaged) -> list[Claim]:
        """Due rows of each want, oldest first, nobody else's; from now on they are taken, unless the file cannot be read.

        damaged: told of a lane with a row of which the text cannot be.  That row holds up those behind it, and no other lane.
        """
        claims: list[Claim] = []
        try:
            for want in wants:
                self._claim(db, want, now, claims, damaged)
        except BaseException:
            for claim in claims:
                del self.taken[claim.id]
            self.forget_cursors()
            raise
        return claims

    def _claim(self, db: apsw.Connection, want: Want, now: int, claims: list[Claim], damaged: Damaged) -> None:
        key = (want.dest, want.lane)
        place = self._cursors.get(key, LOWEST)
        left = want.quota
        cursor = db.execute(sql.CLAIM, (*key, now, *place))
        try:
            while left > 0 and (row := cursor.fetchone()) is not None:
                place = (row[4], row[0])
                if row[0] not in self.taken:
                    claims.append(Claim(*row))
                    self.taken[row[0]] = 0
                    left -= 1
        except UnicodeDecodeError as error:
            damaged(want, error)
        if left > 0:
            self._cursors.pop(key, None)  # nothing due is left: no cursor to keep for a lane that may never come back
        else:
            self._cursors[key] = place
        cursor.close()

    def settled(self, ids: set[int]) -> None:
        """Committed: these are nobody's any more."""
        for id in ids:
            del self.taken[id]
        if self.removed:
            self.removed -= ids

    def appeared(self, dest: str, lane: int, due: int, id: int) -> None:
        """A row is waiting there now."""
        cursor = self._cursors.get((dest, lane))
        if cursor is not None and (due, id) <= cursor:
            self._cursors[dest, lane] = (due, id - 1)

    def forget_cursors(self) -> None:
        """Many rows have changed."""
        self._cursors.clear()

    def lanes(self, db: apsw.Connection, dest: str | None, after: str, limit: int) -> list[Lane]:
        """The lanes of one destination, or of those after a name: at least `limit` if there are, never half a destination's."""
        found: list[Lane] = []
        for name in dests(db, after) if dest is None else (dest,):
            for lane in lanes_of(db, name):
                due = self._first_due(db, name, lane)
                if due is not None:
                    found.append(Lane(name, lane, due))
            if len(found) >= limit:
                break
        return found

    def _first_due(self, db: apsw.Connection, dest: str, lane: int) -> int | None:
        cursor = db.execute(sql.FIRST_DUE, (dest, lane, *self._cursors.get((dest, lane), LOWEST)))
        due = next((due for due, id in cursor if id not in self.taken), None)
        cursor.close()
        return due


def dests(db: apsw.Connection, after: str = "") -> Iterator[str]:
    """The destinations with waiting rows, by one seek each."""
    dest: str | None = after
    while (dest := db.execute(sql.NEXT_DEST, (dest,)).get) is not None:
        yield dest


def lanes_of(db: apsw.Connection, dest: str) -> Iterator[int]:
    """The lanes of a destination with waiting rows, by one seek each."""
    lane: int | None = -1
    while (lane := db.execute(sql.NEXT_LANE, (dest, lane)).get) is not None:
        yield lane
