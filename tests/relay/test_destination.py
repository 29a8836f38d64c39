"""The plan of an attempt: every fault at every level, strikes over time, and what is told at the end (C20 to C28, C40 to C48)."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import TlsClient
from mta.envelope import Target
from mta.hints import MemoryHints
from mta.relay.destination import CONSEQUENCES, Candidate, Consequence, Fault, Plan, Step, StrikeMemory, Trouble
from mta.relay.handover import ReuseKey
from mta.status import MailError, Reply, Scope, transient
from mta.tls.policy import Demand, Level, Required

ONE = Target("mx1.example.org", "192.0.2.1", 25, 10)
TWO = Target("mx2.example.org", "192.0.2.2", 25, 20)
MANDATORY = (Level.ENCRYPT, Level.VERIFY)
STRIKING = (Trouble.T5, Trouble.T6, Trouble.T8, Trouble.T9)


def candidate(target: Target, level: Level = Level.MAY, **changes: object) -> Candidate:
    """An address to try, and what is owed there."""
    required = attrs.evolve(Required(level, target.name, target.address, target.port, "example.org"), **changes)
    return Candidate(target, required, ReuseKey.of(required, route="r", source="", hello="me", flags=0, certificate=""))


def fault(trouble: Trouble) -> Fault:
    enhanced = "4.7.5" if trouble.is_tls else "4.4.1"
    return Fault(trouble, Reply(451, enhanced, f"it was {trouble.value}"))


class PlanCase(SynchronousTestCase):
    """A clock, hints and plans over them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.settings = TlsClient()
        self.renew()

    def renew(self) -> None:
        self.memory = StrikeMemory(MemoryHints(self.clock), self.settings)

    @property
    def now(self) -> float:
        return self.clock.seconds()

    def plan(self, *targets: Target, level: Level = Level.MAY, refused: tuple[Demand, ...] = (), **changes: object) -> Plan:
        candidates = [candidate(target, level, **changes) for target in targets or (() if refused else (ONE,))]
        return Plan(candidates, refused, self.memory, self.settings, 60.0)

    def fail(self, plan: Plan, *troubles: Trouble) -> list[Step]:
        """The steps of a plan whose connections fail so, one after another."""
        steps = []
        for trouble in troubles:
            step = plan.step(self.now)
            assert step is not None
            steps.append(step)
            plan.failed(step, fault(trouble), self.now)
        return steps


class TableTests(PlanCase):
    """C2.3, the one table."""

    def test_every_trouble_has_a_consequence_at_every_level(self) -> None:
        """No hole in the table, and no clear text where it is not allowed."""
        for trouble in Trouble:
            self.assertIn(CONSEQUENCES[trouble, True], Consequence)
            self.assertIn(CONSEQUENCES[trouble, False], (Consequence.NEXT, Consequence.ASK))

    def test_the_rows(self) -> None:
        """C20 C22 C24 C26: as the paper has them."""
        for trouble in (Trouble.T1, Trouble.T2, Trouble.T3, Trouble.T4):
            self.assertIs(CONSEQUENCES[trouble, True], Consequence.CLEAR)
        for trouble in STRIKING:
            self.assertIs(CONSEQUENCES[trouble, True], Consequence.STRIKE)
        for trouble in (Trouble.T0, Trouble.T7, Trouble.T10, Trouble.AUTH):
            self.assertIs(CONSEQUENCES[trouble, True], Consequence.NEXT)
        self.assertIs(CONSEQUENCES[Trouble.T1, False], Consequence.ASK)


class StepTests(PlanCase):
    """Where to go next."""

    def test_order_and_end(self) -> None:
        """Addresses in the order given, each once, then none; asking twice changes nothing."""
        plan = self.plan(ONE, TWO)
        self.assertEqual(plan.step(self.now), plan.step(self.now))
        steps = self.fail(plan, Trouble.CONNECT, Trouble.GREETING)
        self.assertEqual([step.target for step in steps], [ONE, TWO])
        self.assertIsNone(plan.step(self.now))

    def test_levels(self) -> None:
        """C02: none never tries TLS; the others do."""
        for level in Level:
            step = self.plan(level=level).step(self.now)
            assert step is not None
            self.assertEqual((step.tls, step.fallback), (level is not Level.NONE, False))


