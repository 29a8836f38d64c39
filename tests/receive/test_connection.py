"""The connection: greeting, limits, flow; its end is in test_ending.py.  On strings and a clock; TLS is in test_connection_tls.py."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mta.config.settings import Limits
from mta.receive.connection import MAX_UNPARSED
from mta.receive.ending import CLOSING_TIME
from tests.receive.door import STRANGER, TRUSTED, DoorCase, FakePolicy


class GreetingTests(DoorCase):
    """The begin of a connection."""

    def test_greeting(self) -> None:
        """The client is greeted and logged, and counted until it goes."""
        _, wire = self.connect()
        self.assertEqual(wire.value(), b"220 mx.example.org ESMTP\r\n")
        self.assertEqual(self.log.named("connect"), [{"client": STRANGER, "port": 40000, "proxy": None}])
        self.assertEqual(self.common.connections.total, 1)
        wire.lose()
        self.assertEqual(self.common.connections.total, 0)
        [gone] = self.log.named("disconnect")
        self.assertEqual((gone["client"], gone["why"], gone["commands"]), (STRANGER, "closed by client", 0))

    def test_s30a_s05_not_offered(self) -> None:
        """S30a, S05, A58, A65, A70: without a certificate EHLO lists no STARTTLS, and the command is 502 5.5.1."""
        session, _ = self.connect(tls="starttls")
        self.assertNotIn("STARTTLS", " ".join(self.say(session, b"EHLO a\r\n")))
        self.assertIn("502 5.5.1", self.say(session, b"STARTTLS\r\n")[0])

    def test_service_not_open(self) -> None:
        """A client that comes before the service is ready is not read and not greeted, and then it is."""
        self.common.roster.open = False
        session, wire = self.connect()
        self.assertEqual((wire.value(), wire.producerState), (b"", "paused"))
        self.clock.pump([200.0] * 4)
        self.assertFalse(wire.lost)
        self.common.roster.open = True
        session.begin()
        session.begin()
        self.assertEqual((wire.value()[:4], wire.producerState), (b"220 ", "producing"))

    def test_too_many_of_one_client(self) -> None:
        """The third of two of one client gets 421 4.7.0 and the end; those of relay_from are exempt."""
        self.begin(limits=Limits(connections_per_client=2))
        for address, last in ((STRANGER, b"421 4.7.0"), (TRUSTED, b"220 mx.ex")):
            for _ in range(2):
                self.connect(address)
            _, wire = self.connect(address)
            self.assertEqual((wire.value()[:9], wire.disconnecting), (last, last.startswith(b"421")))
        self.assertEqual(self.common.connections.total, 5)
        [rejected] = self.log.named("rejected")
        self.assertEqual((rejected["stage"], rejected["client"]), ("connect", STRANGER))

    def test_too_many_in_all(self) -> None:
        """Over the limit in all, everybody gets 421 4.3.2; one that goes makes room."""
        self.begin(limits=Limits(connections=1))
        _, first = self.connect()
        _, second = self.connect("198.51.100.1")
        self.assertEqual(second.value()[:9], b"421 4.3.2")
        second.lose()
        self.assertEqual(self.common.connections.total, 1)
        first.lose()
        self.assertEqual(self.connect()[1].value()[:4], b"220 ")

    def test_turned_away_and_stays(self) -> None:
        """Who was turned away and does not close is cut off."""
        self.begin(limits=Limits(connections=0))
        session, wire = self.connect()
        session.dataReceived(b"EHLO a\r\n" * 100)
        self.assertEqual(wire.value().count(b"\r\n"), 1)
        self.clock.pump([1.0] * int(CLOSING_TIME + 2))
        self.assertTrue(wire.lost)


class FlowTests(DoorCase):
    """What is not taken is not read."""

    def test_commands_that_wait(self) -> None:
        """While the policy thinks, at most 64 KiB of commands are taken in; then all are answered, in order."""
        thinking: list[Deferred[None]] = []

        def think() -> Deferred[None]:
            thinking.append(Deferred())
            return thinking[-1]

        self.begin(policy=FakePolicy(mail=think))
        session, wire = self.hello()
        session.dataReceived(b"MAIL FROM:<>\r\n")
        piece = b"RSET\r\nNOOP\r\n" * 1000
        sent = 0
        while wire.producerState == "producing":
            session.dataReceived(piece)
            sent += 2000
            self.assertLess(sent, 2 * MAX_UNPARSED)
        self.assertLess(session.machine.buffered, MAX_UNPARSED + len(piece) + 1)
        self.assertEqual(wire.value(), b"")
        thinking[0].callback(None)
        self.assertEqual(wire.producerState, "producing")
        answers = wire.value().splitlines()
        self.assertEqual((len(answers), answers[0]), (sent + 1, b"250 2.1.0 Sender ok"))

    def test_replies_that_wait(self) -> None:
        """A client that does not read its replies is not read either, and cannot fill our memory."""
        session, wire = self.hello()
        session.pauseProducing()
        self.assertEqual(wire.producerState, "paused")
        session.resumeProducing()
        self.assertEqual(wire.producerState, "producing")
        self.assertIs(wire.producer, session)

    def test_garbage(self) -> None:
        """10,000 lines of garbage end with 421 at the limit of errors, and what follows is neither read nor kept."""
        session, wire = self.hello()
        for _ in range(100):
            session.dataReceived(b"\xff\xfe garbage\r\n" * 100)
        answers = wire.value().splitlines()
        self.assertEqual(len(answers), self.settings.limits.errors + 1)
        self.assertTrue(answers[-1].startswith(b"421 4.7.0"))
        self.assertEqual((session.machine.buffered, wire.disconnecting), (0, True))
        wire.lose()
        self.assertIn("421 4.7.0", self.log.named("disconnect")[0]["why"])

    def test_endless_line(self) -> None:
        """A line that never ends is refused without being kept."""
        session, wire = self.hello()
        for _ in range(1000):
            session.dataReceived(b"A" * 10_000)
        self.assertLess(session.machine.buffered, 20_000)
        session.dataReceived(b"\r\n")
        self.assertTrue(wire.value().startswith(b"500 5.5.2"))

    def test_framing(self) -> None:
        """NUL, bare CR and bare LF in a command are refused; nothing behind them is executed."""
        for line in (b"NOOP\nMAIL FROM:<a@b.example>\r\n", b"NOOP\rRSET\r\n", b"NO\0OP\r\n"):
            session, wire = self.hello()
            self.assertEqual(self.codes(session, line + b"NOOP\r\n"), ["500"])
            self.assertTrue(wire.disconnecting)
        self.assertEqual(self.accept.sinks, [])
