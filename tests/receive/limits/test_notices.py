"""Refusals in the log: each client's first a minute, never a flood, and none is left uncounted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.limits.notices import LINES, Notices


class NoticesTests(SynchronousTestCase):
    """`Notices`."""

    def test_once_a_minute(self) -> None:
        """The first of each client and each limit; the next a minute later, with the number of those between."""
        notices = Notices()
        self.assertEqual(notices.tell("errors", b"a", 100.0), 0)
        self.assertEqual(notices.tell("errors", b"b", 100.0), 0)
        self.assertEqual(notices.tell("reserve", b"a", 100.0), 0)
        for second in range(101, 160):
            self.assertIsNone(notices.tell("errors", b"a", float(second)))
        self.assertEqual(notices.tell("errors", b"a", 160.0), 59)
        self.assertEqual(notices.tell("errors", b"b", 160.0), 0)

    def test_flood(self) -> None:
        """A hundred thousand clients in a minute are a hundred lines, in memory for a hundred."""
        notices = Notices()
        lines = [notices.tell("connections", number.to_bytes(4), 5.0) for number in range(100_000)]
        self.assertEqual(len(lines) - lines.count(None), LINES)
        self.assertEqual(len(notices._minutes["connections"].told), LINES)
        self.assertEqual(notices.tell("connections", b"next", 70.0), 100_000 - LINES)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 30.0, 61.0, -200.0]), st.integers(0, 5)), max_size=60))
    def test_none_is_lost(self, steps: list[tuple[float, int]]) -> None:
        """Lines and those that they say were left out are all that there were, but for the last few."""
        notices, now, told = Notices(), 1000.0, 0
        for pause, client in steps:
            now += pause
            unsaid = notices.tell("errors", bytes([client]), now)
            told += 0 if unsaid is None else 1 + unsaid
        left = notices._minutes["errors"].unsaid if steps else 0
        self.assertEqual(told + left, len(steps))
