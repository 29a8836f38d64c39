"""Dovecot's socket, with a Dovecot that does what the test says; the real one is in tests/peers/test_dovecot.py."""

from __future__ import annotations

from base64 import b64decode

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from mta.receive.auth.dovecot import ANSWER_TIME, HELLO_TIME, MAX_ASKED, Dovecot, Unreachable
from mta.receive.auth.peer import Peer
from mta.receive.auth.workers import Busy
from tests.receive.auth.dovecot_case import GIVEN, HELLO, DovecotCase, Token, Wire


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

    def test_too_long(self) -> None:
        """LOGIN says a name and a password in lines of their own: what Dovecot would hang up at, on all who ask, is wrong."""
        wire, first = self.ready()
        wire.clear()
        self.failureResultOf(self.ask(UsernamePassword(b"u" * 9000, b"p" * 9000)), UnauthorizedLogin)
        self.assertEqual(wire.value(), b"")
        long = self.ask(UsernamePassword(b"u", b"p" * 9000))
        self.assertLess(12_000, len(wire.value()))
        wire.protocol.dataReceived(b"OK\t2\tuser=u\nOK\t1\tuser=tim\n")
        self.assertEqual((self.successResultOf(first), self.successResultOf(long)), (b"tim", b"u"))

    def test_no_utf8(self) -> None:
        """Dovecot repeats any name that a client invents: it is refused, and all others get their answers."""
        wire, first = self.ready()
        second, third = self.ask(), self.ask()
        wire.protocol.dataReceived(b"FAIL\t2\tuser=\xff\nOK\t3\tuser=\xff\nOK\t1\tuser=tim\n")
        self.assertEqual(self.successResultOf(first), b"tim")
        self.failureResultOf(second, UnauthorizedLogin)
        self.failureResultOf(third, Unreachable)

    def test_wrong(self) -> None:
        """No is 535, not now is 454, and so is what nobody can understand."""
        wire, first = self.ready()
        answers = [first, *(self.ask() for _ in range(3))]
        self.assertEqual(len(self.reactor.unixClients), 1, "one connection for all")
        wire.clear()
        wire.protocol.dataReceived(b"FAIL\t2\ttemp\nOK\t4\nFAIL\t1\tuser=tim\n")
        self.failureResultOf(answers[0], UnauthorizedLogin)
        self.failureResultOf(answers[1], Unreachable)
        self.assertNoResult(answers[2])
        self.failureResultOf(answers[3], Unreachable)
        wire.protocol.dataReceived(b"CONT\t3\tAAAA\n")
        self.failureResultOf(answers[2], Unreachable)
        self.assertEqual(wire.value(), b"CANCEL\t3\n", "PLAIN has no second step")

    def test_token(self) -> None:
        """Asked in one step; a challenge is the reason of a refusal, and answered for the client, so that Dovecot counts it."""
        answers = [self.ask(Token("OAUTHBEARER", b"tim", b"abc=")), self.ask(Token("XOAUTH2", b"tim", b"abc="))]
        wire = self.connect(HELLO.replace(b"SPID", b"MECH\tOAUTHBEARER\nMECH\tXOAUTH2\nSPID"))
        first, second = (b64decode(line.rpartition(b"resp=")[2]) for line in wire.value().splitlines())
        self.assertEqual((first, second), (b"n,a=tim,\1auth=Bearer abc=\1\1", b"user=tim\1auth=Bearer abc=\1\1"))
        self.assertIn(b"\tOAUTHBEARER\tservice=smtp\tsecured\trip=192.0.2.1\tresp=", wire.value())
        wire.clear()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim@a.test\nCONT\t2\te30=\n")
        self.assertEqual(self.successResultOf(answers[0]), b"tim@a.test")
        self.assertEqual((self.assertNoResult(answers[1]), wire.value()), (None, b"CONT\t2\tAQ==\n"))
        wire.protocol.dataReceived(b"FAIL\t2\tuser=tim\n")
        self.failureResultOf(answers[1], UnauthorizedLogin)
        wire.clear()
        again = self.ask(Token("XOAUTH2", b"tim", b"abc="))
        wire.protocol.dataReceived(b"CONT\t3\te30=\nCONT\t3\te30=\n")
        self.failureResultOf(again, Unreachable)
        self.assertTrue(wire.value().endswith(b"CANCEL\t3\n"))

    def test_not_offered(self) -> None:
        """What Dovecot has not is never asked of it: it would end the connection, and all who use it."""
        answer = self.ask(Token("XOAUTH2", b"tim", b"abc"))
        wire = self.connect()
        self.failureResultOf(answer, Unreachable)
        self.assertEqual(wire.value(), b"")

    def test_not_here(self) -> None:
        """The right password of a user who must not come in here: no."""
        wire, first = self.ready()
        second = self.ask()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\tnologin\nOK\t2\tuser=tim\tproxy\thost=b.test\n")
        for answer in (first, second):
            self.failureResultOf(answer, UnauthorizedLogin)

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


class RetirementTests(DovecotCase):
    """Other settings hold for those to come."""

    def is_leaving(self, wire: Wire) -> bool:
        """Is the connection about to end, by our will?"""
        return bool(wire.disconnecting)

    def test_idle(self) -> None:
        """A connection that nobody uses goes at once, one that is used when the last has his answer; no timer is left."""
        wire, first = self.ready()
        second = self.ask()
        self.dovecot.retire()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(first)
        self.assertFalse(self.is_leaving(wire))
        wire.protocol.dataReceived(b"FAIL\t2\tuser=tim\n")
        self.failureResultOf(second, UnauthorizedLogin)
        self.assertTrue(self.is_leaving(wire))
        wire.lose()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_never_used(self) -> None:
        """Without a connection there is nothing to do; an idle one goes."""
        Dovecot("/x", self.reactor).retire()
        wire, answer = self.ready()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(answer)
        self.dovecot.retire()
        self.assertTrue(self.is_leaving(wire))

    def test_before_the_connection_is_there(self) -> None:
        """Who waits for it gets his answer; who has gone meanwhile does not keep it."""
        answer = self.ask()
        self.dovecot.retire()
        wire = self.connect()
        self.assertFalse(self.is_leaving(wire))
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.assertEqual(self.successResultOf(answer), b"tim")
        self.assertTrue(self.is_leaving(wire))
        wire.lose()
        given_up = self.ask()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.assertTrue(self.is_leaving(self.connect()))

    def test_used_again(self) -> None:
        """Who was connected before the change logs in later: a connection of its own, and that goes too."""
        self.dovecot.retire()
        for _ in range(2):
            wire, answer = self.ready()
            wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
            self.assertEqual(self.successResultOf(answer), b"tim")
            self.assertTrue(self.is_leaving(wire))
        self.assertIsNotNone(self.wires[0].protocol, "the first has not gone yet")
        self.successResultOf(self.dovecot.stop())
        self.assertEqual([wire.protocol for wire in self.wires], [None, None])

    def test_gone_before_the_stop(self) -> None:
        """What has gone by itself is not kept in mind."""
        self.dovecot.retire()
        wire, answer = self.ready()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(answer)
        again = self.ask()
        wire.lose()
        self.assertEqual(self.dovecot._former, set())
        self.connect().protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(again)

    def test_it_does_not_let_go(self) -> None:
        """A Dovecot that reads no more cannot keep the connection open."""
        wire, answer = self.ready()
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(answer)
        self.dovecot.retire()
        self.reactor.advance(ANSWER_TIME - 0.1)
        self.assertIsNotNone(wire.protocol)
        self.reactor.advance(0.2)
        self.assertIsNone(wire.protocol)
