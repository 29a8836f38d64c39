"""Bytes to replies: what a server has said, or that it cannot be read.

RFC 1035 4.1, RFC 2308 5 (how long "no" holds), RFC 8914 (why a server failed).  Replies of the usual shape are read by
`plain`, all others by dnspython, which refuses damaged packets where lenient parsers return the records so far: a TLSA set
with a record silently missing would be a wrong answer.

`parse` never raises: bytes that belong but cannot be read are the reply "GARBLED".  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from mta.dns import plain
from mta.dns.answer import NOERROR, Mx, Tlsa
from mta.dns.message import GARBLED, MAX_NEGATIVE_TTL, MAX_TTL, MAX_UNPROVEN_TTL, Question, Reply, failure

__all__ = ["careful", "parse"]


def parse(wire: bytes, question: Question) -> Reply:
    """The reply in bytes that belong to the question.  Never raises."""
    return plain.read(wire, question) or careful(wire, question)


def careful(wire: bytes, question: Question) -> Reply:
    """The same, with all care."""
    try:
        message = dns.message.from_wire(wire)
        rcode = dns.rcode.to_text(message.rcode())
        if rcode not in ("NOERROR", "NXDOMAIN"):
            return failure(rcode, _extended_error(message))
        return _positive(message, rcode, question) if isinstance(message, dns.message.QueryMessage) else failure(GARBLED)
    # A CNAME loop, records behind NXDOMAIN, a pointer to nowhere are DNSExceptions.  These bytes come from strangers and
    # this runs inside the reactor's read, so whatever else they provoke is the same: not an answer.
    except Exception as error:
        return failure(GARBLED, (str(error) or type(error).__name__)[:200])


def _positive(message: dns.message.QueryMessage, rcode: str, question: Question) -> Reply:
    chain = message.resolve_chaining()
    records = _records(chain.answer or (), question.rdtype)
    unproven = not records and not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    limit = MAX_TTL if records else MAX_UNPROVEN_TTL if unproven else MAX_NEGATIVE_TTL
    return Reply(
        rcode,
        records,
        _text(chain.canonical_name),
        min(max(chain.minimum_ttl, 0), limit),
        bool(message.flags & dns.flags.AD),
        rcode == NOERROR and bool(chain.cnames) and unproven,
    )


def _records(rrset: Iterable[Any], rdtype: str) -> tuple[Any, ...]:
    make = _MAKE[rdtype]
    return tuple(make(rdata) for rdata in rrset)


_MAKE: dict[str, Callable[[Any], Any]] = {
    "A": lambda rdata: rdata.address,
    "AAAA": lambda rdata: rdata.address,
    "CNAME": lambda rdata: _text(rdata.target),
    "MX": lambda rdata: Mx(rdata.preference, _text(rdata.exchange) or "."),
    "PTR": lambda rdata: _text(rdata.target),
    "TLSA": lambda rdata: Tlsa(rdata.usage, rdata.selector, rdata.mtype, bytes(rdata.cert)),
    "TXT": lambda rdata: b"".join(rdata.strings),  # RFC 7208 3.3, RFC 6376 3.6.2.2: joined without spaces
}


def _text(name: dns.name.Name) -> str:
    """Lower case without final dot; the root is ""."""
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


def _extended_error(message: dns.message.Message) -> str:
    """RFC 8914: why the server failed, where it says so ("DNSSEC Bogus")."""
    return "; ".join(error.to_text() for error in message.extended_errors())[:200]