class FallbackTests(PlanCase):
    """Clear text after failed handshakes."""

    def test_next_host_by_tls_at_once(self) -> None:
        """C40: two hosts, the first one's handshake fails: the second by TLS, nothing in clear."""
        for trouble in STRIKING:
            self.renew()
            self.assertEqual([step.tls for step in self.fail(self.plan(ONE, TWO), trouble, Trouble.CONNECT)], [True, True])

    def test_two_strikes_a_delay_apart(self) -> None:
        """C41: attempt 1; at 59 s again deferred; at 61 s TLS once more, and when that fails the same address in clear."""
        first = self.plan()
        self.fail(first, Trouble.T6)
        self.assertIsNone(first.step(self.now))
        self.assertEqual(first.verdict().retry_after, 60.0)
        self.clock.advance(59)
        second = self.plan()
        self.assertEqual([step.tls for step in self.fail(second, Trouble.T6)], [True])
        self.assertIsNone(second.step(self.now))
        self.clock.advance(2)
        third = self.plan()
        self.assertEqual([step.tls for step in self.fail(third, Trouble.T6)], [True])
        self.assertEqual(third.step(self.now), Step(candidate(ONE), tls=False, fallback=True))

    def broken(self) -> None:
        """Make ONE known to be broken."""
        self.fail(self.plan(), Trouble.T6)
        self.clock.advance(61)
        self.fail(self.plan(), Trouble.T6)

    def test_later_messages_do_not_wait(self) -> None:
        """C42: clear at once; after 15 minutes TLS is probed first, and one success clears the mark."""
        self.broken()
        self.assertEqual(self.plan().step(self.now), Step(candidate(ONE), tls=False, fallback=True))
        self.clock.advance(15 * 60)
        probe = self.plan()
        step = probe.step(self.now)
        assert step is not None
        self.assertTrue(step.tls)
        probe.encrypted(step, self.now)
        self.fail(self.plan(), Trouble.T6)
        again = self.plan().step(self.now)
        assert again is not None
        self.assertTrue(again.tls)

    def test_failed_probe(self) -> None:
        """C42: a probe that fails costs nothing: the same address in clear, in the same attempt."""
        self.broken()
        self.clock.advance(15 * 60)
        plan = self.plan()
        self.assertEqual([step.tls for step in self.fail(plan, Trouble.T6)], [True])
        self.assertEqual(plan.step(self.now), Step(candidate(ONE), tls=False, fallback=True))

    def test_clock_put_back(self) -> None:
        """C42: strikes of a time to come, from before the clock was put right, send no mail in clear for long and delay none."""
        self.clock.advance(1e6)
        self.broken()
        first = self.clock.seconds()
        self.clock.rightNow = 1000.0
        step = self.plan().step(self.now)
        assert step is not None
        self.assertTrue(step.tls, first)
        self.fail(self.plan(), Trouble.T6)
        self.clock.advance(60)
        plan = self.plan()
        self.fail(plan, Trouble.T6)
        self.assertIsNotNone(plan.step(self.now))

    def test_clear_text_that_fails_goes_on(self) -> None:
        """After the fallback the next address, by TLS again."""
        self.broken()
        steps = self.fail(self.plan(ONE, TWO), Trouble.CONNECT, Trouble.T6)
        self.assertEqual([(step.target, step.tls) for step in steps], [(ONE, False), (TWO, True)])

    def test_strikes_are_forgotten(self) -> None:
        """The mark ends with broken_ttl after the last failure."""
        self.broken()
        self.clock.advance(6 * 3600)
        step = self.plan().step(self.now)
        assert step is not None
        self.assertTrue(step.tls)

    def test_strikes_are_of_one_address(self) -> None:
        """Another address or port of the same name is not meant."""
        self.broken()
        for other in (Target(ONE.name, "192.0.2.3", 25), Target(ONE.name, ONE.address, 26)):
            step = self.plan(other).step(self.now)
            assert step is not None
            self.assertTrue(step.tls)

    def test_never_in_clear(self) -> None:
        """fallback_delay = 0 means never, and the ladder instead of a short delay."""
        self.settings = TlsClient(fallback_delay=0.0)
        self.renew()
        for _ in range(5):
            plan = self.plan()
            self.fail(plan, Trouble.T6)
            self.assertIsNone(plan.step(self.now))
            self.assertIsNone(plan.verdict().retry_after)
            self.clock.advance(3600)

    def test_mandatory_levels_never_go_in_clear(self) -> None:
        """C48: five days of failing handshakes at encrypt and verify; the mark made by others does not count either."""
        self.broken()
        for level in MANDATORY:
            for _ in range(120):
                plan = self.plan(level=level)
                self.assertEqual([step.tls for step in self.fail(plan, Trouble.T6)], [True])
                self.assertIsNone(plan.step(self.now))
                self.clock.advance(3600)

    def test_never_clear(self) -> None:
        """C49: level may with credentials, REQUIRETLS, TLSA or MTA-STS: no strike, no clear text, whatever others have learned."""
        self.broken()
        plan = self.plan(ONE, TWO, never_clear=True)
        steps = self.fail(plan, Trouble.T6, Trouble.T9)
        self.assertEqual([step.tls for step in steps], [True, True])
        self.assertIsNone(plan.step(self.now))
        self.assertEqual((plan.verdict().scope, plan.verdict().retry_after), (Scope.SITE, None))

    def test_wanted(self) -> None:
        """C30: TLS was left out and the server wants it: once more with TLS; when that fails the next address, not clear again."""
        self.broken()
        plan = self.plan(ONE, TWO)
        step = plan.step(self.now)
        assert step is not None
        self.assertTrue(plan.wanted(step))
        again = plan.step(self.now)
        self.assertEqual(again, Step(candidate(ONE), tls=True))
        assert again is not None
        self.assertFalse(plan.wanted(again), "it was not left out")
        self.assertEqual([step.target for step in self.fail(plan, Trouble.T6, Trouble.CONNECT)], [ONE, TWO])

    def test_wanted_after_it_was_tried(self) -> None:
        """C30: TLS has just failed in this attempt: it is not tried again."""
        self.broken()
        self.clock.advance(15 * 60)
        plan = self.plan()
        self.fail(plan, Trouble.T6)
        step = plan.step(self.now)
        assert step is not None
        self.assertEqual((step.tls, plan.wanted(step)), (False, False))

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from([*STRIKING, Trouble.CONNECT, Trouble.T10, None]), st.floats(0, 200)), max_size=25))
    def test_clear_only_after_two_strikes(self, story: list[tuple[Trouble | None, float]]) -> None:
        """Whatever happens in whatever order: clear text only when two strikes with no success between lie 60 s apart."""
        self.setUp()
        strikes: list[float] = []
        for trouble, wait in story:
            plan = self.plan()
            step = plan.step(self.now)
            assert step is not None
            if step.tls and trouble is None:
                plan.encrypted(step, self.now)
                strikes.clear()
            elif step.tls and trouble is not None:
                if trouble in STRIKING:
                    strikes.append(self.now)
                plan.failed(step, fault(trouble), self.now)
                step = plan.step(self.now)
            if step is not None and not step.tls:
                self.assertGreaterEqual(strikes[-1] - strikes[0], 60)
            self.clock.advance(wait)


