"""How long a session may last ([limits] session_time): counted from the connection on, whatever is said meanwhile.  On a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred

from mta.config.settings import Limits, Seconds, Tls
from mta.receive.session import Session
from mta.testing.pki import Authority
from mta.tls.context import Prepared, ServerTls
from tests.receive.door import STRANGER, TRUSTED, DoorCase, FakePolicy, Wire
from tests.tls.contexts import talk

AUTHORITY = Authority.create()


def shake_hands(wire: Wire) -> None:
    """The handshake of a session that has said 220, in memory."""
    prepared = wire.secured[-1]
    assert isinstance(prepared, Prepared)
    client, server = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None), prepared.connection
    client.set_connect_state()
    talk(client, server)
    wire.getHandle = lambda: server  # type: ignore[attr-defined]
    assert wire.protocol is not None
    wire.protocol.handshakeCompleted()


class SessionTimeTests(DoorCase):
    """A minute for each session."""

    def setUp(self) -> None:
        super().setUp()
        directory = Path(self.mktemp())
        directory.mkdir()
        certificate, key = AUTHORITY.issue("mx.example.org").write(directory)
        self.tls = Tls(certificate=certificate, key=key)
        self.limited()

    def limited(self, seconds: float = 60, **more: Any) -> None:
        """Begin anew with this limit."""
        limits = Limits(session_time=Seconds(seconds))
        self.begin(server_tls=ServerTls.load(self.tls), tls=self.tls, limits=limits, **more)

    def busy(self, session: Session, seconds: int) -> None:
        """A client that says something every second."""
        for _ in range(seconds):
            self.clock.advance(1)
            session.dataReceived(b"NOOP\r\n")

    def test_over(self) -> None:
        """A busy client of any kind hears 421 4.4.2 when the time is over, and not before."""
        for address in (STRANGER, TRUSTED):
            session, wire = self.hello(address)
            self.busy(session, 58)
            self.assertNotIn(b"421", wire.value())
            self.clock.pump([1.0] * 3)
            self.assertTrue(wire.value().endswith(b"421 4.4.2 Session has lasted too long, closing connection\r\n"))
            self.assertTrue(wire.disconnecting)
            wire.lose()
        self.assertIn("too long", str(self.log.named("disconnect")[0]["why"]))

    def test_no_limit(self) -> None:
        """0 is no limit."""
        self.limited(0)
        session, wire = self.hello()
        self.busy(session, 1000)
        self.assertNotIn(b"421", wire.value())

    def test_s14_tls_does_not_restart_it(self) -> None:
        """S14: at 50 s TLS begins, at 61 s the session is over.  (The tarpit is kept too: test_allowance_tls.py.)"""
        session, wire = self.connect(tls="starttls")
        session.dataReceived(b"EHLO client.example\r\n")
        self.busy(session, 50)
        session.dataReceived(b"STARTTLS\r\n")
        shake_hands(wire)
        self.assertEqual(session.achieved.version, "TLSv1.3")
        self.busy(session, 8)
        self.assertNotIn(b"421", wire.value())
        self.clock.pump([1.0] * 3)
        self.assertIn(b"421 4.4.2 Session has lasted too long", wire.value())

    def test_running_transaction(self) -> None:
        """A transaction that runs then gets its answer first, and has the usual time for it."""
        session, wire = self.hello()
        self.envelope(session)
        for _ in range(100):
            self.clock.advance(1)
            session.dataReceived(b"a line\r\n")
        self.assertFalse(wire.disconnecting)
        self.assertEqual(self.codes(session, b".\r\n"), ["250", "421"])
        self.assertEqual(len(self.accept.accepted), 1)

    def test_stalled_transaction(self) -> None:
        """It is no way to stay for ever: a body that stalls behind the limit ends as any other."""
        session, wire = self.hello()
        self.envelope(session)
        self.clock.pump([1.0] * 70)
        self.assertFalse(wire.disconnecting)
        self.clock.pump([1.0] * 182)
        self.assertIn(b"421 4.4.2 Timeout", wire.value())

    def test_transaction_without_end(self) -> None:
        """S14: nor is a client that stays busy in it: NOOP between MAIL and RCPT, or a body line by line, ends after ten minutes more."""
        for word in (b"MAIL FROM:<>\r\n", b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"):
            session, wire = self.hello()
            session.dataReceived(word)
            self.busy(session, 60 + 598)
            self.assertFalse(wire.disconnecting)
            self.busy(session, 4)
            self.assertIn(b"421 4.4.2 Session has lasted too long", wire.value())
            self.assertTrue(wire.disconnecting)
            wire.lose()
        self.assertTrue(self.accept.sinks[0].aborted)

    def test_storing_without_end(self) -> None:
        """What the queue is storing is never refused, however late it is."""
        session, wire = self.hello()
        self.envelope(session)
        self.accept.slow = True
        session.dataReceived(b".\r\n")
        self.clock.pump([1.0] * 800)
        self.assertFalse(wire.disconnecting)
        wire.clear()
        self.accept.commits[0].callback(1)
        self.assertEqual([line[:3] for line in wire.value().splitlines()], [b"250", b"421"])

    def test_starttls_in_the_running_transaction(self) -> None:
        """A transaction that is given up for STARTTLS behind the limit is the end: no handshake, and nothing in clear behind 220."""
        session, wire = self.connect(tls="starttls")
        self.say(session, b"EHLO client.example\r\n")
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\n"), ["250"])
        self.clock.pump([1.0] * 61)
        self.assertFalse(wire.disconnecting)
        answers = self.say(session, b"STARTTLS\r\n")
        self.assertEqual([line[:4] for line in answers], ["220 "])
        self.assertTrue(wire.lost)
        self.assertEqual((self.common.slots.free, self.common.slots.waiting), (20, 0))

    def test_question_under_way(self) -> None:
        """While a policy thinks about EHLO the time may end: 421 at once, and the answer comes too late."""
        thinking: Deferred[None] = Deferred()
        self.limited(policy=FakePolicy(helo=lambda: thinking))
        session, wire = self.connect()
        session.dataReceived(b"EHLO client.example\r\n")
        self.clock.pump([1.0] * 61)
        self.assertIn(b"421 4.4.2 Session", wire.value())
        thinking.callback(None)
        self.assertEqual(wire.value().count(b"\r\n"), 2)

    def test_silent(self) -> None:
        """Who says nothing is not waited for longer than the session may last."""
        _, wire = self.hello()
        self.clock.pump([1.0] * 61)
        self.assertIn(b"421 4.4.2", wire.value())
