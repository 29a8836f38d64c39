"""What a round shows, the median and the spread of several, and whether a goal is reached.  Pure.

A round is a mapping from figures to numbers; a figure that a server cannot give (aiosmtpd relays nothing) is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from statistics import median
from typing import Final, TypeAlias

import attrs

__all__ = ["TITLES", "Goal", "Medians", "Round", "Rounds", "Verdict", "judge", "medians", "spread"]

Round: TypeAlias = Mapping[str, float]
Rounds: TypeAlias = Mapping[str, Sequence[Round]]  # of each server
Medians: TypeAlias = Mapping[str, Round]

TITLES: Final = {
    "rate": "messages/s",
    "megabytes": "MB/s",
    "cpu": "CPU s per 1,000",
    "peak": "peak MiB",
    "p50": "delay p50 ms",
    "p99": "delay p99 ms",
    "reply50": "reply p50 ms",
    "reply99": "reply p99 ms",
    "reply999": "reply p99.9 ms",
    "end50": "end to end p50 ms",
    "end99": "end to end p99 ms",
    "end999": "end to end p99.9 ms",
    "handshakes": "handshakes per 1,000",
    "each": "KiB per connection",
}


@attrs.frozen
class Goal:
    """figure of a server is at least, or at most, that many times the other's; without another: that many of its unit."""

    figure: str
    server: str
    at_least: float = 0.0
    at_most: float = inf
    other: str = ""

    def __str__(self) -> str:
        wanted = f"at least {self.at_least:.3g}" if self.at_least else f"at most {self.at_most:.3g}"
        whose = f" x {self.other}" if self.other else ""
        return f"{TITLES[self.figure]} of {self.server} {wanted}{whose}"


@attrs.frozen
class Verdict:
    """What a goal came to.  reached: None when a server that it speaks of was not measured."""

    goal: Goal
    value: float = 0.0
    reached: bool | None = None

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.goal}: not measured"
        return f"{self.goal}: {self.value:.3g}, {'reached' if self.reached else 'NOT reached'}"


def judge(goal: Goal, found: Medians) -> Verdict:
    """By the medians of one scenario."""
    value = found.get(goal.server, {}).get(goal.figure)
    by = found.get(goal.other, {}).get(goal.figure) if goal.other else 1.0
    if value is None or not by:
        return Verdict(goal)
    return Verdict(goal, value / by, goal.at_least <= value / by <= goal.at_most)


def medians(rounds: Rounds) -> Medians:
    """Of each figure, over the rounds that have it."""
    return {
        server: {figure: median(values(measured, figure)) for figure in TITLES if values(measured, figure)}
        for server, measured in rounds.items()
    }


def spread(measured: Sequence[Round], figure: str) -> tuple[float, float]:
    """The least and the most of the rounds; (0, 0) where there is none."""
    found = values(measured, figure)
    return (min(found), max(found)) if found else (0.0, 0.0)


def values(measured: Sequence[Round], figure: str) -> list[float]:
    """Those of the rounds that have it."""
    return [one[figure] for one in measured if figure in one]