class VerdictTests(PlanCase):
    """What the recipients are told when every address has failed."""

    def told(self, *troubles: Trouble, level: Level = Level.MAY):
        targets = tuple(Target(f"mx{n}.example.org", f"192.0.2.{n}", 25) for n in range(len(troubles)))
        self.fail(plan := self.plan(*targets, level=level), *troubles)
        return plan.verdict()

    def test_dead_site(self) -> None:
        """Every host down: deferred, with feedback for the destination, by the ladder."""
        error = self.told(Trouble.CONNECT, Trouble.GREETING)
        self.assertEqual((error.scope, error.reply.code, error.retry_after), (Scope.SITE, 451, None))
        self.assertIn("mx1.example.org[192.0.2.1]:25", error.reply.text)

    def test_tls_failure_at_may(self) -> None:
        """C46: the short delay and no feedback, also when another host is down; the TLS fault is what is told."""
        for troubles in ((Trouble.T6,), (Trouble.T6, Trouble.CONNECT), (Trouble.CONNECT, Trouble.T9)):
            self.renew()
            error = self.told(*troubles)
            self.assertEqual((error.scope, error.reply.enhanced, error.retry_after), (Scope.SESSION, "4.7.5", 60.0))

    def test_injection_at_may(self) -> None:
        """C26: T10 defers normally, it is no strike."""
        error = self.told(Trouble.T10)
        self.assertEqual((error.scope, error.retry_after), (Scope.SITE, None))

    def test_mandatory(self) -> None:
        """C25: 4.7.5 with feedback for whatever TLS fault, also for a refusal for good: it is not authenticated."""
        for trouble in (Trouble.T2, Trouble.T3, Trouble.T4, Trouble.T6, Trouble.T7):
            error = self.told(trouble, level=Level.VERIFY)
            self.assertEqual((error.scope, error.reply.enhanced, error.reply.code), (Scope.SITE, "4.7.5", 451))

    def test_mandatory_5xx_bounce(self) -> None:
        """C25: with the knob a 5yz of every host bounces; one host that fails otherwise defers."""
        self.settings = TlsClient(mandatory_5xx="bounce")
        self.renew()
        self.assertTrue(self.told(Trouble.T3, Trouble.T3, level=Level.ENCRYPT).reply.is_permanent)
        self.assertFalse(self.told(Trouble.T3, Trouble.T6, level=Level.ENCRYPT).reply.is_permanent)
        self.assertFalse(self.told(Trouble.T2, level=Level.ENCRYPT).reply.is_permanent)

    def test_closing_everywhere(self) -> None:
        """421 from every host: the site is asked again soon."""
        self.assertEqual(self.told(Trouble.CLOSING, Trouble.CLOSING).retry_after, 60.0)
        self.assertIsNone(self.told(Trouble.CLOSING, Trouble.CONNECT).retry_after)


