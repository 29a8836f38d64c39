"""The queue's service from outside: what is accepted is delivered, or reported, once; whatever happens in between."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.config.settings import Concurrency, Retry, Seconds
from mta.envelope import BOUNCE, Settlement
from mta.interfaces import IAccept
from mta.queue.filing import filed
from mta.queue.scheduler.schedule import Scheduler
from mta.queue.state import DestState
from mta.status import MailError, transient
from tests.queue.station import DAY, DOWN, FakeAgent, FakeRouter, Station, deferred, delivered, down, failed

TO = "bob@example.org"
DEST = "smtp:default/example.org"


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.station = Station().start()
        self.successResultOf(self.station.service.ready)

    def accepted(self, *addresses: str, **more) -> int:
        return self.successResultOf(self.station.accept(*(addresses or (TO,)), **more))

    def ends_quiet(self) -> None:
        """Nothing is left, in the file, in memory, on the way."""
        self.assertEqual([], self.station.left)
        scheduler = self.station.service._scheduler
        self.assertEqual((0, 0), (scheduler.active, scheduler.running))

    def minutes_of_attempts(self) -> list[int]:
        return [round(fields["delay"] / 60) for name, _, fields in self.station.log.lines if name == "deferred"]


class DeliveryTests(Case):
    """What becomes of mail."""

    def test_provides_accept(self) -> None:
        """The seam that receive and bounce know."""
        verifyObject(IAccept, self.station.service)

    def test_delivered(self) -> None:
        """At once, from memory: one enqueue, one settle, no claim."""
        self.accepted("a@example.org", "b@example.org", "c@example.net")
        self.assertEqual([("a@example.org", "b@example.org"), ("c@example.net",)], sorted(self.station.smtp.seen))
        self.assertEqual((1, 2, 0), tuple(self.station.queue.calls[name] for name in ("enqueue", "settle", "claim")))
        self.ends_quiet()

    def test_deferred_then_delivered(self) -> None:
        """Tried again when the ladder says so, not before, and then it goes."""
        self.station.smtp.answer = deferred
        self.accepted()
        (line,) = self.station.log.lines
        wait = line[2]["retry"]
        self.assertTrue(300 <= wait <= 330)
        self.station.smtp.answer = delivered
        self.station.advance(wait - 0.002)
        self.assertEqual(1, len(self.station.smtp.seen))
        self.station.advance(0.004)
        self.assertEqual(2, len(self.station.smtp.seen))
        self.ends_quiet()

    def test_q55_attempts(self) -> None:
        """The ladder as it is lived: 0, 5, 15, 35, 75, 142 minutes, each step up to 10 % longer."""
        self.station.smtp.answer = deferred
        self.accepted()
        self.station.advance(3 * 3600)
        for minutes, expected in zip(self.minutes_of_attempts(), (0, 5, 15, 35, 75, 142), strict=False):
            self.assertTrue(0 <= minutes - expected <= expected / 10 + 1, (minutes, expected))
        self.assertTrue(len(self.station.smtp.seen) >= 6)

    def test_failed_is_reported(self) -> None:
        """The siblings that failed are one job of the bounce agent, after they have gathered; then nothing is left."""
        self.station.smtp.answer = lambda claim: (failed if claim.address < "c" else delivered)(claim)
        self.accepted("a@example.org", "b@example.net", "c@example.org")
        self.assertEqual([("a@example.org", True), ("b@example.net", True)], self.station.left)
        self.assertEqual([], self.station.bounce.seen)
        self.station.advance(2.1)
        self.assertEqual([("a@example.org", "b@example.net")], self.station.bounce.seen)
        self.ends_quiet()

    def test_refused_by_routing(self) -> None:
        """Accepted mail that cannot be routed is owed a bounce, with the router's reason."""
        reasons: list[str | None] = []

        def report(claim):
            reasons.append(claim.last_reply)
            return delivered(claim)

        self.station.bounce.answer = report
        self.accepted("x@gone.invalid", TO)
        self.assertEqual(([("x@gone.invalid",)], [(TO,)]), (self.station.bounce.seen, self.station.smtp.seen))
        self.assertEqual(["550 5.1.2 no such domain"], reasons)
        self.ends_quiet()

    def test_expiry(self) -> None:
        """Deferred for five days: about 106 attempts, then one bounce that says so."""
        self.station.smtp.answer = deferred
        self.accepted()
        self.station.advance(5 * DAY - 60)
        self.assertTrue(100 <= len(self.station.smtp.seen) <= 125, len(self.station.smtp.seen))
        self.assertEqual([], self.station.bounce.seen)
        self.station.advance(180)
        self.assertEqual([(TO,)], self.station.bounce.seen)
        (line,) = [fields for name, _, fields in self.station.log.lines if name == "bounced"]
        self.assertIn("message has expired", line["reply"])
        self.ends_quiet()

    def test_spawned_message_is_delivered(self) -> None:
        """A report born of a settlement is routed and delivered like other mail."""
        station = self.station
        report = station.message("ann@example.com", sender="")
        station.smtp.answer = lambda claim: (failed if claim.address == TO else delivered)(claim)
        waiting: Deferred[Settlement] = Deferred()
        station.bounce.deliver = lambda job: waiting.addCallback(
            lambda _: Settlement(tuple(map(delivered, job.claims)), (report,))
        )
        self.accepted()
        station.advance(2.1)
        waiting.callback(None)
        self.assertEqual(("ann@example.com",), station.smtp.seen[-1])
        self.ends_quiet()


