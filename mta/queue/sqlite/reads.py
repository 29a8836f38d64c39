"""Reading beside the writer: read-only connections in a few threads.

Every read is a statement of its own: no transaction outlives it, so that no slow peer can keep the log from being reused
(docs/queue.md).  A message never changes while it is stored, so pieces read one by one fit together.  What of a file the
kernel has in memory, as it has of a body that has just come, is read without a thread: the way there and back costs more
than the piece.  But for a few pieces at once only, or a fast peer would have the reactor to itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.envelope import Message, Stored
from mta.interfaces import IBodyReader
from mta.queue.body import InThread, Spool
from mta.queue.sqlite import schema
from mta.queue.sqlite import statements as sql
from mta.status import MailError, transient

__all__ = ["BodyReader", "Reads", "load"]

PIECE = 65536
AT_HAND = 4  # pieces of a file that are read without a thread, then others have their turn
NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux: read only what waits for no disk; 0: this system cannot
T = TypeVar("T")


class Reads:
    """Runs functions of a read-only connection in threads; one connection for each that runs at the same time."""

    def __init__(self, path: Path, in_thread: InThread, vfs: str = "") -> None:
        self._path = path
        self._in_thread = in_thread
        self._vfs = vfs
        self._idle: list[apsw.Connection] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nothing is read any more."""
        return self._closed

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """function(connection, *arguments) in a thread; a MailError for what the database says."""
        if self._closed:  # a pool that has ended takes no calls, and does not say so
            return fail(transient("4.3.2", "the queue is not running"))
        return self._in_thread(self._run, function, arguments)

    def _run(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            db = self._idle.pop() if self._idle else schema.open_reader(self._path, self._vfs)
        except IndexError:  # another thread was quicker
            db = schema.open_reader(self._path, self._vfs)
        try:
            return function(db, *arguments)
        except (apsw.Error, ValueError) as error:  # damaged: text that is no UTF-8, a state that there is not
            raise transient("4.3.0", "cannot read the message now", reason=str(error)) from error
        finally:
            self._idle.append(db)

    def close(self) -> None:
        """After the last read: before the writer closes, or its log stays behind."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def gone(message: int) -> MailError:
    """It was asked for, and is not stored (any more)."""
    return transient("4.3.0", "the message is not in the queue", reason=f"message {message}")


def load(db: apsw.Connection, message: int) -> Stored:
    """Envelope and, when it is inline, the body."""
    row = db.execute(sql.LOAD, (message,)).fetchone()
    if row is None:
        raise gone(message)
    *values, place = row
    stored = Message(*values)
    if place < 0:
        return Stored(stored, None)
    pieces = (stored.size - len(stored.prefix) + PIECE - 1) // PIECE
    return Stored(stored, b"".join([chunk_at(db, message, place + number) for number in range(pieces)]))


def chunk_at(db: apsw.Connection, message: int, id: int) -> bytes:
    """One chunk of an inline body; a MailError when the message was removed meanwhile."""
    row = db.execute(sql.CHUNK, (id,)).fetchone()
    if row is None:
        raise gone(message)
    return bytes(row[0])


@implementer(IBodyReader)
class BodyReader:
    """A stored body, one piece for each read.  The file of a large one stays readable while it is open, come what may."""

    __slots__ = ("_at", "_at_hand", "_chunk", "_closed", "_file", "_left", "_message", "_reading", "_reads", "_spool")

    def __init__(self, message: int, reads: Reads, spool: Spool) -> None:
        self._message = message
        self._reads = reads
        self._spool = spool
        self._chunk: int | None = None  # id of the next one; None before the first read
        self._left = 0  # bytes that are to come
        self._file: int | None = None
        self._at = 0  # how far it was read
        self._at_hand = 0  # pieces that may be read without a thread
        self._reading = False
        self._closed = False

    def read(self) -> Deferred[bytes]:
        """The next piece."""
        if self._closed:
            return fail(ValueError("read of a closed body"))
        if self._at_hand and not self._reads.closed and (piece := self._from_memory(self._file)) is not None:
            return succeed(piece)
        self._reading = True
        return self._reads.run(self._next).addBoth(self._read)

    def _from_memory(self, file: int | None) -> bytes | None:
        """The next piece of a file, None when the disk would have to be waited for, or something is wrong: a thread finds out."""
        assert file is not None
        self._at_hand -= 1
        buffer = bytearray(PIECE)
        try:
            count = os.preadv(file, [buffer], self._at, NOWAIT)
        except OSError:  # not in memory; a file system that cannot tell
            self._at_hand = 0
            return None
        if not count and self._left:
            return None
        self._at += count
        self._left -= count
        return bytes(memoryview(buffer)[:count])

    def _read(self, result: Any) -> Any:
        self._reading = False
        if self._closed:
            self._close()
        return result

    def close(self) -> None:
        """Close the file, now or when the read that is under way returns."""
        self._closed = True
        if not self._reading:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # -- in a thread

    def _next(self, db: apsw.Connection) -> bytes:
        try:
            if self._chunk is None:
                self._begin(db)
            return self._from_rows(db) if self._file is None else self._from_file(self._file)
        except OSError as error:
            raise transient("4.3.0", "cannot read the message now", reason=str(error)) from error

    def _begin(self, db: apsw.Connection) -> None:
        row = db.execute(sql.BODY_PLACE, (self._message,)).fetchone()
        if row is None:
            raise gone(self._message)
        self._chunk, self._left = row
        if row[0] < 0:
            self._file = os.open(self._spool.path(self._message), os.O_RDONLY | os.O_CLOEXEC)

    def _from_file(self, file: int) -> bytes:
        piece = os.pread(file, PIECE, self._at)
        self._at += len(piece)
        self._left -= len(piece)
        self._at_hand = AT_HAND if NOWAIT else 0
        if not piece and self._left:
            raise transient("4.3.0", "the stored message is not whole", reason=str(self._spool.path(self._message)))
        return piece

    def _from_rows(self, db: apsw.Connection) -> bytes:
        if self._left <= 0 or self._chunk is None:
            return b""
        chunk = chunk_at(db, self._message, self._chunk)
        self._chunk += 1
        self._left -= len(chunk)
        return chunk
