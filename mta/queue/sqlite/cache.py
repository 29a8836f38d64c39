"""Messages that were taken at insert, kept in memory until their claims are settled.

Their first attempt then needs no read and no thread.  Bounded: what does not fit is read from the file when its turn comes.
"""

from __future__ import annotations

from mta.envelope import NewMessage, Stored

__all__ = ["Cache"]

OVERHEAD = 1000  # bytes of the objects of a message


class Cache:
    """limit: bytes of prefixes and inline bodies, and of what the objects round them take."""

    __slots__ = ("_kept", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.size = 0
        self._kept: dict[int, tuple[Stored, int]] = {}  # the message, how many claims of it are not settled

    def keep(self, new: NewMessage, claims: int) -> None:
        """A message was stored and so many of its recipients are taken."""
        stored = Stored(new.stored(), new.body.data)
        size = self._size(stored)
        if self.size + size <= self._limit:
            self.size += size
            self._kept[new.id] = (stored, claims)

    def get(self, message: int) -> Stored | None:
        """The message, if it is kept."""
        kept = self._kept.get(message)
        return None if kept is None else kept[0]

    def settled(self, message: int) -> None:
        """One of its claims is settled; with the last one it is dropped."""
        kept = self._kept.get(message)
        if kept is None:
            return
        stored, claims = kept
        if claims > 1:
            self._kept[message] = (stored, claims - 1)
        else:
            del self._kept[message]
            self.size -= self._size(stored)

    @staticmethod
    def _size(stored: Stored) -> int:
        return OVERHEAD + len(stored.message.prefix) + len(stored.body or b"")
