"""Which refusals are worth a line in the log: each client's first a minute, and not more than so many clients.

A flood must not fill the disk with the news of itself.  What was left out is counted, and the next line of that limit says
how many there were.  Pure; memory is bounded by `LINES` for each limit.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LINES", "Notices"]

LINES: Final = 100  # of each limit in a minute
_MINUTE: Final = 60.0  # seconds


class _Minute:
    """Of one limit.  unsaid: refusals since the last line."""

    __slots__ = ("begun", "told", "unsaid")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.told: set[bytes] = set()
        self.unsaid = 0


class Notices:
    """What was told in this minute."""

    __slots__ = ("_minutes",)

    def __init__(self) -> None:
        self._minutes: dict[str, _Minute] = {}

    def tell(self, limit: str, client: bytes, now: float) -> int | None:
        """None: no line.  Else how many refusals by this limit were left out since its last line.  now: seconds."""
        minute = self._minutes.setdefault(limit, _Minute(now))
        if not 0 <= now - minute.begun < _MINUTE:
            minute.begun, minute.told = now, set()
        if client in minute.told or len(minute.told) >= LINES:
            minute.unsaid += 1
            return None
        minute.told.add(client)
        unsaid, minute.unsaid = minute.unsaid, 0
        return unsaid
