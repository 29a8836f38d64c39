"""Questions to bytes, and which bytes are a reply to one.

RFC 1035 4.1 (messages), RFC 6891 (EDNS0), RFC 6840 5.7 (AD in a question: "tell me whether you validated").  A question is
put together by hand, three times faster than a library's message object.

`belongs` says whether bytes are the reply to our question (id, QR and the question itself): what does not belong is to
be ignored, it may come from anyone.  What belongs is taken apart in `parse`.  Pure: the random id is passed in.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

__all__ = [
    "GARBLED",
    "MAX_NEGATIVE_TTL",
    "MAX_TTL",
    "MAX_UNPROVEN_TTL",
    "TYPES",
    "Question",
    "Reply",
    "belongs",
    "failure",
    "is_truncated",
]

GARBLED = "GARBLED"
MAX_TTL = 86_400  # seconds: a record is asked for anew once a day, whatever its zone says
MAX_NEGATIVE_TTL = 900  # seconds: "no such domain" bounces mail, so a repaired zone is seen soon (RFC 2308 5 allows hours)
MAX_UNPROVEN_TTL = 300  # seconds: "no" without the SOA that says how long (RFC 2308 5 would rather not keep it)
TYPES: Final = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}

_HEADER = 12
_QR, _TC = 0x80, 0x02  # in the third byte
_BARE_REFUSALS = (1, 2, 4, 5)  # FORMERR, SERVFAIL, NOTIMP, REFUSED: servers send them without the question
_COUNTS = [bytes((count,)) for count in range(64)]
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
        return cls(name, rdtype, _name_bytes(name) + TYPES[rdtype].to_bytes(2, "big") + b"\x00\x01")

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


def _name_bytes(name: str) -> bytes:
    """RFC 1035 3.1.  The name is in lower case without final dot, so that replies compare by bytes."""
    labels = name.encode("ascii").split(b".") if name else []  # UnicodeEncodeError is a ValueError
    if "\\" in name or b"" in labels or (labels and max(map(len, labels)) > 63):
        raise ValueError(f"not a name: {name!r}")
    wire = b"".join([_COUNTS[len(label)] + label for label in labels]) + b"\x00"
    if len(wire) > 255:
        raise ValueError("a domain name has at most 255 octets")
    return wire
