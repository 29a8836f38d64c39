"""Modes and runs of a whole queue service on a fake clock: what is only stored, and what a run makes of it."""

from __future__ import annotations

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.envelope import Claim, Kind, Outcome
from mta.interfaces import ISites
from mta.queue.scheduler.convoy import LENGTH
from mta.queue.service import QueueService
from tests.queue.station import FakeAgent, FaultyQueue, Station, deferred, delivered, failed


@implementer(ISites)
class SiteAgent(FakeAgent):
    """Knows to which servers the domains lead: all of "x1.org", "x2.org" ... to "x"; or says it later."""

    def __init__(self) -> None:
        super().__init__(delivered)
        self.unsaid: dict[str, Deferred[str]] = {}
        self.broken = False

    def site(self, dest: str) -> Deferred[str]:
        if self.broken:
            raise RuntimeError("no")
        domain = dest.partition("/")[2]
        return self.unsaid.get(domain) or succeed(domain.rstrip(".orgn0123456789"))


class RunStation(Station):
    """A station with a load, and sites."""

    def __init__(self, **queue: object) -> None:
        self.load = 0.0
        self.queue_settings = queue
        super().__init__()

    def make(self) -> None:
        self.settings = attrs.evolve(self.settings, queue=attrs.evolve(self.settings.queue, **self.queue_settings))
        if not isinstance(self.smtp, SiteAgent):
            self.smtp = self.agents["smtp"] = SiteAgent()  # type: ignore[assignment]
        self.queue = FaultyQueue(self.engine)
        self.service = QueueService(
            self.queue,
            self.router,
            self.agents,
            self.settings,
            reactor=self.clock,
            log=self.log,
            random=self.random,
            load=lambda: self.load,
        )

    def domains(self) -> list[str]:
        """Where the jobs that wait go."""
        return [job.dest.partition("/")[2] for job, _ in self.smtp.jobs]

    def drain(self) -> list[str]:
        """Answer one job after the other; where they went, and the most that ran at once."""
        gone, self.most = [], 0
        while self.smtp.jobs:
            self.most = max(self.most, len(self.smtp.jobs))
            gone.append(self.domains()[0])
            self.smtp.finish()
        return gone


class SpoolTests(SynchronousTestCase):
    """mode = "spool"."""

    def setUp(self) -> None:
        self.station = RunStation(mode="spool").start()
        self.smtp = self.station.smtp

    def test_h31_only_stored(self) -> None:
        """H31: accepted, and nothing goes: not now, not when the queue is walked through, not after a restart."""
        self.successResultOf(self.station.accept("a@example.org", "b@example.net"))
        self.station.advance(600)
        self.station.again()
        self.station.advance(600)
        self.assertEqual([], self.smtp.seen)
        self.assertEqual(2, len(self.station.left))

    def test_run(self) -> None:
        """It makes all that is due deliverable, once; what comes later waits for the next."""
        self.station.accept("a@a.org")
        self.station.accept("b@b.org")
        self.station.advance(1)
        self.assertEqual(2, self.successResultOf(self.station.service.run()))
        self.assertEqual({("a@a.org",), ("b@b.org",)}, set(self.smtp.seen))
        self.station.accept("c@a.org")
        self.station.advance(600)
        self.assertEqual(2, len(self.smtp.seen))
        self.assertEqual(1, self.successResultOf(self.station.service.run()))
        self.assertIn(("c@a.org",), self.smtp.seen)

    def test_mail_that_comes_during_a_run(self) -> None:
        """It waits for the next one, though its destination takes part in this."""
        self.smtp.wait = True
        self.station.accept("a@a.org")
        self.station.advance(1)
        self.station.service.run()
        self.station.advance(1)
        self.station.accept("late@a.org")
        self.smtp.finish()
        self.station.advance(600)
        self.assertEqual([("a@a.org",)], self.smtp.seen)

    def test_deferred_mail(self) -> None:
        """A run tries what is due: not what has to wait still."""
        self.smtp.answer = deferred
        self.station.accept("a@a.org")
        self.station.advance(1)
        self.station.service.run()
        self.station.advance(60)
        self.station.service.run()
        self.assertEqual(1, len(self.smtp.seen))
        self.station.advance(400)
        self.assertEqual(1, len(self.smtp.seen))
        self.station.service.run()
        self.assertEqual(2, len(self.smtp.seen))

    def test_bounces_are_made(self) -> None:
        """A failure of a run is reported without another run."""
        self.smtp.answer = failed
        self.station.accept("a@a.org")
        self.station.advance(1)
        self.station.service.run()
        self.station.advance(10)
        self.assertEqual([("a@a.org",)], self.station.bounce.seen)
        self.assertEqual([], self.station.left)

    def test_run_every(self) -> None:
        """By the clock: nothing before ten minutes, then each ten minutes."""
        self.station = RunStation(mode="spool", run_every=600.0).start()
        for minute in range(25):
            self.station.accept(f"u{minute}@a.org")
            self.station.advance(60)
        self.assertEqual(20, len(self.station.smtp.seen))

    def test_reload(self) -> None:
        """H38: spool -> deliver lets everything go; deliver -> spool stops what is new."""
        service, settings = self.station.service, self.station.settings
        self.station.accept("a@a.org")
        self.station.advance(1)
        service.reconfigure(attrs.evolve(settings, queue=attrs.evolve(settings.queue, mode="deliver")), self.station.router)
        self.station.advance(1)
        self.assertEqual([("a@a.org",)], self.smtp.seen)
        service.reconfigure(settings, self.station.router)
        self.station.accept("b@a.org")
        self.station.advance(600)
        self.assertEqual(1, len(self.smtp.seen))

    def test_one_stage(self) -> None:
        """Each destination by itself, as many at once as its window lets."""
        self.smtp.wait = True
        for number in range(20):
            self.station.accept(f"u{number}@a.org")
        self.station.advance(1)
        self.station.service.run(two_stage=False)
        self.assertEqual(5, len(self.smtp.jobs))


