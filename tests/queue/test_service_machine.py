"""The law of the queue under any sequence of events: every accepted recipient ends exactly once, delivered or reported.

Hypothesis accepts messages, answers jobs in any order and any way, lets time pass, breaks the engine's commits and kills
the service.  After every step: no recipient is with two jobs.  At the end everything is let go, and nothing may be left.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.status import Reply, Scope, transient
from tests.queue.station import DAY, DOWN, LATER, Station, deferred, delivered, down, failed

BUSY = Reply(421, "4.7.0", "slow down")
ANSWERS = (
    delivered,
    deferred,
    failed,
    down,
    lambda claim: Outcome(claim, Kind.GIVEN_BACK, LATER),
    lambda claim: Outcome(claim, Kind.GIVEN_BACK, BUSY, Scope.SESSION),
    lambda claim: Outcome(claim, Kind.DEFERRED, DOWN, Scope.SITE, retry_after=0.0),
    lambda claim: (delivered, deferred, failed)[claim.id % 3](claim),
)
FULL = transient("4.3.1", "disk full", code=452)


class QueueMachine(RuleBasedStateMachine):
    """The station, and what was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.station = Station(active_limit=20, initial=2, per_destination=3, total=5, recipients=3).start()
        self.station.smtp.wait = self.station.bounce.wait = True
        self.promised: set[str] = set()
        self.ended: Counter[str] = Counter()
        self.uncertain: set[str] = set()  # delivered, and the service was killed before that was recorded
        self.names = 0

    @initialize(domains=st.integers(1, 3))
    def begin(self, domains: int) -> None:
        self.domains = domains

    @rule(count=st.integers(1, 7), gone=st.booleans(), lane=st.integers(0, 2), lifetime=st.sampled_from([600, 5 * DAY]))
    def accept(self, count: int, gone: bool, lane: int, lifetime: int) -> None:
        addresses = []
        for _ in range(count):
            self.names += 1
            domain = "gone.invalid" if gone and self.names % 4 == 0 else f"d{self.names % self.domains}.example"
            addresses.append(f"u{self.names}@{domain}")
        accepted = self.station.accept(*addresses, sender=f"s{lane}@example.com", lifetime=lifetime)
        accepted.addCallbacks(lambda _: self.promised.update(addresses), lambda _: None)

    @precondition(lambda self: self.station.smtp.jobs or self.station.bounce.jobs)
    @rule(data=st.data(), answer=st.sampled_from(ANSWERS))
    def answer(self, data: st.DataObject, answer) -> None:
        agent = data.draw(st.sampled_from([agent for agent in (self.station.smtp, self.station.bounce) if agent.jobs]))
        self.finish(agent, data.draw(st.integers(0, len(agent.jobs) - 1)), answer)

    def finish(self, agent, number: int, answer) -> None:
        def noted(claim: Claim) -> Outcome:
            outcome = answer(claim)
            if outcome.kind is Kind.DELIVERED:
                self.ended[claim.address] += 1
            return outcome

        agent.finish(number, noted)

    @rule(seconds=st.sampled_from([0.01, 2.5, 61, 400, 5000]))
    def time(self, seconds: float) -> None:
        self.station.advance(seconds)

    @rule(method=st.sampled_from(["enqueue", "settle", "claim", "load", "mark", "sweep", "lanes"]))
    def fault(self, method: str) -> None:
        self.station.queue.faults[method] = [FULL]

    @precondition(lambda self: self.station.queue.held is None)
    @rule()
    def hold_answers(self) -> None:
        self.station.queue.held = []

    @precondition(lambda self: self.station.queue.held is not None)
    @rule()
    def let_go(self) -> None:
        self.station.queue.let_go()

    @rule()
    def kill(self) -> None:
        """What was delivered and is not recorded is delivered again: at least once."""
        self.uncertain |= {address for address, _ in self.station.left if self.ended[address]}
        self.station.again()

    @rule()
    def flush(self) -> None:
        self.station.service.flush().addErrback(lambda _: None)

    @invariant()
    def one_job_each(self) -> None:
        jobs = [job for agent in (self.station.smtp, self.station.bounce) for job, _ in agent.jobs]
        claims = Counter(claim.id for job in jobs for claim in job.claims)
        assert not claims or max(claims.values()) == 1, claims
        assert len(jobs) <= 5
        for job in jobs:
            assert {claim.message for claim in job.claims} == {job.message.id}
            assert job.dest == BOUNCE or len(job.claims) <= 3

    @invariant()
    def counted(self) -> None:
        scheduler = self.station.service._scheduler
        assert 0 <= scheduler.active <= 20 + 20, scheduler.active
        assert scheduler.running == len(self.station.smtp.jobs) + len(self.station.bounce.jobs)

    def teardown(self) -> None:
        station = self.station
        station.queue.faults.clear()
        station.queue.let_go()
        for _ in range(400):
            for agent in (station.smtp, station.bounce):
                while agent.jobs:
                    self.finish(agent, 0, delivered)
            if not station.left:
                break
            station.advance(300)
        assert not station.left, station.left
        assert station.service._scheduler.active == 0
        for address in self.promised:
            assert self.ended[address] == 1 or (self.ended[address] > 1 and address in self.uncertain), (address, self.ended)
        stopped: list[None] = []
        station.service.stopService().addCallback(stopped.append)
        assert stopped == [None] and not station.clock.getDelayedCalls()


class MachineTests(SynchronousTestCase):
    """See above."""

    def test_no_loss_no_double(self) -> None:
        """Any sequence of events."""
        run_state_machine_as_test(QueueMachine, settings=settings(deadline=None, max_examples=120, stateful_step_count=40))
        self.flushLoggedErrors()
