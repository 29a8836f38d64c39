"""Percentiles: nearest rank, in whatever order the delays came."""

from __future__ import annotations

from math import isnan

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.testing.delays import Delays


class DelaysTests(SynchronousTestCase):
    """Some delays."""

    def test_nearest_rank(self) -> None:
        """Of 1 to 1000 the hundredth part that is slowest begins at 990."""
        delays = Delays(range(1000, 0, -1))
        self.assertEqual(delays.summary(), {"p50": 500.0, "p99": 990.0, "p999": 999.0, "max": 1000.0})

    def test_none(self) -> None:
        """Nothing is said of nothing."""
        self.assertEqual(Delays().summary(), {})
        self.assertTrue(isnan(Delays().percentile(50)))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.1, 100))
    def test_so_many_do_not_exceed_it(self, values: list[float], percent: float) -> None:
        """It is one of the values, at least so many percent lie not above it, and fewer below it."""
        delays = Delays()
        for value in values:
            delays.add(value)
        found = delays.percentile(percent)
        self.assertIn(found, values)
        self.assertGreaterEqual(sum(value <= found for value in values), len(values) * percent / 100 - 1e-6)
        self.assertLess(sum(value < found for value in values), len(values) * percent / 100 + 1e-6)
        self.assertEqual(len(delays), len(values))