class TwoStageTests(SynchronousTestCase):
    """Grouped by where it leads."""

    def setUp(self) -> None:
        self.station = RunStation(mode="spool").start()
        self.smtp = self.station.smtp
        self.smtp.wait = True

    def spool(self, *domains: str) -> None:
        for number, domain in enumerate(domains):
            self.station.accept(f"u{number}@{domain}", sender=f"s{number}@example.com")
        self.station.advance(1)

    def test_h30_one_at_a_time_for_each_host(self) -> None:
        """H30: 20 messages to three hosts: never more than three at once, one for each, though there are six domains."""
        self.spool(*[f"{'abc'[number % 3]}{number % 2}.org" for number in range(20)])
        self.assertEqual(6, self.successResultOf(self.station.service.run()))
        self.assertEqual(["a", "b", "c"], sorted(domain[0] for domain in self.station.domains()))
        gone = 0
        while self.smtp.jobs:
            hosts = [domain[0] for domain in self.station.domains()]
            self.assertEqual(len(set(hosts)), len(hosts))
            self.smtp.finish()
            gone += 1
        self.assertEqual(20, gone)

    def test_domains_of_a_host_take_turns(self) -> None:
        """A domain with much mail does not keep one with little waiting until its end."""
        self.spool(*["a1.org"] * 10, "a2.org")
        self.station.service.run()
        self.assertIn("a2.org", self.station.drain()[:3])

    def test_long_backlog(self) -> None:
        """What does not end gets more connections, one for each LENGTH that were begun."""
        self.spool(*["a1.org"] * 4 * LENGTH)
        self.station.service.run()
        self.assertEqual(4 * LENGTH, len(self.station.drain()))
        self.assertTrue(3 <= self.station.most <= 4, self.station.most)

    def test_slow_name_server(self) -> None:
        """One way that nobody knows holds up nobody else."""
        self.smtp.unsaid["a1.org"] = Deferred()
        self.spool("a1.org", "b1.org")
        run = self.station.service.run()
        self.assertEqual(["b1.org"], self.station.domains())
        self.assertNoResult(run)
        self.smtp.unsaid["a1.org"].callback("a")
        self.assertEqual(["b1.org", "a1.org"], self.station.domains())
        self.assertEqual(2, self.successResultOf(run))

    def test_broken_agent(self) -> None:
        """An agent that cannot say where mail leads still gets it, and the log says what happened."""
        self.smtp.broken = True
        self.spool("a1.org")
        self.station.service.run()
        self.assertEqual(["a1.org"], self.station.domains())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_dead_domain_of_a_host(self) -> None:
        """A destination that is blocked in the middle of a run does not hold up the others of its convoy."""
        self.spool("a1.org", "a1.org", "a2.org")
        self.station.service.run()
        self.smtp.finish(answer=deferred)
        self.station.service.suspend("smtp:default/a1.org")
        self.assertEqual(["a2.org"], [domain for domain in self.station.drain() if domain == "a2.org"])

    def test_second_run_joins(self) -> None:
        """Two at once are one, and both are told."""
        self.smtp.unsaid["a1.org"] = Deferred()
        self.spool("a1.org")
        runs = [self.station.service.run() for _ in range(2)]
        self.smtp.unsaid["a1.org"].callback("a")
        self.assertEqual([1, 1], [self.successResultOf(run) for run in runs])
        self.assertEqual(1, len([line for line in self.station.log.lines if line[0] == "run"]))

    def test_two_of_one_fail(self) -> None:
        """A run that fails fails for all who wait for it; who has given up is no trouble to the others."""
        asked: Deferred[None] = Deferred()
        lanes = self.station.engine.lanes
        self.station.engine.lanes = lambda *arguments: asked.addCallback(lambda _: lanes(*arguments))  # type: ignore[method-assign]
        first, second, third = (self.station.service.run() for _ in range(3))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        asked.errback(OSError("disk"))
        for run in (first, third):
            self.failureResultOf(run, OSError)

    def test_stop_during_a_run(self) -> None:
        """The service stops, the run fails, nothing hangs."""
        self.smtp.unsaid["a1.org"] = Deferred()
        self.spool("a1.org")
        run = self.station.service.run()
        self.successResultOf(self.station.service.stopService())
        self.assertIsNotNone(self.failureResultOf(run))

    def test_engine_fails(self) -> None:
        """A run that cannot read the queue says so; the next one works."""
        self.spool("a1.org")
        self.station.queue.faults["lanes"].append(OSError("disk"))
        self.failureResultOf(self.station.service.run(), OSError)
        self.assertEqual(1, self.successResultOf(self.station.service.run()))

    def test_normal_again(self) -> None:
        """When the run is over and mail is delivered at once a destination has its whole window."""
        self.spool("a1.org")
        self.station.service.run()
        self.station.drain()
        settings = self.station.settings
        deliver = attrs.evolve(settings, queue=attrs.evolve(settings.queue, mode="deliver"))
        self.station.service.reconfigure(deliver, self.station.router)
        for number in range(9):
            self.station.accept(f"u{number}@a1.org")
        self.assertEqual(5, len(self.smtp.jobs))


