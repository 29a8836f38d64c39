"""How long the log may grow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.stride import Stride


class StrideTests(SynchronousTestCase):
    """From what checkpoints took."""

    def test_rare_where_they_are_quick(self) -> None:
        """Up to four times, never more; back, and never less than once, where they take long."""
        stride = Stride()
        self.assertEqual(1, stride.times)
        for seconds, times in ((0.01, 2), (0.01, 4), (0.01, 4), (0.05, 4), (0.1, 2), (0.05, 2), (0.1, 1), (9.0, 1), (0.05, 1)):
            stride.took(seconds, whole=True)
            self.assertEqual(times, stride.times, seconds)

    def test_reader_in_the_way(self) -> None:
        """What was not done is quick; a long wait says something all the same."""
        stride = Stride()
        stride.took(0.001, whole=False)
        self.assertEqual(1, stride.times)
        stride.took(0.001, whole=True)
        stride.took(1.0, whole=False)
        self.assertEqual(1, stride.times)
