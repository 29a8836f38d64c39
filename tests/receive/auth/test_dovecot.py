"""Dovecot's socket, with a Dovecot that does what the test says; the real one is in tests/peers/test_dovecot.py."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.dovecot import ANSWER_TIME, HELLO_TIME, MAX_ASKED, Dovecot, Unreachable
from mta.receive.auth.peer import Peer
from mta.receive.auth.workers import Busy
from mta.smtp.credentials import Held, PassedOn, ScramCredentials

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nSPID\t1\nCUID\t2\nCOOKIE\tab\nDONE\n"
GIVEN = UsernamePassword(b"tim", b"tan")


class Wire(StringTransport):
    """The socket; the protocol hears of its end."""

    protocol: Any = None

    def abortConnection(self) -> None:
        """We break it off."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))


class DovecotCase(SynchronousTestCase):
    """One client of a socket that is not there."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.dovecot = Dovecot("/run/dovecot/auth-client", self.reactor, lambda size: b"\0\0\0\x0e"[-size:])
        self.wires: list[Wire] = []

    def tearDown(self) -> None:
        for wire in self.wires:
            wire.abortConnection()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def connect(self, hello: bytes = HELLO) -> Wire:
        """Dovecot takes the connection that is wanted, and says hello."""
        path, factory, *_ = self.reactor.unixClients[len(self.wires)]
        self.assertEqual(path, "/run/dovecot/auth-client")
        wire = Wire()
        wire.protocol = factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        self.wires.append(wire)
        self.assertEqual(wire.value(), b"VERSION\t1\t1\nCPID\t7\n")
        wire.clear()
        wire.protocol.dataReceived(hello)
        return wire

    def ask(self, given: Any = GIVEN) -> Deferred[Any]:
        """A login."""
        return self.dovecot.requestAvatarId(given)

    def ready(self) -> tuple[Wire, Deferred[Any]]:
        """Connected, with one login on its way."""
        answer = self.ask()
        return self.connect(), answer


class LoginTests(DovecotCase):
    """PLAIN and LOGIN, in one step."""

    def test_right(self) -> None:
        """Asked when Dovecot has said what it offers; the name is the one that it gives."""
        answer = self.ask()
        self.assertNoResult(answer)
        wire = self.connect()
        self.assertEqual(wire.value(), b"AUTH\t1\tPLAIN\tservice=smtp\tresp=AHRpbQB0YW4=\n")
        wire.protocol.dataReceived(b"OK\t1\tuser=tim@a.test\n")
        self.assertEqual(self.successResultOf(answer), b"tim@a.test")

    def test_peer(self) -> None:
        """Dovecot is told where the client is, and that nobody listens."""
        given = UsernamePassword(b"tim", b"tan")
        given.peer = Peer("2001:db8::1", True)
        self.ask(given).addErrback(lambda _: None)
        self.assertIn(b"\tsecured\trip=2001:db8::1\tresp=", self.connect().value())

    def test_wrong(self) -> None:
        """No is 535, not now is 454, and so is what nobody can understand."""
        wire, first = self.ready()
        answers = [first, *(self.ask() for _ in range(3))]
        self.assertEqual(len(self.reactor.unixClients), 1, "one connection for all")
        wire.protocol.dataReceived(b"FAIL\t2\ttemp\nOK\t4\nFAIL\t1\tuser=tim\n")
        self.failureResultOf(answers[0], UnauthorizedLogin)
        self.failureResultOf(answers[1], Unreachable)
        self.assertNoResult(answers[2])
        self.failureResultOf(answers[3], Unreachable)
        wire.protocol.dataReceived(b"CONT\t3\tAAAA\n")
        self.failureResultOf(answers[2], Unreachable)

    def test_given_up(self) -> None:
        """Who waits no more is taken back, and his answer, when it comes all the same, is nobody's."""
        wire, answer = self.ready()
        wire.clear()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(wire.value(), b"CANCEL\t1\n")
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        early = Dovecot("/x", self.reactor).requestAvatarId(GIVEN)
        early.cancel()
        self.failureResultOf(early, CancelledError)

    def test_too_many(self) -> None:
        """There is an end to what may wait."""
        wire, first = self.ready()
        answers = [first, *(self.ask() for _ in range(MAX_ASKED - 1))]
        self.failureResultOf(self.ask(), Busy)
        wire.abortConnection()
        for answer in answers:
            self.failureResultOf(answer, Unreachable)


