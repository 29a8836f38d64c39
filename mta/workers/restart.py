"""How long to wait before a worker that has ended is started again (pure).

A second, then twice as long each time, up to a minute: what cannot start must not use up the machine, and what a moment
has hindered is soon back.  Whoever has lived for a minute is believed to be well: his next end costs a second again.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST", "MOST", "WELL", "Backoff"]

FIRST: Final = 1.0  # seconds
MOST: Final = 60.0  # seconds
WELL: Final = 60.0  # seconds of life


class Backoff:
    """Of one worker."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = FIRST

    def after(self, lived: float) -> float:
        """Seconds to wait after an end.  lived: seconds from start to end."""
        delay = FIRST if lived >= WELL else self._next
        self._next = min(2 * delay, MOST)
        return delay
