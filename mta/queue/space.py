"""Room on the disk: new mail is slowed down when it becomes scarce and refused before it is gone (pure).

A disk that is full stops more than new mail: settlements need some room too, and a delivery that cannot be recorded is
repeated after a restart.  So mail is refused (452 4.3.1) while there is less than `[queue] free_space`, and slowed down
below twice that.  Where nobody can say how much there is, nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Space"]

ASK_AGAIN = 1_000  # ms: the disk is asked once a second, and only when somebody wants to know


class Space:
    """room: bytes that are free, None where nobody can say.  limit: bytes below which mail is refused, 0: never."""

    __slots__ = ("_asked", "_pressure", "_room", "limit")

    def __init__(self, room: Callable[[], int | None], limit: int) -> None:
        self._room = room
        self._asked: int | None = None
        self._pressure = 0.0
        self.limit = limit

    def pressure(self, now: int) -> float:
        """0 plenty; 0.8 at twice the limit ... 1 at the limit; above 1 below it.  now: ms."""
        if self._asked is None or not 0 <= now - self._asked < ASK_AGAIN:
            self._asked = now
            self._pressure = self._measured()
        return self._pressure

    def _measured(self) -> float:
        free = self._room() if self.limit else None
        if free is None or free >= 2 * self.limit:
            return 0.0
        share = free / self.limit
        return 2.0 - share if share < 1 else 1.0 - (share - 1) / 5
