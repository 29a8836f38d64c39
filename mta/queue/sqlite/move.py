"""`mta queue move`: everything from the queue of one data directory into that of another; no service runs at either.

Ids, attempts, times and states stay as they are.  A bite of messages is durable at the target, bodies and rows, before the
commit that removes it from the source: a kill leaves it at both at worst, and the same command again finds it at the target
and removes it from the source.  Until that was done neither service may be started, or that bite goes out twice; the locks
of both are held all the time.  What cannot go (its body is not whole, its id is another message's there) stays and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mta.envelope import Message
from mta.queue.body import storage_error
from mta.queue.carry.passage import Bite, Unreadable, body_of, by_message, filled, loaded
from mta.queue.sqlite.backup import Progress
from mta.queue.sqlite.schema import refused
from mta.queue.sqlite.still import Owned, at_once, owning
from mta.queue.state import Carried, CopyReport, Row, Selector
from mta.status import MailError

__all__ = ["move"]


def move(data_dir: Path, to: Path, progress: Progress) -> CopyReport:
    """Blocks.  MailError: what was moved before is at the target, all else is where it was."""
    path = data_dir / "queue" / "0.db"
    if not path.exists():
        raise refused(path, "there is no queue")
    if to.resolve() == data_dir.resolve():
        raise refused(path, "is where it is to go")
    try:
        with owning(data_dir) as source, owning(to) as target:
            target.remember(source)
            return at_once(_Move(source, target, progress).run())
    except OSError as error:
        raise storage_error(error) from error


class _Move:
    def __init__(self, source: Owned, target: Owned, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._bite = Bite(target, self._adopted)
        self._left: list[tuple[int, str]] = []
        self._skipped = 0

    async def run(self) -> CopyReport:
        """All of it."""
        total = self._source.count()
        try:
            async for rows in by_message(self._source, Selector()):
                await self._carry(rows)
                self._progress("messages", self._bite.messages + self._skipped, total)
            await self._bite.adopt()
        except MailError as error:
            self._bite.abort()
            said = f"{error.reason or error}; {self._bite.messages} message(s) were moved: repeat it before a service is started"
            raise MailError(error.reply, said) from error
        except BaseException:
            self._bite.abort()
            raise
        bite = self._bite
        return CopyReport(bite.messages, bite.recipients, bite.files, tuple(self._left), self._skipped)

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
        self._source.remove([row for row in rows if row.id in present])
        missing = sum(row.id not in present for row in rows)
        if missing:  # delivered there already, or never brought there: nobody can say
            self._left.append((message.id, f"it is there without {missing} of its recipients"))
        else:
            self._skipped += 1

    def _adopted(self, messages: Sequence[Carried]) -> None:
        """They are durable at the target."""
        self._source.remove([row for each in messages for row in each.recipients])


def _same(one: Message, other: Message) -> bool:
    """Flags may differ: somebody was warned of a delay."""
    return (one.created, one.sender, one.size, one.nrcpt, one.prefix) == (
        other.created,
        other.sender,
        other.size,
        other.nrcpt,
        other.prefix,
    )
