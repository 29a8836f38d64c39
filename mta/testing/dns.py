"""DNS out of a dictionary, for tests: a resolver without a network, and a real server on the loopback.

    zones = {"example.test": {"MX": [(10, "mx.example.test")]}, "mx.example.test": {"A": ["127.0.0.1"]}}

A map goes from a name to its records by type: MX (preference, host), A and AAAA text, TXT str or bytes, TLSA
(usage, selector, matching type, bytes), PTR and CNAME text (a list of one).  A name that is in no map does not exist, one
that has names below it exists without records (RFC 8020).  Both `FakeResolver` and `DnsServer` read the map at each
question, so a test may change it on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from mta.dns.answer import NOERROR, NXDOMAIN, Answer, Mx, Tlsa, question_name
from mta.interfaces import IMailResolver

__all__ = ["DnsServer", "FakeResolver", "Records"]

Records = Mapping[str, Mapping[str, Sequence[Any]]]

_MAX_CHAIN = 8


def _value(rdtype: str, value: Any) -> Any:
    """A record of the map as the resolver gives it."""
    match rdtype:
        case "MX":
            return Mx(value[0], question_name(value[1]) or ".")
        case "TLSA":
            return Tlsa(*value)
        case "TXT":
            return value if isinstance(value, bytes) else value.encode("utf-8")
        case "PTR" | "CNAME":
            return question_name(value)
        case _:
            return value


def _exists(records: Records, name: str) -> bool:
    return not name or name in records or any(other.endswith("." + name) for other in records)


def _chain(records: Records, name: str, rdtype: str) -> list[str]:
    """The name and where its CNAMEs lead."""
    names = [name]
    while rdtype != "CNAME" and len(names) <= _MAX_CHAIN and "CNAME" in records.get(names[-1], {}):
        names.append(question_name(records[names[-1]]["CNAME"][0]))
    return names


@implementer(IMailResolver)
class FakeResolver:
    """Answers at once, out of the map.

    secure: True, or what DNSSEC vouches for: names, ".name" for all below one, "name/TYPE" for one answer.  An answer over
    CNAMEs is secure when all of its names are.
    fail: "name" or "name/TYPE" -> rcode, for lookups that fail ("SERVFAIL", which is what a forgery looks like, "TIMEOUT").
    asked: how often each (name, type) was asked for.  ttl: seconds.
    """

    def __init__(
        self,
        records: Records,
        *,
        secure: bool | Collection[str] = False,
        fail: Mapping[str, str] | None = None,
        ttl: float = 300.0,
    ) -> None:
        self.records = records
        self.secure = secure
        self.fail: dict[str, str] = dict(fail or {})
        self.ttl = ttl
        self.asked: Counter[tuple[str, str]] = Counter()

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        """See IMailResolver."""
        name = question_name(name)
        self.asked[name, rdtype] += 1
        return succeed(self.answer(name, rdtype))

    def answer(self, name: str, rdtype: str) -> Answer:
        """The same, without a Deferred and without counting."""
        names = _chain(self.records, name, rdtype)
        for each in names:
            rcode = self.fail.get(f"{each}/{rdtype}") or self.fail.get(each)
            if rcode:
                return Answer(name, rdtype, rcode, canonical=each, expires=5.0, reason="the test says so")
        if len(names) > _MAX_CHAIN:
            return Answer(name, rdtype, "SERVFAIL", canonical=name, expires=5.0, reason="CNAME loop")
        found = tuple(_value(rdtype, value) for value in self.records.get(names[-1], {}).get(rdtype, ()))
        secure = all(self._vouches(each, rdtype) for each in names)
        rcode = NOERROR if _exists(self.records, names[-1]) else NXDOMAIN
        return Answer(name, rdtype, rcode, secure, found, names[-1], self.ttl)

    def _vouches(self, name: str, rdtype: str) -> bool:
        if isinstance(self.secure, bool):
            return self.secure
        above = [f".{name.split('.', at)[at]}" for at in range(1, name.count(".") + 1)]
        return not {name, f"{name}/{rdtype}", *above}.isdisjoint(self.secure)


@attrs.define
class _Ways:
    """How the server misbehaves; may be changed while it runs."""

    truncate: bool = False  # over UDP: TC and no records
    delay: float = 0.0  # seconds before an answer
    drop: int = 0  # the next so many questions get no answer
    wrong_id: bool = False
    wrong_question: bool = False
    garbage: bool = False  # a right header and question, then noise
    rcode: str = ""  # say this to everything
    follow: bool = True  # CNAMEs
    authentic: bool = False  # the AD bit
    hang_up: bool = False  # over TCP: close instead of answering


class _Udp(DatagramProtocol):
    noisy = False

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        def send(wire: bytes) -> None:
            if self.transport is not None:
                self.transport.write(wire, addr)

        self._server.received(datagram, "udp", send)


class _Tcp(Protocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._buffer = b""

    def connectionMade(self) -> None:
        self._server.connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._server.connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= (end := 2 + int.from_bytes(self._buffer[:2], "big")):
            wire, self._buffer = self._buffer[2:end], self._buffer[end:]
            if self._server.ways.hang_up:
                self.transport.loseConnection()
                return
            self._server.received(wire, "tcp", self._send)

    def _send(self, wire: bytes) -> None:
        if self.transport is not None and self in self._server.connections:
            self.transport.write(len(wire).to_bytes(2, "big") + wire)


class _TcpFactory(Factory[_Tcp]):
    noisy = False

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> _Tcp:
        return _Tcp(self._server)


class DnsServer:
    """A name server on 127.0.0.1, UDP and TCP on the same port, that answers out of the map.

    ways: how it misbehaves, e.g. `server.ways.truncate = True`.  asked: how often each ("udp" or "tcp", name, type).
    address: "127.0.0.1:port", for `[dns] servers`.  ttl: of every record; negative_ttl: of the SOA.
    """

    def __init__(self, reactor: Any, records: Records, *, ttl: int = 300, negative_ttl: int = 60, **ways: Any) -> None:
        self.records = records
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.ways = _Ways(**ways)
        self.asked: Counter[tuple[str, str, str]] = Counter()
        self.address = ""
        self.connections: set[_Tcp] = set()
        self._reactor = reactor
        self._ports: list[Any] = []
        self._delayed: set[Any] = set()

    def start(self) -> None:
        """Listen.  CannotListenError when no port is free for both."""
        for tries_left in reversed(range(10)):
            udp = self._reactor.listenUDP(0, _Udp(self), interface="127.0.0.1")
            number = udp.getHost().port
            try:
                tcp = self._reactor.listenTCP(number, _TcpFactory(self), interface="127.0.0.1")
            except CannotListenError:  # somebody has that number for TCP
                udp.stopListening()
                if not tries_left:
                    raise
                continue
            self._ports = [udp, tcp]
            self.address = f"127.0.0.1:{number}"
            return

    def stop(self) -> Deferred[None]:
        """Close everything; fires when all is gone."""
        for delayed in self._delayed:
            delayed.cancel()
        self._delayed.clear()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abortConnection()  # type: ignore[attr-defined]
        ports, self._ports = self._ports, []
        stopped: Deferred[None] = DeferredList([maybeDeferred(port.stopListening) for port in ports]).addCallback(lambda _: None)
        return stopped

    def received(self, wire: bytes, way: str, send: Any) -> None:
        """One question, however it came."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question_name(question.name.to_text())
        self.asked[way, name, dns.rdatatype.to_text(question.rdtype)] += 1
        if self.ways.drop > 0:
            self.ways.drop -= 1
            return
        answer = self._answer(query, name, dns.rdatatype.to_text(question.rdtype), way)
        if self.ways.delay:
            self._later(send, answer)
        else:
            send(answer)

    def _later(self, send: Any, answer: bytes) -> None:
        def act() -> None:
            self._delayed.discard(call)
            send(answer)

        call = self._reactor.callLater(self.ways.delay, act)
        self._delayed.add(call)

    def _answer(self, query: dns.message.Message, name: str, rdtype: str, way: str) -> bytes:
        ways = self.ways
        message = dns.message.make_response(query, recursion_available=True)
        if ways.authentic and query.flags & dns.flags.AD:
            message.flags |= dns.flags.AD
        if ways.rcode:
            message.set_rcode(dns.rcode.from_text(ways.rcode))
        elif ways.truncate and way == "udp":
            message.flags |= dns.flags.TC
        else:
            self._fill(message, name, rdtype)
        if ways.wrong_id:
            message.id ^= 1
        if ways.wrong_question:
            message.question = [dns.rrset.RRset(dns.name.from_text("evil.test."), dns.rdataclass.IN, query.question[0].rdtype)]
        wire = message.to_wire(max_size=65535)
        return wire[:-7] + b"\xff\xff\xff" if ways.garbage else wire

    def _fill(self, message: dns.message.Message, name: str, rdtype: str) -> None:
        names = _chain(self.records, name, rdtype) if self.ways.follow else [name]
        for alias, target in pairwise(names):
            message.answer.append(dns.rrset.from_text(alias + ".", self.ttl, "IN", "CNAME", target + "."))
        last = names[-1]
        held = self.records.get(last, {})
        if not self.ways.follow and "CNAME" in held:
            message.answer.append(dns.rrset.from_text(last + ".", self.ttl, "IN", "CNAME", held["CNAME"][0] + "."))
            return
        if held.get(rdtype):
            lines = [_zone_text(rdtype, _value(rdtype, value)) for value in held[rdtype]]
            message.answer.append(dns.rrset.from_text_list(last + ".", self.ttl, "IN", rdtype, lines))
            return
        soa = f". . 1 3600 600 86400 {self.negative_ttl}"
        message.authority.append(dns.rrset.from_text(".", 86400, "IN", "SOA", soa))
        if not _exists(self.records, last):
            message.set_rcode(dns.rcode.NXDOMAIN)


def _zone_text(rdtype: str, value: Any) -> str:
    """A record in the words of a zone file."""
    match rdtype:
        case "MX":
            return f"{value.preference} {value.host.removesuffix('.')}."
        case "TLSA":
            return f"{value.usage} {value.selector} {value.mtype} {value.data.hex()}"
        case "TXT":
            pieces = [value[start : start + 255] for start in range(0, len(value), 255)] or [b""]
            return " ".join('"' + "".join(f"\\{byte:03d}" for byte in piece) + '"' for piece in pieces)
        case "PTR" | "CNAME":
            return f"{value}."
        case _:
            return str(value)
