"""Delays and what their spread is: the median says little about mail, its slowest hundredth says much.

Every value is kept (8 octets each): a benchmark has some hundred thousand of them, and no bucket then hides a long tail.
Percentiles are by nearest rank: each of them is a delay that somebody had.  Pure but for being changed by `add`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import ceil, nan

__all__ = ["Delays"]

_SHOWN = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}


class Delays:
    """Seconds, in the order they came."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._values = array("d", values)

    def __len__(self) -> int:
        return len(self._values)

    def add(self, seconds: float) -> None:
        """One more."""
        self._values.append(seconds)

    def percentile(self, percent: float) -> float:
        """The least value that so many percent do not exceed; nan where there is none."""
        ordered = sorted(self._values)
        return ordered[max(ceil(len(ordered) * percent / 100) - 1, 0)] if ordered else nan

    def summary(self) -> dict[str, float]:
        """p50, p99, p999 (99.9 %) and max, in seconds; empty where there is none."""
        return {name: round(self.percentile(percent), 6) for name, percent in _SHOWN.items()} if self._values else {}
