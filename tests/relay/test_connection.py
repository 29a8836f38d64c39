"""The wire on a fake clock: every time limit, one write for each turn, and every way to an end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost, TCPTimedOutError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Handover, Timeouts, TlsClient
from mta.envelope import Target
from mta.hints import MemoryHints
from mta.relay.connection import Conduct
from mta.relay.destination import Candidate, Fault, Step, Trouble
from mta.relay.handover import ReuseKey
from mta.relay.pool import Pool
from mta.relay.session import Session
from mta.smtp.client import Transaction
from mta.smtp.event import Transacted
from mta.tls.client import ClientTls
from mta.tls.policy import Level, Required
from tests.relay.world import BODY, PREFIX, job

TLS = ClientTls(TlsClient())
MAIL = Transaction("a@example.org", ("b@example.org",), 10, 0)
TARGET = Target("mx.example.org", "192.0.2.1", 25)
EHLO = b"250-mx\r\n250 PIPELINING\r\n"


class Wire:
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ends: list[str] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def setTcpNoDelay(self, on: bool) -> None:
        self.nodelay = on

    def loseConnection(self) -> None:
        self.ends.append("lose")

    def abortConnection(self) -> None:
        self.ends.append("abort")


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def ready(self, session: Session) -> None:
        self.told.append("ready")

    def transacted(self, session: Session, done: Transacted) -> None:
        self.told.append(done)

    def failed(self, session: Session, fault: Fault) -> None:
        self.told.append(fault)


class ConnectionCase(SynchronousTestCase):
    """A session in clear text on a fake reactor."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.pool = Pool(Handover(), self.reactor, MemoryHints(self.reactor))
        self.owner = Owner()
        conduct = Conduct("me.example", Timeouts(), 60.0, TLS, self.pool, self.reactor)
        required = Required(Level.NONE, TARGET.name, TARGET.address, TARGET.port, "example.org", (TARGET.name,))
        key = ReuseKey.of(required, route="r", source="", hello="me.example", flags=0, certificate="")
        self.session = Session(conduct, Step(Candidate(TARGET, required, key), tls=False), self.owner)
        self.session.connect(TARGET.address, TARGET.port, "")
        self.wire = Wire()

    def connect(self, *segments: bytes) -> None:
        """TCP is connected, and the server says these."""
        session = self.reactor.tcpClients[0][2].buildProtocol(None)
        session.makeConnection(self.wire)
        self.say(*segments)

    def say(self, *segments: bytes) -> None:
        for segment in segments:
            self.session.dataReceived(segment)

    def transact(self, rset: bool = False) -> None:
        self.session.transact(self.owner, MAIL, job(), rset)

    def lose(self, error: Exception | None = None) -> None:
        """The transport says that it is over."""
        self.session.connectionLost(Failure(error or ConnectionDone()))

    def fault(self) -> Fault:
        """The last thing that was told."""
        told = self.owner.told[-1]
        assert isinstance(told, Fault), told
        return told


class WritesTests(ConnectionCase):
    """One write for each turn."""

    def test_a_message_in_two_writes(self) -> None:
        """RSET, MAIL, RCPT, DATA leave in one write, prefix, body and dot in another; Nagle is off."""
        self.connect(b"220 hi\r\n", EHLO)
        self.wire.writes.clear()
        self.transact(rset=True)
        self.say(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", b"250 done\r\n")
        stuffed = (PREFIX + BODY).replace(b"\r\n.", b"\r\n..")
        self.assertEqual(
            self.wire.writes,
            [b"RSET\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", stuffed + b".\r\n"],
        )
        self.assertIsInstance(self.owner.told[-1], Transacted)
        self.assertTrue(self.wire.nodelay)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        """However the server's bytes are cut, the same is said and told."""
        self.setUp()
        self.connect()
        for stage in (b"220-a\r\n220 b\r\n", EHLO):
            self.cut(data, stage)
        self.assertEqual(self.owner.told, ["ready"])
        self.transact()
        for stage in (b"250 ok\r\n250 ok\r\n354 go\r\n", b"250-done\r\n250 done\r\n"):
            self.cut(data, stage)
        self.assertEqual([type(told) for told in self.owner.told], [str, Transacted])
        self.assertTrue(self.session.usable)
        self.assertEqual(b"".join(self.wire.writes).count(b"\r\n.\r\n"), 1)

    def cut(self, data: st.DataObject, text: bytes) -> None:
        while text:
            length = data.draw(st.integers(1, len(text)))
            self.say(text[:length])
            text = text[length:]


class LimitsTests(ConnectionCase):
    """RFC 5321 4.5.3.2: silence in each phase."""

    def silence(self, seconds: float, trouble: Trouble, unknown: bool = False) -> None:
        self.reactor.advance(seconds - 1)
        self.assertFalse([told for told in self.owner.told if isinstance(told, Fault)])
        self.reactor.advance(1)
        fault = self.fault()
        self.assertEqual((fault.trouble, fault.unknown), (trouble, unknown))
        self.assertIn("timed out", fault.reply.text)
        self.assertEqual((self.wire.ends, self.reactor.getDelayedCalls()), (["abort"], []))
        self.lose()
        self.assertEqual(len([told for told in self.owner.told if isinstance(told, Fault)]), 1)
        self.assertEqual(len(self.pool._alive), 0)

    def test_greeting(self) -> None:
        """300 s."""
        self.connect()
        self.silence(300, Trouble.GREETING)

    def test_hello(self) -> None:
        """300 s."""
        self.connect(b"220 hi\r\n")
        self.silence(300, Trouble.HELLO)

    def test_commands(self) -> None:
        """RSET 20 s, MAIL and RCPT 300 s, DATA 120 s, each counted from the reply before."""
        replies = [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"]
        for heard, seconds in enumerate((20, 300, 300, 120)):
            self.setUp()
            self.connect(b"220 hi\r\n", EHLO)
            self.transact(rset=True)
            for reply in replies[:heard]:
                self.reactor.advance(15)
                self.say(reply)
            self.silence(seconds, Trouble.LOST)

    def test_end_of_data(self) -> None:
        """600 s, and then nobody knows."""
        self.connect(b"220 hi\r\n", EHLO)
        self.transact()
        self.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.silence(600, Trouble.LOST, unknown=True)

    def test_a_trickle_gains_no_time(self) -> None:
        """The limit is for a whole reply: a server that sends it byte by byte, or line by line without end, is cut off."""
        for trickle in (b"2", b"220-a\r\n"):
            self.setUp()
            self.connect()
            for _ in range(3):
                self.reactor.advance(99)
                self.say(trickle)
            self.assertEqual(self.wire.ends, [])
            self.reactor.advance(4)
            self.assertEqual((self.wire.ends, self.fault().trouble), (["abort"], Trouble.GREETING))

    def test_each_reply_has_its_own_time(self) -> None:
        """Replies to what was pipelined come one by one; each whole one begins the limit of the next."""
        self.connect(b"220 hi\r\n", EHLO)
        self.transact()
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            self.reactor.advance(119)
            self.say(reply)
        self.assertEqual(self.wire.ends, [])

    def test_idle_has_no_limit_of_its_own(self) -> None:
        """The pool sees to that."""
        self.connect(b"220 hi\r\n", EHLO)
        self.session.park(self.reactor.seconds())
        self.reactor.advance(100_000)
        self.assertEqual((self.wire.ends, self.reactor.getDelayedCalls()), ([], []))

    def test_connect(self) -> None:
        """The limit for connecting is given to the reactor; a failure is told with its cause."""
        host, port, factory, timeout, bind = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout, bind), ("192.0.2.1", 25, 30.0, None))
        factory.clientConnectionFailed(None, Failure(TCPTimedOutError(110)))
        self.assertEqual((self.fault().trouble, self.fault().reply.enhanced), (Trouble.CONNECT, "4.4.1"))
        self.assertIn("110", self.fault().reply.text)
        self.assertEqual(len(self.pool._alive), 0)


