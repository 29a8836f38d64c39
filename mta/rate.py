"""How often something may happen: "100/min" as the operator writes it, and the bucket that holds to it (pure).

A token bucket by the generic cell rate algorithm: it stores one time, so that a limit costs nothing while nothing happens.
What a limit allows is spread evenly: for an end that counts, a minute's worth at once at the border of two minutes would be
twice what was promised.  Only what is shorter than `SLACK` may come at once, so that a late timer loses nothing of a fast
rate.  In any span of t ms at most 1 + (t + SLACK) / interval tokens are given.  Times are ms of any one clock; a clock
that is put back costs one interval.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

__all__ = ["SLACK", "Bucket", "Rate", "parse_rate"]

SLACK: Final = 100.0  # ms
_RATE = re.compile(r"(\d{1,9}) ?/ ?(s|sec|min|h|hour|d|day)", re.ASCII)
_UNITS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}


@attrs.frozen(slots=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: int

    @property
    def interval(self) -> float:
        """ms from one to the next."""
        return 1000.0 * self.seconds / self.count


def parse_rate(text: str) -> Rate:
    """ "100/min", "5/s", "1000/h", "5000/d".  ValueError says what is wanted."""
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError(f'a rate is wanted ("100/min", "5/s", "1000/h"), not {text!r}')
    return Rate(int(match[1]), _UNITS[match[2]])


class Bucket:
    """The tokens of one limit."""

    __slots__ = ("_full", "_interval", "_slack", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._interval = rate.interval
        self._slack = max(SLACK - self._interval, 0.0)
        self._full = 0.0  # when the bucket is full again, less one token

    def next(self, now: float) -> float:
        """When the next token is there; not after `now`: it is there."""
        if self._full > now + self._slack + self._interval:  # the clock was put back
            self._full = now + self._slack + self._interval
        return self._full - self._slack

    def take(self, now: float) -> None:
        """One token; only when `next` says that it is there."""
        self._full = max(self._full, now) + self._interval
