"""Mail that outlives its destination's own lifetime before it is tried: bites, reasons, what is left alone."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Retry, Seconds
from mta.envelope import BOUNCE, BodyRef, Flag, Kind, NewMessage, NewRecipient, Outcome, Want
from mta.queue.lifetime import BITE, expire
from mta.queue.memory import MemoryQueue
from mta.queue.retry import NEVER_TRIED
from mta.queue.scheduler.schedule import Scheduler
from mta.queue.scheduler.stock import LAST_CHANCE
from mta.queue.state import Selector
from tests.queue.station import LATER, Station, deferred

NOW = 1_800_000_000_000
DAY = 86_400_000
MORTAL = "smtp:r/a.org"
OTHER = "smtp:r/b.org"


class LifetimeTests(SynchronousTestCase):
    """`expire` with an engine in memory; mail for a.org lives for a day."""

    def setUp(self) -> None:
        self.engine = MemoryQueue(lambda: NOW)
        self.successResultOf(self.engine.start())
        entry = DestinationEntry(("a.org",), lifetime=Seconds(86400.0))
        self.scheduler = Scheduler(Concurrency(), 20_000, Retry(), [entry])

    def store(self, dest: str, created: int, recipients: int = 1, due: int = 0, flags: int = 0) -> None:
        due = due or created
        told = tuple(NewRecipient(f"u{n}@x", dest=dest, due=due) for n in range(recipients))
        message = NewMessage(
            self.engine.create_body(recipients).id, "s@x", told, BodyRef(1, b"x"), b"", created, created + 5 * DAY, flags=flags
        )
        self.successResultOf(self.engine.enqueue([message]))
        self.scheduler.waiting(dest, 0, due, NOW)

    def expire(self) -> int:
        return self.successResultOf(Deferred.fromCoroutine(expire(self.engine, self.scheduler, NOW)))

    def rows(self) -> list[tuple[str, str | None]]:
        return [(row.dest, row.last_reply) for row in self.successResultOf(self.engine.browse(Selector()))]

    def test_suspended(self) -> None:
        """What is older than a day is owed a bounce that says why; what is younger, or goes elsewhere, stays."""
        self.store(MORTAL, NOW - DAY - 1000)
        self.store(MORTAL, NOW - DAY + 1000)
        self.store(OTHER, NOW - 2 * DAY)
        self.scheduler.suspend(MORTAL)
        self.scheduler.suspend(OTHER)
        self.assertEqual(1, self.expire())
        rows = self.rows()
        self.assertEqual([(BOUNCE, NEVER_TRIED), (MORTAL, None), (OTHER, None)], rows)

    def test_open(self) -> None:
        """Where mail is tried it is left to its attempts, the last of which begins within a minute; what has no turn is not."""
        self.store(MORTAL, NOW - DAY - LAST_CHANCE + 1)
        self.assertEqual(0, self.expire())
        self.store(MORTAL, NOW - DAY - LAST_CHANCE - 1)
        self.assertEqual(1, self.expire())
        self.scheduler.spool(True)
        self.assertEqual(1, self.expire())

    def test_due_later(self) -> None:
        """What is not due yet is left to its attempt, however old it is."""
        self.store(MORTAL, NOW - 2 * DAY, due=NOW + DAY)
        self.assertEqual(0, self.expire())

    def test_put_off(self) -> None:
        """What its sender has put off himself (RFC 4865) is left to the time of its message, whatever the destination is like."""
        self.store(MORTAL, NOW - 2 * DAY, due=NOW + DAY, flags=Flag.PUT_OFF)
        self.scheduler.suspend(MORTAL)
        self.store(MORTAL, NOW - 2 * DAY)
        self.assertEqual(1, self.expire())
        self.assertEqual([(MORTAL, None), (BOUNCE, NEVER_TRIED)], self.rows())

    def test_reason(self) -> None:
        """Mail that was not tried because its destination was blocked says so; an operator's reason is not told."""
        self.store(MORTAL, NOW - 2 * DAY)
        self.successResultOf(self.engine.mark(MORTAL, NOW + DAY, "451 4.4.1 connection refused"))
        self.scheduler.suspend(MORTAL)
        self.expire()
        self.store(MORTAL, NOW - 2 * DAY)
        self.successResultOf(self.engine.mark(MORTAL, why="not paid", suspended=True))
        self.expire()
        self.assertEqual([(BOUNCE, "451 4.4.1 connection refused"), (BOUNCE, NEVER_TRIED)], self.rows())

    def test_bites(self) -> None:
        """All of them, a bounded number at once; what is in flight is met once and left alone."""
        self.store(MORTAL, NOW - 2 * DAY, 2 * BITE + 7)
        self.successResultOf(self.engine.claim([Want(MORTAL, 0, BITE)], NOW))
        self.scheduler.suspend(MORTAL)
        moves: list[int] = []
        refile = self.engine.refile
        self.engine.refile = lambda found, now: moves.append(len(found)) or refile(found, now)  # type: ignore[method-assign]
        self.assertEqual([BITE + 7, 0], [self.expire() for _ in range(2)])
        self.assertEqual([BITE, BITE, 7, BITE], moves)


