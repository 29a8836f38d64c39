"""One timer for all sessions: it runs while somebody is here, finds who is late, and never more than that."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.roster import INTERVAL, Roster


class Guest:
    """A session as the roster sees it."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.calls: list[str] = []

    def expire(self) -> None:
        """Note it."""
        self.calls.append("expire")


class RosterTests(SynchronousTestCase):
    """`Roster`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.roster = Roster(self.clock)

    def test_expiry(self) -> None:
        """Who is over the deadline hears of it within a second, and again until something changes; others do not."""
        late, early = Guest(10), Guest(1000)
        self.roster.enter(late)
        self.roster.enter(early)
        self.clock.pump([1.0] * 9)
        self.assertEqual(late.calls, [])
        self.clock.advance(INTERVAL)
        self.assertEqual(late.calls, ["expire"])
        late.deadline = 20
        self.clock.pump([1.0] * 9)
        self.assertEqual((late.calls, early.calls), (["expire"], []))

    def test_moved_deadline(self) -> None:
        """A deadline that moves on costs no timer: there is one, whoever comes and whatever they do."""
        guests = [Guest(10) for _ in range(50)]
        for guest in guests:
            self.roster.enter(guest)
            guest.deadline += 5
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.roster.here()), 50)

    def test_nobody(self) -> None:
        """With nobody here no timer runs; it begins again with the next."""
        guest = Guest(10)
        for _ in range(2):
            self.roster.enter(guest)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.roster.leave(guest)
            self.roster.leave(guest)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leaving_when_expired(self) -> None:
        """Guests that leave, all of them, while the sweep goes through them leave no timer behind."""
        guests = [Guest(1), Guest(1)]
        for guest in guests:
            guest.expire = lambda guest=guest: self.roster.leave(guest)  # type: ignore[method-assign]
            self.roster.enter(guest)
        self.clock.advance(INTERVAL)
        self.assertEqual((len(self.roster), self.clock.getDelayedCalls()), (0, []))

    def test_when_empty(self) -> None:
        """Fires at once when nobody is here, else when the last has gone."""
        self.assertIsNone(self.successResultOf(self.roster.when_empty()))
        one, two = Guest(9), Guest(9)
        self.roster.enter(one)
        self.roster.enter(two)
        waiting = self.roster.when_empty()
        self.roster.leave(one)
        self.assertNoResult(waiting)
        self.roster.leave(two)
        self.assertIsNone(self.successResultOf(waiting))
