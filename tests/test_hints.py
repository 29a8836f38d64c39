"""Hints: remembered until they expire, bounded, forgotten on demand."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.hints import MemoryHints
from mta.interfaces import IHints


class MemoryHintsTests(SynchronousTestCase):
    """`MemoryHints`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.hints = MemoryHints(self.clock, limit=3)

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
