"""What failures do to a destination, seen from outside: C46, C47 and Postfix' SCHEDULER_README on a whole service."""

from __future__ import annotations

from itertools import pairwise

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import DestinationEntry, Seconds, SiteEntry, TlsClient
from mta.envelope import Claim, Kind, Outcome, Target
from mta.hints import MemoryHints
from mta.rate import parse_rate
from mta.relay.destination import Candidate, Fault, Plan, StrikeMemory, Trouble
from mta.relay.handover import ReuseKey
from mta.relay.site import Site
from mta.status import Reply
from mta.tls.policy import Level, Required
from tests.queue.station import Station, deferred, delivered, down

T6 = Reply(451, "4.7.5", "handshake failed")


def of_fault(claim: Claim, station: Station, level: Level, trouble: Trouble) -> Outcome:
    """The outcome that the relay makes of one fault at its only address."""
    required = Required(level, "mx.a.org", "192.0.2.1", 25, "a.org", ("mx.a.org",), sni="mx.a.org", origin="default")
    key = ReuseKey.of(required, route="r", source="", hello="me", flags=0, certificate="")
    candidate = Candidate(Target("mx.a.org", "192.0.2.1", 25), required, key)
    settings = TlsClient()
    plan = Plan([candidate], [], StrikeMemory(MemoryHints(station.clock), settings), settings, 60.0)
    step = plan.step(station.clock.seconds())
    assert step is not None
    plan.failed(step, Fault(trouble, T6), station.clock.seconds())
    error = plan.verdict()
    return Outcome(claim, Kind.DEFERRED, error.reply, error.scope, retry_after=error.retry_after)


class FeedbackTests(SynchronousTestCase):
    """One destination, many messages."""

    def setUp(self) -> None:
        self.station = Station().start()

    def blocked(self) -> int:
        return sum(name == "blocked" for name, _, _ in self.station.log.lines)

    def send(self, count: int) -> None:
        for number in range(count):
            self.station.accept(f"u{number}@a.org")

    def test_c46_tls_failures_at_may(self) -> None:
        """C46: 100 failed handshakes where clear text is allowed: each message waits, the destination is not throttled."""
        self.station.smtp.answer = lambda claim: of_fault(claim, self.station, Level.MAY, Trouble.T6)
        self.send(100)
        self.assertEqual((100, 0), (len(self.station.smtp.seen), self.blocked()))
        self.station.smtp.answer, self.station.smtp.wait = delivered, True
        self.send(50)
        self.assertTrue(len(self.station.smtp.jobs) >= 5)

    def test_c46_tls_failures_where_tls_is_owed(self) -> None:
        """The other side of C46: at a mandatory level it is as good as not reachable."""
        self.station.smtp.answer = lambda claim: of_fault(claim, self.station, Level.ENCRYPT, Trouble.T6)
        self.send(100)
        self.assertEqual((5, 1), (len(self.station.smtp.seen), self.blocked()))

    def test_c47_connect_failures(self) -> None:
        """C47: a cohort of failures in a row throttles; what waited is not tried, no attempt is counted for it."""
        self.station.smtp.answer = down
        self.send(50)
        self.assertEqual((5, 1), (len(self.station.smtp.seen), self.blocked()))
        attempts = sorted(row.attempts for row in self.station.engine._rows.values())
        self.assertEqual([0] * 45 + [1] * 5, attempts)

    def test_c47_one_probe_at_a_time(self) -> None:
        """C47: after each block one probe, and blocks that grow: 300, 600, 1200 s and so on."""
        self.station.smtp.answer = down
        self.send(50)
        self.station.advance(8 * 3600)
        probes = len(self.station.smtp.seen) - 5
        self.assertTrue(8 <= probes <= 10, probes)

    def test_c47_concurrency_falls(self) -> None:
        """C47: a window of 20 falls by one at the first failure of a cycle, while others still succeed."""
        self.grow()
        window = self.station.service._scheduler._destination("smtp:default/a.org").window
        self.assertEqual(20, window.size)
        self.station.smtp.finish(answer=down)
        self.assertEqual(19, window.size)
        self.station.smtp.finish(answer=delivered)
        self.assertEqual(19, window.size)
        self.assertEqual(0, self.blocked())

    def test_c47_recovers_slowly(self) -> None:
        """C47: after a dead period the window begins at 5 and grows by one for each cohort of successes."""
        self.grow()
        while not self.blocked():
            self.station.smtp.finish(answer=down)
        while self.station.smtp.jobs:
            self.station.smtp.finish(answer=down)
        self.station.advance(400)
        self.assertEqual(1, len(self.station.smtp.jobs))
        self.station.smtp.finish(answer=delivered)
        self.send(100)
        sizes = []
        for _ in range(18):
            sizes.append(len(self.station.smtp.jobs))
            self.station.smtp.finish(answer=delivered)
        self.assertEqual([5] * 5 + [6] * 6 + [7] * 7, sizes)

    def grow(self) -> None:
        """To the full window, with 20 that run."""
        self.station.smtp.wait = True
        self.send(100)
        for _ in range(500):
            self.station.smtp.finish(answer=delivered)
            self.send(1)
            if len(self.station.smtp.jobs) == 20:
                return
        self.fail("the window does not grow")


