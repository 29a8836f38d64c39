"""Delay warnings: when, to whom, once; and what cannot be warned of now holds up nobody."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import DestinationEntry, Dsn, Seconds
from mta.envelope import NewMessage, Refusal, Settlement
from mta.queue.state import Alteration, Overdue, Selector
from mta.status import transient
from tests.queue.station import LATER, Station, deferred, delivered

TO = "bob@example.org"
HOURS_4 = 4 * 3600


class WarningTests(SynchronousTestCase):
    """A station whose mail to example.org waits; its reporter writes to the sender."""

    def setUp(self) -> None:
        self.asked: list[Overdue] = []
        self.undone = 0
        self.station = self.made(HOURS_4)

    def made(self, age: float) -> Station:
        station = Station()
        station.warn = self.report
        station.settings = attrs.evolve(station.settings, dsn=Dsn(delay_warning=Seconds(age)))
        station.make()
        station.smtp.answer = lambda claim: (deferred if claim.address == TO else delivered)(claim)
        return station.start()

    def report(self, overdue: Overdue) -> Deferred[Settlement]:
        self.asked.append(overdue)
        return succeed(self.made_of(self.station.message(overdue.message.sender, sender="")))

    def made_of(self, *spawn: NewMessage) -> Settlement:
        def undo() -> None:
            self.undone += 1

        return Settlement((), spawn, undo)

    def accepted(self, *addresses: str, **more: str) -> int:
        return self.successResultOf(self.station.accept(*(addresses or (TO,)), **more))

    def warned(self) -> list[tuple[str, ...]]:
        return [seen for seen in self.station.smtp.seen if TO not in seen]

    def test_q21_once(self) -> None:
        """After four hours, not before, within a minute; and never again, also over a restart."""
        id = self.accepted()
        self.station.advance(HOURS_4 - 1)
        self.assertEqual([], self.asked)
        self.station.advance(62)
        self.assertEqual([id], [overdue.message.id for overdue in self.asked])
        self.assertEqual([("ann@example.com",)], self.warned())
        (line,) = [fields for name, _, fields in self.station.log.lines if name == "warned"]
        self.assertEqual({"from": "ann@example.com", "recipients": 1, "reports": 1}, line)
        self.station.again()
        self.station.advance(2 * HOURS_4)
        self.assertEqual(1, len(self.asked))

    def test_not_wanted(self) -> None:
        """No age, no reporter, the null sender, mail that was delivered: nobody is asked."""
        self.accepted(sender="")
        self.accepted("c@example.org")
        self.station.advance(2 * HOURS_4)
        self.assertEqual([], self.asked)
        for age, reporter in ((0, self.report), (HOURS_4, None)):
            station = self.station = self.made(age)
            station.warn = reporter
            station.again()
            self.accepted()
            station.advance(2 * HOURS_4)
            self.assertEqual([], self.asked)
            self.assertEqual(0, station.queue.calls["overdue"])
            self.assertEqual(reporter is not None, station.queue.calls["overdue_by"] > 0)

    def test_reload(self) -> None:
        """Another age holds from the next minute on."""
        self.accepted()
        settings = attrs.evolve(self.station.settings, dsn=Dsn(delay_warning=Seconds(600)))
        self.station.service.reconfigure(settings, self.station.router)
        self.station.advance(680)
        self.assertEqual(1, len(self.asked))

    def test_many(self) -> None:
        """50 in bites of 20, the oldest first, each once; the next minutes look only at what has become late since."""
        made = [self.accepted() for _ in range(50)]
        self.station.advance(HOURS_4 + 70)
        self.assertEqual(made, [overdue.message.id for overdue in self.asked])
        self.assertEqual(50, len(self.warned()))
        self.assertTrue(self.station.service._warnings._after >= made[-1])
        late = self.accepted()
        self.station.advance(HOURS_4 + 70)
        self.assertEqual([*made, late], [overdue.message.id for overdue in self.asked])

    def test_one_that_cannot_be_made(self) -> None:
        """No room, or a broken reporter: the others are warned, that one within the hour; mail goes on."""
        for trouble, logged in ((transient("4.3.1", "full", code=452), 0), (ZeroDivisionError(), 1)):
            self.asked.clear()
            first, second = self.accepted(), self.accepted()
            faults: list[Exception] = [trouble]
            self.station.service._warnings._report = lambda overdue, faults=faults: (
                fail(faults.pop()) if faults else self.report(overdue)
            )
            self.station.advance(HOURS_4 + 70)
            self.assertEqual([second], [overdue.message.id for overdue in self.asked])
            self.assertEqual(logged, len(self.flushLoggedErrors(ZeroDivisionError)))
            self.station.advance(3700)
            self.assertEqual([second, first], [overdue.message.id for overdue in self.asked])

    def test_one_that_cannot_be_stored(self) -> None:
        """No way to the sender just now, or no room for it: what was made is undone, and made again within the hour."""
        station, route, self.undone = self.station, self.station.router.route, 0
        self.accepted()
        station.router.route = lambda address: Refusal(LATER)  # type: ignore[method-assign]
        station.advance(HOURS_4 + 70)
        self.assertEqual((1, 1, []), (len(self.asked), self.undone, self.warned()))
        station.router.route = route  # type: ignore[method-assign]
        station.queue.faults["warn"] = [transient("4.3.1", "full", code=452)]
        station.advance(3700)
        self.assertEqual((2, 2, []), (len(self.asked), self.undone, self.warned()))
        station.advance(3700)
        self.assertEqual((3, 2, [("ann@example.com",)]), (len(self.asked), self.undone, self.warned()))

    def test_at_its_time(self) -> None:
        """A sender who has named a time is told then, and only then, whatever is usual; also where nothing is."""
        for age in (600, 0):
            station = self.station = self.made(age)
            station.again()
            self.asked.clear()
            times = [station.now() + seconds * 1000 for seconds in (3600, 1800)]
            late = [attrs.evolve(station.message(TO), deliver_by=by) for by in times]
            for message in late:
                self.successResultOf(station.service.accept(message))
            station.advance(1795)
            self.assertEqual([], self.asked)
            station.advance(70)
            self.assertEqual([late[1].id], [overdue.message.id for overdue in self.asked])
            station.advance(2 * HOURS_4)
            self.assertEqual([late[1].id, late[0].id], [overdue.message.id for overdue in self.asked])

    def test_at_its_time_many(self) -> None:
        """50 of one moment in bites of 20, each once; one that cannot be warned of now within the hour."""
        station, warnings = self.station, self.station.service._warnings
        made = [attrs.evolve(station.message(TO), deliver_by=station.now() + 60_000) for _ in range(50)]
        for message in made:
            self.successResultOf(station.service.accept(message))
        faults: list[Exception] = [transient("4.3.1", "full", code=452)]
        warnings._report = lambda overdue: fail(faults.pop()) if faults else self.report(overdue)
        station.advance(130)
        self.assertEqual([message.id for message in made[1:]], [overdue.message.id for overdue in self.asked])
        station.advance(3700)
        self.assertEqual(made[0].id, self.asked[-1].message.id)
        self.assertEqual(50, len(self.asked))

    def test_held_meanwhile(self) -> None:
        """Held when its time came: warned of within an hour after its release, if it still waits."""
        self.accepted()
        engine = self.station.engine
        self.successResultOf(engine.alter(Selector(), Alteration.HOLD, self.station.now()))
        self.station.advance(HOURS_4 + 3000)
        self.assertEqual([], self.asked)
        self.successResultOf(engine.alter(Selector(), Alteration.RELEASE, self.station.now()))
        self.station.advance(3700)
        self.assertEqual(1, len(self.asked))

    def test_before_its_release(self) -> None:
        """What its sender has put off himself (RFC 4865) is late when it has waited since its release, and not before."""
        station = self.station
        message = attrs.evolve(station.message(TO), release=station.now() + 2 * HOURS_4 * 1000)
        self.successResultOf(station.service.accept(message))
        for seconds in (2 * HOURS_4 - 10, HOURS_4):
            station.advance(seconds)
            self.assertEqual([], self.asked)
        station.advance(3700)
        self.assertEqual([message.id], [overdue.message.id for overdue in self.asked])

    def test_before_its_release_where_mail_is_kept_longer(self) -> None:
        """Its release is known all the same, by the longest time of its destinations."""
        station = self.station
        entry = DestinationEntry(("example.org",), lifetime=Seconds(9 * 86400.0))
        station.service.reconfigure(attrs.evolve(station.settings, destination=(entry,)), station.router)
        message = attrs.evolve(station.message(TO), release=station.now() + HOURS_4 * 1000)
        self.successResultOf(station.service.accept(message))
        station.advance(2 * HOURS_4 - 10)
        self.assertEqual([], self.asked)
        station.advance(3700)
        self.assertEqual([message.id], [overdue.message.id for overdue in self.asked])

    def test_slow_reporter(self) -> None:
        """One walk at a time: while the reporter is at work nothing is asked twice."""
        waiting: Deferred[Settlement] = Deferred()
        self.station.service._warnings._report = lambda overdue: self.asked.append(overdue) or waiting
        self.accepted()
        self.station.advance(HOURS_4 + 600)
        self.assertEqual(1, len(self.asked))
        waiting.callback(Settlement(()))
        self.station.advance(HOURS_4)
        self.assertEqual(1, len(self.asked))
        self.assertEqual([], self.warned(), "nothing was to be said after all; the mark is kept")

    def test_gone_meanwhile(self) -> None:
        """Delivered while the warning was made: it is not sent."""
        waiting: Deferred[Settlement] = Deferred()
        self.station.service._warnings._report = lambda overdue: waiting
        self.accepted()
        self.station.advance(HOURS_4 + 70)
        self.station.smtp.answer = delivered
        self.station.advance(4500)
        self.assertEqual([], self.station.left)
        waiting.callback(self.made_of(self.station.message("ann@example.com", sender="")))
        self.assertEqual(([], [], 1), (self.station.left, self.warned(), self.undone))