class RefusedTests(PlanCase):
    """P13 P14: addresses to which nothing may be sent."""

    def refused(self, target: Target, text: str = "TLSA lookup error") -> Demand:
        return Demand(target, candidate(target).required, transient("4.7.5", text, scope=Scope.SITE))

    def test_all(self) -> None:
        """No step; the last refusal is what is told."""
        plan = self.plan(refused=(self.refused(ONE, "one"), self.refused(TWO, "two")))
        self.assertIsNone(plan.step(self.now))
        self.assertEqual((plan.verdict().reply.text, plan.blamed.target), ("two", TWO))

    def test_some(self) -> None:
        """A TLS fault of another address is told first, then the refusal, then what else failed."""
        for trouble, target in ((Trouble.T7, ONE), (Trouble.CONNECT, TWO)):
            self.fail(plan := self.plan(ONE, refused=(self.refused(TWO),)), trouble)
            self.assertEqual(plan.blamed.target, target)
            self.assertEqual(plan.verdict().reply.enhanced, "4.7.5")


class RequireTlsTests(PlanCase):
    """P41: RFC 8689 4.2.1."""

    def told(self, *troubles: Trouble, refused: tuple[Demand, ...] = ()) -> MailError:
        targets = tuple(Target(f"mx{n}.example.org", f"192.0.2.{n}", 25) for n in range(len(troubles)))
        self.fail(plan := self.plan(*targets, level=Level.VERIFY, refused=refused, requiretls=True), *troubles)
        return plan.verdict()

    def test_for_good(self) -> None:
        """5.7.30 when a host with TLS does not support it, 5.7.10 when no host has TLS; of the message, not of the site."""
        for troubles, enhanced in (
            ((Trouble.REQUIRETLS,), "5.7.30"),
            ((Trouble.T3, Trouble.REQUIRETLS), "5.7.30"),
            ((Trouble.T3, Trouble.T4), "5.7.10"),
        ):
            error = self.told(*troubles)
            self.assertEqual((error.reply.code, error.reply.enhanced, error.scope), (550, enhanced, Scope.MESSAGE))

    def test_not_yet(self) -> None:
        """A host that could not be asked, or failed in another way, may support it."""
        for trouble in (Trouble.CONNECT, Trouble.T2, Trouble.T6, Trouble.T7, Trouble.CLOSING):
            self.assertFalse(self.told(Trouble.REQUIRETLS, trouble).reply.is_permanent, trouble)
        refusal = Demand(ONE, candidate(ONE).required, transient("4.7.5", "no"))
        self.assertFalse(self.told(Trouble.REQUIRETLS, refused=(refusal,)).reply.is_permanent)
