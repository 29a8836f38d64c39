"""The first look at a message that may not be taken as it is: what is in it, and how it can be made fit (pure).

RFC 6152 3, RFC 3030 3, RFC 6531 3.2.  Fed with the whole message, in pieces.  `Findings.plan` says for every entity what to
do, or why nothing may be done: the message is signed (DKIM, ARC, multipart/signed) where it would have to change, its structure
can be read in two ways, or octets stand where nothing can be encoded (headers, preambles).  What is not concerned is
left alone.  A mailbox, whose lines end with LF, takes more and less than a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from mta.smtp.chunk import ChunkedBody
from mta.smtp.convert.encoding import base64_size, quoted_printable_size
from mta.smtp.convert.entity import Body, Entity, Odd, may_encode
from mta.smtp.convert.walk import Walk
from mta.smtp.data import BAD_LINES, is_framed
from mta.smtp.data import Body as Judge
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


class _Octets(Judge):
    """What is known of some octets.

    high: how many are over 127; special: octets, and line ends, that quoted-printable may escape.
    """

    __slots__ = ("high", "special")

    def __init__(self) -> None:
        super().__init__(0)
        self.high, self.special = 0, 1

    def add(self, data: bytes) -> None:
        """The next, with no CRLF cut in two."""
        lines = data.count(b"\r\n")
        self.size += len(data)
        if not data.isascii():
            self.high += len(data.translate(None, _ASCII))
        self.special += len(data.translate(None, _PLAIN)) + lines
        if not is_framed(data):
            self._bad = True
        self._measure(data)

    @property
    def raw(self) -> bool:
        """There is a bare CR, a bare LF or a NUL."""
        return self._bad

    @property
    def long(self) -> bool:
        """There is a line over 1,000 octets, with the CRLF that every line will have."""
        return self._long or self._line > MAX_TEXT_LINE - 2

    def unfit(self, eight: bool) -> bool:
        """They cannot stay.  eight: those over 127 may."""
        return self.raw or self.long or (self.high > 0 and not eight)


@attrs.frozen(slots=True)
class _Part:
    """What is known of an entity.  sealed: a signature covers it, for who reads it; signed: for servers."""

    entity: Entity
    sealed: bool
    signed: bool
    octets: _Octets = attrs.Factory(_Octets)

    @property
    def is_binary(self) -> bool:
        """What looks like the end of a line is none, or nobody can tell."""
        entity = self.entity
        return entity.encoding == "binary" and entity.body is Body.LEAF and entity.kind[0] != "text"


@attrs.frozen(slots=True)
class Findings:
    """What was seen.

    parts: all entities; outside: what is in none; odd: why they are not known.  high: there are octets over 127; raw: it cannot
    go by DATA; bare: for a bare CR, a bare LF or a NUL.  header_high: octets over 127 are in a header, or nobody can tell;
    header_long: a line over 1,000 octets is in one.  size: octets.
    """

    parts: Sequence[_Part]
    outside: _Octets
    odd: str
    size: int
    high: bool
    raw: bool
    bare: bool
    header_high: bool
    header_long: bool

    def plan(self, eight: bool) -> Plan | str:
        """How to make it fit for a server, or why that cannot be.  eight: octets over 127 may stay (8BITMIME)."""
        return self._plan(eight, mailbox=False)

    def mailbox_plan(self) -> Plan | str:
        """The same for a mailbox, where it has arrived: nobody looks at DKIM any more, octets over 127 and long lines may stay,
        but the ends of lines will be others."""
        return self._plan(eight=True, mailbox=True)

    def _plan(self, eight: bool, mailbox: bool) -> Plan | str:
        if self.odd:
            return self.odd
        if self.header_high and not eight:
            return "a header that is not ASCII"
        if self.header_long and not mailbox:
            return "a line of a header over 1000 octets"
        if self.outside.raw or (self.outside.unfit(eight) and not mailbox):
            return "octets outside of the parts"
        encodings, size = [], self.size
        try:
            for part in self.parts:
                encoding = _encoding(part, eight, mailbox)
                encodings.append(encoding)
                size += _growth(part, encoding)
        except Odd as error:
            return str(error)
        return Plan(tuple(encodings), size)


def _encoding(part: _Part, eight: bool, mailbox: bool) -> str:
    """The new one, "" where it stays.  Odd where it must change and may not."""
    entity, octets = part.entity, part.octets
    sealed = part.sealed or (part.signed and not mailbox)
    if octets.unfit(eight) or (mailbox and part.is_binary):
        if not sealed and may_encode(entity):
            return _shortest(part)
        if octets.raw or not mailbox:
            raise Odd("a signature would break" if sealed else f"{'/'.join(entity.kind)} in {entity.encoding or '7bit'}")
    if sealed or entity.encoding not in ("8bit", "binary") or (eight and entity.encoding == "8bit"):
        return ""
    return "8bit" if eight and (octets.high or entity.body is not Body.LEAF) else "7bit"


def _shortest(part: _Part) -> str:
    """base64, or quoted-printable for text that stays readable."""
    octets = part.octets
    if part.entity.kind[0] != "text" or octets.raw:
        return BASE64
    quoted, base64 = quoted_printable_size(octets.size, octets.special), base64_size(octets.size)
    return QUOTED if quoted <= base64 or octets.high * 4 < octets.size else BASE64


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
        self._seals: list[int] = []  # depths at which a signature for the reader begins to cover what is in it
        self._signatures: list[int] = []  # and one for servers
        self._high = False
        self._header_high = False
        self._header_long = False
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
        fault = self._judge.error
        return Findings(
            tuple(self._parts),
            self._outside,
            self._odd,
            self._size,
            self._high,
            raw=fault is not None,
            bare=fault is BAD_LINES,
            header_high=header_high,
            header_long=self._header_long,
        )

    def header(self, entity: Entity, depth: int, is_part: bool, blank: bytes) -> None:
        """See Walk."""
        if is_part:
            self._seals = [seal for seal in self._seals if seal < depth]
            self._signatures = [signature for signature in self._signatures if signature < depth]
        if not all(line.isascii() for line in entity.lines):
            self._header_high = True
        if any(len(line) > MAX_TEXT_LINE for line in entity.lines):
            self._header_long = True
        if entity.signed:
            self._signatures.append(depth)
        self._parts.append(_Part(entity, bool(self._seals), bool(self._signatures)))
        if entity.kind == ("multipart", "signed"):
            self._seals.append(depth)

    def content(self, data: bytes) -> None:
        """See Walk."""
        self._parts[-1].octets.add(data)

    def between(self, data: bytes) -> None:
        """See Walk."""
        self._outside.add(data)
