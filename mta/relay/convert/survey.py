"""The first look at a message that a server may not take as it is: what is in it, and how it can be made fit (pure).

RFC 6152 3, RFC 3030 3, RFC 6531 3.2.  Fed with the whole message, in pieces.  `Findings.plan` says for every entity what to
do, or why nothing may be done: the message is signed (DKIM, ARC, multipart/signed) where it would have to change, its structure
can be read in two ways, or octets stand where nothing can be encoded (headers, preambles).  What is not concerned is
left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from mta.relay.convert.encoding import base64_size, quoted_printable_size
from mta.relay.convert.entity import Body, Entity, Odd, may_encode
from mta.relay.convert.walk import Walk
from mta.smtp.chunk import ChunkedBody
from mta.smtp.grammar import MAX_TEXT_LINE

__all__ = ["BASE64", "QUOTED", "Findings", "Plan", "Survey"]

BASE64: Final = "base64"
QUOTED: Final = "quoted-printable"
_FIELDS: Final = 200  # octets of the fields that are added to a header, at most
_ASCII: Final = bytes(range(128))
_PLAIN: Final = bytes([*range(32, 61), *range(62, 127), 9, 13, 10])  # what quoted-printable leaves alone


@attrs.frozen(slots=True)
class Plan:
    """For every entity in order the new Content-Transfer-Encoding, "" to leave it.  size: of the message then, at most."""

    encodings: Sequence[str]
    size: int


class _Octets:
    """What is known of some octets.

    high: how many are over 127; special: octets, and line ends, that quoted-printable may escape; raw: there is a bare CR, a bare
    LF or a NUL; long: a line over 1,000 octets.
    """

    __slots__ = ("_line", "high", "long", "raw", "size", "special")

    def __init__(self) -> None:
        self.size = self.high = self.special = self._line = 0
        self.raw = self.long = False

    def add(self, data: bytes) -> None:
        """A line, or a part of one, with the CRLF of the line before in front of it."""
        begins = data.startswith(b"\r\n")
        self.size += len(data)
        if not data.isascii():
            self.high += len(data.translate(None, _ASCII))
        self.special += len(data.translate(None, _PLAIN)) + 1
        self.raw = self.raw or data.count(b"\r") != begins or data.count(b"\n") != begins or b"\0" in data
        self._line = len(data) - 2 if begins else self._line + len(data)
        self.long = self.long or self._line > MAX_TEXT_LINE - 2

    def unfit(self, eight: bool) -> bool:
        """They cannot stay.  eight: those over 127 may."""
        return self.raw or self.long or (self.high > 0 and not eight)


@attrs.frozen(slots=True)
class _Part:
    """What is known of an entity.  sealed: a signature covers it."""

    entity: Entity
    sealed: bool
    octets: _Octets = attrs.field(factory=_Octets)


@attrs.frozen(slots=True)
class Findings:
    """What was seen.

    parts: all entities; outside: what is in none; odd: why they are not known.  high: there are octets over 127; raw: it cannot
    go by DATA; header_high: in a header, or nobody can tell.  size: octets.
    """

    parts: Sequence[_Part]
    outside: _Octets
    odd: str
    size: int
    high: bool
    raw: bool
    header_high: bool

    def plan(self, eight: bool) -> Plan | str:
        """How to make it fit, or why that cannot be.  eight: octets over 127 may stay (8BITMIME)."""
        if self.odd:
            return self.odd
        if self.header_high and not eight:
            return "a header that is not ASCII"
        if self.outside.unfit(eight):
            return "octets outside of the parts"
        encodings, size = [], self.size
        for part in self.parts:
            if part.octets.unfit(eight) and (why := _fixed(part)):
                return why
            encoding = _encoding(part, eight)
            encodings.append(encoding)
            size += _growth(part, encoding)
        return Plan(tuple(encodings), size)


def _fixed(part: _Part) -> str:
    """Why an entity that must change may not, "" where it may."""
    if part.sealed:
        return "a signature would break"
    entity = part.entity
    return "" if may_encode(entity) else f"{'/'.join(entity.kind)} in {entity.encoding or '7bit'}"


def _encoding(part: _Part, eight: bool) -> str:
    """The new one, "" where it stays."""
    entity, octets = part.entity, part.octets
    if octets.unfit(eight):
        if entity.kind[0] != "text" or octets.raw:
            return BASE64
        quoted, base64 = quoted_printable_size(octets.size, octets.special), base64_size(octets.size)
        return QUOTED if quoted <= base64 or octets.high * 4 < octets.size else BASE64
    if part.sealed or entity.encoding not in ("8bit", "binary") or (eight and entity.encoding == "8bit"):
        return ""
    return "8bit" if eight and (octets.high or entity.body is not Body.LEAF) else "7bit"


def _growth(part: _Part, encoding: str) -> int:
    """Octets, at most."""
    octets = part.octets
    header = _FIELDS if encoding else 0
    if encoding == BASE64:
        return header + base64_size(octets.size) - octets.size
    return header + quoted_printable_size(octets.size, octets.special) - octets.size if encoding == QUOTED else header


class Survey(Walk):
    """Pieces in; `findings` at the end.  Never raises."""

    def __init__(self) -> None:
        super().__init__()
        self._judge = ChunkedBody(0, binary=False)
        self._parts: list[_Part] = []
        self._seals: list[int] = []  # depths at which a signature begins to cover what is in it
        self._high = False
        self._header_high = False
        self._odd = ""
        self._size = 0
        self._outside = _Octets()

    def look(self, data: bytes) -> None:
        """The next piece."""
        self._size += len(data)
        self._high = self._high or not data.isascii()
        self._judge.feed(data)
        if not self._odd:
            try:
                self.feed(data)
            except Odd as error:
                self._odd = str(error)

    def findings(self) -> Findings:
        """All was seen."""
        self._judge.end()
        if not self._odd:
            try:
                self.end()
            except Odd as error:
                self._odd = str(error)
        header_high = self._header_high or (self._high and not self._parts)
        raw = self._judge.error is not None
        return Findings(tuple(self._parts), self._outside, self._odd, self._size, self._high, raw, header_high)

    def header(self, entity: Entity, depth: int, is_part: bool, blank: bytes) -> None:
        """See Walk."""
        if is_part:
            self._seals = [seal for seal in self._seals if seal < depth]
        if not all(line.isascii() for line in entity.lines):
            self._header_high = True
        if entity.signed:
            self._seals.append(depth)
        self._parts.append(_Part(entity, bool(self._seals)))
        if entity.kind == ("multipart", "signed"):
            self._seals.append(depth)

    def content(self, data: bytes) -> None:
        """See Walk."""
        self._parts[-1].octets.add(data)

    def between(self, data: bytes) -> None:
        """See Walk."""
        self._outside.add(data)
