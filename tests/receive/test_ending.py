"""How a connection ends: timeouts, a stop of the service, a bug, a client that goes."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from mta.receive.ending import CLOSING_TIME, LAST_WORDS, Stage
from mta.status import Reply
from tests.receive.door import DoorCase, FakePolicy


class TimeoutTests(DoorCase):
    """RFC 5321 4.5.3.2.7."""

    def test_idle(self) -> None:
        """After five minutes of silence 421 4.4.2 and the end; a client that does not close then is cut off."""
        session, wire = self.hello()
        self.clock.pump([1.0] * 299)
        self.assertEqual(wire.value(), b"")
        self.clock.pump([1.0] * 2)
        self.assertEqual((wire.value()[:9], wire.disconnecting), (b"421 4.4.2", True))
        self.clock.pump([1.0] * int(CLOSING_TIME + 2))
        self.assertTrue(wire.lost)
        self.assertIn("421 4.4.2", self.log.named("disconnect")[0]["why"])
        self.assertIs(session.stage, Stage.GONE)

    def test_command_gains_time(self) -> None:
        """Each command gives five minutes more."""
        session, wire = self.hello()
        for _ in range(5):
            self.clock.pump([1.0] * 250)
            self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])
        self.assertFalse(wire.disconnecting)

    def test_drops_do_not(self) -> None:
        """Single bytes that make no command gain nothing: nobody holds a connection with a byte a minute."""
        session, wire = self.hello()
        for byte in b"NOOP NO":
            self.clock.pump([1.0] * 60)
            session.dataReceived(bytes([byte]))
        self.assertEqual(wire.value()[:9], b"421 4.4.2")

    def test_body_stalls(self) -> None:
        """Between two pieces of a body there may be three minutes; then 421, and nothing of it is left."""
        session, wire = self.hello()
        self.envelope(session)
        for _ in range(3):
            self.clock.pump([1.0] * 170)
            self.assertEqual(self.say(session, b"line\r\n"), [])
        self.clock.pump([1.0] * 182)
        self.assertEqual(wire.value()[:9], b"421 4.4.2")
        wire.lose()
        self.assertTrue(self.accept.sinks[0].aborted)

    def test_one_timer(self) -> None:
        """However many clients say however much, there is one timer."""
        for _ in range(20):
            session, _ = self.hello()
            self.say(session, b"NOOP\r\n" * 20)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class EndTests(DoorCase):
    """The ways out."""

    def test_quit(self) -> None:
        """QUIT is answered, then the connection is closed, and the log says why."""
        session, wire = self.hello()
        self.assertEqual(self.codes(session, b"QUIT\r\n"), ["221"])
        self.assertTrue(wire.disconnecting)
        session.dataReceived(b"MAIL FROM:<>\r\n")
        wire.lose()
        self.assertEqual(self.log.named("disconnect")[0]["why"], "quit")

    def test_lost(self) -> None:
        """A reset is told from an end."""
        _, wire = self.hello()
        wire.lose(ConnectionLost())
        self.assertIn("lost: ", str(self.log.named("disconnect")[0]["why"]))

    def test_lost_in_odd_ways(self) -> None:
        """Whatever OpenSSL gives as the reason, with words or without, the end is logged and nothing is left of the session."""
        for error in (SSL.SysCallError(-1, "Unexpected EOF"), SSL.SysCallError(104, "ECONNRESET"), SSL.Error([]), SSL.Error()):
            _, wire = self.hello()
            wire.lose(error)
            self.assertEqual((self.common.connections.total, len(self.common.roster)), (0, 0), error)
        self.assertIn("ECONNRESET", str(self.log.named("disconnect")[1]["why"]))

    def test_policy_that_cannot_be_cancelled(self) -> None:
        """A client goes while a policy thinks that breaks when it is told so: nothing of the session is left either."""
        self.begin(FakePolicy(helo=lambda: Deferred(lambda _: 1 / 0)))  # type: ignore[arg-type]
        session, wire = self.connect()
        session.dataReceived(b"EHLO client.example\r\n")
        self.assertRaises(ZeroDivisionError, wire.lose)
        self.assertEqual((self.common.connections.total, len(self.common.roster)), (0, 0))

    def test_bug(self) -> None:
        """A bug in one session ends that session with 421 and a traceback for us; the others go on."""
        session, wire = self.hello()
        other, _ = self.hello()
        self.accept.create_body = lambda recipients: 1 / 0  # type: ignore[assignment,method-assign,return-value]
        commands = b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"
        self.assertEqual(self.codes(session, commands), ["250", "250", "421"])
        self.assertTrue(wire.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.codes(other, b"NOOP\r\n"), ["250"])

    def test_stop_idle(self) -> None:
        """At the stop an idle client hears 421 4.3.2."""
        session, wire = self.hello()
        session.stop()
        session.stop()
        self.assertEqual((wire.value()[:9], wire.disconnecting), (b"421 4.3.2", True))
        self.assertEqual(wire.value().count(b"\r\n"), 1)

    def test_stop_hurries(self) -> None:
        """A client that does not close is cut off two seconds after the stop, also one that was told to go before it."""
        for before in (b"", b"QUIT\r\n"):
            session, wire = self.hello()
            session.dataReceived(before)
            session.stop()
            self.clock.pump([1.0] * int(LAST_WORDS + 1))
            self.assertTrue(wire.lost)

    def test_stop_in_transaction(self) -> None:
        """A running transaction gets its answer first, and then 421."""
        session, wire = self.hello()
        self.envelope(session)
        session.stop()
        self.assertEqual((b"421" in wire.value(), wire.disconnecting), (False, False))
        self.assertEqual(self.codes(session, b"Subject: x\r\n\r\nbody\r\n.\r\n"), ["250", "421"])
        self.assertTrue(wire.disconnecting)
        self.assertEqual(len(self.accept.accepted), 1)

    def test_cut(self) -> None:
        """When the time is over the transaction ends with 421, and nothing of it is left."""
        session, wire = self.hello()
        self.envelope(session)
        session.dataReceived(b"half a")
        session.stop()
        session.cut()
        self.assertTrue(wire.value().endswith(b"closing connection\r\n"))
        wire.lose()
        self.assertTrue(self.accept.sinks[0].aborted)
        self.assertEqual(self.accept.accepted, [])

    def test_one_write_a_turn(self) -> None:
        """A pipelined batch is answered with one write."""
        session, wire = self.hello()
        writes: list[bytes] = []
        wire.write = writes.append  # type: ignore[method-assign,assignment]
        session.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nRCPT TO:<b@example.org>\r\nNOOP\r\n")
        self.assertEqual(len(writes), 1)

    def test_late_calls(self) -> None:
        """What comes too late for a session that is gone does nothing."""
        session, wire = self.hello()
        wire.lose()
        session.answer(Reply(250, "2.0.0", "Ok"))
        session.expire()
        session.stop()
        session.cut()
        session.begin()
        self.assertEqual(wire.value(), b"")
