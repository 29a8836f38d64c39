"""How many connections there are at once: in all, of one client, and how many places are kept for listed networks.

A client is an IPv4 address or an IPv6 /64 (one customer has a whole one).  Clients in relay_from are counted in all but
are exempt from the limit of each client.  The last `reserve` places are for the listed networks alone: when strangers
fill the server, our own users and relays still get in.  Pure.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from mta.receive.access import Address
from mta.receive.limits.table import CONNECTIONS, CONNECTIONS_PER_CLIENT, RESERVE, Limit

__all__ = ["Connections", "client_key"]


def client_key(client: Address | None) -> bytes:
    """Who counts as one client; b"" where no address is known (a UNIX socket), which has no limit of its own."""
    if client is None:
        return b""
    return client.packed[:8] if isinstance(client, IPv6Address) else client.packed


class Connections:
    """The count of open connections.  reserve: at most half of the limit is ever kept."""

    __slots__ = ("_clients", "limit", "per_client", "reserve", "total")

    def __init__(self, limit: int, per_client: int, reserve: int = 0) -> None:
        self.total = 0
        self._clients: dict[bytes, int] = {}
        self.obey(limit, per_client, reserve)

    def obey(self, limit: int, per_client: int, reserve: int = 0) -> None:
        """These limits from now on; who is in stays."""
        self.limit = limit
        self.per_client = per_client
        self.reserve = min(reserve, limit // 2)

    def enter(self, key: bytes, exempt: bool = False, listed: bool = False) -> Limit | None:
        """Count a connection in, or say why not.  Only what was counted in is counted out by `leave`."""
        if self.total >= self.limit:
            return CONNECTIONS
        if not listed and self.total >= self.limit - self.reserve:
            return RESERVE
        mine = self._clients.get(key, 0)
        if key and not exempt and mine >= self.per_client:
            return CONNECTIONS_PER_CLIENT
        self.total += 1
        self._clients[key] = mine + 1
        return None

    def move(self, key: bytes, other: bytes, exempt: bool = False) -> Limit | None:
        """One that is counted in turns out to be another client's (XCLIENT), or may not be; it keeps its place."""
        if other and other != key and not exempt and self._clients.get(other, 0) >= self.per_client:
            return CONNECTIONS_PER_CLIENT
        self.leave(key)
        self.total += 1
        self._clients[other] = self._clients.get(other, 0) + 1
        return None

    def leave(self, key: bytes) -> None:
        """Count a connection out."""
        self.total -= 1
        mine = self._clients[key] - 1
        if mine:
            self._clients[key] = mine
        else:
            del self._clients[key]  # nothing is remembered of clients that are gone