class EndsTests(ConnectionCase):
    """Every way to an end."""

    def test_quit(self) -> None:
        """QUIT, the answer, close; nothing is told, nothing is left."""
        self.connect(b"220 hi\r\n", EHLO)
        self.session.quit()
        self.session.quit()
        self.assertEqual(self.wire.writes[-1], b"QUIT\r\n")
        self.assertEqual(self.wire.writes.count(b"QUIT\r\n"), 1)
        self.say(b"221 bye\r\n")
        self.assertEqual(self.wire.ends, ["lose"])
        self.lose()
        self.assertEqual((self.owner.told, self.reactor.getDelayedCalls()), (["ready"], []))

    def test_quit_that_nobody_answers(self) -> None:
        """One second for the answer, one more for the close, then the axe."""
        self.connect(b"220 hi\r\n", EHLO)
        self.session.quit()
        self.reactor.advance(1)
        self.assertEqual(self.wire.ends, ["lose"])
        self.reactor.advance(1)
        self.assertEqual((self.wire.ends, self.reactor.getDelayedCalls()), (["lose", "abort"], []))

    def test_lost_in_each_phase(self) -> None:
        """What the end of the connection means, before and after the dot."""
        script = (b"220 hi\r\n", EHLO, b"250 ok\r\n250 ok\r\n354 go\r\n")
        for heard, trouble, unknown in (
            (0, Trouble.GREETING, False),
            (1, Trouble.HELLO, False),
            (2, Trouble.LOST, False),
            (3, Trouble.LOST, True),
        ):
            self.setUp()
            self.connect(*script[: min(heard, 2)])
            if heard >= 2:
                self.transact()
                self.say(*script[2:heard])
            self.lose(ConnectionLost())
            self.assertEqual((self.fault().trouble, self.fault().unknown), (trouble, unknown))
            self.assertEqual((self.reactor.getDelayedCalls(), len(self.pool._alive)), ([], 0))

    def test_said_while_idle(self) -> None:
        """Anything said while idle drops the connection without a word."""
        self.connect(b"220 hi\r\n", EHLO)
        self.assertEqual(self.pool.release(self.session), "")
        writes = len(self.wire.writes)
        self.say(b"421 timeout\r\n")
        self.assertEqual((self.wire.ends, len(self.wire.writes)), (["abort"], writes))
        self.assertIsNone(self.pool.acquire(self.session.key, MAIL), "picked up before the transport has told its end")
        self.lose()
        self.assertEqual((self.pool.idle, self.owner.told), (0, ["ready"]))

    def test_given_up_while_connecting(self) -> None:
        """A stop while TCP is being connected: the connector is told, and the owner once."""
        disconnected = []
        self.session._connector = type("Connector", (), {"disconnect": lambda connector: disconnected.append(1)})()
        self.session.cut()
        self.assertEqual((disconnected, self.fault().trouble), ([1], Trouble.CONNECT))
        self.session.unconnected(Failure(ConnectionLost()))
        self.assertEqual(len(self.owner.told), 1)

    def test_garbage(self) -> None:
        """What is no SMTP ends the connection at once, whatever the phase."""
        for heard in range(3):
            self.setUp()
            self.connect(*(b"220 hi\r\n", EHLO)[:heard])
            if heard == 2:
                self.transact()
            self.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.assertEqual((self.fault().trouble, self.wire.ends), (Trouble.BROKEN, ["abort"]))
            self.say(b"250 ok\r\n")
            self.assertEqual(len([told for told in self.owner.told if isinstance(told, Fault)]), 1)
