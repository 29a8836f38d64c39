"""So many in so long for each of any number of clients (or logins), in memory of a known size.

The generic cell rate algorithm: `rate.count` at once, then evenly, one each `rate.seconds / rate.count`; in any span of t
seconds at most count + t * count / seconds.  What is kept of a client is the time at which it owes nothing any more,
never further ahead than `rate.seconds`.  So two dictionaries suffice: the younger is begun anew each `rate.seconds`, and
the elder then holds nothing that still counts.  When the younger is full it is begun early: a flood of addresses
costs memory of a known size, and at worst some client's count is forgotten.  A clock that is put back costs one share.
Pure: times are seconds of any one clock.
"""

from __future__ import annotations

from typing import Final

from mta.rate import Rate

__all__ = ["REMEMBERED", "Rates"]

REMEMBERED: Final = 50_000  # clients in each of the two dictionaries: some 15 MB when both are full
_ROUNDING: Final = 0.001  # seconds: `count` shares are not quite the whole


class Rates:
    """What each client has used of one rate.  It goes on under another `rate` with what it has counted."""

    __slots__ = ("_begun", "_elder", "_younger", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._begun = 0.0  # the younger
        self._younger: dict[bytes, float] = {}
        self._elder: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._younger) + len(self._elder)

    def owed(self, key: bytes, now: float) -> float:
        """How many it has had that time has not made up for yet, from 0 to `rate.count`."""
        return self._debt(key, now) * self.rate.count / self.rate.seconds

    def has_room(self, key: bytes, now: float, number: int = 1) -> bool:
        """May it have so many more?"""
        rate = self.rate
        share = rate.seconds / rate.count
        return self._debt(key, now) + number * share <= rate.seconds + min(_ROUNDING, share / 2)

    def count(self, key: bytes, now: float, number: int = 1) -> None:
        """It has had so many, with room or without; fewer than none are given back."""
        rate = self.rate
        debt = min(self._debt(key, now) + number * rate.seconds / rate.count, rate.seconds)
        self._store(key, now, max(debt, 0.0))

    def _debt(self, key: bytes, now: float) -> float:
        """In seconds."""
        free = self._younger.get(key)
        if free is None:
            free = self._elder.get(key, now)
        debt = free - now
        if debt > self.rate.seconds + 1:  # the clock was put back, or the rate was another
            debt = self.rate.seconds
            self._store(key, now, debt)
        return max(debt, 0.0)

    def _store(self, key: bytes, now: float, debt: float) -> None:
        age = now - self._begun
        if not 0 <= age < self.rate.seconds or len(self._younger) >= REMEMBERED:
            self._elder = self._younger if age < 2 * self.rate.seconds else {}
            self._younger, self._begun = {}, now
        self._younger[key] = now + debt
