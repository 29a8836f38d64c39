"""Command lines out of a stream: RFC 5321 2.3.8, only CRLF ends a line.

`LineBuffer` holds what was received and not yet taken.  A line with a bare CR, a bare LF or a NUL raises `Unframed`, as
soon as it can be seen and whether or not its CRLF has come: such a client counts lines otherwise than we do, and nothing
it sent may be taken for a command any more.  A line over the limit (2,048 octets for a command) raises `LineTooLong`
once its CRLF has come; its bytes are not kept, and the next line is good.
"""

from __future__ import annotations

import re

from mta.smtp.grammar import MAX_COMMAND_LINE

__all__ = ["LineBuffer", "LineTooLong", "Unframed"]

_UNFRAMED = re.compile(rb"[\n\0]|\r.", re.S)  # in a line without its CRLF


class Unframed(Exception):
    """A bare CR, a bare LF or a NUL."""


class LineTooLong(Exception):
    """It was passed over."""


class LineBuffer:
    """Bytes in, lines (or the bytes as they are) out."""

    __slots__ = ("_at", "_buffer", "_skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # what lies before was taken
        self._skipping = False  # in a line too long

    def __len__(self) -> int:
        """Bytes that were not taken."""
        return len(self._buffer) - self._at

    def receive(self, data: bytes) -> None:
        """Bytes from the peer."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def take_line(self, limit: int = MAX_COMMAND_LINE) -> bytes | None:
        """The next line without its CRLF, None while there is none.  limit: octets with CRLF.  Raises Unframed, LineTooLong."""
        if self._skipping:
            self._skip()
            return None
        start = self._at
        end = self._buffer.find(b"\r\n", start, start + limit)
        if end < 0:
            self._judge(self._buffer[start : start + limit], limit)
            return None
        self._at = end + 2
        line = self._buffer[start:end]
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise Unframed
        return line

    def _judge(self, part: bytes, limit: int) -> None:
        """A line that has not ended: it may be bad already, or too long."""
        if _UNFRAMED.search(part):
            raise Unframed
        if len(part) == limit:
            self._at += len(part) - part.endswith(b"\r")
            self._skipping = True
            self._skip()

    def _skip(self) -> None:
        """Pass over the rest of a line too long; a CR at the end may be half of its CRLF."""
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            self._at = len(self._buffer) - self._buffer.endswith(b"\r")
            return
        self._at = end + 2
        self._skipping = False
        raise LineTooLong

    def take(self, limit: int) -> bytes:
        """At most that many bytes, as they are."""
        if limit >= len(self):
            return self.take_all()
        start, self._at = self._at, self._at + limit
        return self._buffer[start : self._at]

    def take_all(self) -> bytes:
        """Every byte that is there."""
        data = self._buffer[self._at :] if self._at else self._buffer
        self._buffer, self._at = b"", 0
        return data

    def clear(self) -> None:
        """Forget what was received."""
        self._buffer, self._at, self._skipping = b"", 0, False
