"""Rates of any number of clients: never exceeded, made up for by time, in bounded memory, whatever the clock does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.rate import Rate, parse_rate
from mta.receive.limits import rates as module
from mta.receive.limits.rates import REMEMBERED, Rates

NOW = 1_795_000_000.0
PAUSES = [0.0, 0.5, 3.0, 11.0, 29.0, 59.0, 61.0, 130.0]


def take(rates: Rates, key: bytes, now: float, number: int = 1) -> bool:
    """Count where there is room."""
    room = rates.has_room(key, now, number)
    if room:
        rates.count(key, now, number)
    return room


class RatesTests(SynchronousTestCase):
    """`Rates`."""

    def test_at_once_then_evenly(self) -> None:
        """Three a minute: three at once, the fourth after a third of a minute; another client is not concerned."""
        rates = Rates(parse_rate("3/min"))
        self.assertEqual([take(rates, b"a", NOW) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertTrue(take(rates, b"b", NOW))
        self.assertFalse(take(rates, b"a", NOW + 19.9))
        self.assertEqual([take(rates, b"a", NOW + 20.0) for _ in range(2)], [True, False])

    def test_days(self) -> None:
        """10,000 a day are 10,000 at once, and one each 8.64 s."""
        rates = Rates(parse_rate("10000/day"))
        self.assertTrue(take(rates, b"a", NOW, 10_000))
        self.assertFalse(take(rates, b"a", NOW + 8.0))
        self.assertTrue(take(rates, b"a", NOW + 8.64))

    def test_many_at_once(self) -> None:
        """So many or none: what has no room as a whole is not counted in part."""
        rates = Rates(parse_rate("10/min"))
        self.assertTrue(take(rates, b"a", NOW, 8))
        self.assertFalse(take(rates, b"a", NOW, 3))
        self.assertTrue(take(rates, b"a", NOW, 2))
        self.assertFalse(Rates(parse_rate("10/min")).has_room(b"a", NOW, 11))

    def test_given_back(self) -> None:
        """What was given back is there again, and no more than there ever was."""
        rates = Rates(parse_rate("3/min"))
        rates.count(b"a", NOW, 3)
        rates.count(b"a", NOW, -2)
        self.assertEqual(round(rates.owed(b"a", NOW)), 1)
        rates.count(b"a", NOW, -5)
        self.assertEqual([take(rates, b"a", NOW) for _ in range(4)], [True] * 3 + [False])

    def test_counted_without_room(self) -> None:
        """What happens without asking counts up to the whole and no further: a client is never shut out for longer than that."""
        rates = Rates(parse_rate("3/min"))
        rates.count(b"a", NOW, 1000)
        self.assertEqual(round(rates.owed(b"a", NOW)), 3)
        self.assertTrue(rates.has_room(b"a", NOW + 20.0))

    def test_clock_put_back(self) -> None:
        """By a day: it costs one share, not a day."""
        rates = Rates(parse_rate("3/min"))
        rates.count(b"a", NOW, 1)
        earlier = NOW - 86400
        self.assertFalse(rates.has_room(b"a", earlier))
        self.assertTrue(rates.has_room(b"a", earlier + 20.0))

    def test_another_rate(self) -> None:
        """A reload from an hour to a minute frees whoever was over it within a minute; one to a day forgets nothing that counts."""
        rates = Rates(parse_rate("3/hour"))
        rates.count(b"a", NOW, 3)
        rates.rate = parse_rate("3/min")
        self.assertFalse(rates.has_room(b"a", NOW + 1))
        self.assertTrue(rates.has_room(b"a", NOW + 21.1))

    @settings(deadline=None, max_examples=100)
    @given(st.integers(1, 7), st.lists(st.tuples(st.sampled_from(PAUSES), st.integers(0, 2), st.integers(1, 3)), max_size=80))
    def test_never_over_the_limit(self, limit: int, steps: list[tuple[float, int, int]]) -> None:
        """In any span of t seconds at most limit + t * limit / 60 are allowed, and whoever waited for a minute has them all."""
        rates, now = Rates(Rate(limit, 60)), NOW
        allowed: dict[int, list[float]] = {0: [], 1: [], 2: []}
        seen = dict.fromkeys(allowed, NOW - 3600)
        for pause, who, number in steps:
            now += pause
            room = take(rates, bytes([who + 1]), now, number)
            if now - seen[who] >= 60 and number <= limit:
                self.assertTrue(room)
            if room:
                allowed[who] += [now] * number
                seen[who] = now
        for times in allowed.values():
            for first in range(len(times)):
                for last in range(first, len(times)):
                    span = times[last] - times[first]
                    self.assertLessEqual(last - first + 1, limit + span * limit / 60 + 0.01)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(1, 7), st.lists(st.tuples(st.sampled_from(PAUSES), st.integers(0, 2)), max_size=80))
    def test_like_one_dictionary(self, limit: int, steps: list[tuple[float, int]]) -> None:
        """The two dictionaries that are thrown away in turn answer like one that keeps everything for ever."""
        rates, free, now = Rates(Rate(limit, 60)), [0.0, 0.0, 0.0], NOW
        for pause, who in steps:
            now += pause
            then = max(now, free[who]) + 60 / limit
            allowed = then <= now + 60.001
            self.assertEqual(take(rates, bytes([who + 1]), now), allowed)
            free[who] = then if allowed else free[who]

    def test_bounded(self) -> None:
        """A flood of addresses costs bounded memory; and minutes later nobody is remembered."""
        rates = Rates(parse_rate("1/min"))
        for number in range(2 * REMEMBERED + 10):
            rates.count(number.to_bytes(8), 0.0)
        self.assertLessEqual(len(rates), 2 * REMEMBERED)
        rates.count(b"x", 180.0)
        self.assertEqual(len(rates), 1)

    def test_bounded_always(self) -> None:
        """Whoever comes in whatever order at whatever time."""
        self.patch(module, "REMEMBERED", 4)

        @settings(deadline=None, max_examples=100)
        @given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 59.0, 61.0, -500.0]), st.integers(0, 40)), max_size=100))
        def flood(steps: list[tuple[float, int]]) -> None:
            rates, now = Rates(parse_rate("2/min")), NOW
            for pause, who in steps:
                now += pause
                take(rates, bytes([who]), now)
                self.assertLessEqual(len(rates), 8)

        flood()
