"""How reports are written: fields, lines and body parts of which nothing that comes from outside can break out (pure).

RFC 5322 2.2.3 (folding), RFC 2046 5.1.1 (parts), RFC 6533 (what is beyond ASCII).  Promises: every line ends in CRLF and
has at most 998 bytes (RFC 5322 2.1.1); an address, a reply or an envelope id never begins a field, a part or a line.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

__all__ = ["date", "encoding", "field", "folded", "part"]

FOLD_AT: Final = 76
WORD_LIMIT: Final = 800  # bytes; a longer word is cut, every real address is shorter (RFC 5321 4.5.3.1.3: 256)

_WORD = re.compile(r" *[^ ]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def part(kind: str, content: bytes) -> bytes:
    """A body part.  The CRLF in front of the next boundary belongs to the boundary (RFC 2046 5.1.1)."""
    return b"Content-Type: %s\r\n%s\r\n%s" % (kind.encode(), encoding(content), content)


def encoding(content: bytes) -> bytes:
    """Content-Transfer-Encoding, as the content is."""
    return b"Content-Transfer-Encoding: %s\r\n" % (b"7bit" if content.isascii() else b"8bit")


def field(name: str, value: str, utf8: bool) -> bytes:
    """One header field, or field of a delivery status."""
    return folded(f"{name}: {value}", utf8, " ")


def folded(line: str, utf8: bool, indent: str = "") -> bytes:
    """One logical line as lines that end in CRLF: control characters blanked, folded in front of spaces (RFC 5322 2.2.3).

    utf8: it may have more than ASCII, else that is escaped as in RFC 6533.  indent: in front of the lines that follow.
    """
    out, width = [], 0
    for word in _WORD.findall(_printable(line, utf8)):
        if width and width + len(word) > FOLD_AT and word.startswith(" "):
            word = indent + word[1:]
            out.append("\r\n")
            width = 0
        if len(word.encode()) > WORD_LIMIT:
            word = f"\r\n{indent}".join(word[start : start + WORD_LIMIT // 4] for start in range(0, len(word), WORD_LIMIT // 4))
        out.append(word)
        width += len(word)
    return "".join(out).encode() + b"\r\n"


def date(milliseconds: int) -> str:
    """RFC 5322 3.3, of ms since the epoch."""
    return format_datetime(datetime.fromtimestamp(milliseconds / 1000, UTC))


def _printable(text: str, utf8: bool) -> str:
    """Text in which nothing ends a line; ASCII with RFC 6533's escapes, unless utf8."""
    clean = _CONTROL.sub(" ", text)
    if utf8:
        return clean
    return _NOT_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", clean)
