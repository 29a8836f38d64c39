"""Outcomes that could not be recorded, and when they are offered to the queue again (pure).

On a full disk, that is.  Their recipients stay claimed: better late than twice.  Once a second one of them is offered, each
time another; when that, or anything else meanwhile, could be recorded, all the others are, each by itself: one that is bad
does not hold them up.  So a full disk is asked once a second, however many wait, and when there is room they wait no longer
than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from mta.envelope import NewMessage, Outcome

__all__ = ["Record", "Unrecorded"]

REPEAT = 1_000  # ms

Record = tuple[Sequence[Outcome], Sequence[NewMessage]]


class Unrecorded:
    """settle: has one recorded; `add` is called if that fails, `recorded` whenever something could be.

    To read: `records`; `at`, when to call `tick` (ms), 0: there is none, or one is being tried.
    """

    __slots__ = ("_settle", "at", "records")

    def __init__(self, settle: Callable[[list[Record]], None]) -> None:
        self._settle = settle
        self.records: deque[Record] = deque()
        self.at = 0

    def add(self, records: Iterable[Record], now: int) -> None:
        """These could not be recorded."""
        self.records.extend(records)
        self.at = now + REPEAT

    def tick(self, now: int) -> None:
        """Try one, if it is time."""
        if 0 < self.at <= now:
            self._offer(1)

    def recorded(self) -> None:
        """Something could be recorded: if it was while one was tried, now for the others."""
        if not self.at:
            self.offer_all()

    def offer_all(self) -> None:
        """Try each of them."""
        self._offer(len(self.records))

    def _offer(self, count: int) -> None:
        self.at = 0
        for record in [self.records.popleft() for _ in range(count)]:
            self._settle([record])