class LoadTests(SynchronousTestCase):
    """spool_above_load."""

    def test_h31_above_the_load(self) -> None:
        """H31: above it mail is only stored; when it has fallen all goes, one by one as always."""
        station = RunStation(spool_above_load=4.0).start()
        station.accept("a@a.org")
        self.assertEqual(1, len(station.smtp.seen))
        station.load = 9.0
        station.advance(2)
        for number in range(20):
            station.accept(f"u{number}@a.org")
        station.advance(120)
        self.assertEqual(1, len(station.smtp.seen))
        station.smtp.wait = True
        station.load = 1.0
        station.advance(10)
        self.assertEqual(5, len(station.smtp.jobs))

    def test_h31_two_stage_under_load(self) -> None:
        """H31: a run delivers it though the load is high, and then it goes together."""
        station = RunStation(spool_above_load=4.0)
        station.load = 9.0
        station.start().smtp.wait = True
        for number in range(20):
            station.accept(f"u{number}@a{number % 2}.org")
        station.advance(2)
        self.assertEqual([], station.smtp.jobs)
        station.service.run()
        self.assertEqual(20, len(station.drain()))
        self.assertEqual(1, station.most)

    def test_nothing_is_asked_without_a_limit(self) -> None:
        """No limit, no look at the load."""
        station = RunStation()
        station.service._runs._mode._load = self.fail
        station.start()
        station.accept("a@a.org")
        station.advance(600)
        self.assertEqual(1, len(station.smtp.seen))


class SuspensionTests(SynchronousTestCase):
    """`suspend` and `resume` of the service."""

    def test_suspended_over_a_restart(self) -> None:
        """New mail is stored and waits, also behind a restart; resume probes at once and lets all go."""
        station = Station().start()
        dest = "smtp:default/a.org"
        self.assertTrue(self.successResultOf(station.service.suspend(dest, "they asked us to")).suspended)
        station.accept("a@a.org")
        station.accept("b@b.org")
        station.advance(120)
        station.again()
        station.advance(600)
        self.assertEqual([("b@b.org",)], station.smtp.seen)
        state = self.successResultOf(station.service.resume(dest))
        self.assertFalse(state.suspended)
        station.advance(1)
        self.assertIn(("a@a.org",), station.smtp.seen)
        self.assertEqual([], station.left)

    def test_what_is_ready_is_given_back(self) -> None:
        """No attempt is counted for it."""
        station = Station().start()
        station.smtp.wait = True
        for number in range(8):
            station.accept(f"u{number}@a.org")
        station.service.suspend("smtp:default/a.org")
        while station.smtp.jobs:
            station.smtp.finish()
        station.advance(600)
        self.assertEqual(3, len(station.left))
        self.assertEqual({0}, {row.attempts for row in station.engine._rows.values()})


class RestTests(SynchronousTestCase):
    """An agent that gives mail back."""

    def test_a_destination_rests(self) -> None:
        """Given back for ten seconds: nothing of that destination starts before, others go on, no attempt is counted."""
        station = Station().start()
        limit: list[int] = []

        def answer(claim: Claim) -> Outcome:
            limit.append(station.now())
            later = attrs.evolve(deferred(claim), kind=Kind.GIVEN_BACK, retry_after=10.0)
            return later if len(limit) < 4 else delivered(claim)

        station.smtp.answer = answer
        for number in range(3):
            station.accept(f"u{number}@a.org")
        self.assertEqual(1, len(limit))
        station.smtp.answer, held = delivered, answer
        station.accept("b@b.org")
        self.assertIn(("b@b.org",), station.smtp.seen)
        station.smtp.answer = held
        station.advance(60)
        self.assertEqual([], station.left)
        self.assertEqual([0, 10, 20, 30], [(time - limit[0]) // 1000 for time in limit[:4]])
