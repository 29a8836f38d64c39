"""How mail is found that waits in the file: every page, in order, some at a time or all."""

from __future__ import annotations

from unittest.mock import patch

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.queue import walk as module
from mta.queue.state import Lane
from mta.queue.walk import Walk
from mta.status import MailError, transient


class Lanes:
    """An engine that has lanes, one of each destination."""

    def __init__(self, *dests: str) -> None:
        self.dests = dests
        self.asked: list[str] = []
        self.fails = False

    def lanes(self, dest: None, after: str, limit: int) -> Deferred[list[Lane]]:
        self.asked.append(after)
        if self.fails:
            return fail(transient("4.3.0", "the disk"))
        return succeed([Lane(name, 0, 1) for name in self.dests if name > after][:limit])


class WalkTests(SynchronousTestCase):
    """Pages of two, two of them in a minute."""

    def setUp(self) -> None:
        self.patches = [patch.object(module, "PAGE", 2), patch.object(module, "PAGES", 2)]
        for each in self.patches:
            each.start()
            self.addCleanup(each.stop)
        self.found: list[str] = []

    def walk(self, *dests: str) -> Walk:
        self.queue = Lanes(*dests)
        return Walk(self.queue, lambda lanes: self.found.extend(lane.dest for lane in lanes))

    def run_walk(self, work: object) -> None:
        self.successResultOf(Deferred.fromCoroutine(work))

    def test_whole(self) -> None:
        """Every destination, once; behind a full page there is another look."""
        for count in range(6):
            names = "abcde"[:count]
            self.found.clear()
            self.run_walk(self.walk(*names).whole())
            self.assertEqual((list(names), count // 2 + 1), (self.found, len(self.queue.asked)))

    def test_some(self) -> None:
        """Two pages, then on from there, and behind the end from the beginning."""
        walk = self.walk(*"abcde")
        seen = []
        for _ in range(3):
            self.run_walk(walk.some())
            seen.append("".join(self.found))
            self.found.clear()
        self.assertEqual(["abcd", "e", "abcd"], seen)

    def test_whole_leaves_the_place(self) -> None:
        """A walk through all of it does not move where some pages go on."""
        walk = self.walk(*"abcde")
        self.run_walk(walk.some())
        self.run_walk(walk.whole())
        self.found.clear()
        self.run_walk(walk.some())
        self.assertEqual(["e"], self.found)

    def test_failure(self) -> None:
        """It passes on, and the next walk begins where this one was."""
        walk = self.walk(*"abcde")
        self.run_walk(walk.some())
        self.queue.fails = True
        self.failureResultOf(Deferred.fromCoroutine(walk.some()), MailError)
        self.queue.fails = False
        self.found.clear()
        self.run_walk(walk.some())
        self.assertEqual(["e"], self.found)