class DestinationTests(SynchronousTestCase):
    """`[[destination]]` on a whole service."""

    def station(self, **entry: object) -> Station:
        station = Station()
        destination = DestinationEntry(("a.org",), **entry)  # type: ignore[arg-type]
        station.settings = attrs.evolve(station.settings, destination=(destination,))
        station.make()
        return station.start()

    def test_rate(self) -> None:
        """10/min: ten a minute, from the first minute on, by one timer and whatever comes."""
        station = self.station(rate="10/min")
        for number in range(100):
            station.accept(f"u{number}@a.org")
        station.accept("other@b.org")
        self.assertEqual(2, len(station.smtp.seen))
        counts = []
        for _ in range(5):
            station.advance(60)
            counts.append(len(station.smtp.seen) - 1)
            self.assertEqual(1, len(station.clock.getDelayedCalls()))
        self.assertEqual([11, 21, 31, 41, 51], counts)

    def test_rate_over_the_file(self) -> None:
        """What does not fit in memory comes from the file in its turn; all goes, none is lost."""
        station = self.station(rate="60/min")
        for number in range(150):
            station.accept(f"u{number}@a.org")
        station.advance(160)
        self.assertEqual((150, []), (len(station.smtp.seen), station.left))

    def test_ladder(self) -> None:
        """1 min, 10 min, 10 min ...: the waits between the attempts of one recipient."""
        station = self.station(retry=(Seconds(60.0), Seconds(600.0)))
        times: list[float] = []

        def answer(claim: Claim) -> Outcome:
            times.append(station.clock.seconds())
            return deferred(claim)

        station.smtp.answer = answer
        station.accept("u@a.org")
        station.advance(3600)
        waits = [later - before for before, later in pairwise(times)]
        self.assertTrue(54 <= waits[0] <= 66 and len(waits) >= 5, waits)
        self.assertTrue(all(540 <= wait <= 660 for wait in waits[1:]), waits)

    def test_lifetime_of_what_is_tried(self) -> None:
        """One day instead of five: the attempt behind it fails for good."""
        station = self.station(lifetime=Seconds(86400.0))
        station.smtp.answer = deferred
        station.accept("u@a.org")
        station.accept("v@b.org")
        station.advance(86400 + 120)
        self.assertEqual([("u@a.org",)], station.bounce.seen)

    def test_lifetime_of_what_is_not_tried(self) -> None:
        """A destination that is dead or suspended: its mail goes back in its time all the same."""
        station = self.station(lifetime=Seconds(86400.0))
        station.service.suspend("smtp:default/a.org")
        station.accept("u@a.org")
        station.advance(86400 - 120)
        self.assertEqual([], station.bounce.seen)
        station.advance(300)
        self.assertEqual([("u@a.org",)], station.bounce.seen)
        self.assertEqual([], station.left)

    def test_longer_lifetime(self) -> None:
        """Ten days instead of five."""
        station = self.station(lifetime=Seconds(10 * 86400.0), retry=(Seconds(86400.0),))
        station.smtp.answer = deferred
        station.accept("u@a.org")
        station.advance(9 * 86400)
        self.assertEqual([], station.bounce.seen)
        station.advance(1.2 * 86400)
        self.assertEqual([("u@a.org",)], station.bounce.seen)


class SiteRateTests(SynchronousTestCase):
    """An agent that gives mail back because a `[[site]]` has a rate."""

    def sent(self, rate: str, seconds: int) -> int:
        """How many of one destination go in that time."""
        station = Station().start()
        site = Site(SiteEntry(("*",), rate=rate))
        gone: list[str] = []

        def answer(claim: Claim) -> Outcome:
            if wait := site.wait(claim.dest, station.clock.seconds()):
                return attrs.evolve(deferred(claim), kind=Kind.GIVEN_BACK, retry_after=wait)
            gone.append(claim.address)
            return delivered(claim)

        station.smtp.answer = answer
        for number in range(3 * parse_rate(rate).count):
            station.accept(f"u{number}@a.org")
        station.advance(seconds)
        return len(gone)

    def test_the_rate_is_reached(self) -> None:
        """Who is given back comes when his turn is, neither earlier nor much later: what the rate lets go does go."""
        for rate, seconds, low, high in (("5/s", 3, 13, 16), ("50/s", 2, 80, 106), ("20/min", 60, 18, 21)):
            self.assertTrue(low <= (sent := self.sent(rate, seconds)) <= high, (rate, sent))
