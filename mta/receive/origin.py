"""Who the client of a connection is: the peer of the socket, whom a PROXY header names, or whom XCLIENT names.

A peer in proxy_from must say first for whom it has come (mta.receive.proxy): until then nothing is said, no TLS is begun
and nothing is counted.  No header in time, or garbage instead, ends the connection without a word; the log says why.  A client
whom the one in front does not know (UNKNOWN, a UNIX socket, ADDR=[UNAVAILABLE]) goes by the address of that one, and is never
trusted.  What XCLIENT has said is forgotten when TLS begins (docs/tls.md), for it was said in clear; what the PROXY header
has said is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from mta.receive.access import AccessRules, Address, client_address
from mta.receive.limits.connections import client_key
from mta.receive.proxy import HeaderReader, ProxyFault
from mta.receive.rules import UNKNOWN
from mta.smtp.xclient import TEMPORARY
from mta.status import Reply

if TYPE_CHECKING:
    from mta.receive.connection import Connection

__all__ = ["HEADER_TIME", "Origin", "Whence"]

NOTHING: Final[Mapping[str, str | None]] = MappingProxyType({})
HEADER_TIME: Final = 5.0  # seconds for the PROXY header; its specification wants 3 at least


@attrs.frozen(slots=True)
class Whence:
    """Where a client is.

    client: as lists and limits see it, None where it has no such address.  known: it is the client's own, not that of somebody
    in front who does not know it.  key: who counts as one client.
    """

    address: str
    port: int
    client: Address | None
    known: bool
    trusted: bool
    key: bytes

    @classmethod
    def of(cls, rules: AccessRules, address: str, port: int, known: bool = True) -> Whence:
        """Who is not known is not trusted, and shares no limit with others who are not."""
        client = client_address(address)
        return cls(address, port, client, known, known and rules.trusts(client), client_key(client) if known else b"")


class Origin:
    """See the module.  It sets `address`, `client`, `trusted` and `key` of its connection.

    peer: who is at the other end of the socket; first: who the client is without XCLIENT; said: its attributes.
    """

    __slots__ = ("_connection", "_reader", "first", "peer", "said")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader: HeaderReader | None = None
        self.said = NOTHING

    def connected(self, peer: object) -> None:
        """The socket stands: go on, or wait for the header."""
        connection = self._connection
        self.peer = self.first = Whence.of(
            connection.common.access, str(getattr(peer, "host", "local")), int(getattr(peer, "port", 0))
        )
        self._be(self.peer)
        if connection.listener.is_proxy(self.peer.client):
            self._reader = HeaderReader()
            connection.await_header()
        else:
            connection.arrived()

    def hear(self, data: bytes) -> None:
        """Bytes of the header, and what lies behind it."""
        assert self._reader is not None
        try:
            header = self._reader.feed(data)
        except ProxyFault as fault:
            self._connection.close(str(fault))
            return
        if header is None:
            return
        reader, self._reader = self._reader, None
        rules = self._connection.common.access
        if header.source:
            self.first = Whence.of(rules, header.source, header.port)
        elif not header.local:
            self.first = Whence.of(rules, self.peer.address, self.peer.port, known=False)
        self._be(self.first)
        tls = header.tls
        more = {"proxy_tls": tls.version, "proxy_cipher": tls.cipher, "proxy_name": tls.name or None} if tls else {}
        self._connection.arrived(reader.rest, **more)

    def missing(self, why: str) -> None:
        """No header will come, and nothing is said to whom nobody knows."""
        self._connection.common.log.event("rejected", "", {"stage": "proxy", "client": self.peer.address, "why": why})

    @property
    def proxy(self) -> str | None:
        """Who speaks for the client, for the log; None where it speaks for itself."""
        peer = self.peer.address
        return peer if peer != self._connection.address else None

    @property
    def name(self) -> str | None:
        """What XCLIENT calls the client, None where it has said nothing; then the DNS may know."""
        if "name" not in self.said:
            return None
        return UNKNOWN if self.name_failed else self.said["name"] or UNKNOWN

    @property
    def name_failed(self) -> bool:
        """XCLIENT has said that whoever is in front could not look it up now."""
        return self.said.get("name") == TEMPORARY

    # ---- XCLIENT

    def assume(self, said: Mapping[str, str | None]) -> Reply | None:
        """The client is another from now on: what is not said stays as it was.  A reply: there are too many of that one."""
        now = self._connection.whence
        self.said = {**(NOTHING if "addr" in said else self.said), **said}
        if "addr" in said:
            address = said["addr"]
            now = Whence.of(self._connection.common.access, address or self.peer.address, 0, known=address is not None)
        if "port" in said:
            now = attrs.evolve(now, port=int(said["port"] or 0))
        refusal = self._become(now)
        if refusal is None and "addr" in said:
            over = self._connection.allowance.reconnects()
            refusal = over.reply if over is not None else None
        return refusal

    def restore(self) -> None:
        """TLS begins: what XCLIENT has said is forgotten."""
        if self.said:
            self.said = NOTHING
            self._become(self.first, exempt=True)

    def _become(self, whence: Whence, exempt: bool = False) -> Reply | None:
        """Who was counted in as one is counted as another."""
        connections, before = self._connection.common.connections, self._connection.whence
        over = connections.move(before.key, whence.key, exempt=exempt or whence.trusted)
        if over is not None:
            return over.reply
        self._be(whence)
        return None

    def _be(self, whence: Whence) -> None:
        connection = self._connection
        connection.whence = whence
        connection.address, connection.client = whence.address, whence.client
        connection.trusted, connection.key = whence.trusted, whence.key
