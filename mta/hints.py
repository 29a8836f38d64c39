"""Memory about hosts that may be lost at any time: TLS strikes, kept sessions that went stale.

Provides IHints in this process's memory.  It is bounded: when it is full the entry put longest ago goes, which costs a
host that was known to be broken one more try.  Nothing here fails; what was forgotten is None.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mta.interfaces import IHints

__all__ = ["MemoryHints"]


@implementer(IHints)
class MemoryHints:
    """Hints in a dictionary, the oldest first.  clock: whose seconds `expires` means."""

    def __init__(self, clock: IReactorTime, limit: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: dict[tuple[str, str], tuple[float, Any]] = {}

    def get(self, kind: str, key: str) -> Any | None:
        """What was put, unless it has expired."""
        entry = self._entries.get((kind, key))
        if entry is None:
            return None
        expires, value = entry
        if self._clock.seconds() >= expires:
            del self._entries[kind, key]
            return None
        return value

    def put(self, kind: str, key: str, value: Any, expires: float) -> None:
        """Remember until `expires`; a value of None forgets at once."""
        self._entries.pop((kind, key), None)
        if value is None:
            return
        self._entries[kind, key] = (expires, value)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]
