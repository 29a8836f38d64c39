"""Hints: remembered until they expire, bounded, forgotten on demand."""

from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.hints import LIMITS, MemoryHints
from mta.interfaces import IHints
from mta.receive.greylist import KNOWN, NEW, PASSED


class MemoryHintsTests(SynchronousTestCase):
    """`MemoryHints`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.hints = MemoryHints(self.clock, {"": 3, "large": 5})

    def test_until_it_expires(self) -> None:
        """A value is there before its time and gone at it, and leaves no timer behind."""
        verifyObject(IHints, self.hints)
        self.hints.put("kind", "key", 7, 10.0)
        self.clock.advance(9.9)
        self.assertEqual(self.hints.get("kind", "key"), 7)
        self.clock.advance(0.1)
        self.assertIsNone(self.hints.get("kind", "key"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_kinds_and_keys_are_apart(self) -> None:
        """Nothing is found under another name."""
        self.hints.put("a", "b", 1, 10.0)
        self.assertIsNone(self.hints.get("a", "c"))
        self.assertIsNone(self.hints.get("c", "b"))

    def test_forgetting(self) -> None:
        """None forgets, also what was never there."""
        self.hints.put("a", "b", 1, 10.0)
        self.hints.put("a", "b", None, 10.0)
        self.hints.put("a", "c", None, 10.0)
        self.assertIsNone(self.hints.get("a", "b"))
        self.assertEqual(self.hints.keys("a"), [])

    def test_bounded(self) -> None:
        """The one put longest ago goes; putting again makes it young."""
        for key in "123":
            self.hints.put("k", key, key, 10.0)
        self.hints.put("k", "1", "again", 10.0)
        self.hints.put("k", "4", "4", 10.0)
        self.assertEqual([self.hints.get("k", key) for key in "1234"], ["again", None, "3", "4"])

    def test_each_kind_has_its_own_bound(self) -> None:
        """A flood of one kind pushes out nothing of another."""
        self.hints.put("k", "1", 1, 10.0)
        for number in range(20):
            self.hints.put("large", str(number), number, 10.0)
        self.assertEqual((["1"], ["15", "16", "17", "18", "19"]), (self.hints.keys("k"), self.hints.keys("large")))

    def test_the_kinds_that_are_large(self) -> None:
        """The table speaks of the kinds that greylisting has, and of nothing that is no longer there."""
        self.assertEqual({"", NEW, PASSED, KNOWN}, set(LIMITS))
        self.assertEqual(LIMITS[""], MemoryHints(self.clock).most("tls-strikes"))
        self.assertGreater(LIMITS[NEW], 100_000)

    def test_full_is_not_slow(self) -> None:
        """Each that goes costs the same however many there are: no look at all the places that went before it."""
        times = []
        for most in (2_000, 100_000):
            hints = MemoryHints(self.clock, {"": most})
            for number in range(most):
                hints.put("k", str(number), number, 10.0)
            begin = time.process_time()
            for number in range(30_000):
                hints.put("k", f"x{number}", number, 10.0)
            times.append(time.process_time() - begin)
        self.assertLess(times[1], times[0] * 8)
