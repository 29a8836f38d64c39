"""The part of the durable queue that operators and the clock ask: look, alter, file elsewhere, warn, sweep.

The middle part of `SqliteQueue` (engine.py), on top of calls.py.  What writes does so in bounded bites; what
is searched for is found beside the writer (search.py), a bite at a time, and the writer looks again before it alters.
Nothing here is on the way of a message that is delivered at the first try.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import apsw
from twisted.internet.defer import Deferred, fail

from mta.envelope import NewMessage
from mta.interfaces import IBodySink
from mta.queue.body import BodySink, unlink
from mta.queue.sqlite import alteration, search
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.backup import Progress, backup
from mta.queue.sqlite.calls import Calls
from mta.queue.state import (
    Alteration,
    Carried,
    CopyReport,
    DestState,
    DestSummary,
    Move,
    Overdue,
    Place,
    Row,
    Selector,
    SweepReport,
)
from mta.status import MailError, transient

__all__ = ["Upkeep"]

T = TypeVar("T")
NOT_WANTED = transient("4.3.0", "no warning is wanted")


class Upkeep(Calls):
    """See IQueue."""

    _copying: Deferred[None] | None = None  # fires when the backup that is under way has ended
    _closing = False  # it is to end soon

    # -- destinations

    def mark(
        self,
        dest: str,
        blocked_until: int | None = None,
        why: str | None = None,
        suspended: bool | None = None,
        clear: bool = False,
    ) -> Deferred[DestState]:
        """See IQueue."""
        now = self._now()
        return self._change(lambda db, _: alteration.mark(db, now, dest, blocked_until, why, suspended, clear))

    def destinations(self) -> Deferred[list[DestState]]:
        """See IQueue."""
        return self._not_running() if self._ids is None else self._reads.run(alteration.all_dests)

    # -- operators

    def alter(
        self, selector: Selector, action: Alteration, now: int, limit: int = 500, after: int = 0
    ) -> Deferred[tuple[int, int]]:
        """See IQueue."""
        # What is tried again keeps its place in the index: from destination to destination each bite would walk through all
        # that the ones before it have done.
        is_wide = action is Alteration.RETRY and selector.dest is None and selector.message is None
        if is_wide or search.is_searched(selector):
            return self._running(lambda: self._alter_found(selector, action, now, limit, after))
        return self._change(lambda db, large: alteration.alter(db, large, self.writer.claims, selector, action, now, limit))

    async def _alter_found(self, selector: Selector, action: Alteration, now: int, limit: int, after: int) -> tuple[int, int]:
        count, more = 0, True
        while more and count < limit:
            rows, after = await self._reads.run(search.page, selector, after, limit)
            ids = alteration.suitable(rows, action, now)
            if len(ids) > limit - count:
                del ids[limit - count :]
                after = ids[-1]
            if ids:
                count += await self._altered(ids, selector.dest, action, now)
            more = after > 0
        return count, after

    def _altered(self, ids: list[int], dest: str | None, action: Alteration, now: int) -> Deferred[int]:
        return self._change(lambda db, large: alteration.alter_found(db, large, self.writer.claims, ids, dest, action, now))

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        """See IQueue."""
        return self._running(lambda: self._browse(selector, after, limit))

    async def _browse(self, selector: Selector, after: int, limit: int) -> list[Row]:
        found, after = await self._reads.run(search.page, selector, after, limit)
        while after and len(found) < limit:
            rows, after = await self._reads.run(search.page, selector, after, limit - len(found))
            found += rows
        return found

    def summary(self, now: int, limit: int = 20) -> Deferred[list[DestSummary]]:
        """See IQueue.  What was claimed from the file counts as waiting, as it does there."""
        return self._running(lambda: self._summary(now, limit))

    async def _summary(self, now: int, limit: int) -> list[DestSummary]:
        summary = search.Summary(now)
        while await self._reads.run(summary.bite):
            pass
        return await self._reads.run(lambda _: summary.largest(limit))  # of many destinations that takes a while too

    def refile(self, moves: Sequence[Move], now: int) -> Deferred[int]:
        """See IQueue."""
        if len(moves) > alteration.MOST_MOVES:
            return fail(ValueError(f"at most {alteration.MOST_MOVES} recipients are moved at once, not {len(moves)}"))
        return self._change(lambda db, _: alteration.refile(db, self.writer.claims, moves, now))

    # -- delays

    def overdue(self, before: int, after: int = 0, limit: int = 100) -> Deferred[list[Overdue]]:
        """See IQueue."""
        return self._running(lambda: self._overdue(before, after, limit))

    async def _overdue(self, before: int, after: int, limit: int) -> list[Overdue]:
        found, after = await self._reads.run(search.late, before, after, limit)
        while after and len(found) < limit:
            more, after = await self._reads.run(search.late, before, after, limit - len(found))
            found += more
        return found

    def overdue_by(self, now: int, after: Place = (0, 0), limit: int = 100) -> Deferred[list[Overdue]]:
        """See IQueue."""
        return self._running(lambda: self._overdue_by(now, after, limit))

    async def _overdue_by(self, now: int, after: Place, limit: int) -> list[Overdue]:
        found, place = await self._reads.run(search.late_by, now, after, limit)
        while place is not None and len(found) < limit:
            more, place = await self._reads.run(search.late_by, now, place, limit - len(found))
            found += more
        return found

    def warn(self, message: int, spawn: Sequence[NewMessage]) -> Deferred[bool]:
        """See IQueue."""
        return self._running(lambda: self._warn(message, spawn))

    async def _warn(self, message: int, spawn: Sequence[NewMessage]) -> bool:
        missing = self._give(spawn)
        if missing is not None:
            raise missing
        now = self._now()
        try:
            warned: bool = await self._change(lambda db, _: alteration.warn(db, self.writer.claims, message, spawn, now))
        except MailError as error:
            self._stored(spawn, error)
            raise
        self._stored(spawn, None if warned else NOT_WANTED)
        return warned

    # -- what is remembered

    def noted(self, key: str) -> Deferred[str]:
        """See IQueue."""
        return self._ask(lambda db: db.execute(sql.NOTED, (key,)).get or "")

    def note(self, key: str, value: str) -> Deferred[None]:
        """See IQueue."""

        def write(db: apsw.Connection, _: object) -> None:
            db.execute(sql.NOTE, (key, value))

        return self._change(write)

    def sweep(self, now: int) -> Deferred[SweepReport]:
        """See IQueue."""
        return self._running(lambda: self._sweep.bite(now))

    # -- from another queue

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]:
        """See IQueue."""
        return self._running(lambda: self._body_of(id, recipients))

    async def _body_of(self, id: int, recipients: int) -> IBodySink | None:
        if await self._ask(lambda db: alteration.is_used(db, id, recipients)):
            return None
        await self._spool.run(unlink, self._spool.remains(id))
        return BodySink(id, self._spool)

    def adopt(self, messages: Sequence[Carried]) -> Deferred[None]:
        """See IQueue."""
        return self._running(lambda: self._adopt(messages))

    async def _adopt(self, messages: Sequence[Carried]) -> None:
        missing = self._give(messages)
        if missing is not None:
            raise missing
        try:
            await self._change(lambda db, _: alteration.adopt(db, messages))
        except MailError as error:
            self._stored(messages, error)
            raise
        self._stored(messages, None)

    # -- a copy

    def backup(self, dest: Path, progress: Progress) -> Deferred[CopyReport]:
        """Copy the whole queue into a folder that is not there yet (backup.py).  progress: called on the reactor's thread."""
        if self._copying is not None:
            return fail(transient("4.3.0", "one copy of the queue at a time", reason="a backup is under way"))
        ended = self._copying = Deferred[None]()

        def end(result: T) -> T:
            self._copying = None
            ended.callback(None)
            return result

        copying = self._running(
            lambda: backup(self._ask, self._spool, self._path.name, dest, progress, lambda: not self._closing)
        )
        return copying.addBoth(end)
