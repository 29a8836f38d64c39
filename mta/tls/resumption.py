"""TLS sessions of earlier connections to a server, with which the next one need not exchange certificates again (pure).

RFC 8446 2.2 and 4.6.1, RFC 5077, RFC 5246 7.3 (resumption).  A server shows no certificate then, so what it has shown once is
kept beside the session, to be judged anew by whoever takes it.  What is taken is not stored any more: no two connections
go on with the same ticket, and it comes back only behind one that worked, where the server gave no newer one (Postfix never
does; RFC 8446 C.4 would spare it even then, lest connections be seen to be of one client: EHLO in clear text says so anyway).
A session is given only to the key under which it was stored: whatever decides how TLS is spoken and what is owed
(`relay.handover.ReuseKey`, and the context).  An hour behind its full handshake it is worth nothing, however often
it was gone on with; OpenSSL keeps to the lifetime that the server has set.  Bounded: the oldest go.  Nothing here raises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

import attrs

from mta.tls.policy import Achieved

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = ["Resumable", "Sessions"]

HOLDS: Final = 3600.0  # seconds behind a full handshake
MOST: Final = 1_000  # sessions in all; keys that are refused
EACH: Final = 20  # sessions of one key
LONGEST: Final = 16_000  # octets of a chain; OpenSSL keeps it too, in more than ten times as many


@attrs.frozen(slots=True, eq=False)
class Resumable:
    """A session, what its server has achieved, and when (seconds since the epoch) the full handshake was."""

    session: SSL.Session
    achieved: Achieved
    since: float

    def holds(self, now: float) -> bool:
        """It may be used; never when the clock has gone back behind its beginning."""
        return 0 <= now - self.since < HOLDS


class Sessions:
    """The sessions of all keys, those stored to last at the end.  now: seconds since the epoch."""

    __slots__ = ("_count", "_known", "_refused")

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, list[Resumable]] = OrderedDict()  # of each key the youngest at the end
        self._count = 0
        self._refused: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many are stored."""
        return self._count

    def put(self, key: Hashable, found: Resumable, now: float) -> None:
        """Store a session, unless its key is refused or it is worth less than its memory."""
        if sum(map(len, found.achieved.chain)) > LONGEST:
            return
        refused = self._refused.get(key)
        if refused is not None:
            if 0 <= now - refused < HOLDS:
                return
            del self._refused[key]
        same = sorted([*self._drop(key), found], key=_age)
        self._known[key] = same = same[-EACH:]
        self._count += len(same)
        while self._count > MOST:
            self._drop(next(iter(self._known)))

    def take(self, key: Hashable, now: float) -> Resumable | None:
        """The youngest session of this key, which is not stored any more; None: there is none."""
        same = self._known.get(key)
        if same is None:
            return None
        if not same[-1].holds(now):  # the others are older
            self._drop(key)
            return None
        found = same.pop()
        self._count -= 1
        if not same:
            del self._known[key]
        return found

    def refuse(self, key: Hashable, now: float) -> None:
        """A handshake with one of them has failed: have none for an hour."""
        self._drop(key)
        self._refused.pop(key, None)
        self._refused[key] = now
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def _drop(self, key: Hashable) -> list[Resumable]:
        same = self._known.pop(key, [])
        self._count -= len(same)
        return same


def _age(found: Resumable) -> float:
    return found.since
