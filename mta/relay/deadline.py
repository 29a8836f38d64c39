"""One timer for one connection, moved often and armed rarely (RFC 5321 4.5.3.2: a limit for every phase).

Setting a later deadline costs an addition: the timer is left to ring early and is then armed again for what is left.
Only an earlier deadline moves it.  So a busy connection touches the reactor's heap about once for each time limit and
not once for each reply.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """Calls `expired` once no later deadline was set in time."""

    __slots__ = ("_at", "_clock", "_expired", "_rings", "_timer")

    def __init__(self, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._at = inf  # when the time is up
        self._rings = inf  # when the timer rings, never later than that
        self._timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """The time is up in so many seconds, whatever was set before."""
        self._at = at = self._clock.seconds() + seconds
        if at < self._rings:
            if self._timer is not None:
                self._timer.cancel()  # to move it, the reactor would look through the timers of all connections
            self._timer, self._rings = self._clock.callLater(seconds, self._ring), at

    def clear(self) -> None:
        """No deadline for now.  The timer may ring once more, for nothing."""
        self._at = inf

    def stop(self) -> None:
        """No deadline ever again, and nothing left on the clock."""
        self._at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._rings = None, inf

    def _ring(self) -> None:
        self._timer, self._rings = None, inf
        left = self._at - self._clock.seconds()
        if left == inf:
            return
        if left > 0:
            self._timer, self._rings = self._clock.callLater(left, self._ring), self._at
            return
        self._at = inf
        self._expired()