class ConnectionTests(DovecotCase):
    """A Dovecot that is not there, stalls, lies or goes."""

    def test_again(self) -> None:
        """When it has gone whoever waits is told, and the next login makes another connection."""
        wire, answer = self.ready()
        wire.abortConnection()
        self.failureResultOf(answer, Unreachable)
        again = self.ask()
        self.connect().protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.assertEqual(self.successResultOf(again), b"tim")

    def test_not_there(self) -> None:
        """454 for all who wait, once in our log; then it is tried anew."""
        answers = [self.ask() for _ in range(2)]
        factory = self.reactor.unixClients[0][1]
        with capturedLogs() as events:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertEqual(len(events), 1)
        for answer in answers:
            self.failureResultOf(answer, Unreachable)
        self.ask().addErrback(lambda _: None)
        self.assertEqual(len(self.reactor.unixClients), 2)
        self.dovecot.stop()

    def test_silent(self) -> None:
        """It takes the connection and says nothing; or it says hello and never answers."""
        answer = self.ask()
        self.connect(b"VERSION\t1\t2\n")
        self.reactor.advance(HELLO_TIME)
        self.failureResultOf(answer, Unreachable)
        answer = self.ask()
        wire = self.connect()
        self.reactor.advance(10)
        later = self.ask()
        self.reactor.advance(ANSWER_TIME - 10.1)
        self.assertNoResult(answer)
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(answer)
        self.reactor.advance(10)
        self.assertNoResult(later)
        self.reactor.advance(0.2)
        self.failureResultOf(later, Unreachable)

    def test_lies(self) -> None:
        """Another version, a line without end, an answer that is none: the connection ends."""
        for said in (b"VERSION\t2\t0\n", b"x" * 70_000, HELLO + b"OK\tx\n", HELLO + b"CONT\t1\t?\n"):
            answer = self.ask()
            with capturedLogs():
                self.connect(said)
            self.failureResultOf(answer, Unreachable)

    def test_stop(self) -> None:
        """What is kept goes, in every state; fires when it has gone."""
        self.successResultOf(self.dovecot.stop())
        connecting = self.ask()
        self.successResultOf(self.dovecot.stop())
        self.failureResultOf(connecting, Unreachable)
        self.wires.append(Wire())
        wire, answer = self.ready()
        self.successResultOf(self.dovecot.stop())
        self.failureResultOf(answer, Unreachable)
        self.assertIsNone(wire.protocol)

    def test_endpoint(self) -> None:
        """Anywhere that a Twisted endpoint leads to."""
        Dovecot("tcp:127.0.0.1:12345", self.reactor).requestAvatarId(GIVEN).addErrback(lambda _: None)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 12345))

    def test_nowhere(self) -> None:
        """What is no endpoint (now: it may name a file that is not there) is told to each who asks; nobody waits for ever."""
        nowhere = Dovecot("tcp:127.0.0.1:auth", self.reactor)
        for _ in range(2):
            self.failureResultOf(nowhere.requestAvatarId(GIVEN), ValueError)
        self.successResultOf(nowhere.stop())


class StepsTests(DovecotCase):
    """A mechanism that goes step by step."""

    def step(self, exchange: Held, response: bytes, mechanism: str = "SCRAM-SHA-256") -> Deferred[Any]:
        """What the client said."""
        return self.dovecot.step(PassedOn(mechanism, response, exchange), Peer())

    def test_whole(self) -> None:
        """Challenges and responses under one number; at the end the name."""
        exchange, other = Held(), Held()
        first, another = self.step(exchange, b"one"), self.step(other, b"uno")
        wire = self.connect()
        wire.clear()
        wire.protocol.dataReceived(b"CONT\t1\tZHVv\n")
        self.assertEqual(self.successResultOf(first), b"duo")
        second = self.step(exchange, b"three")
        self.assertEqual((wire.value().split()[:2], b64decode(wire.value().split()[2])), ([b"CONT", b"1"], b"three"))
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\nFAIL\t2\tuser=tom\n")
        self.assertEqual(self.successResultOf(second), ScramCredentials("SCRAM-SHA-256", "", "tim"))
        self.assertEqual(self.successResultOf(another), ScramCredentials("SCRAM-SHA-256", "", "tom", "wrong user or password"))

    def test_failures(self) -> None:
        """Not now; a mechanism that Dovecot has not; the connection gone between two steps."""
        exchange = Held()
        first, unknown = self.step(exchange, b"one"), self.step(Held(), b"one", "GSSAPI")
        wire = self.connect()
        self.failureResultOf(unknown, Unreachable)
        wire.protocol.dataReceived(b"CONT\t1\tAAAA\n")
        self.successResultOf(first)
        wire.abortConnection()
        self.failureResultOf(self.step(exchange, b"two"), Unreachable)
        later = self.step(Held(), b"one")
        self.connect().protocol.dataReceived(b"FAIL\t1\ttemp\n")
        self.failureResultOf(later, Unreachable)

    def test_forgotten(self) -> None:
        """An exchange that the client gave up leaves nothing in memory."""
        exchange = Held()
        first = self.step(exchange, b"one")
        self.connect().protocol.dataReceived(b"CONT\t1\tAAAA\n")
        self.successResultOf(first)
        self.assertEqual(len(self.dovecot._begun), 1)
        del exchange
        self.assertEqual(len(self.dovecot._begun), 0)
