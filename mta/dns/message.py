"""Questions to bytes, bytes to replies.

RFC 1035 4.1 (messages), RFC 6891 (EDNS0), RFC 6840 5.7 (AD in a question: "tell me whether you validated"), RFC 2308 5
(how long "no" holds).  A question is put together by hand, three times faster than a library's message object; replies
are taken apart by dnspython, which refuses damaged packets where lenient parsers return the records so far: a TLSA set
with a record silently missing would be a wrong answer.

`belongs` says whether bytes are the reply to our question (id, QR and the question itself): what does not belong is to
be ignored, it may come from anyone.  `parse` never raises: bytes that belong but cannot be read are the reply "GARBLED".
Pure: the random id is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from mta.dns.answer import NOERROR, Mx, Tlsa

__all__ = ["GARBLED", "MAX_NEGATIVE_TTL", "MAX_TTL", "Question", "Reply", "belongs", "failure", "is_truncated", "parse"]

GARBLED = "GARBLED"
MAX_TTL = 86_400  # seconds: a record is asked for anew once a day, whatever its zone says
MAX_NEGATIVE_TTL = 900  # seconds: "no such domain" bounces mail, so a repaired zone is seen soon (RFC 2308 5 allows hours)

_HEADER = 12
_QR, _TC = 0x80, 0x02  # in the third byte
_BARE_REFUSALS = (1, 2, 4, 5)  # FORMERR, SERVFAIL, NOTIMP, REFUSED: servers send them without the question
_TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
# Flags RD and AD, one question, one additional record.
_QUERY = bytes.fromhex("0120 0001 0000 0000 0001")
# RFC 6891 6.1.2: root, type OPT, payload 1232 (no fragments even over IPv6), no flags, no options.
_OPT = bytes.fromhex("00 0029 04d0 00000000 0000")


@attrs.frozen(slots=True)
class Question:
    """One question, ready to be sent under any id."""

    name: str
    rdtype: str
    section: bytes  # as on the wire: name, type, class IN

    @classmethod
    def of(cls, name: str, rdtype: str) -> Question:
        """ValueError for text that cannot be a domain name, KeyError for a type that we do not speak."""
        return cls(name, rdtype, _name_bytes(name) + _TYPES[rdtype].to_bytes(2, "big") + b"\x00\x01")

    def to_wire(self, ident: int) -> bytes:
        """The message under the given 16-bit id."""
        return ident.to_bytes(2, "big") + _QUERY + self.section + _OPT


@attrs.frozen(slots=True)
class Reply:
    """What one server said.

    ttl: seconds it may be kept.  authentic: its AD bit.  unfinished: a CNAME leads to `canonical`, and the server did
    not look there.
    """

    rcode: str
    records: tuple[Any, ...] = ()
    canonical: str = ""
    ttl: int = 0
    authentic: bool = False
    unfinished: bool = False
    reason: str = ""


def failure(rcode: str, reason: str = "") -> Reply:
    """A reply that says nothing."""
    return Reply(rcode, reason=reason)


def belongs(wire: bytes, ident: int, question: Question) -> bool:
    """Is this the reply to our question?  The id alone is no proof: the question must come back (RFC 5452 4)."""
    if len(wire) < _HEADER or wire[:2] != ident.to_bytes(2, "big") or not wire[2] & _QR:
        return False
    if wire[4:6] == b"\x00\x00":
        return wire[3] & 0x0F in _BARE_REFUSALS
    section = wire[_HEADER : _HEADER + len(question.section)]
    return wire[4:6] == b"\x00\x01" and section[:-4].lower() == question.section[:-4] and section[-4:] == question.section[-4:]


def is_truncated(wire: bytes) -> bool:
    """TC: ask again over TCP (RFC 1035 4.2.1).  For bytes that belong."""
    return bool(wire[2] & _TC)


def parse(wire: bytes, question: Question) -> Reply:
    """The reply in bytes that belong to the question.  Never raises."""
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
    limit = MAX_TTL if records else MAX_NEGATIVE_TTL
    no_proof = not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    return Reply(
        rcode,
        records,
        _text(chain.canonical_name),
        min(max(chain.minimum_ttl, 0), limit),
        bool(message.flags & dns.flags.AD),
        rcode == NOERROR and bool(chain.cnames) and chain.answer is None and no_proof,
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


def _label(text: str) -> bytes:
    label = text.encode("ascii")  # UnicodeEncodeError is a ValueError
    if not 0 < len(label) < 64 or "\\" in text:
        raise ValueError(f"not a label: {text!r}")
    return bytes((len(label),)) + label


def _name_bytes(name: str) -> bytes:
    """RFC 1035 3.1.  The name is in lower case without final dot, so that replies compare by bytes."""
    wire = b"".join(_label(label) for label in name.split(".")) + b"\x00" if name else b"\x00"
    if len(wire) > 255:
        raise ValueError("a domain name has at most 255 octets")
    return wire