class NextHopTests(Case):
    """Destinations that are down."""

    def test_down_for_an_hour(self) -> None:
        """100 messages while it is down: blocked, probed, all delivered when it is back, none bounced."""
        station = self.station
        station.smtp.answer = down
        for number in range(100):
            self.accepted(f"u{number}@example.org")
            station.advance(30)
        self.assertTrue(len(station.smtp.seen) < 30, "a dead destination is probed, not tried")
        self.assertTrue(station.log.of("blocked"))
        station.smtp.answer = delivered
        station.advance(2 * 3600)
        self.assertEqual(100, len(station.log.of("delivered")))
        self.assertEqual(([], []), (station.bounce.seen, self.successResultOf(station.engine.destinations())))
        self.ends_quiet()

    def test_q52_one_probe(self) -> None:
        """What was ready when it died is given back with no attempt; when the block ends one goes, then the rest."""
        station = self.station
        station.smtp.wait = True
        for number in range(40):
            self.accepted(f"u{number}@example.org")
        while station.smtp.jobs:
            station.smtp.finish(0, down)
        (line,) = [fields for name, _, fields in station.log.lines if name == "blocked"]
        self.assertEqual(str(DOWN), line["reply"])
        self.assertEqual(40 - len(station.smtp.seen), sum(not row.attempts for row in station.engine._rows.values()))
        tried = len(station.smtp.seen)
        station.advance(line["seconds"] - 0.01)
        self.assertEqual(tried, len(station.smtp.seen))
        station.advance(60)
        self.assertEqual(tried + 1, len(station.smtp.seen))
        station.smtp.finish(0, delivered)
        self.assertEqual(tried + 1 + 5, len(station.smtp.seen))

    def test_block_over_a_restart(self) -> None:
        """A block is known before the first message is admitted; suspended ones stay."""
        until = self.station.now() + 100_000
        self.successResultOf(self.station.engine.mark(DEST, until, "down"))
        self.station.again()
        self.accepted()
        self.station.advance(99)
        self.assertEqual([], self.station.smtp.seen)
        self.station.advance(2)
        self.assertEqual([(TO,)], self.station.smtp.seen)
        self.assertEqual([("unblocked", None)], self.station.log.of("unblocked"))
        self.assertEqual([], self.successResultOf(self.station.engine.destinations()))

    def test_expired_while_blocked(self) -> None:
        """Mail that was never tried because its destination was blocked is reported when it is too old."""
        self.successResultOf(self.station.engine.mark(DEST, self.station.now() + 10 * DAY * 1000, "421 4.4.1 refused"))
        self.station.again()
        self.accepted(lifetime=3600)
        self.station.advance(3600 + 70)
        self.assertEqual([(TO,)], self.station.bounce.seen)
        self.ends_quiet()

    def test_flush(self) -> None:
        """Everything now, blocks included."""
        self.station.smtp.answer = down
        for number in range(10):
            self.accepted(f"u{number}@example.org")
        self.station.smtp.answer = delivered
        self.station.advance(1)
        self.successResultOf(self.station.service.flush())
        self.ends_quiet()


