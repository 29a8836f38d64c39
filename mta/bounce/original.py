"""What a report returns of the original message: its header, or all of it (RFC 3461 4.3, RFC 6522 3, RFC 6533; pure).

All of it only where the sender asked for that (RET=FULL), of a failure, within `[dsn] return_size`, and never of a message
with REQUIRETLS (RFC 8689 5): service.py sees to that.  What never should have been accepted (a bare CR or LF, NUL, a line
over 998 bytes) does not leave either: then the header is returned, cleaned.
"""

from __future__ import annotations

import re
from typing import Final

from mta.bounce.text import part

__all__ = ["HEAD_LIMIT", "header_section", "is_sound", "returned"]

HEAD_LIMIT: Final = 65_536  # bytes of original headers that go into a report
LINE_LIMIT: Final = 998  # RFC 5322 2.1.1, without CRLF

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 3.6.8, with the white space of 4.5.8
_UNSOUND = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n|[^\r\n]{%d}" % (LINE_LIMIT + 1))


def is_sound(original: bytes) -> bool:
    """May all of it go back?"""
    return _UNSOUND.search(original) is None


def returned(original: bytes, whole: bool, utf8: bool) -> bytes:
    """The third part of a report.  whole: `original` is all of the message, and sound.  utf8: RFC 6533 may be used."""
    headers = header_section(original)
    if whole:
        international = utf8 and not headers.isascii() and _is_utf8(headers)
        return part("message/global" if international else "message/rfc822", original)
    return part("message/global-headers" if utf8 and _is_utf8(headers) else "text/rfc822-headers", headers)


def header_section(head: bytes, limit: int = HEAD_LIMIT) -> bytes:
    """The header fields at the beginning of a message: whole lines, at most `limit` bytes, never a line of the body.

    Ends at the empty line, or at the first line that is no field (a message without headers returns nothing).
    """
    lines: list[bytes] = []
    for line in head[:limit].split(b"\r\n")[:-1]:  # what follows the last CRLF may be half a line
        folded = line[:1] in (b" ", b"\t")
        if not (lines if folded else _FIELD.match(line)):
            break
        lines.append(re.sub(rb"[\r\n\0]", b" ", line[:LINE_LIMIT]))
    return b"".join(line + b"\r\n" for line in lines)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
