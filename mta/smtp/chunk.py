"""BDAT: its argument, and the body that comes in chunks.  RFC 3030 2 (CHUNKING) and 3 (BINARYMIME); law 7 (docs/architecture.md).

`parse_chunk` reads "size [LAST]"; nobody knows where the bytes of a chunk end whose size cannot be read, so what is not
exactly that is None, and the conversation has to end.  `ChunkedBody` judges the bytes of all chunks as one body, however
they are cut: a bare CR, a bare LF, a NUL or a line over 1,000 octets is an error as in DATA, and a CRLF may lie across two
chunks.  With BINARYMIME that holds for the header of the message alone, where a line that only some see would be a field for
them; only an empty line ends it.  A size over the limit is an error from the announcement on: no byte of that chunk is kept.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from mta.smtp.data import BAD_LINES, Body, is_framed
from mta.status import Reply

__all__ = ["BAD_HEADER", "Chunk", "ChunkedBody", "parse_chunk"]

BAD_HEADER: Final = Reply(550, "5.6.0", "Message header has a bare CR, a bare LF or a NUL")

_CRLF: Final = b"\r\n"
_EMPTY_LINE: Final = b"\r\n\r\n"
_HELD: Final = (b"\r\n\r", b"\r\n", b"\r")  # beginnings of it, longest first
_ARGUMENT: Final = re.compile(rb"([0-9]{1,20})(?: +(LAST))?", re.I)  # RFC 3030 2: chunk-size is 1*DIGIT; 20 as in RFC 1870 3


@attrs.define(slots=True)
class Chunk:
    """A chunk on its way.  left: bytes to come.

    refusal: why they are dropped, said when all have come (RFC 3030 2).  known: the session, or a chunk before, said so first.
    """

    left: int
    is_last: bool
    refusal: Reply | None = None
    known: bool = False


def parse_chunk(argument: bytes) -> Chunk | None:
    """The chunk that BDAT announces, None where that cannot be told."""
    match = _ARGUMENT.fullmatch(argument)
    return None if match is None else Chunk(int(match[1]), match[2] is not None)


class ChunkedBody(Body):
    """Announced sizes and pieces in, body out.

    binary: BODY=BINARYMIME was said, behind the header every byte is as good as any other.
    """

    __slots__ = ("_binary", "_held", "_in_header")

    def __init__(self, max_size: int, binary: bool) -> None:
        super().__init__(max_size)
        self._binary = self._in_header = binary
        # What ended the last piece and is judged with the next: a CR whose LF may come; in a header all that may begin its end.
        self._held = _CRLF if binary else b""

    @property
    def error(self) -> Reply | None:
        """See Body."""
        error = super().error
        return BAD_HEADER if self._binary and error is BAD_LINES else error

    def announce(self, size: int) -> None:
        """A chunk of that size begins."""
        self.size += size

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the body for the next bytes of the chunk; b"" from the moment there is an error."""
        if self._in_header:
            self._read_header(data)
        elif not self._binary:
            data = self._held + data
            self._held = b"\r" if data.endswith(b"\r") else b""
            data = data[: len(data) - len(self._held)]
            self._judge(data)
        return b"" if self.error else data

    def end(self) -> bytes:
        """What completes the body: the CRLF of a last line that has none, for DATA could not say it otherwise."""
        if self._held.endswith(b"\r"):
            self._bad = True
        if (self._binary and not self._in_header) or not self._line or self.error:
            return b""
        self._measure(_CRLF)
        return b"" if self._binary or self.error else _CRLF  # not counted: the client did not announce it

    def _read_header(self, data: bytes) -> None:
        """Judge what of it is header."""
        data = self._held + data
        end = data.find(_EMPTY_LINE)
        if end >= 0:
            self._in_header, self._held = False, b""
            data = data[: end + len(_EMPTY_LINE)]
        else:
            self._held = next((held for held in _HELD if data.endswith(held)), b"")
            data = data[: len(data) - len(self._held)]
        self._judge(data)

    def _judge(self, data: bytes) -> None:
        """As text."""
        if not is_framed(data):
            self._bad = True
        self._measure(data)
