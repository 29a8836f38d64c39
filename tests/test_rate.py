"""Rates as they are written, and the bucket that holds to them."""

from __future__ import annotations

from bisect import bisect_left

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.rate import SLACK, Bucket, Rate, parse_rate

RATES = st.builds(Rate, st.integers(1, 10_000), st.sampled_from([1, 60, 3600, 86400]))


def taken(bucket: Bucket, times: list[int]) -> list[int]:
    """At which of these times a token was had."""
    got = []
    for now in times:
        if bucket.next(now) <= now:
            bucket.take(now)
            got.append(now)
    return got


class RateTests(SynchronousTestCase):
    """What is written."""

    def test_units(self) -> None:
        """Per second, minute, hour, day."""
        known = {"5/s": 200.0, "100/min": 600.0, "1000/h": 3600.0, "24 / d": 3_600_000.0, "2/sec": 500.0, "1/hour": 3_600_000.0}
        self.assertEqual(known, {text: parse_rate(text).interval for text in known})

    def test_nonsense(self) -> None:
        """ValueError with what is wanted."""
        for text in ("", "5", "5/", "/s", "0/s", "-5/s", "5/m", "5/s/s", "٥/s", "1e3/s", "5/s\n"):
            self.assertRaisesRegex(ValueError, "a rate is wanted", parse_rate, text)


class BucketTests(SynchronousTestCase):
    """What is given."""

    def test_even(self) -> None:
        """100/min: one each 600 ms, and none saved up over a night."""
        bucket = Bucket(parse_rate("100/min"))
        self.assertEqual([0, 600, 1200], taken(bucket, list(range(0, 1800, 10))))
        night = 8 * 3_600_000
        self.assertEqual([night, night + 600], taken(bucket, list(range(night, night + 1200, 10))))

    def test_fast(self) -> None:
        """1000/s: a timer that is late by up to 100 ms loses nothing."""
        bucket = Bucket(parse_rate("1000/s"))
        times = [now for now in range(0, 10_001, 90) for _ in range(200)]
        self.assertTrue(9_900 <= len(taken(bucket, times)) <= 10_100)

    def test_clock_put_back(self) -> None:
        """One interval is waited for, not the hour."""
        bucket = Bucket(parse_rate("1/s"))
        bucket.take(3_600_000)
        self.assertEqual(1_000, bucket.next(0))
        self.assertEqual([1_000], taken(bucket, [0, 999, 1_000]))

    @settings(deadline=None, max_examples=200)
    @given(RATES, st.lists(st.integers(0, 30_000), min_size=1, max_size=200), st.integers(1, 100_000))
    def test_never_more(self, rate: Rate, steps: list[int], span: int) -> None:
        """In no span of t ms more than 1 + (t + SLACK) / interval, whenever it is asked."""
        now, times = 0, []
        for step in steps:
            now += step
            times += [now] * 3
        got = taken(Bucket(rate), times)
        for first, begin in enumerate(got):
            count = bisect_left(got, begin + span) - first
            self.assertTrue(count <= 1 + (span + SLACK) / rate.interval + 1e-6, (count, span))

    @settings(deadline=None, max_examples=100)
    @given(RATES, st.integers(1, 200))
    def test_never_less(self, rate: Rate, count: int) -> None:
        """Whoever comes at the time that was named gets his token: n of them take n - 1 intervals at most."""
        bucket, now = Bucket(rate), 0.0
        for _ in range(count):
            now = max(now, bucket.next(now))
            bucket.take(now)
        self.assertTrue(now <= (count - 1) * rate.interval + 1e-3)
