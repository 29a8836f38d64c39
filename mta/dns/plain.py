"""Replies as they nearly always are, read thirty times faster than by a library; any other is left to that.

RFC 1035 4.1, RFC 2308 2 (no such name, no such record), RFC 6891 (EDNS0).  A mail server that writes to many domains asks
three questions for each of them, and taking the replies apart would be a fifth of all its work.  What is read here: a
question that comes back, CNAMEs from its name on in their order, then records of the type that was asked for at the name
where they lead, or none and at most the SOA that says so, and at the end addresses (BIND's, of MX hosts; they are not used) and
an OPT without options.

`read` says None of everything else, be it rare or damaged: an octet too many or too few, a record twice, a name with octets
that would have to be escaped, a TLSA set.  Where it says anything, dnspython says the same: the tests hold the two together.
Pure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

import dns.ipv4
import dns.ipv6

from mta.dns.answer import NOERROR, NXDOMAIN, Mx
from mta.dns.message import MAX_NEGATIVE_TTL, MAX_TTL, MAX_UNPROVEN_TTL, TYPES, Question, Reply

__all__ = ["read"]

_HEADER: Final = struct.Struct("!2xBBHHHH")
_RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length of its data: behind a name
_RCODES: Final = {0: NOERROR, 3: NXDOMAIN}
_CNAME, _SOA = 5, 6
_OPT: Final = b"\x00\x00\x29"  # the root, and the type
_ADDRESSES: Final = ((1, 1, 4), (28, 1, 16))  # A and AAAA: type, class, length
_MOST_ALIASES: Final = 8
_MOST_JUMPS: Final = 8  # from one part of a name to the next
_LONGEST_NAME: Final = 253  # as text: 255 octets on the wire (RFC 1035 3.1)
_FIRST_NAME: Final = b"\xc0\x0c"  # a pointer to the name in the question
_USUAL_NAME: Final = re.compile(r"[a-z0-9_.-]*")
_USUAL: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


class _Unusual(Exception):
    """Not for us."""


def read(wire: bytes, question: Question) -> Reply | None:
    """The reply in bytes that belong to the question, None where it has to be looked at more carefully."""
    try:
        high, low, asked, answers, proofs, additional = _HEADER.unpack_from(wire)
        # A response to a QUERY, whole; AA and RD may be what they like.
        if high & 0xFA != 0x80 or asked != 1 or not _USUAL_NAME.fullmatch(question.name):
            return None
        rcode = _RCODES[low & 0x0F]
        at, names, ttl, records = _answers(wire, question, answers)
        if records and (rcode == NXDOMAIN or proofs):
            return None
        unproven = not records and not proofs
        limit = MAX_TTL if records else MAX_UNPROVEN_TTL if unproven else MAX_NEGATIVE_TTL
        if proofs:
            if proofs > 1:
                return None
            at, held = _proof(wire, at, names[-1])
            ttl = min(ttl, held)
        if not _ends(wire, at, additional):
            return None
        unfinished = unproven and rcode == NOERROR and len(names) > 1
        return Reply(rcode, records, names[-1], min(ttl, limit), bool(low & 0x20), unfinished)
    except (_Unusual, IndexError, KeyError, struct.error):
        return None


def _answers(wire: bytes, question: Question, count: int) -> tuple[int, list[str], int, tuple[Any, ...]]:
    """Where they end, the names from the question's to the last, the least TTL, and the records."""
    at, names, least, records = 12 + len(question.section), [question.name], MAX_TTL, []
    wanted = TYPES[question.rdtype]
    for _ in range(count):
        if wire[at : at + 2] == _FIRST_NAME:
            owner, at = question.name, at + 2
        else:
            owner, at = _name(wire, at)
        rdtype, rdclass, ttl, length = _RECORD.unpack_from(wire, at)
        at += 10
        if owner != names[-1] or rdclass != 1 or ttl > 0x7FFFFFFF:  # RFC 2181 8
            raise _Unusual
        if rdtype == wanted:
            records.append(_READ[wanted](wire, at, at + length))
        elif rdtype == _CNAME and not records and len(names) <= _MOST_ALIASES:
            names.append(_whole_name(wire, at, at + length))
        else:
            raise _Unusual
        least = min(least, ttl)
        at += length
    if len(set(records)) < len(records) or len(set(names)) < len(names):
        raise _Unusual
    return at, names, least, tuple(records)


