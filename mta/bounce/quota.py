"""How many reports one address may get in an hour (`[dsn] per_sender_hour`; pure).

A forged sender does not ask for the reports that others cause, and a loop of two machines that answer one another has to
end.  The hour of an address begins with its first report; memory is bounded: of more than `ADDRESSES` the one whose hour
began first is forgotten.  A clock that is put back begins the hours anew.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Quota"]

HOUR: Final = 3_600_000  # ms
ADDRESSES: Final = 10_000


class Quota:
    """limit: reports in an hour, 0 for no limit; may be set anew."""

    __slots__ = ("_hours", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._hours: dict[str, tuple[int, int]] = {}  # when the hour began (ms) and the reports in it, by age

    def allows(self, address: str, now: int) -> bool:
        """May it get one more?"""
        return not self.limit or self._in_hour(address.lower(), now)[1] < self.limit

    def count(self, address: str, now: int) -> None:
        """It got one."""
        if not self.limit:
            return
        key = address.lower()
        began, reports = self._in_hour(key, now)
        if not reports:  # an hour that begins has its place at the end
            self._hours.pop(key, None)
            while len(self._hours) >= ADDRESSES:
                del self._hours[next(iter(self._hours))]
        self._hours[key] = (began, reports + 1)

    def take_back(self, address: str, now: int) -> None:
        """That one did not come about."""
        key = address.lower()
        began, reports = self._in_hour(key, now)
        if reports > 1:
            self._hours[key] = (began, reports - 1)
        elif reports:
            del self._hours[key]

    def _in_hour(self, key: str, now: int) -> tuple[int, int]:
        began, reports = self._hours.get(key, (now, 0))
        return (began, reports) if 0 <= now - began < HOUR else (now, 0)
