"""A convoy: how many at once, and whose turn it is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, Retry
from mta.envelope import Claim
from mta.queue.scheduler.convoy import LENGTH, Convoy
from mta.queue.scheduler.destination import Destination
from mta.queue.scheduler.terms import TermsTable

USUAL = TermsTable(Concurrency(), Retry()).usual


def destination(name: str, ready: bool = True) -> Destination:
    dest = Destination(name, USUAL)
    if ready:
        dest.add(Claim(2, 1, name, 0, 0, 0, "u@a.org"), 0)
    return dest


class ConvoyTests(SynchronousTestCase):
    """Destinations that share their servers."""

    def setUp(self) -> None:
        self.convoy = Convoy()

    def test_room(self) -> None:
        """One at a time; one more for each LENGTH that were begun."""
        self.assertFalse(self.convoy.full)
        self.convoy.begin()
        self.assertTrue(self.convoy.full)
        for _ in range(LENGTH - 2):
            self.convoy.busy -= 1
            self.convoy.begin()
            self.assertTrue(self.convoy.full)
        self.convoy.busy -= 1
        self.convoy.begin()
        self.assertFalse(self.convoy.full)
        self.convoy.begin()
        self.assertTrue(self.convoy.full)

    def test_next(self) -> None:
        """In the order in which they came; those that have nothing any more, or may not, are passed over."""
        for dest in (destination("empty", ready=False), (closed := destination("closed")), destination("a"), destination("b")):
            self.convoy.waiting[dest.name] = dest
        closed.suspended = True
        names = [dest.name if (dest := self.convoy.next()) else None for _ in range(3)]
        self.assertEqual(["a", "b", None], names)

    def test_nobody_while_full(self) -> None:
        """There is a place in the line, and no room."""
        self.convoy.begin()
        dest = destination("a")
        self.convoy.waiting["a"] = dest
        self.assertIsNone(self.convoy.next())
        self.convoy.busy -= 1
        self.assertIs(dest, self.convoy.next())

    def test_taken_over(self) -> None:
        """A destination that runs is counted where it belongs now, and waits nowhere else."""
        dest, other = destination("a"), Convoy()
        self.convoy.take_in(dest)
        self.convoy.begin()
        dest.busy = 1
        self.convoy.waiting["a"] = dest
        other.take_in(dest)
        self.assertEqual((0, 1, {}), (self.convoy.busy, other.busy, self.convoy.waiting))
        self.assertTrue(other.full and not self.convoy.full)
