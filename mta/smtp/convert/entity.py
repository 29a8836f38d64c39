"""A MIME entity's header, read strictly: what its body is, and how it is encoded (RFC 2045 5 and 6, RFC 2046 5) (pure).

Whatever could be read in two ways raises `Odd`: who re-encodes a message that he does not understand changes it.  The lines
of the header are kept as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import attrs

__all__ = ["Body", "Entity", "Odd", "may_encode", "read_entity"]


class Odd(Exception):
    """The structure cannot be read in one way only; why, in a few words."""


class Body(Enum):
    """What a body is made of."""

    LEAF = "leaf"
    MULTIPART = "multipart"
    MESSAGE = "message"  # another message, header and all


_IDENTITY: Final = ("7bit", "8bit", "binary")
_ENCODINGS: Final = (*_IDENTITY, "quoted-printable", "base64")
# RFC 6532 3.7, RFC 6533: these alone of message/* may be encoded (RFC 2045 6.4).
_LEAVES: Final = ("global", "global-headers", "global-delivery-status", "global-disposition-notification")

_NAME: Final = re.compile(rb"([!-9;-~]+):")
_TOKEN: Final = rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
_TYPE: Final = re.compile(rb"\s*(%s)/(%s)\s*" % (_TOKEN, _TOKEN))
_PARAMETER: Final = re.compile(rb';\s*(%s)\s*=\s*(?:(%s)|"((?:[^"\\\r\n]|\\[^\r\n])*)")\s*' % (_TOKEN, _TOKEN))
_REST: Final = re.compile(rb"\s*(?:;\s*)?")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)")
_ENCODING: Final = re.compile(rb"\s*(%s)\s*" % _TOKEN)
_MAX_FIELD: Final = 8_192  # octets of a field that is read: what is longer was not written by a mail program


@attrs.frozen(slots=True)
class Entity:
    """One header.  lines: with their CRLF, without the empty line behind them; fields: where those of MIME stand in them.

    kind: major and minor type in lower case; encoding: "" where it says nothing; signed: DKIM or ARC covers what follows.
    """

    lines: Sequence[bytes]
    fields: Mapping[bytes, slice]
    kind: tuple[str, str]
    encoding: str
    body: Body
    boundary: bytes = b""
    signed: bool = False

    @property
    def is_identity(self) -> bool:
        """The body is not encoded."""
        return not self.encoding or self.encoding in _IDENTITY


def read_entity(lines: Sequence[bytes], digest: bool = False) -> Entity:
    """Of its header.  digest: it is a part of a multipart/digest, where message/rfc822 is the default (RFC 2046 5.1.5)."""
    fields: dict[bytes, slice] = {}
    signed = False
    for name, where in _fields(lines):
        if name in (b"content-type", b"content-transfer-encoding", b"mime-version"):
            if name in fields:
                raise Odd(f"two {name.decode()} fields")
            fields[name] = where
        signed = signed or name in (b"dkim-signature", b"arc-message-signature")
    kind = ("message", "rfc822") if digest else ("text", "plain")
    parameters: dict[bytes, bytes] = {}
    if b"content-type" in fields:
        kind, parameters = _content_type(_value(lines, fields[b"content-type"]))
    encoding = _encoding(_value(lines, fields[b"content-transfer-encoding"])) if b"content-transfer-encoding" in fields else ""
    body = _body(kind, encoding)
    boundary = parameters.get(b"boundary", b"") if body is Body.MULTIPART else b""
    if body is Body.MULTIPART and not (0 < len(boundary) <= 70 and boundary == boundary.rstrip(b" ")):  # RFC 2046 5.1.1
        raise Odd("a multipart without a boundary")
    return Entity(lines, fields, kind, encoding, body, boundary, signed)


def _fields(lines: Sequence[bytes]) -> list[tuple[bytes, slice]]:
    fields: list[tuple[bytes, slice]] = []
    for number, line in enumerate(lines):
        if line[:1] in (b" ", b"\t"):
            if not fields:
                raise Odd("a header that begins with a continuation")
            name, where = fields[-1]
            fields[-1] = name, slice(where.start, number + 1)
        elif match := _NAME.match(line):
            fields.append((match[1].lower(), slice(number, number + 1)))
        else:
            raise Odd("a line of a header that is no field")
    return fields


def _value(lines: Sequence[bytes], where: slice) -> bytes:
    field = b"".join(lines[where])
    if len(field) > _MAX_FIELD:
        raise Odd("a field of MIME that is too long")
    return field.partition(b":")[2].replace(b"\r\n", b"")


def _content_type(value: bytes) -> tuple[tuple[str, str], dict[bytes, bytes]]:
    match = _TYPE.match(value)
    if match is None:
        raise Odd("a Content-Type that cannot be read")
    kind = match[1].decode("ascii").lower(), match[2].decode("ascii").lower()
    parameters: dict[bytes, bytes] = {}
    end = match.end()
    while match := _PARAMETER.match(value, end):
        name = match[1].lower()
        if name in parameters:
            raise Odd("a Content-Type with a parameter given twice")
        parameters[name] = match[2] if match[2] is not None else _QUOTED_PAIR.sub(rb"\1", match[3])
        end = match.end()
    if not _REST.fullmatch(value, end):
        raise Odd("a Content-Type that cannot be read")
    return kind, parameters


def _encoding(value: bytes) -> str:
    match = _ENCODING.fullmatch(value)
    if match is None:
        raise Odd("a Content-Transfer-Encoding that cannot be read")
    return match[1].decode("ascii").lower()


def _body(kind: tuple[str, str], encoding: str) -> Body:
    """RFC 2045 6.4: what has parts is not encoded itself."""
    major, minor = kind
    if major == "multipart":
        body = Body.MULTIPART
    elif kind == ("message", "rfc822"):
        body = Body.MESSAGE
    elif major == "message" and minor not in _LEAVES:
        if encoding and encoding not in _IDENTITY:
            raise Odd(f"message/{minor} in {encoding}")
        return Body.LEAF
    else:
        return Body.LEAF
    if encoding and encoding not in _IDENTITY:
        raise Odd(f"{major}/{minor} in {encoding}")
    return body


def may_encode(entity: Entity) -> bool:
    """The body may be put in base64 or quoted-printable."""
    return entity.is_identity and (entity.kind[0] != "message" or entity.kind[1] in _LEAVES)
