"""The way in: routed, durable, then accepted; what cannot be stored leaves nothing behind."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Queue, Seconds, Size
from mta.envelope import Refusal
from mta.queue.state import Alteration, Selector, State
from mta.status import MailError, transient
from tests.queue.station import LATER, Station, delivered

TO = "bob@example.org"


class IntakeTests(SynchronousTestCase):
    """accept and create_body."""

    def setUp(self) -> None:
        self.station = Station().start()

    @property
    def scheduler(self):
        return self.station.service._scheduler

    def test_fires_after_the_commit(self) -> None:
        """Nothing is said, and nothing delivered, before the engine has answered."""
        self.station.queue.held = []
        accepting = self.station.accept(TO)
        self.assertNoResult(accepting)
        self.assertEqual([], self.station.smtp.seen)
        self.station.queue.let_go()
        id = self.successResultOf(accepting)
        self.assertIsInstance(id, int)
        self.assertEqual([(TO,)], self.station.smtp.seen)

    def test_answer_comes_before_the_delivery(self) -> None:
        """The client's "250" does not wait for the first attempt."""
        order: list[str] = []
        self.station.smtp.answer = lambda claim: order.append("delivery") or delivered(claim)
        self.station.queue.held = []
        self.station.accept(TO).addCallback(lambda _: order.append("answer"))
        self.station.queue.let_go()
        self.assertEqual(["answer", "delivery"], order)

    def test_release(self) -> None:
        """What is to be delivered later is stored, takes no place in memory, and goes in its time (RFC 4865)."""
        message = attrs.evolve(self.station.message(TO), release=self.station.now() + 60_000)
        self.successResultOf(self.station.service.accept(message))
        self.assertEqual((0, []), (self.scheduler.active, self.station.smtp.seen))
        self.station.advance(61)
        self.assertEqual([(TO,)], self.station.smtp.seen)

    def test_release_of_what_a_rule_held(self) -> None:
        """An operator lets it go before its time: it goes in its time, and is found then."""
        station = self.station
        message = attrs.evolve(station.message(TO), release=station.now() + 60_000, hold="rule r")
        self.successResultOf(station.service.accept(message))
        station.advance(10)
        self.successResultOf(station.engine.alter(Selector(), Alteration.RELEASE, station.now()))
        self.successResultOf(station.service.discover())
        station.advance(45)
        self.assertEqual([], station.smtp.seen)
        station.advance(10)
        self.assertEqual([(TO,)], station.smtp.seen)

    def test_engine_refuses(self) -> None:
        """Its MailError reaches the client, the kept places are given back, nothing is delivered."""
        full = transient("4.3.1", "disk full", code=452)
        self.station.queue.faults["enqueue"] = [full]
        self.assertIs(full, self.failureResultOf(self.station.accept(TO), MailError).value)
        self.assertEqual((0, []), (self.scheduler.active, self.station.smtp.seen))

    def test_engine_refuses_after_admitting(self) -> None:
        """The places were kept when it failed: they are free again."""
        self.station.engine._keep = lambda *_: 1 / 0
        self.assertEqual(451, self.failureResultOf(self.station.accept(TO, "x@example.net"), MailError).value.reply.code)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual((0, 0), (self.scheduler.active, self.scheduler._destinations["smtp:default/example.org"].ready))

    def test_on_hold(self) -> None:
        """It is stored, nobody delivers it and nobody looks for it."""
        message = attrs.evolve(self.station.message(TO, "x@example.net"), hold="rule r")
        self.assertEqual(message.id, self.successResultOf(self.station.service.accept(message)))
        self.assertEqual({}, self.scheduler._destinations)
        self.station.advance(7200)
        self.assertEqual((0, []), (self.scheduler.active, self.station.smtp.seen))
        self.assertEqual([State.HELD] * 2, [row.state for row in self.station.engine._rows.values()])

    def test_router_breaks(self) -> None:
        """451, and the trouble is in the log."""
        self.station.router.route = lambda address: 1 / 0
        self.assertEqual(451, self.failureResultOf(self.station.accept(TO), MailError).value.reply.code)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_refused_for_now(self) -> None:
        """A recipient that cannot be routed just now: the client hears so and comes again, nothing is stored or kept."""
        self.station.router.route = lambda address: Refusal(LATER)
        self.assertEqual(LATER, self.failureResultOf(self.station.accept(TO), MailError).value.reply)
        self.assertEqual((0, []), (self.scheduler.active, self.station.left))
        self.station.advance(120)
        self.assertEqual([], self.station.bounce.seen)

    def test_deadline(self) -> None:
        """A commit that takes too long: 451 to the client; if it succeeds after all the mail is delivered."""
        self.station.queue.held = []
        accepting = self.station.accept(TO)
        self.station.advance(59)
        self.assertNoResult(accepting)
        self.station.advance(1.1)
        self.assertEqual("4.3.0", self.failureResultOf(accepting, MailError).value.reply.enhanced)
        self.station.queue.let_go()
        self.assertEqual([(TO,)], self.station.smtp.seen)
        self.assertEqual((0, []), (self.scheduler.active, self.station.left))

    def test_deadline_before_it_is_begun(self) -> None:
        """A queue that has not begun to write when the client is told 451 never does: no second copy comes of it."""
        self.station.queue.stalled = []
        accepting = self.station.accept(TO)
        self.station.advance(60.1)
        self.failureResultOf(accepting, MailError)
        self.assertTrue(self.station.service.pressure > 1, "the queue is as slow as before")
        self.station.queue.begin()
        self.station.advance(120)
        self.assertEqual(([], [], 0), (self.station.left, self.station.smtp.seen, self.scheduler.active))
        self.assertTrue(self.station.service.pressure < 1)

    def test_short_deadline(self) -> None:
        """Shorter than the sweep's minute: the timer comes in time, for each message."""
        station = Station(accept_deadline=3).start()
        station.queue.held = []
        first = station.accept(TO)
        station.advance(1)
        second = station.accept(TO)
        station.advance(2.1)
        self.failureResultOf(first, MailError)
        self.assertNoResult(second)
        station.advance(1)
        self.failureResultOf(second, MailError)

    def test_deadline_behind_one_that_is_over(self) -> None:
        """What comes while another message, told already, is still not on disk has its own deadline."""
        station = Station(accept_deadline=3).start()
        station.queue.held = []
        self.failureResultOf((station.accept(TO), station.advance(3.1))[0], MailError)
        second = station.accept(TO)
        station.advance(2.9)
        self.assertNoResult(second)
        station.advance(0.2)
        self.failureResultOf(second, MailError)

    def test_h38_other_deadline(self) -> None:
        """H38: a reload with a shorter deadline holds for what is being stored already."""
        self.station.queue.held = []
        accepting = self.station.accept(TO)
        settings = attrs.evolve(self.station.settings, queue=Queue(accept_deadline=Seconds(3)))
        self.station.service.reconfigure(settings, self.station.router)
        self.station.advance(2.9)
        self.assertNoResult(accepting)
        self.station.advance(0.2)
        self.failureResultOf(accepting, MailError)
        self.station.queue.let_go()
        self.assertEqual((0, []), (self.scheduler.active, self.station.left))

    def test_repeat(self) -> None:
        """The same message again is accepted, delivered once, and keeps no place."""
        self.station.smtp.wait = True
        message = self.station.message(TO)
        for _ in range(2):
            self.assertEqual(message.id, self.successResultOf(self.station.service.accept(message)))
        self.assertEqual(([(TO,)], 1), (self.station.smtp.seen, self.scheduler.active))
        self.station.smtp.finish()
        self.station.advance(70)
        self.assertEqual(([(TO,)], 0, []), (self.station.smtp.seen, self.scheduler.active, self.station.left))

    def test_overflow_waits_in_the_file(self) -> None:
        """What has no room in memory is stored as waiting, and comes in its turn."""
        station = Station(active_limit=3).start()
        station.smtp.wait = True
        for number in range(10):
            self.successResultOf(station.accept(f"u{number}@example.org"))
        states = [row.state for row in station.engine._rows.values()]
        self.assertEqual((3, 7), (states.count(State.TAKEN), states.count(State.WAITING)))
        while station.smtp.jobs:
            station.smtp.finish()
        self.assertEqual(([], 10), (station.left, len(station.smtp.seen)))