class LifeTests(Case):
    """Start and stop."""

    def test_restart_delivers_what_waits(self) -> None:
        """Kill -9 with mail waiting, taken and on its way: all of it is delivered by the next start."""
        self.station.smtp.wait = True
        self.accepted("a@example.org", "b@example.net")
        for number in range(30):
            self.accepted(f"u{number}@example.org")
        self.station.smtp.wait = False
        self.station.again()
        self.ends_quiet()
        self.assertEqual(32, len(self.station.log.of("delivered")))

    def test_restart_keeps_due_times(self) -> None:
        """What is due later comes later, and at its time."""
        self.station.smtp.answer = deferred
        self.accepted()
        self.station.smtp.answer = delivered
        self.station.again()
        self.assertEqual(1, len(self.station.smtp.seen))
        self.station.advance(331)
        self.ends_quiet()

    def test_stop_awaits_jobs(self) -> None:
        """Nothing new begins, what runs is settled, only then the engine is closed."""
        station = self.station
        station.smtp.wait = True
        for number in range(10):
            self.accepted(f"u{number}@example.org")
        stopping = station.service.stopService()
        self.assertNoResult(stopping)
        while station.smtp.jobs:
            self.assertEqual(0, station.queue.calls["stop"])
            station.smtp.finish()
        self.successResultOf(stopping)
        self.assertEqual((5, 5, 1), (len(station.smtp.seen), len(station.left), station.queue.calls["stop"]))
        self.assertEqual([], station.clock.getDelayedCalls())

    def test_stop_awaits_settles(self) -> None:
        """The outcome of a job is recorded before the engine is closed."""
        station = self.station
        station.smtp.wait = True
        self.accepted()
        station.queue.held = []
        station.smtp.finish()
        stopping = station.service.stopService()
        self.assertNoResult(stopping)
        station.queue.let_go()
        self.successResultOf(stopping)

    def test_stop_is_bounded(self) -> None:
        """A job that never ends: 30 seconds, then its mail is left to the next start."""
        self.station.smtp.wait = True
        self.accepted()
        stopping = self.station.service.stopService()
        self.station.clock.advance(29.9)
        self.assertNoResult(stopping)
        self.station.clock.advance(0.2)
        self.successResultOf(stopping)
        self.assertEqual([(TO, False)], self.station.left)
        self.assertEqual([], self.station.clock.getDelayedCalls())

    def test_closed(self) -> None:
        """Before it is open and after it is closed nothing is accepted, with a reply that says later."""
        self.successResultOf(self.station.service.stopService())
        error = self.failureResultOf(self.station.accept(TO), MailError).value
        self.assertEqual((451, "4.3.2"), (error.reply.code, error.reply.enhanced))
        self.assertRaises(MailError, self.station.service.create_body, 1)

    def test_cannot_open(self) -> None:
        """The caller of the start hears why; the stop that follows is quiet."""
        station = Station()
        station.queue.faults["start"] = [transient("4.3.5", "locked by another process")]
        station.start()
        self.failureResultOf(station.service.ready, MailError)
        self.successResultOf(station.service.stopService())
        self.assertEqual([], station.clock.getDelayedCalls())

    def test_destinations_are_read_first(self) -> None:
        """No message is admitted before the blocks are known."""
        station = Station()
        blocks: Deferred[list[DestState]] = Deferred()
        station.engine.destinations = lambda: blocks
        station.start()
        self.failureResultOf(station.accept(TO), MailError)
        blocks.callback([])
        self.successResultOf(station.service.ready)
        self.successResultOf(station.accept(TO))

    def test_one_timer(self) -> None:
        """However much waits: one timer."""
        self.station.smtp.answer = deferred
        for number in range(50):
            self.accepted(f"u{number}@d{number}.example")
        self.assertEqual(1, len(self.station.clock.getDelayedCalls()))

    def test_stop_without_start(self) -> None:
        """A service that was never started stops at once."""
        self.successResultOf(Station().service.stopService())

    def test_stop_while_opening(self) -> None:
        """It is opened, nothing is delivered, it is closed."""
        station = Station()
        self.successResultOf(station.engine.enqueue([filed(station.message(TO), station.router.route, station.now())]))
        opening: Deferred[None] = Deferred()
        station.engine.start = lambda: opening
        stopping = station.start().service.stopService()
        self.assertNoResult(stopping)
        opening.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(([], 1), (station.smtp.seen, station.queue.calls["stop"]))
        self.assertEqual([], station.clock.getDelayedCalls())

    def test_clock_survives_trouble(self) -> None:
        """An error in one turn of the clock: the next turn comes."""
        self.station.smtp.answer = deferred
        self.accepted()
        self.station.smtp.answer = delivered
        broken = self.patch(Scheduler, "advance", lambda *_: 1 / 0)
        self.assertRaises(ZeroDivisionError, self.station.advance, 331)
        broken.restore()
        self.station.advance(331)
        self.ends_quiet()

    def test_bounce_is_a_destination(self) -> None:
        """A bounce that cannot be made stays owed, and is made later."""
        self.station.smtp.answer = failed
        self.station.bounce.answer = deferred
        self.accepted()
        self.station.advance(10)
        self.assertEqual([(TO, True)], self.station.left)
        self.assertEqual([BOUNCE], [row.dest for row in self.station.engine._rows.values()])
        self.station.bounce.answer = delivered
        self.station.advance(331)
        self.ends_quiet()


