"""`mta queue move`: everything from the queues of one data directory into that of another; no service runs at either.

Ids, attempts, times and states stay as they are.  A bite of messages is durable at the target, bodies and rows, before the
commit that removes it from the source: a kill leaves it at both at worst, and the same command again finds it at the target
and removes it from the source.  Until that was done neither service may be started, or that bite goes out twice; the locks
of both are held all the time.  What cannot go (its body is not whole, its id is another message's there) stays and is told.

`Moving` is the way of it, also for a worker that adopts what was left over (`workers/adoption.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred

from mta.envelope import Message, Stored
from mta.queue.body import storage_error
from mta.queue.carry.passage import MESSAGES, Bite, Target, Unreadable, body_of, by_message, filled, loaded
from mta.queue.sqlite.backup import Progress
from mta.queue.sqlite.files import nodes_in, queue_file
from mta.queue.sqlite.schema import refused
from mta.queue.sqlite.still import Owned, at_once, owning
from mta.queue.state import Carried, CopyReport, Row, Selector, total
from mta.status import MailError

__all__ = ["Moving", "Place", "move"]

MARGIN = 10 * MESSAGES  # what cannot go lies in front of what can


def move(data_dir: Path, to: Path, progress: Progress) -> CopyReport:
    """Blocks.  MailError: what was moved before is at the target, all else is where it was."""
    nodes = nodes_in(data_dir)
    if not nodes:
        raise refused(queue_file(data_dir), "there is no queue")
    if to.resolve() == data_dir.resolve():
        raise refused(queue_file(data_dir), "is where it is to go")
    reports = []
    try:
        with ExitStack() as held:
            sources = [held.enter_context(owning(data_dir, node)) for node in nodes]
            target = held.enter_context(owning(to))
            for source in sources:
                target.remember(source)
                reports.append(_moved(Moving(source, target, progress)))
    except OSError as error:
        raise storage_error(error) from error
    return total(reports)


def _moved(moving: Moving) -> CopyReport:
    try:
        return at_once(moving.run())
    except MailError as error:
        said = f"{error.reason or error}; {moving.messages} message(s) were moved: repeat it before a service is started"
        raise MailError(error.reply, said) from error


class Place(Target, Protocol):
    """Where it goes, and what is there.  See IQueue."""

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]: ...

    def load(self, message: int) -> Deferred[Stored]: ...


class Moving:
    """All calls of source and target give Deferreds that have fired, so `at_once` runs it.

    progress: told after each message; what it raises ends the moving, and what was moved is at the target.  owed: what is
    durable at the target and could not be removed from the source; whoever goes on there begins with it.
    """

    def __init__(self, source: Owned, target: Place, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._bite = Bite(target, self._adopted)
        self._left: list[tuple[int, str]] = []
        self._skipped = 0
        self.owed: Sequence[Row] = ()

    @property
    def messages(self) -> int:
        """That are at the target."""
        return self._bite.messages

    async def run(self) -> CopyReport:
        """All of it."""
        total = self._source.count()
        try:
            async for rows in by_message(self._source, Selector()):
                await self._carry(rows)
                self._progress("messages", self._bite.messages + self._skipped, total)
            await self._bite.adopt()
        except BaseException:
            self._bite.abort()
            raise
        bite = self._bite
        return CopyReport(bite.messages, bite.recipients, bite.files, tuple(self._left), self._skipped)

    async def repeat(self) -> int:
        """Remove from the source what the last bite of a moving that was killed has brought to the target: how many messages.

        A bite is removed before the next one is begun, and the order is that of ids: what is behind one bite's worth of messages
        that are not at the target is not there either.
        """
        fresh = 0
        async for rows in by_message(self._source, Selector()):
            message = await self._envelope(rows)
            sink = None if message is None else await self._target.body_of(message.id, message.nrcpt)
            if sink is not None:
                sink.abort()
                fresh += 1
            elif message is not None:
                await self._met(message, rows)
            if fresh >= MARGIN:
                break
        return self._skipped

    async def _envelope(self, rows: tuple[Row, ...]) -> Message | None:
        try:
            return (await loaded(self._source, rows[0].message)).message
        except Unreadable:
            return None  # the moving itself tells it

    async def _carry(self, rows: tuple[Row, ...]) -> None:
        """One message, to be adopted with others."""
        try:
            stored = await loaded(self._source, rows[0].message)
            message = stored.message
            sink = await self._target.body_of(message.id, message.nrcpt)
            if sink is None:
                await self._met(message, rows)
                return
            body = await filled(sink, body_of(self._source, stored))
        except Unreadable as error:
            self._left.append((rows[0].message, str(error)))
            return
        await self._bite.add(Carried(message, rows, body), sink)

    async def _met(self, message: Message, rows: tuple[Row, ...]) -> None:
        """Its id is in use at the target: by itself, when a move was cut short."""
        try:
            there = (await self._target.load(message.id)).message
        except MailError:
            there = None
        if there is None or not _same(there, message):
            self._left.append((message.id, "its id is another message's there"))
            return
        present = {row.id for row in await self._target.browse(Selector(message=message.id), 0, message.nrcpt)}
        self._remove([row for row in rows if row.id in present])
        missing = sum(row.id not in present for row in rows)
        if missing:  # delivered there already, or never brought there: nobody can say
            self._left.append((message.id, f"it is there without {missing} of its recipients"))
        else:
            self._skipped += 1

    def _adopted(self, messages: Sequence[Carried]) -> None:
        """They are durable at the target."""
        self._remove([row for each in messages for row in each.recipients])

    def _remove(self, rows: Sequence[Row]) -> None:
        self.owed = rows
        self._source.remove(rows)
        self.owed = ()


def _same(one: Message, other: Message) -> bool:
    """Flags may differ: somebody was warned of a delay."""
    return (one.created, one.sender, one.size, one.nrcpt, one.prefix) == (
        other.created,
        other.sender,
        other.size,
        other.nrcpt,
        other.prefix,
    )
