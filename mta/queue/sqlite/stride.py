"""How long the log grows before it is moved into the file (docs/queue.md, Checkpoints).

A page that is written again before that is moved once: the longer the log, the less is written.  But mail waits while it is
moved, so it grows only where that is quick: the length doubles, up to four times, while it takes less than 30 ms, and is halved
where it takes more than 60 ms.  Where a reader is in the way the time says nothing.  Pure: the time is given.
"""

from __future__ import annotations

__all__ = ["TIMES", "Stride"]

TIMES = 4
QUICK, SLOW = 0.03, 0.06  # seconds


class Stride:
    """times: how many times as long as at least."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 1

    def took(self, seconds: float, whole: bool) -> None:
        """A checkpoint is over.  whole: all of the log is in the file now."""
        if seconds > SLOW:
            self.times = max(self.times // 2, 1)
        elif seconds < QUICK and whole:
            self.times = min(self.times * 2, TIMES)
