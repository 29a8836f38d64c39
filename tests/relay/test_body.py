"""Bodies on their way out: only as fast as the peer takes them, closed whatever happens."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mta.interfaces import IBodyReader
from mta.relay.body import BodyFeed
from mta.status import MailError, transient


@implementer(IBodyReader)
class Reader:
    """Pieces from a list, at once or when told; an exception in the list errbacks."""

    def __init__(self, *pieces: bytes | Exception, wait: bool = False) -> None:
        self.pieces = list(pieces)
        self.wait = wait
        self.reads = 0
        self.closed = 0
        self.waiting: Deferred[bytes] | None = None

    def read(self) -> Deferred[bytes]:
        self.reads += 1
        if self.wait:
            self.waiting = Deferred()
            return self.waiting
        return self.next()

    def next(self) -> Deferred[bytes]:
        piece = self.pieces.pop(0) if self.pieces else b""
        return fail(piece) if isinstance(piece, Exception) else succeed(piece)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, None
        assert waiting is not None
        self.next().addBoth(waiting.callback)

    def close(self) -> None:
        self.closed += 1


class BodyFeedTests(SynchronousTestCase):
    """`BodyFeed`."""

    def feed(self, reader: Reader) -> BodyFeed:
        self.taken: list[bytes] = []
        self.ends: list[object] = []
        feed = BodyFeed(reader, self.taken.append, lambda: self.ends.append("end"), lambda f: self.ends.append(f.value))
        verifyObject(IPushProducer, feed)
        return feed

    def test_whole_body(self) -> None:
        """Every piece in order, then the end, once; the reader is closed."""
        reader = Reader(b"one", b"two")
        self.feed(reader).resumeProducing()
        self.assertEqual((self.taken, self.ends, reader.closed), ([b"one", b"two"], ["end"], 1))

    def test_pausing(self) -> None:
        """While paused nothing is read; a piece already asked for is still given on."""
        reader = Reader(b"one", b"two", wait=True)
        feed = self.feed(reader)
        feed.resumeProducing()
        feed.pauseProducing()
        reader.answer()
        self.assertEqual((self.taken, reader.reads), ([b"one"], 1))
        feed.resumeProducing()
        feed.resumeProducing()
        self.assertEqual(reader.reads, 2)
        reader.answer()
        reader.answer()
        self.assertEqual((self.taken, self.ends), ([b"one", b"two"], ["end"]))

    def test_pausing_from_within(self) -> None:
        """A transport that pauses the feed at each piece gets one at a time."""
        reader = Reader(*[b"x"] * 5)
        feed = BodyFeed(
            reader, lambda piece: (self.taken.append(piece), feed.pauseProducing()), lambda: self.ends.append(1), print
        )
        self.taken, self.ends = [], []
        for count in range(1, 6):
            feed.resumeProducing()
            self.assertEqual(len(self.taken), count)
        feed.resumeProducing()
        self.assertEqual(self.ends, [1])

    def test_many_pieces_at_hand(self) -> None:
        """Ten thousand pieces that are all at hand do not pile up on the stack."""
        self.feed(Reader(*[b"x"] * 10_000)).resumeProducing()
        self.assertEqual((len(self.taken), self.ends), (10_000, ["end"]))

    def test_unreadable(self) -> None:
        """A body that cannot be read ends in `failed`, and never in `end`."""
        reader = Reader(b"one", transient("4.3.0", "disk"))
        self.feed(reader).resumeProducing()
        self.assertEqual((self.taken, reader.closed, len(self.ends)), ([b"one"], 1, 1))
        self.assertIsInstance(self.ends[0], MailError)

    def test_stopped(self) -> None:
        """Stopped in the middle: closed once, nothing more given on, whatever the reader still says."""
        for last in (b"two", transient("4.3.0", "disk")):
            reader = Reader(b"one", last, wait=True)
            feed = self.feed(reader)
            feed.resumeProducing()
            reader.answer()
            feed.stopProducing()
            feed.stopProducing()
            reader.answer()
            feed.resumeProducing()
            self.assertEqual((self.taken, self.ends, reader.closed), ([b"one"], [], 1))