class SweepTests(SynchronousTestCase):
    """On a whole service; mail for a.org lives for a minute."""

    def station(self, **limits: Any) -> Station:
        station = Station()
        entry = DestinationEntry(("a.org",), lifetime=Seconds(60.0), **limits)
        station.settings = attrs.evolve(station.settings, destination=(entry,))
        station.make()
        return station.start()

    def held_up(self, station: Station, tried: int) -> None:
        """Ten messages wait; in some minutes all that were not tried have failed, and nothing but what runs is in memory."""
        for number in range(10):
            station.accept(f"u{number}@a.org")
        station.advance(400)
        failed = {to for seen in station.bounce.seen for to in seen}
        self.assertEqual({f"u{number}@a.org" for number in range(tried, 10)}, failed)
        scheduler, running = station.service._scheduler, len(station.smtp.jobs)
        self.assertEqual((running, running), (scheduler.active, scheduler.running))
        self.assertEqual([10 - tried], [sum(fields["recipients"] for fields in self.lines(station))])

    def lines(self, station: Station) -> list[Any]:
        return [fields for name, _, fields in station.log.lines if name == "expired"]

    def test_after_its_release(self) -> None:
        """The time of what was put off (RFC 4865) begins with its release: its first failure is not its last."""
        station = self.station()
        station.smtp.answer = deferred
        message = attrs.evolve(station.message("u@a.org"), release=station.now() + 120_000)
        self.successResultOf(station.service.accept(message))
        station.advance(600)
        self.assertEqual(([("u@a.org",)] * 2, []), (station.smtp.seen, station.bounce.seen))

    def test_rate(self) -> None:
        """A rate lets one go."""
        self.held_up(self.station(rate="1/h"), 1)

    def test_concurrency(self) -> None:
        """One hangs, and no more may run at once."""
        station = self.station(concurrency=1, recipients=1)
        station.smtp.wait = True
        self.held_up(station, 1)

    def test_agent_gives_back(self) -> None:
        """The agent has reached a limit of its own, again and again."""
        station = self.station()
        station.smtp.answer = lambda claim: Outcome(claim, Kind.GIVEN_BACK, LATER, retry_after=10.0)
        self.held_up(station, 0)

    def test_a_turn_in_time(self) -> None:
        """A rate that is slow, but not too slow: nobody is given up."""
        station = self.station(rate="10/min")
        for number in range(9):
            station.accept(f"u{number}@a.org")
        station.advance(400)
        self.assertEqual((9, []), (len(station.smtp.seen), station.bounce.seen))

    def test_one_at_a_time(self) -> None:
        """A search that takes longer than the minute between two sweeps is not begun a second time beside itself."""
        station = self.station()
        station.service.suspend("smtp:default/a.org")
        station.accept("u@a.org")
        browse, asked = station.engine.browse, list[Deferred[None]]()

        def slow(*arguments: Any) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1].addCallback(lambda _: browse(*arguments))

        station.engine.browse = slow  # type: ignore[method-assign]
        station.advance(300)
        self.assertEqual(1, len(asked))
        for _ in range(2):
            asked.pop().callback(None)
            station.advance(61)
        self.assertEqual([("u@a.org",)], station.bounce.seen)
