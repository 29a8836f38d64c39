"""The window of a destination: the numbers of Postfix' SCHEDULER_README with 1/N feedback, worked out by its pseudo-code."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.scheduler.window import Window


class WindowTests(SynchronousTestCase):
    """Initial 5, limit 20."""

    def setUp(self) -> None:
        self.window = Window(5, 20)

    def succeed(self, count: int, busy: int = 20) -> int:
        for _ in range(count):
            self.window.succeeded(busy)
        return self.window.size

    def test_q51_grows_by_one_for_each_cohort(self) -> None:
        """Linear growth: N successes make N+1; 5+6+...+19 of them reach the limit, and no more."""
        self.assertEqual(5, self.succeed(4))
        self.assertEqual(6, self.succeed(1))
        self.assertEqual(6, self.succeed(5))
        self.assertEqual(7, self.succeed(1))
        self.assertEqual(19, self.succeed(sum(range(7, 20)) - 1))
        self.assertEqual(20, self.succeed(1))
        self.assertEqual(20, self.succeed(1000))

    def test_q51_grows_only_within_reach(self) -> None:
        """Safety: not unless N < busy + initial, or negative feedback would take too long to show."""
        self.assertEqual(7, self.succeed(1000, busy=2))

    def test_h38_other_bounds(self) -> None:
        """H38: a reload cuts what is above the new limit at once, and lets grow to a higher one."""
        self.succeed(1000)
        self.window.resize(2, 3)
        self.assertEqual(3, self.window.size)
        self.window.resize(5, 30)
        self.assertEqual((3, 30), (self.window.size, self.succeed(10_000, busy=30)))
        self.window.restart()
        self.assertEqual(5, self.window.size)

    def test_q51_reverse_hysteresis(self) -> None:
        """C47: the first failure of a cycle shrinks the window at once, the others of that cycle do not."""
        self.succeed(sum(range(5, 20)))
        sizes = []
        for _ in range(10):
            self.assertFalse(self.window.failed())
            sizes.append(self.window.size)
        self.assertEqual([19] * 10, sizes)

    def test_q51_dead_after_a_cohort(self) -> None:
        """Five failures, 1/5, three times 1/4, 1/3: 0.2, 0.45, 0.7, 0.95, 1.28 cohorts: the fifth is death."""
        self.assertEqual([False] * 4 + [True], [self.window.failed() for _ in range(5)])
        self.assertEqual(3, self.window.size)

    def test_q51_success_forgives(self) -> None:
        """A success in between: the cohort is counted from the beginning."""
        for _ in range(20):
            self.assertFalse(self.window.failed())
            self.succeed(1)

    def test_q51_one_at_a_time(self) -> None:
        """A window of 1 is a cohort of one: the first failure is death."""
        self.assertTrue(Window(1, 20).failed())
        self.assertTrue(Window(5, 1).failed())

    def test_slow_open(self) -> None:
        """After a dead period it begins as a new one does."""
        self.succeed(1000)
        self.window.failed()
        self.window.restart()
        self.assertEqual((5, 0.0, 0.0, 0.0), (self.window.size, self.window.success, self.window.failure, self.window.cohorts))

    @settings(deadline=None, max_examples=200)
    @given(st.integers(1, 10), st.integers(1, 30), st.lists(st.booleans(), max_size=300))
    def test_bounds(self, initial: int, limit: int, successes: list[bool]) -> None:
        """Whatever happens: between 1 and the limit, and dead at the latest when a full window has failed in a row."""
        window, row = Window(initial, limit), 0
        for success in successes:
            if success:
                window.succeeded(limit)
                row = 0
            else:
                row += 1
                dead = window.failed()
                self.assertTrue(dead or row < limit)
                if dead:
                    window.restart()
                    row = 0
            self.assertTrue(1 <= window.size <= limit)