def _proof(wire: bytes, at: int, name: str) -> tuple[int, int]:
    """Where the SOA ends that stands for the zone of a name, and how long its "no" holds (RFC 2308 5)."""
    owner, at = _name(wire, at)
    rdtype, rdclass, ttl, length = _RECORD.unpack_from(wire, at)
    at += 10
    if rdtype != _SOA or rdclass != 1 or ttl > 0x7FFFFFFF or not (f".{name}".endswith(f".{owner}") or not owner):
        raise _Unusual
    stop = at + length
    _, at = _name(wire, at)
    _, at = _name(wire, at)
    if at + 20 != stop or stop > len(wire):
        raise _Unusual
    return stop, min(ttl, int.from_bytes(wire[stop - 4 : stop], "big"))


def _ends(wire: bytes, at: int, additional: int) -> bool:
    """Is there nothing more but addresses, which nobody asked for and nobody believes, and an OPT record that says nothing?"""
    edns = False
    for _ in range(additional):
        if wire[at : at + 3] == _OPT:  # RFC 6891 6.1.2: behind it payload, rcode, version, flags, length
            if edns or wire[at + 5 : at + 7] != b"\0\0" or wire[at + 9 : at + 11] != b"\0\0":
                return False
            edns = True
            at += 11
        else:
            _, at = _name(wire, at)
            rdtype, rdclass, _, length = _RECORD.unpack_from(wire, at)
            if (rdtype, rdclass, length) not in _ADDRESSES:
                return False
            at += 10 + length
    return at == len(wire)


def _name(wire: bytes, at: int) -> tuple[str, int]:
    """A name in lower case without final dot, and where it ends."""
    labels, end, start, limit, jumps = [], 0, at, len(wire), 0
    while count := wire[at]:
        if count < 64:
            labels.append(wire[at + 1 : at + 1 + count])
            at += 1 + count
        else:
            end = end or at + 2
            target = (count & 0x3F) << 8 | wire[at + 1]
            jumps += 1
            if count < 192 or target >= start or at + 2 > limit or jumps > _MOST_JUMPS:
                raise _Unusual
            at, start, limit = target, target, start  # what it points to ends before all that was read
        if at >= limit:
            raise _Unusual
    name = b".".join(labels)
    if len(name) > _LONGEST_NAME or b"".join(labels).translate(None, _USUAL):
        raise _Unusual
    return name.decode("ascii").lower(), end or at + 1


def _whole_name(wire: bytes, at: int, stop: int) -> str:
    name, end = _name(wire, at)
    if end != stop:
        raise _Unusual
    return name


def _ipv4(wire: bytes, at: int, stop: int) -> str:
    return dns.ipv4.inet_ntoa(_octets(wire, at, stop, 4))


def _ipv6(wire: bytes, at: int, stop: int) -> str:
    return dns.ipv6.inet_ntoa(_octets(wire, at, stop, 16))


def _octets(wire: bytes, at: int, stop: int, count: int) -> bytes:
    octets = wire[at:stop]
    if stop - at != count or len(octets) != count:
        raise _Unusual
    return octets


def _mx(wire: bytes, at: int, stop: int) -> Mx:
    return Mx(wire[at] << 8 | wire[at + 1], _whole_name(wire, at + 2, stop) or ".")


def _txt(wire: bytes, at: int, stop: int) -> bytes:
    """One string or several, joined without spaces (RFC 7208 3.3)."""
    strings = []
    while at < stop:
        end = at + 1 + wire[at]
        strings.append(wire[at + 1 : end])
        at = end
    if at != stop or stop > len(wire) or not strings:
        raise _Unusual
    return b"".join(strings)


_READ: Final[dict[int, Callable[[bytes, int, int], Any]]] = {1: _ipv4, 12: _whole_name, 15: _mx, 16: _txt, 28: _ipv6}