class PressureTests(SynchronousTestCase):
    """When to take no more."""

    def test_memory(self) -> None:
        """The share of the active limit; beyond it 452 4.3.1."""
        station = Station(active_limit=4).start()
        station.smtp.wait = True
        self.assertEqual(0, station.service.pressure)
        for number in range(4):
            station.accept(f"u{number}@example.org")
        self.assertEqual(1.0, station.service.pressure)
        station.service.create_body(1).abort()
        station.service._scheduler.active += 1
        error = self.assertRaises(MailError, station.service.create_body, 1)
        self.assertEqual((452, "4.3.1"), (error.reply.code, error.reply.enhanced))

    def test_slow_commits(self) -> None:
        """Commits of two seconds, one after the other: full; a quiet while later it is forgotten."""
        station = Station().start()
        for _ in range(20):
            station.queue.held = []
            station.accept(TO)
            station.advance(2)
            station.queue.let_go()
        self.assertTrue(station.service.pressure > 1, station.service.pressure)
        self.assertRaises(MailError, station.service.create_body, 1)
        station.advance(5.1)
        self.assertEqual(0, station.service.pressure)

    def test_slow_commits_and_the_clock_put_back(self) -> None:
        """Commits of a time that is to come count no more: or else mail would be refused until it has come."""
        station = Station().start()
        for _ in range(20):
            station.queue.held = []
            station.accept(TO)
            station.advance(2)
            station.queue.let_go()
        station.service._intake._now = lambda: station.now() - 3_600_000
        self.assertEqual(0, station.service.pressure)
        for _ in range(40):
            station.accept(TO)
            station.advance(0.2)
        self.assertTrue(0 <= station.service.pressure < 0.1, station.service.pressure)

    def test_one_slow_commit(self) -> None:
        """One commit of two seconds among quick ones closes no door."""
        station = Station().start()
        station.queue.held = []
        for _ in range(100):
            station.accept(TO)
        station.advance(2)
        station.queue.let_go()
        self.assertTrue(station.service.pressure < 0.5, station.service.pressure)

    def test_room(self) -> None:
        """Less room on the disk than `free_space` refuses mail, less than twice that slows it down; a reload changes it."""
        station = Station().start()
        limit = station.settings.queue.free_space
        for free, expected in ((3 * limit, 0.0), (limit * 3 // 2, 0.9), (limit // 2, 1.5)):
            station.queue.free = free
            station.advance(1)
            self.assertAlmostEqual(expected, station.service.pressure)
        self.assertEqual(452, self.assertRaises(MailError, station.service.create_body, 1).reply.code)
        settings = attrs.evolve(station.settings, queue=Queue(free_space=Size(limit // 4)))
        station.service.reconfigure(settings, station.router)
        station.advance(1)
        station.service.create_body(1).abort()

    def test_the_queue_itself(self) -> None:
        """What the engine says counts too."""
        station = Station().start()
        station.engine.pressure = 1.25
        self.assertEqual(1.25, station.service.pressure)
        self.assertRaises(MailError, station.service.create_body, 1)

    def test_stalled_commit(self) -> None:
        """No commit returns: full when the oldest has waited for half its deadline."""
        station = Station().start()
        station.queue.held = []
        station.accept(TO)
        station.advance(15)
        self.assertAlmostEqual(0.5, station.service.pressure)
        station.advance(15.1)
        self.assertTrue(station.service.pressure > 1)
