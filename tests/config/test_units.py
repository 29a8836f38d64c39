"""Units of the settings."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.units import seconds


class SecondsTests(SynchronousTestCase):
    """Durations."""

    def test_float(self) -> None:
        """Whole numbers too: what is computed with them does not change its type."""
        self.assertIs(float, type(seconds(3)))
