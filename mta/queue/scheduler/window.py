"""How many transactions a destination bears at once: the concurrency feedback of Postfix 2.5 (pure).

Postfix' SCHEDULER_README: every success adds 1/N to the credit, at 1 the window N grows by one; every failure *of
connection or handshake* takes 1/N, and N shrinks at the beginning of such a cycle ("reverse hysteresis": a correction at
its end would come too late).  Apart from that a failure counts as 1/N of a cohort; when a whole cohort has failed
without a success in between the destination is dead.  The window grows only while it is within reach of what is really
running, or else failures would take too long to show.
"""

from __future__ import annotations

__all__ = ["Window"]

COHORTS = 1.0  # failed cohorts that make a destination dead


class Window:
    """The window of one destination.  initial: where it begins; limit: how far it grows."""

    __slots__ = ("cohorts", "failure", "initial", "limit", "size", "success")

    def __init__(self, initial: int, limit: int) -> None:
        self.limit = limit
        self.initial = min(initial, limit)
        self.size = 0
        self.restart()

    def resize(self, initial: int, limit: int) -> None:
        """Other bounds from now on; what was learnt within them stays."""
        self.limit = limit
        self.initial = min(initial, limit)
        self.size = min(self.size, limit)

    def restart(self) -> None:
        """Begin anew, as after a dead period ("slow open": no thundering herd)."""
        self.size = self.initial
        self.success = self.failure = self.cohorts = 0.0

    def succeeded(self, busy: int) -> None:
        """A transaction met a living server.  busy: those that run, this one included."""
        self.cohorts = 0.0
        if self.size >= self.limit or self.size >= busy + self.initial:
            return
        step = 1.0 / self.size
        self.success += step
        if self.success + step / 2 >= 1.0:  # half a step: 1/N added N times is not always 1
            self.size += 1
            self.success -= 1.0
            self.failure = 0.0

    def failed(self) -> bool:
        """No server could be reached, or none greeted us.  True: the destination is dead."""
        step = 1.0 / self.size
        self.cohorts += step
        if self.cohorts + step / 1024 >= COHORTS:
            return True
        self.failure -= step
        if self.failure - step / 2 < 0.0:
            self.size = max(self.size - 1, 1)
            self.failure += 1.0
            self.success = 0.0
        return False
