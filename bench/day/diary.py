"""What a day has shown of a queue: who got which message when, how often it was tried, which connections were in vain.

A message that ends twice, or not at all, is an error and not a figure: `end` and `close` raise.  Times are seconds from
the begin of the day.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from bench.day.world import Mail, Mood, World
from bench.report import percentile

__all__ = ["Diary", "End"]


class End(Enum):
    """What became of a message."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"


class Diary:
    """Of one queue in one world.  To count: `updates`, what was written again because it was not delivered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ends: dict[int, tuple[End, float]] = {}
        self.attempts: Counter[int] = Counter()  # by message
        self.in_vain = 0  # connections to hosts of which nobody answered
        self.updates = 0

    def attempt(self, mail: Mail, now: float) -> None:
        """A connection is made for that."""
        self.attempts[mail.number] += 1
        self.in_vain += self._world.sites[mail.site].is_down(now)

    def end(self, number: int, end: End, now: float) -> None:
        """Delivered, or its sender was told that it was not."""
        if number in self.ends:
            raise AssertionError(f"message {number} was {self.ends[number][0].value} and is now {end.value}")
        self.ends[number] = end, now

    def close(self) -> None:
        """Everything has ended."""
        if left := len(self._world.mail) - len(self.ends):
            raise AssertionError(f"{left} messages are neither delivered nor bounced")

    def count(self, end: End) -> int:
        """How many ended so."""
        return sum(found is end for found, _ in self.ends.values())

    def tries(self, *moods: Mood) -> float:
        """Attempts for each message, of all or of those to such sites."""
        found = [self.attempts[mail.number] for mail in self._mail(moods)]
        return sum(found) / max(len(found), 1)

    def wait(self, percent: int, *moods: Mood) -> float:
        """Seconds from the arrival to the delivery, of what was delivered."""
        found = (mail for mail in self._mail(moods) if self.ends[mail.number][0] is End.DELIVERED)
        return percentile([self.ends[mail.number][1] - mail.at for mail in found], percent)

    def _mail(self, moods: tuple[Mood, ...]) -> list[Mail]:
        sites = self._world.sites
        return [mail for mail in self._world.mail if not moods or sites[mail.site].mood in moods]
