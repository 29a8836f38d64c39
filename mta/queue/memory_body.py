"""Bodies of the queue in memory: collected whole, read in pieces as from a file."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.envelope import BodyRef
from mta.interfaces import IBodyReader, IBodySink
from mta.queue.ids import id_text
from mta.status import MailError, transient

__all__ = ["MemoryReader", "MemorySink", "missing"]

PIECE = 64 * 1024


def missing() -> MailError:
    """What is asked for is not in the queue (any more)."""
    return transient("4.3.0", "no such message in the queue")


@implementer(IBodySink)
class MemorySink:
    """A body being received."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.name = id_text(id)
        self.size = 0
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Always means "go on"."""
        self._pieces.append(data)
        self.size += len(data)

    def finish(self) -> Deferred[BodyRef]:
        """At once, whatever its size."""
        return succeed(BodyRef(self.size, b"".join(self._pieces)))

    def abort(self) -> None:
        """Nothing is left of it."""
        self._pieces.clear()


@implementer(IBodyReader)
class MemoryReader:
    """Reads a body; None: there is none."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data
        self._at = 0

    def read(self) -> Deferred[bytes]:
        """The next piece."""
        if self._data is None:
            return fail(missing())
        piece = self._data[self._at : self._at + PIECE]
        self._at += len(piece)
        return succeed(piece)

    def close(self) -> None:
        """No more will be read."""
        self._data = b""
