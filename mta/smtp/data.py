"""Mail data on the wire: RFC 5321 4.1.1.4, 4.5.2 (transparency), 2.3.8 (lines); law 7 (docs/architecture.md).

`BodyReader` (receiver) takes the stream apart: only CRLF.CRLF ends it.  A bare CR, bare LF, NUL, a line over 1,000
octets or a body over the limit is noted, the rest is still read to the true end and dropped, and `error` says why:
`Body`, which bodies in chunks (chunk.py) are judged by too.
`DotStuffer` (sender) makes the stream: whatever bytes come, only CRLF ends lines in what leaves, every line that
begins with a dot gets another, and the end is on a line of its own.  Canonical bodies pass both unchanged.

Both work on whole pieces with `find`, `replace` and the newline decoder of `io`, which counts which ends of lines it has
seen; no Python is run for a line.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder
from typing import Final

from mta.smtp.grammar import MAX_TEXT_LINE, TERMINATOR
from mta.status import Reply

__all__ = ["BAD_LINES", "LONG_LINE", "TOO_BIG", "Body", "BodyReader", "DotStuffer", "is_framed"]

BAD_LINES: Final = Reply(550, "5.6.0", "Message has a bare CR, a bare LF or a NUL")
LONG_LINE: Final = Reply(550, "5.6.0", "Message has a line over 1000 octets")
TOO_BIG: Final = Reply(552, "5.3.4", "Message too big")

_CRLF: Final = b"\r\n"
_STRICT: Final = (None, "\r\n")  # all the ends of lines that may be seen
_CRLF_DOT: Final = b"\r\n."
_HELD: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # beginnings of the terminator, longest first


def is_framed(data: bytes) -> bool:
    """Has it neither a bare CR, nor a bare LF, nor a NUL?  (Faster than three counts, or than taking the lines apart.)"""
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(data.decode("latin-1"), final=True)
    return seen.newlines in _STRICT and b"\0" not in data


def _first_dot(data: bytes) -> int:
    """Where the first CRLF is that a dot follows, -1 for nowhere.

    Between the first dot and the last: one byte is found far faster than three, and what is large is base64, with none.
    """
    last = data.rfind(b".")
    return data.find(_CRLF_DOT, max(data.find(b".") - 2, 0), last + 1) if last >= 0 else -1


class Body:
    """What a body is judged by, however it comes: its size, its lines."""

    __slots__ = ("_bad", "_limit", "_line", "_long", "size")

    def __init__(self, max_size: int) -> None:
        self._limit = max_size  # 0: none
        self._line = 0  # length of the line that the last piece left open
        self._bad = False
        self._long = False
        self.size = 0  # of the body so far, without the dots of transparency

    @property
    def error(self) -> Reply | None:
        """Why the body may not be accepted."""
        if self._bad:
            return BAD_LINES
        if self._long:
            return LONG_LINE
        return TOO_BIG if self._limit and self.size > self._limit else None

    def _measure(self, piece: bytes) -> None:
        """Look for a line too long in strides: from a line's begin to the last CRLF within 1,000 octets.

        A bare LF may be taken for one: such a body is refused for that.
        """
        rfind = piece.rfind
        start, begin, last = -self._line, 0, len(piece) - MAX_TEXT_LINE
        while start < last:
            end = rfind(b"\n", begin, start + MAX_TEXT_LINE)
            if end < 0:
                self._long = True
                return
            start = begin = end + 1
        end = rfind(b"\n", begin)
        self._line = len(piece) - (start if end < 0 else end + 1)


class BodyReader(Body):
    """Pieces in, body out.

    A piece may end in the middle of CRLF.CRLF.  So the beginning of a terminator at its end is kept (`_held`) and put
    in front of the next piece; its CRLF is body in any case and is passed on at once (`_passed` of its bytes were).
    The body begins as if behind such a CRLF.
    """

    __slots__ = ("_held", "_passed")

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self._held = _CRLF
        self._passed = 2

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """(Bytes of the body, what follows its end), the latter None while the end was not seen.

        The first are b"" from the moment there is an error.
        """
        if self._held:
            data = self._held + data
        passed = self._passed
        dot = _first_dot(data)
        end = data.find(TERMINATOR, dot) if dot >= 0 else -1
        if end >= 0:
            rest = data[end + 5 :]
            return self._body(data[: end + 2], passed, end != dot), rest
        return self._body(self._hold(data), passed, dot >= 0), None

    def _hold(self, data: bytes) -> bytes:
        """Keep what may begin the terminator; the piece without that."""
        self._held, self._passed = b"", 0
        for held in _HELD:
            if data.endswith(held):
                self._held = held
                self._passed = 2 if len(held) > 1 else 0
                return data[: len(data) - len(held) + self._passed]
        return data

    def _body(self, piece: bytes, passed: int, dotted: bool) -> bytes:
        """Judge a piece, and take the dots of transparency out of it (RFC 5321 4.5.2)."""
        if not is_framed(piece):
            self._bad = True
        if dotted:
            piece = piece.replace(_CRLF_DOT, _CRLF)
        if passed:
            piece = piece[passed:]
        self.size += len(piece)
        self._measure(piece)
        return b"" if self.error else piece


class DotStuffer:
    """Body in, mail data out.

    Stored bodies are canonical, for `BodyReader` let them in; what is not (made by a plug-in, damaged) is mended and
    never passed: a bare CR or bare LF becomes CRLF, a NUL is dropped.
    """

    __slots__ = ("_cr", "_line_start")

    def __init__(self) -> None:
        self._line_start = True
        self._cr = False  # a CR that ended the last piece; whether it is bare is not known yet

    def feed(self, data: bytes) -> bytes:
        """The next bytes to send; the very same object where nothing is to be done."""
        if self._cr or not is_framed(data):
            data = self._mend(data)
        if not data:
            return data
        if _first_dot(data) >= 0:
            data = data.replace(_CRLF_DOT, b"\r\n..")
        if self._line_start and data[0] == 0x2E:
            data = b"." + data
        self._line_start = data[-1] == 0x0A
        return data

    def _mend(self, data: bytes) -> bytes:
        data = data.replace(b"\0", b"")
        if not data:
            return data
        if self._cr:
            data = b"\r" + data
        self._cr = data[-1] == 0x0D
        if self._cr:
            data = data[:-1]
        return data.replace(_CRLF, b"\n").replace(b"\r", b"\n").replace(b"\n", _CRLF)

    def end(self) -> bytes:
        """The last bytes to send: ends the open line, then the data."""
        return b".\r\n" if self._line_start and not self._cr else b"\r\n.\r\n"
