"""How much slower: it grows with the errors, and it has an end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.limits.tarpit import STEP, slowness


class TarpitTests(SynchronousTestCase):
    """`slowness`."""

    def test_grows(self) -> None:
        """Nothing for those that are allowed, a step for each further one, up to the most."""
        self.assertEqual([slowness(errors, 3, 2.0) for errors in range(10)], [0.0] * 4 + [STEP, 1.0, 1.5, 2.0, 2.0, 2.0])

    def test_off(self) -> None:
        """No most, no tarpit."""
        self.assertEqual(slowness(1000, 3, 0.0), 0.0)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(0, 10**6), st.integers(0, 100), st.floats(0, 60))
    def test_bounded(self, errors: int, allowed: int, most: float) -> None:
        """Never more than the most, never less than for fewer errors."""
        self.assertTrue(0.0 <= slowness(errors, allowed, most) <= slowness(errors + 1, allowed, most) <= most)
