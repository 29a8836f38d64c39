"""base64 and quoted-printable for content that streams by (RFC 2045 6.7, 6.8) (pure).

Both have `feed` and `end`; lines are at most 76 octets, with CRLF between them.  Content is taken as it is: of base64 every
octet counts, in quoted-printable a CRLF is the end of a line.  No line of the outcome begins with "-": it could be taken for a
delimiter of the parts around it.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import Final

__all__ = ["Base64", "QuotedPrintable", "base64_size", "quoted_printable_size"]

_CRLF: Final = b"\r\n"
_PER_LINE: Final = 57  # octets that make 76
_MOST: Final = 75  # octets of a line in front of "="
_SPECIAL: Final = re.compile(rb"[^\t -<>-~]")
_ESCAPES: Final = tuple(b"=%02X" % octet for octet in range(256))
_SPACES: Final = (b" ", b"\t")


class Base64:
    """RFC 2045 6.8."""

    __slots__ = ("_begun", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Whole lines."""
        data = self._rest + data
        whole = len(data) // _PER_LINE * _PER_LINE
        self._rest = data[whole:]
        return self._lines(data[:whole])

    def end(self, at_end: bool) -> bytes:
        """The last line.  at_end: of the message, which ends with CRLF."""
        return self._lines(self._rest) + (_CRLF if at_end else b"")

    def _lines(self, data: bytes) -> bytes:
        lines = [b2a_base64(data[at : at + _PER_LINE], newline=False) for at in range(0, len(data), _PER_LINE)]
        if lines and self._begun:
            lines.insert(0, b"")
        self._begun = self._begun or bool(lines)
        return _CRLF.join(lines)


class QuotedPrintable:
    """RFC 2045 6.7."""

    __slots__ = ("_column", "_cr", "_space")

    def __init__(self) -> None:
        self._column = 0
        self._space = b""  # at the end of what came: it must be encoded if it is the end of the line
        self._cr = b""

    def feed(self, data: bytes) -> bytes:
        """What can be said of it already."""
        data = self._cr + data
        self._cr = b"\r" if data.endswith(b"\r") else b""
        first, *others = data[: len(data) - len(self._cr)].split(_CRLF)
        out = [self._text(first)]
        for line in others:
            out += self._line_end(), _CRLF
            self._column = 0
            out.append(self._text(line))
        return b"".join(out)

    def end(self, at_end: bool) -> bytes:
        """The last octets.  at_end: of the message, which ends with CRLF; it is no part of the content."""
        out = self._text(self._cr) + self._line_end() if self._cr else self._line_end()
        return out + b"=\r\n" if at_end and self._column else out

    def _text(self, text: bytes) -> bytes:
        if not text:
            return b""
        text = self._space + text
        self._space = text[-1:] if text.endswith(_SPACES) else b""
        return self._put(_SPECIAL.sub(_escape, text[: len(text) - len(self._space)]))

    def _line_end(self) -> bytes:
        space, self._space = self._space, b""
        return self._put(_ESCAPES[space[0]]) if space else b""

    def _put(self, text: bytes) -> bytes:
        """Encoded text, with soft line breaks where they must be, never in an escape."""
        out: list[bytes] = []
        if not self._column and text[:1] == b"-":
            text = _ESCAPES[0x2D] + text[1:]
        start, free = 0, _MOST - self._column
        while len(text) - start > free:
            end = start + free
            escape = text.rfind(b"=", max(end - 2, start), end)
            end = escape if escape >= 0 else end
            out += text[start:end], b"=\r\n"
            start, free = end, _MOST
            if text[start : start + 1] == b"-":
                out.append(_ESCAPES[0x2D])
                start, free = start + 1, free - 3
        out.append(text[start:])
        self._column = _MOST - free + len(text) - start
        return b"".join(out)


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[match[0][0]]


def base64_size(size: int) -> int:
    """Octets that so many become, at most."""
    return (size // _PER_LINE + 1) * 78 + 2


def quoted_printable_size(size: int, special: int) -> int:
    """Octets that so many become, at most, of which some are to be escaped."""
    text = size + 2 * special
    return text + (text // (_MOST - 5) + 1) * 5 + 5
