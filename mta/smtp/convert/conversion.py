"""The second look: the message as it leaves, each entity encoded as the plan says, all else octet for octet (RFC 2045) (pure).

Fed with the same octets that were surveyed, cut anywhere; what is in memory is a header or a line.  The field
Content-Transfer-Encoding is replaced where it stands, or put behind the last field.  A message without MIME that must be
encoded becomes one, in a charset that nobody knows (RFC 1428 3).  `Odd` is raised where the octets are not those that were
surveyed, which a damaged disk may do: the transaction must not be completed then.
"""

from __future__ import annotations

from mta.smtp.convert.encoding import Base64, QuotedPrintable
from mta.smtp.convert.entity import Entity, Odd
from mta.smtp.convert.survey import BASE64, QUOTED, Plan
from mta.smtp.convert.walk import Walk

__all__ = ["Conversion"]

_ENCODING = b"content-transfer-encoding"


class Conversion(Walk):
    """Pieces in, pieces out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._encodings = iter(plan.encodings)
        self._encoder: Base64 | QuotedPrintable | None = None
        self._out: list[bytes] = []

    def convert(self, data: bytes) -> bytes:
        """What can be sent after the next piece."""
        self.feed(data)
        return self._taken()

    def finish(self) -> bytes:
        """The last octets."""
        self.end()
        self._end_content(at_end=True)
        if next(self._encodings, None) is not None:
            raise Odd("not the message that was surveyed")
        return self._taken()

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def header(self, entity: Entity, depth: int, is_part: bool, blank: bytes) -> None:
        """See Walk."""
        encoding = next(self._encodings, None)
        if encoding is None:
            raise Odd("not the message that was surveyed")
        self._out += _rewritten(entity, encoding, is_part) if encoding else entity.lines
        self._out.append(blank)
        self._encoder = Base64() if encoding == BASE64 else QuotedPrintable() if encoding == QUOTED else None

    def content(self, data: bytes) -> None:
        """See Walk."""
        self._out.append(data if self._encoder is None else self._encoder.feed(data))

    def between(self, data: bytes) -> None:
        """See Walk."""
        self._end_content(at_end=False)
        self._out.append(data)

    def _end_content(self, at_end: bool) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            self._out.append(encoder.end(at_end))


def _rewritten(entity: Entity, encoding: str, is_part: bool) -> list[bytes]:
    """The header's lines, with another Content-Transfer-Encoding."""
    lines, fields = list(entity.lines), entity.fields
    said = b"Content-Transfer-Encoding: %s\r\n" % encoding.encode("ascii")
    if _ENCODING in fields:
        lines[fields[_ENCODING]] = [said]
    elif b"mime-version" in fields or b"content-type" in fields or is_part:
        lines.append(said)
    else:
        lines += b"Content-Type: text/plain; charset=unknown-8bit\r\n", said
    if not is_part and b"mime-version" not in fields:
        lines.append(b"MIME-Version: 1.0\r\n")
    return lines
