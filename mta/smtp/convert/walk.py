"""A message taken apart while it streams by: headers, contents of leaves, and what lies between them (RFC 2046 5) (pure).

`Walk` is fed with pieces, cut anywhere, and calls three methods that a subclass gives: `header` (an entity begins), `content`
(bytes of its body, where it is a leaf) and `between` (delimiters, preambles, epilogues).  Joined in their order, the lines of the
headers and all these bytes are the message, octet for octet.  The CRLF in front of a delimiter belongs to the delimiter.
Only CRLF ends a line; a line too long to be held is passed on in parts.  Memory: one header, one line.  What is not
strictly MIME raises `Odd`, from `feed` or `end`, and the walk is over.  Bodies are searched for delimiters and never read line
by line: whoever sends lines of nothing gets no more of our time than others.
"""

from __future__ import annotations

import re
from typing import Final

from mta.smtp.convert.entity import Body, Entity, Odd, read_entity

__all__ = ["Walk"]

MAX_HEADER: Final = 1 << 20  # octets
MAX_HEADER_LINES: Final = 100_000  # of all headers
MAX_LINE: Final = 8_192  # octets of a line that are held
MAX_DEPTH: Final = 32
MAX_ENTITIES: Final = 10_000

_CRLF: Final = b"\r\n"
_NOT_PLAIN: Final = re.compile(rb"[\0\r\n]")
_DELIMITER_END: Final = re.compile(rb"(--)?[ \t]*")


class _Open:
    """A multipart whose end was not seen."""

    __slots__ = ("boundary", "closed", "digest", "started")

    def __init__(self, entity: Entity) -> None:
        self.boundary = b"--" + entity.boundary
        self.digest = entity.kind == ("multipart", "digest")
        self.started = False
        self.closed = False


class Walk:
    """See the module."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._header: list[bytes] | None = []  # lines of a header that is not whole; None: in a body
        self._header_size = 0
        self._header_lines = 0  # of all headers
        self._in_leaf = False
        self._line = b""  # what is not whole yet
        self._split = False  # its first part was passed on already
        self._crlf = b""  # the end of the last line, whose it is is not known
        self._starts_part = False  # the header that comes is behind a delimiter
        self._entities = 0

    # ---- what a subclass gives

    def header(self, entity: Entity, depth: int, is_part: bool, blank: bytes) -> None:
        """An entity begins.

        depth: multiparts around it; is_part: of the innermost, else it is a message; blank: the empty line, b"" where the
        message ends without one.
        """
        raise NotImplementedError

    def content(self, data: bytes) -> None:
        """Bytes of the leaf whose header was last."""
        raise NotImplementedError

    def between(self, data: bytes) -> None:
        """Bytes that are no header's and no leaf's."""
        raise NotImplementedError

    # ---- bytes

    def feed(self, data: bytes) -> None:
        """The next piece."""
        data, start = self._line + data, 0
        while True:
            if self._header is None:
                start = self._pass_lines(data, start)
            end = data.find(_CRLF, start)
            if end < 0:
                break
            self._take(data[start:end], whole=True)
            start = end + 2
        rest = data[start:]
        if len(rest) > MAX_LINE:
            keep = 1 if rest.endswith(b"\r") else 0
            self._take(rest[: len(rest) - keep], whole=False)
            rest = rest[len(rest) - keep :]
        self._line = rest

    def end(self) -> None:
        """The message is whole."""
        if self._line or self._split:
            line, self._line = self._line, b""
            self._take(line, whole=False)
        if self._header is not None and not self._open and self._entities == 0:  # a message may be a header only
            self._header_ends(b"")
        if self._header is not None or any(not multipart.closed for multipart in self._open):
            raise Odd("an end in the middle")
        self._flush_line_end()

    def _take(self, line: bytes, whole: bool) -> None:
        split, self._split = self._split, not whole
        if self._header is not None:
            if split or not whole:
                raise Odd("a header line without its end")
            self._header_line(line)
        elif not split and self._open and line[:2] == b"--" and self._delimiter(line, whole):
            pass
        else:
            self._pass(self._crlf + line)
            self._crlf = _CRLF if whole else b""

    def _pass_lines(self, data: bytes, start: int) -> int:
        """Whole lines of a body from there on, up to one that begins with a boundary; where that is, or the line that is open."""
        boundaries = [multipart.boundary for multipart in reversed(self._open)]
        if not self._split and any(data.startswith(boundary, start) for boundary in boundaries):
            return start
        end = data.rfind(_CRLF, start)
        for boundary in boundaries:
            found = data.find(_CRLF + boundary, start, end + 2 + len(boundary)) if end >= 0 else -1
            end = found if found >= 0 else end
        if end < 0:
            return start
        self._split = False
        self._pass(self._crlf + data[start:end])
        self._crlf = _CRLF
        return end + 2

    def _pass(self, data: bytes) -> None:
        if data:
            (self.content if self._in_leaf else self.between)(data)

    def _flush_line_end(self) -> None:
        data, self._crlf = self._crlf, b""
        self._pass(data)

    # ---- structure

    def _header_line(self, line: bytes) -> None:
        assert self._header is not None
        if not line:
            self._header_ends(_CRLF)
            return
        self._header_size += len(line) + 2
        self._header_lines += 1
        too_long = len(line) >= MAX_LINE or self._header_size > MAX_HEADER or self._header_lines > MAX_HEADER_LINES
        if too_long or _NOT_PLAIN.search(line):
            raise Odd("a header that is too long, or has a bare CR, a bare LF or a NUL")
        if line[:2] == b"--" and any(line.startswith(multipart.boundary) for multipart in self._open):
            raise Odd("a boundary in a header")
        self._header.append(line + _CRLF)

    def _header_ends(self, blank: bytes) -> None:
        lines, self._header, self._header_size = self._header or [], None, 0
        is_part, self._starts_part = self._starts_part, False
        entity = read_entity(lines, digest=is_part and self._open[-1].digest)
        self._entities += 1
        if self._entities > MAX_ENTITIES:
            raise Odd("too many parts")
        self.header(entity, len(self._open), is_part, blank)
        self._in_leaf = entity.body is Body.LEAF
        if entity.body is Body.MULTIPART:
            if len(self._open) >= MAX_DEPTH:
                raise Odd("parts too deep in one another")
            self._open.append(_Open(entity))
        elif entity.body is Body.MESSAGE:
            self._header = []

    def _delimiter(self, line: bytes, whole: bool) -> bool:
        """Is it one?  RFC 2046 5.1.1; programs do not agree on lines that only begin like one."""
        for multipart in reversed(self._open):
            if line.startswith(multipart.boundary) and (match := _DELIMITER_END.fullmatch(line, len(multipart.boundary))):
                self._border(multipart, line, whole, bool(match[1]))
                return True
        if any(line.startswith(multipart.boundary) for multipart in self._open):
            raise Odd("a line that begins like a delimiter")
        return False

    def _border(self, multipart: _Open, line: bytes, whole: bool, last: bool) -> None:
        while self._open[-1] is not multipart:
            if not self._open.pop().closed:
                raise Odd("a part that ends before its own parts do")
        if multipart.closed or not (whole or last):
            raise Odd("a delimiter out of place")
        self._in_leaf = False
        self.between(self._crlf + line)
        self._crlf = b""
        multipart.started = True
        if last:
            multipart.closed = True
            self._crlf = _CRLF if whole else b""
        else:
            self.between(_CRLF)
            self._header, self._starts_part = [], True
