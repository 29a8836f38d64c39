"""A queue that says wait, and clients that go: whatever the order, a body is whole or it is nowhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.receive.door import BODY, FULL, DoorCase


class BackPressureTests(DoorCase):
    """The queue says wait."""

    def test_waits(self) -> None:
        """While a write is under way nothing is read, and what had come already is written afterwards, in order, once."""
        session, wire = self.hello()
        self.envelope(session)
        sink = self.accept.sinks[0]
        sink.wait = wait = Deferred()
        session.dataReceived(b"one\r\n")
        self.assertEqual(wire.producerState, "paused")
        session.dataReceived(b"two\r\n")
        session.dataReceived(b"three\r\n.\r\n")
        self.assertEqual(sink.pieces, [b"one\r\n"])
        wire.clear()
        wait.callback(None)
        self.assertEqual((sink.pieces[1:], wire.producerState), ([b"two\r\nthree\r\n"], "producing"))
        self.assertEqual(wire.value(), b"250 2.0.0 Ok: queued as Q1000\r\n")

    def test_waits_again(self) -> None:
        """The queue may ask to wait with every write; the end of data waits with it."""
        session, wire = self.hello()
        self.envelope(session)
        sink = self.accept.sinks[0]
        first, second = Deferred(), Deferred()
        sink.wait = first
        session.dataReceived(b"one\r\n")
        session.dataReceived(b"two\r\n.\r\n")
        sink.wait = second
        wire.clear()
        first.callback(None)
        self.assertEqual((wire.value(), wire.producerState, sink.finished), (b"", "paused", False))
        second.callback(None)
        self.assertEqual((sink.pieces, wire.value()[:3]), ([b"one\r\n", b"two\r\n"], b"250"))

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
    def test_any_order_of_waits(self, steps: list[tuple[int, bool]]) -> None:
        """However the body is cut and whenever the queue says wait, it arrives whole, in order, and is answered once."""
        session, wire = self.hello()
        self.envelope(session)
        sink = self.accept.sinks[-1]
        wire.clear()
        stream, waiting = BODY + b".\r\n", []
        for length, wait in steps:
            if wait and not waiting:
                sink.wait = Deferred()
                waiting.append(sink.wait)
            session.dataReceived(stream[:length])
            stream = stream[length:]
            if not wait and waiting and sink.wait is None:
                waiting.pop().callback(None)
        session.dataReceived(stream)
        while waiting and sink.wait is None:
            waiting.pop().callback(None)
        sink.wait = None
        self.assertEqual(b"".join(sink.pieces), BODY)
        self.assertEqual(wire.value().count(b"\r\n"), 1)
        self.assertEqual(self.accept.accepted[-1].body.data, BODY)
        wire.lose()

    def test_never_again(self) -> None:
        """A write that does not return ends the connection, after the time for a piece of a body."""
        session, wire = self.hello()
        self.envelope(session)
        self.accept.sinks[0].wait = Deferred()
        session.dataReceived(b"one\r\n")
        wire.clear()
        self.clock.pump([1.0] * 182)
        self.assertEqual(wire.value()[:9], b"421 4.3.0")
        wire.lose()
        self.assertTrue(self.accept.sinks[0].aborted)


class GoneTests(DoorCase):
    """The client goes."""

    def test_in_the_body(self) -> None:
        """Nothing of a body without end is kept."""
        session, wire = self.hello()
        self.envelope(session)
        session.dataReceived(BODY)
        wire.lose()
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual(self.accept.accepted, [])

    def test_while_the_queue_writes(self) -> None:
        """The same when the queue had asked to wait; its late answer does no harm."""
        session, wire = self.hello()
        self.envelope(session)
        self.accept.sinks[0].wait = wait = Deferred()
        session.dataReceived(b"one\r\n")
        session.dataReceived(b"two\r\n.\r\n")
        wire.lose()
        wait.callback(None)
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual((self.accept.sinks[0].finished, self.accept.accepted), (False, []))

    def test_before_the_commit(self) -> None:
        """While the body becomes durable nothing was promised: the message is dropped, the client sends it again."""
        session, wire = self.hello()
        self.envelope(session)
        sink = self.accept.sinks[0]
        sink.finishing = Deferred()
        session.dataReceived(BODY + b".\r\n")
        wire.lose()
        sink.finishing.callback(sink.body())
        self.assertEqual((sink.aborted, self.accept.accepted), (True, []))

    def test_during_the_commit(self) -> None:
        """What is being committed is kept, and the log says that nobody heard of it."""
        self.accept.slow = True
        session, wire = self.hello()
        self.envelope(session)
        session.dataReceived(BODY + b".\r\n")
        wire.lose()
        self.accept.commits[0].callback(1000)
        self.assertFalse(self.accept.sinks[0].aborted)
        [accepted] = self.log.named("accepted")
        self.assertEqual(accepted["client_gone"], "yes")

    def test_commit_fails_with_nobody_there(self) -> None:
        """A failed commit whose client has gone is logged and leaves nothing."""
        self.accept.slow = True
        session, wire = self.hello()
        self.envelope(session)
        session.dataReceived(BODY + b".\r\n")
        wire.lose()
        self.accept.commits[0].errback(FULL)
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual(self.log.named("rejected")[0]["reply"], "452 4.3.1 Insufficient system storage")

    def test_reset(self) -> None:
        """RSET and a second EHLO forget the envelope; the machine takes no DATA then."""
        for command in (b"RSET\r\n", b"EHLO again\r\n"):
            session, _ = self.hello()
            self.codes(session, b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\n")
            self.assertEqual(self.codes(session, command), ["250"])
            self.assertEqual(self.codes(session, b"DATA\r\n"), ["503"])
        self.assertEqual(self.accept.sinks, [])
