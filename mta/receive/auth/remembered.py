"""Logins that succeeded a while ago, so that not every one of them costs a password hash again.

What is kept is a keyed digest of user and password; the key is of this process and nothing of it is ever stored.  Failures
are not remembered: a guess costs the full work each time.  Bounded in number and in time.  Pure: the time is told.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import digest as keyed_digest
from typing import Final

__all__ = ["Remembered"]

_MOST: Final = 10_000


class Remembered:
    """key: secret octets.  lifetime: seconds that a success is good for, 0: nothing is remembered."""

    __slots__ = ("_key", "_lifetime", "_most", "_until")

    def __init__(self, key: bytes, lifetime: float, most: int = _MOST) -> None:
        self._key = key
        self._lifetime = lifetime
        self._most = most
        self._until: dict[bytes, float] = {}  # the one put first comes first

    def __len__(self) -> int:
        return len(self._until)

    def knows(self, user: bytes, password: bytes, now: float) -> bool:
        """This password was right for this user, not long ago."""
        return self._until.get(self._digest(user, password), 0.0) > now

    def put(self, user: bytes, password: bytes, now: float) -> None:
        """It was right."""
        if not self._lifetime:
            return
        digest = self._digest(user, password)
        self._until.pop(digest, None)
        self._until[digest] = now + self._lifetime
        if len(self._until) > self._most:
            del self._until[next(iter(self._until))]

    def forget(self) -> None:
        """Passwords have changed."""
        self._until.clear()

    def _digest(self, user: bytes, password: bytes) -> bytes:
        return keyed_digest(self._key, b"%d:%b%b" % (len(user), user, password), sha256)
