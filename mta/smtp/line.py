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
    """Bytes in, lines (or the bytes as they are) out.  received: b"" when all of it was taken."""

    __slots__ = ("_at", "_skipping", "received")

    def __init__(self) -> None:
        self.received = b""
        self._at = 0  # what lies before was taken
        self._skipping = False  # in a line too long

    def __len__(self) -> int:
        """Bytes that were not taken."""
        return len(self.received) - self._at

    def receive(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.received = self.received[self._at :] + data if self.received else data
        self._at = 0

    def take_line(self, limit: int = MAX_COMMAND_LINE) -> bytes | None:
        """The next line without its CRLF, None while there is none.  limit: octets with CRLF.  Raises Unframed, LineTooLong."""
        if self._skipping:
            self._skip()
            return None
        received, start = self.received, self._at
        end = received.find(b"\r\n", start, start + limit)
        if end < 0:
            self._judge(received[start : start + limit], limit)
            return None
        line = received[start:end]
        if end + 2 < len(received):
            self._at = end + 2
        else:
            self.received, self._at = b"", 0
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
        end = self.received.find(b"\r\n", self._at)
        if end < 0:
            self.received, self._at = self.received[-1:] if self.received.endswith(b"\r") else b"", 0
            return
        self.received, self._at = self.received[end + 2 :], 0
        self._skipping = False
        raise LineTooLong

    def take(self, limit: int) -> bytes:
        """At most that many bytes, as they are."""
        if limit >= len(self):
            return self.take_all()
        start, self._at = self._at, self._at + limit
        return self.received[start : self._at]

    def take_all(self) -> bytes:
        """Every byte that is there."""
        data = self.received[self._at :] if self._at else self.received
        self.received, self._at = b"", 0
        return data

    def clear(self) -> None:
        """Forget what was received."""
        self.received, self._at, self._skipping = b"", 0, False
