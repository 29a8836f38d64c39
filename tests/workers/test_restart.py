"""`mta.workers.restart`: how long to wait before the next start."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.workers.restart import FIRST, MOST, WELL, Backoff


class BackoffTests(SynchronousTestCase):
    """`Backoff`."""

    def test_doubles_up_to_a_minute(self) -> None:
        """Whoever cannot live is tried after 1, 2, 4 ... and at last each 60 seconds."""
        backoff = Backoff()
        self.assertEqual([1, 2, 4, 8, 16, 32, 60, 60], [backoff.after(0.1) for _ in range(8)])

    def test_a_minute_of_life(self) -> None:
        """Then it begins at one second again, and doubles from there."""
        backoff = Backoff()
        for _ in range(5):
            backoff.after(59.9)
        self.assertEqual([32, 1, 2, 4], [backoff.after(lived) for lived in (59.9, 60.0, 0.0, 0.0)])

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.floats(0, 200), max_size=30))
    def test_bounds(self, lives: list[float]) -> None:
        """Whatever the lives were: never less than a second or more than a minute, and a second after a good one."""
        backoff = Backoff()
        for lived in lives:
            delay = backoff.after(lived)
            self.assertTrue(FIRST <= delay <= MOST)
            self.assertTrue(lived < WELL or delay == FIRST)