class ReloadTests(Case):
    """`reconfigure`: H38, other settings while mail is on its way."""

    def changed(self, **settings) -> None:
        self.station.service.reconfigure(attrs.evolve(self.station.settings, **settings), self.station.router)

    def test_h38_routes(self) -> None:
        """New mail and reports go by the new routes, what waits keeps its way."""
        self.station.smtp.wait = True
        self.accepted()
        self.station.router = FakeRouter()
        self.station.router.agent = "maildir"
        self.station.agents["maildir"] = FakeAgent(delivered)
        self.changed()
        self.accepted("new@example.org")
        self.station.smtp.finish()
        self.assertEqual([("new@example.org",)], self.station.agents["maildir"].seen)
        self.assertEqual([(TO,)], self.station.smtp.seen)
        self.ends_quiet()

    def test_h38_room(self) -> None:
        """More transactions at once begin in the same turn; fewer let those that run come to their end."""
        self.changed(concurrency=Concurrency(per_destination=1, initial=1, total=1))
        self.station.smtp.wait = True
        for number in range(3):
            self.accepted(f"{number}@{number}.example")
        self.assertEqual(1, len(self.station.smtp.jobs))
        self.changed(concurrency=Concurrency())
        self.assertEqual(3, len(self.station.smtp.jobs))
        self.changed(concurrency=Concurrency(per_destination=1, initial=1, total=1))
        while self.station.smtp.jobs:
            self.station.smtp.finish()
        self.ends_quiet()

    def test_h38_retries(self) -> None:
        """The ladder of the new settings holds for the next failure."""
        self.changed(retry=Retry(minimal_backoff=Seconds(1000)))
        self.station.smtp.answer = deferred
        self.accepted()
        (line,) = self.station.log.lines
        self.assertTrue(900 <= line[2]["retry"] <= 1100)
