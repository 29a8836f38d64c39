"""Room on the disk as pressure."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.space import Space

LIMIT = 1000


class SpaceTests(SynchronousTestCase):
    """What is said at which fill."""

    def setUp(self) -> None:
        self.free: int | None = 10 * LIMIT
        self.asked = 0
        self.space = Space(self.room, LIMIT)

    def room(self) -> int | None:
        self.asked += 1
        return self.free

    def at(self, free: int | None, now: int) -> float:
        self.free = free
        return self.space.pressure(now)

    def test_pressure(self) -> None:
        """Nothing down to twice the limit, then 0.8 to 1, above 1 below the limit and at most 2."""
        for number, (free, expected) in enumerate(
            ((9999, 0.0), (2000, 0.0), (1999, 0.8002), (1500, 0.9), (1000, 1.0), (999, 1.001), (0, 2.0))
        ):
            self.assertAlmostEqual(expected, self.at(free, number * 5000), msg=str(free))

    def test_monotonous(self) -> None:
        """Less room is never less pressure."""
        found = [self.at(free, n * 1000) for n, free in enumerate(range(2500, -1, -50))]
        self.assertEqual(sorted(found), found)

    def test_asked_once_a_second(self) -> None:
        """Between two questions the last answer holds; a clock that steps back asks again."""
        self.assertEqual([0.0] * 3, [self.at(0 if n else 9999, 5000 + n * 499) for n in range(3)])
        self.assertEqual((2.0, 2), (self.at(0, 6000), self.asked))
        self.assertEqual((0.0, 3), (self.at(9999, 1000), self.asked))

    def test_nobody_can_say(self) -> None:
        """No pressure; and none without a limit, for which nobody is asked."""
        self.assertEqual(0.0, self.at(None, 0))
        self.space.limit = 0
        self.asked = 0
        self.assertEqual((0.0, 0), (self.at(0, 5000), self.asked))
