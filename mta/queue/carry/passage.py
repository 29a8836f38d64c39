"""Messages out of one queue and into another, whatever the two are made of: the ways of export, import and move.

Out: recipients in the order of their ids, message by message, each body right behind its envelope.  What was delivered
meanwhile is not there, and nothing is said of it; a message whose body is not whole is left out, and the report says so.
In: bodies first (queue law R1), then the rows of up to 100 messages in one transaction, with the ids, attempts and times
that they had.  A message whose id is in use already is skipped, so everything may be repeated.  Memory holds one bite,
whatever the length of the queue.  Failures are MailErrors; what was adopted before one is whole and stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from mta.envelope import BodyRef, Stored
from mta.interfaces import IBodyReader, IBodySink
from mta.queue.carry.archive import Broken, Packing, Unpacking
from mta.queue.carry.record import Envelope
from mta.queue.state import Carried, CopyReport, Row, Selector, State
from mta.status import MailError, transient

__all__ = ["Bite", "Source", "Target", "Unreadable", "body_of", "by_message", "export", "filled", "loaded", "unpacked"]

PAGE = 1000  # recipients asked for at once
MESSAGES = 100  # of one bite
BYTES = 4 << 20  # of one bite that are kept in memory

Progress = Callable[[int], None]  # told a number that grows


class Source(Protocol):
    """See IQueue."""

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]: ...

    def load(self, message: int) -> Deferred[Stored]: ...

    def open_body(self, message: int) -> IBodyReader: ...


class Target(Protocol):
    """See IQueue."""

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]: ...

    def adopt(self, messages: Sequence[Carried]) -> Deferred[None]: ...


# -- out


async def by_message(source: Source, selector: Selector) -> AsyncIterator[tuple[Row, ...]]:
    """The selected recipients of each message."""
    found: list[Row] = []
    after = 0
    while rows := await source.browse(selector, after, PAGE):
        after = rows[-1].id
        for row in rows:
            if found and found[0].message != row.message:
                yield tuple(found)
                found.clear()
            found.append(row)
    if found:
        yield tuple(found)


class Unreadable(Exception):
    """A message cannot be read whole: why, for people."""


async def loaded(source: Source, id: int) -> Stored:
    """The message, perhaps with its body.  Unreadable."""
    try:
        return await source.load(id)
    except MailError as error:
        raise Unreadable(error.reason or str(error)) from error


async def body_of(source: Source, stored: Stored) -> AsyncIterator[bytes]:
    """The body in pieces.  Unreadable, also at the end when it was not as long as it ought to be."""
    left = stored.message.size - len(stored.message.prefix)
    async for piece in _pieces(source, stored):
        left -= len(piece)
        yield piece
    if left:
        raise Unreadable("its body is not as long as it ought to be")


async def _pieces(source: Source, stored: Stored) -> AsyncIterator[bytes]:
    if stored.body is not None:
        yield stored.body
        return
    reader = source.open_body(stored.message.id)
    try:
        while piece := await reader.read():
            yield piece
    except MailError as error:
        raise Unreadable(error.reason or str(error)) from error
    finally:
        reader.close()


async def export(sources: Sequence[Source], selector: Selector, packing: Packing, progress: Progress) -> CopyReport:
    """Write what is selected, of one queue after the other.  progress: told how many messages are written.

    OSError for what the file says.
    """
    left_out: list[tuple[int, str]] = []
    files = 0
    for source in sources:
        async for rows in by_message(source, selector):
            id = rows[0].message
            try:
                stored = await loaded(source, id)
                await _pack(source, stored, rows, packing)
                files += stored.body is None
            except (Unreadable, ValueError) as error:
                if await source.browse(Selector(message=id), 0, 1):  # else it was delivered meanwhile
                    left_out.append((id, str(error)))
            if packing.messages % MESSAGES == 0:
                progress(packing.messages)
    packing.close()
    progress(packing.messages)
    return CopyReport(packing.messages, packing.recipients, files, tuple(left_out))


async def _pack(source: Source, stored: Stored, rows: tuple[Row, ...], packing: Packing) -> None:
    packing.begin(stored.message, rows)
    try:
        async for piece in body_of(source, stored):
            packing.write(piece)
        packing.end()
    except (Unreadable, ValueError):
        packing.undo()
        raise


# -- in


class Bite:
    """Messages that are adopted together.  done: called with them when they are durable."""

    def __init__(self, target: Target, done: Callable[[Sequence[Carried]], None] = lambda _: None) -> None:
        self.messages = self.recipients = self.files = 0  # adopted
        self._target = target
        self._done = done
        self._waiting: list[Carried] = []
        self._sinks: list[IBodySink] = []
        self._size = 0

    async def add(self, carried: Carried, sink: IBodySink) -> None:
        """One more; what has gathered is adopted when that is enough."""
        self._waiting.append(carried)
        self._sinks.append(sink)
        self._size += len(carried.body.data or b"") + 200 * len(carried.recipients)
        if len(self._waiting) >= MESSAGES or self._size >= BYTES:
            await self.adopt()

    async def adopt(self) -> None:
        """What has gathered, durably.  MailError: nothing of it, and nothing of it is left behind."""
        if not self._waiting:
            return
        try:
            await self._target.adopt(self._waiting)
        except BaseException:
            self.abort()
            raise
        adopted, self._waiting, self._sinks, self._size = self._waiting, [], [], 0
        self.messages += len(adopted)
        self.recipients += sum(len(carried.recipients) for carried in adopted)
        self.files += sum(carried.body.data is None for carried in adopted)
        self._done(adopted)

    def abort(self) -> None:
        """Forget what has gathered."""
        for sink in self._sinks:
            sink.abort()
        self._waiting, self._sinks, self._size = [], [], 0


async def filled(sink: IBodySink, pieces: AsyncIterator[bytes]) -> BodyRef:
    """Write a whole body into a sink: what it gives at the end.  Aborted when that fails."""
    try:
        async for piece in pieces:
            if (wait := sink.write(piece)) is not None:
                await wait
        return await sink.finish()
    except BaseException:
        sink.abort()
        raise


async def _rest(unpacking: Unpacking) -> AsyncIterator[bytes]:
    for piece in unpacking.pieces():
        yield piece


async def unpacked(target: Target, unpacking: Unpacking, held: bool, progress: Progress) -> CopyReport:
    """Adopt what an export has written.  held: all of it.  progress: told how many bytes are read.

    MailError when the file is broken: it says behind which record, and how many before it were adopted.
    """
    bite = Bite(target)
    skipped = 0
    try:
        for number, envelope in enumerate(unpacking.records(), 1):
            if not await _unpack(target, envelope, unpacking, held, bite):
                skipped += 1
            if number % MESSAGES == 0:
                progress(unpacking.position)
        await bite.adopt()
    except Broken as error:
        await bite.adopt()
        said = f"{error}; before it {bite.messages} message(s) were imported, {skipped} were there already"
        raise transient("4.3.0", "the file is broken", reason=said) from error
    except MailError as error:
        bite.abort()
        said = f"{error.reason or error}; before it {bite.messages} message(s) were imported, {skipped} were there already"
        raise MailError(error.reply, said) from error
    except BaseException:
        bite.abort()
        raise
    progress(unpacking.position)
    return CopyReport(bite.messages, bite.recipients, bite.files, skipped=skipped)


async def _unpack(target: Target, envelope: Envelope, unpacking: Unpacking, held: bool, bite: Bite) -> bool:
    """One message.  False: it was there."""
    message = envelope.message
    prefix = unpacking.beginning(envelope.prefix)
    sink = await target.body_of(message.id, message.nrcpt)
    if sink is None:
        deque(unpacking.pieces(), 0)  # which looks whether it is whole
        return False
    body = await filled(sink, _rest(unpacking))
    rows = tuple(attrs.evolve(row, state=State.HELD) for row in envelope.recipients) if held else envelope.recipients
    await bite.add(Carried(attrs.evolve(message, prefix=prefix), rows, body), sink)
    return True
