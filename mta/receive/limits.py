"""How many connections and handshakes at once, how many TLS sessions a minute: [limits], over the whole server.

Connections are counted in all and for each client, where a client is an IPv4 address or an IPv6 /64 (one customer has
a whole one).  Clients in relay_from are counted in all but are exempt from the limits of each client.  Handshakes take
one of a few slots: 1 to 3 ms of CPU each on the reactor's thread would otherwise stop everybody else; and each client
may have so many a minute, however often it comes anew.  A reload changes the limits and keeps the counts.  Pure: the
time is given, the answer is a reply, or a call when a slot is free.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from mta.receive.access import Address
from mta.status import Reply

__all__ = ["Connections", "HandshakeSlots", "TlsSessions", "client_key"]

TOO_MANY: Final = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_YOURS: Final = Reply(421, "4.7.0", "Too many connections from your address, try again later")
TOO_MUCH_TLS: Final = Reply(454, "4.7.0", "Too many new TLS sessions from your address, try again later")

MINUTE: Final = 60.0  # seconds
ROUNDING: Final = 0.001  # seconds: `limit` shares of a minute are not quite a minute
REMEMBERED: Final = 50_000  # clients of about a minute, in each of two dictionaries: at most some 10 MB


def client_key(client: Address | None) -> bytes:
    """Who counts as one client; b"" where no address is known (a UNIX socket), which has no limit of its own."""
    if client is None:
        return b""
    return client.packed[:8] if isinstance(client, IPv6Address) else client.packed


class Connections:
    """The count of open connections."""

    __slots__ = ("_clients", "limit", "per_client", "total")

    def __init__(self, limit: int, per_client: int) -> None:
        self.limit = limit
        self.per_client = per_client
        self.total = 0
        self._clients: dict[bytes, int] = {}

    def enter(self, key: bytes, exempt: bool = False) -> Reply | None:
        """Count a connection in, or say why not.  Only what was counted in is counted out by `leave`."""
        if self.total >= self.limit:
            return TOO_MANY
        mine = self._clients.get(key, 0)
        if key and not exempt and mine >= self.per_client:
            return TOO_MANY_YOURS
        self.total += 1
        self._clients[key] = mine + 1
        return None

    def leave(self, key: bytes) -> None:
        """Count a connection out."""
        self.total -= 1
        mine = self._clients[key] - 1
        if mine:
            self._clients[key] = mine
        else:
            del self._clients[key]  # nothing is remembered of clients that are gone


class TlsSessions:
    """New TLS sessions of each client: `limit` at once, then as many a minute, evenly (GCRA).  0: no limit.

    What is kept of a client is the time at which it owes nothing any more, never over a minute ahead.  So two
    dictionaries suffice: the younger is begun anew each minute, and the elder then holds nothing that still counts.
    When the younger is full it is begun early: a flood of addresses costs memory of a known size, and at worst some
    client's count is forgotten.
    """

    __slots__ = ("_begun", "_elder", "_younger", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._begun = 0.0  # the younger
        self._younger: dict[bytes, float] = {}
        self._elder: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._younger) + len(self._elder)

    def enter(self, key: bytes, now: float, exempt: bool = False) -> Reply | None:
        """Count a new session, or say why there may be none (that is not counted).  now: seconds of any clock."""
        if not self.limit or exempt or not key:
            return None
        if now - self._begun >= MINUTE or len(self._younger) >= REMEMBERED:
            self._elder = self._younger if now - self._begun < 2 * MINUTE else {}
            self._younger, self._begun = {}, now
        share = MINUTE / self.limit
        free = max(now, self._younger.get(key, 0.0), self._elder.get(key, 0.0)) + share
        if free > now + MINUTE + ROUNDING:
            return TOO_MUCH_TLS
        self._younger[key] = free
        return None


class HandshakeSlots:
    """A few slots and a queue before them, first come first served.  Who holds one is known by the call that began it."""

    __slots__ = ("_held", "_serving", "_waiting", "free")

    def __init__(self, slots: int) -> None:
        self.free = max(1, slots)
        self._held: set[Callable[[], None]] = set()
        self._waiting: dict[Callable[[], None], None] = {}
        self._serving = False

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def resize(self, slots: int) -> None:
        """So many from now on.  Where there were more, those that are held run out first (`free` is negative till then)."""
        self.free = max(1, slots) - len(self._held)
        self._serve()

    def take(self, begin: Callable[[], None]) -> None:
        """Call `begin` with a slot taken: now, or when one is given back."""
        self._waiting[begin] = None
        self._serve()

    def give_back(self, begin: Callable[[], None]) -> bool:
        """A handshake is over, well or badly, or has had its slot for long enough.  False when it held none any more."""
        if begin not in self._held:
            return False
        self._held.remove(begin)
        self.free += 1
        self._serve()
        return True

    def withdraw(self, begin: Callable[[], None]) -> None:
        """Wait no more.  Harmless when it does not wait."""
        self._waiting.pop(begin, None)

    def _serve(self) -> None:
        if self._serving:
            return  # a `begin` that failed at once gives back here: the loop below goes on, the stack does not grow
        self._serving = True
        try:
            while self.free > 0 and self._waiting:
                begin = next(iter(self._waiting))
                del self._waiting[begin]
                self.free -= 1
                self._held.add(begin)
                begin()
        finally:
            self._serving = False
