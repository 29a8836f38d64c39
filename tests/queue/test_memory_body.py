"""Bodies in memory: what goes in comes out, in pieces; nothing is left of what was given up."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.interfaces import IBodyReader, IBodySink
from mta.queue.memory_body import PIECE, MemoryReader, MemorySink
from mta.status import MailError


class MemoryBodyTests(SynchronousTestCase):
    """Sink and reader."""

    def test_collects(self) -> None:
        """The pieces of a body, joined; its size counts while it grows."""
        sink = MemorySink(4711)
        verifyObject(IBodySink, sink)
        sink.write(b"one ")
        sink.write(b"two")
        self.assertEqual(7, sink.size)
        body = self.successResultOf(sink.finish())
        self.assertEqual((7, b"one two", None), (body.size, body.data, body.path))

    def test_abort(self) -> None:
        """Twice is once."""
        sink = MemorySink(4711)
        sink.write(b"x")
        sink.abort()
        sink.abort()
        self.assertEqual(b"", self.successResultOf(sink.finish()).data)

    def test_reads_in_pieces(self) -> None:
        """At most 64 KiB at once, b"" at the end and after it."""
        reader = MemoryReader(b"x" * (PIECE + 5))
        verifyObject(IBodyReader, reader)
        self.assertEqual([PIECE, 5, 0, 0], [len(self.successResultOf(reader.read())) for _ in range(4)])
        reader.close()
        self.assertEqual(b"", self.successResultOf(reader.read()))

    def test_missing(self) -> None:
        """No body, no bytes: the caller hears of it."""
        self.failureResultOf(MemoryReader(None).read(), MailError)
