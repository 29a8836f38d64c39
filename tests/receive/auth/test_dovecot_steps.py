"""Mechanisms that Dovecot holds step by step: what is passed on, what is taken back, and what is left in memory."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from mta.receive.auth.dovecot import Unreachable
from mta.receive.auth.peer import Peer
from mta.smtp.credentials import Held, JudgedCredentials, PassedOn
from tests.receive.auth.dovecot_case import HELLO, DovecotCase, Wire


class StepsCase(DovecotCase):
    """One exchange, or some."""

    def step(self, exchange: Held, response: bytes, mechanism: str = "SCRAM-SHA-256") -> Deferred[Any]:
        """What the client said."""
        return self.dovecot.step(PassedOn(mechanism, response, exchange), Peer())

    def begun(self, hello: bytes = HELLO) -> tuple[Held, Wire]:
        """An exchange in which the client has a challenge to answer."""
        exchange = Held()
        first = self.step(exchange, b"one")
        wire = self.connect(hello)
        wire.protocol.dataReceived(b"CONT\t1\tAAAA\n")
        self.successResultOf(first)
        wire.clear()
        return exchange, wire


class StepsTests(StepsCase):
    """A mechanism that goes step by step."""

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
        self.assertEqual(self.successResultOf(second), JudgedCredentials("SCRAM-SHA-256", "", "tim"))
        self.assertEqual(self.successResultOf(another), JudgedCredentials("SCRAM-SHA-256", "", "tom", "wrong user or password"))

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


class OverTests(StepsCase):
    """Exchanges that end on our side: Dovecot hears CANCEL, and forgets them before its own time is over."""

    def test_between_two_steps(self) -> None:
        """The client has said "*", or has gone."""
        exchange, wire = self.begun()
        exchange.end()
        self.assertEqual(wire.value(), b"CANCEL\t1\n")
        exchange.end()
        wire.protocol.dataReceived(b"CANCELLED\t1\nFAIL\t1\n")  # later versions confirm it
        self.assertEqual(wire.value(), b"CANCEL\t1\n", "once")

    def test_amid_a_step(self) -> None:
        """Dovecot is at it: the question is given up, then the exchange ends; one CANCEL, in whatever order."""
        for order in ((0, 1), (1, 0)):
            self.setUp()
            exchange, wire = self.begun()
            second = self.step(exchange, b"two")
            wire.clear()
            acts = (second.cancel, exchange.end)
            for place in order:
                acts[place]()
            self.failureResultOf(second, CancelledError)
            self.assertEqual(wire.value(), b"CANCEL\t1\n")
            self.dovecot.retire()
            self.assertTrue(wire.disconnecting, "nothing is left on it")

    def test_over_before_it_began(self) -> None:
        """Nobody is there any more when Dovecot has been reached: what was asked all the same is taken back."""
        exchange = Held()
        first = self.step(exchange, b"one")
        exchange.end()
        wire = self.connect()
        self.assertTrue(wire.value().endswith(b"CANCEL\t1\n"), wire.value())
        first.cancel()
        self.failureResultOf(first, CancelledError)

    def test_ended_by_dovecot(self) -> None:
        """What Dovecot has ended needs no CANCEL, nor does what went with the connection."""
        exchange, wire = self.begun()
        second = self.step(exchange, b"two")
        wire.protocol.dataReceived(b"OK\t1\tuser=tim\n")
        self.successResultOf(second)
        wire.clear()
        exchange.end()
        self.assertEqual(wire.value(), b"")
        lost = Held()
        third = self.step(lost, b"one")
        wire.clear()
        wire.lose()
        self.failureResultOf(third, Unreachable)
        lost.end()
        self.assertEqual(wire.value(), b"")

    def test_before_version_1_1(self) -> None:
        """Dovecot 1 knows no CANCEL, and would end the connection: it is not said."""
        for version in (b"VERSION\t1\t0\n", b"VERSION\t1\n"):
            self.setUp()
            exchange, wire = self.begun(version + HELLO.partition(b"\n")[2])
            exchange.end()
            self.assertEqual(wire.value(), b"")
            self.dovecot.retire()
            self.assertTrue(wire.disconnecting, "nothing is left on it")

    def test_retired(self) -> None:
        """The connection of former settings stays for the exchange, over all its steps, and goes behind the CANCEL."""
        exchange, wire = self.begun()
        self.dovecot.retire()
        second = self.step(exchange, b"two")
        wire.protocol.dataReceived(b"CONT\t1\tAAAA\n")
        self.successResultOf(second)
        self.assertFalse(wire.disconnecting)
        exchange.end()
        self.assertTrue(wire.value().endswith(b"CANCEL\t1\n"))
        self.assertTrue(wire.disconnecting)


class AnyOrderTests(StepsCase):
    """Exchanges beside one another, in whatever order things happen to them."""

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from(["CONT", "OK", "FAIL", "end", "step", "cancel"]), st.integers(0, 4)), max_size=40))
    def test_any_order(self, acts: list[tuple[str, int]]) -> None:
        """Each is taken back at most once, never behind its end; when all are over a retired connection goes, and not before."""
        self.setUp()
        exchanges = [Held() for _ in range(5)]
        asked: list[Deferred[Any] | None] = [self.step(exchange, b"one") for exchange in exchanges]
        wire = self.connect()
        self.dovecot.retire()
        ended, cancelled = set[int](), set[int]()
        for act, number in acts:
            wire.clear()
            pending = asked[number]
            if act in ("CONT", "OK", "FAIL") and number not in ended | cancelled and pending is not None:
                ended |= {number} if act != "CONT" else set()
                wire.protocol.dataReceived(f"{act}\t{number + 1}\t{'AAAA' if act == 'CONT' else 'user=tim'}\n".encode())
                self.successResultOf(pending)
                asked[number] = None
            elif act == "end":
                exchanges[number].end()
            elif act == "step" and pending is None and number not in ended | cancelled:
                asked[number] = self.step(exchanges[number], b"two")
            elif act == "cancel" and pending is not None:
                pending.addErrback(lambda _: None).cancel()
                asked[number] = None
            over = {int(line.split(b"\t")[1]) - 1 for line in wire.value().splitlines() if line.startswith(b"CANCEL")}
            self.assertEqual(over & (ended | cancelled), set())
            self.assertLessEqual(over, {number})
            cancelled |= over
            self.assertEqual(wire.disconnecting, len(ended | cancelled) == 5)
        wire.lose()
        for pending in asked:
            if pending is not None:
                pending.addErrback(lambda _: None)
