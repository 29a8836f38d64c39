"""A conversation as somebody in between would read it: the bytes of the client, the replies of the server, and nothing else.

The naive reading of RFC 5321 2.3.8, 4.1.1.4 and 4.5.2, of RFC 3030 2 and of RFC 4954 4: a command is a line, each gets one reply,
behind 354 comes a body up to CRLF.CRLF, behind BDAT so many bytes.  It shares no line of code with the machine.  AssertionError where
the replies cannot be read so, where one is missing or too many, or where something bad was accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mta.smtp.chunk import BAD_HEADER
from mta.smtp.data import BAD_LINES, LONG_LINE, TOO_BIG
from mta.status import Reply

__all__ = ["Observer", "header_of", "is_canonical", "unstuffed"]

COMMAND = 2048  # octets of a line with CRLF
RESPONSE = 12_288
LINE = 1000
BDAT = re.compile(rb"BDAT +([0-9]{1,20})( +LAST)?", re.I)
BINARY = re.compile(rb"\sbody=binarymime(?:\s|$)", re.I)
QUOTED = re.compile(rb'"[^"]*"')


def is_canonical(data: bytes) -> bool:
    """No bare CR, no bare LF, no NUL, no line over 1,000 octets."""
    lines = data.split(b"\r\n")
    return not any(b"\r" in line or b"\n" in line or b"\0" in line or len(line) + 2 > LINE for line in lines)


def header_of(message: bytes) -> bytes:
    """Up to the first empty line; all of it where there is none."""
    return (b"\r\n" + message).partition(b"\r\n\r\n")[0][2:]


def unstuffed(data: bytes) -> bytes:
    """Without the dots of transparency, line by line."""
    return b"\r\n".join([line[1:] if line[:1] == b"." else line for line in data.split(b"\r\n")])


class Observer:
    """Reads one machine's part of a conversation.  messages: those that were accepted.

    greeted: the server speaks first.  ended: it has hung up.  asks: it has not made up its mind about a command.  limit: the
    size of a message, 0 for none.
    """

    def __init__(self, client: bytes, replies: Sequence[Reply], greeted: bool, ended: bool, asks: bool, limit: int) -> None:
        self.messages: list[bytes] = []
        self._client = client
        self._replies = list(replies)
        self._at = 0  # in what the client said
        self._next = 0  # reply
        self._ended = ended
        self._asks = asks
        self._limit = limit
        self._over = False
        self._binary = False
        self._chunks = b""
        if greeted:
            greeting = self._reply()
            self._over = self._over or greeting is None or greeting.code != 220
        while not self._over:
            self._command()
        assert self._next == len(self._replies), f"replies that nobody asked for: {self._replies[self._next :]}"

    def _reply(self) -> Reply | None:
        """The next; the last one where the server has hung up."""
        if self._next == len(self._replies):
            assert self._asks or self._ended, f"no reply to {self._client[self._at :][:80]!r}"
            self._over = True
            return None
        reply = self._replies[self._next]
        self._next += 1
        if self._next == len(self._replies) and self._ended:
            self._over = True
        return reply

    def _stop(self, why: str = "") -> None:
        """There is nothing more to be answered; the server may have hung up all the same."""
        if self._ended and self._next < len(self._replies):
            self._next += 1
        self._over = True
        assert not why or self._ended, why

    def _line(self, limit: int) -> bytes | None:
        """The next whole line; None where there is none that can be read."""
        end = self._client.find(b"\r\n", self._at)
        line = self._client[self._at :] if end < 0 else self._client[self._at : end]
        head = line[:limit]
        if len(line) + 2 > limit:
            head = head[:-1] if head.endswith(b"\r") else head
        elif end < 0 and head.endswith(b"\r"):
            head = head[:-1]
        if b"\r" in head or b"\n" in head or b"\0" in head:
            self._stop("the conversation went on behind bad bytes in a command")
            return None
        if end < 0:
            self._stop()
            return None
        self._at = end + 2
        if len(line) + 2 > limit:
            reply = self._reply()
            assert reply is None or reply.code >= 400, f"{reply} to a line that is too long"
            return None
        return line

    def _command(self) -> None:
        line = self._line(COMMAND)
        if line is None:
            return
        verb = line.rstrip(b" \t").partition(b" ")[0].upper()
        if verb == b"BDAT":
            self._chunk(line)
            return
        if verb == b"XCLIENT" and self._asks and self._next == len(self._replies):
            self._over = True
            return
        reply = self._reply()
        if reply is None:
            return
        assert reply.code != 334 or verb == b"AUTH", f"{reply} to {verb!r}"
        assert reply.code != 354 or verb == b"DATA", f"{reply} to {verb!r}"
        if reply.code == 354 and not self._over:
            self._body()
        elif reply.code == 334 and not self._over:
            self._responses(reply)
        elif reply.code == 220:
            assert verb == b"STARTTLS"
            self._over = True
            assert self._at == len(self._client), "bytes behind STARTTLS"
        elif verb == b"MAIL" and reply.is_positive:
            self._binary = BINARY.search(QUOTED.sub(b"", line)) is not None
            self._chunks = b""

    def _responses(self, reply: Reply | None) -> None:
        while reply is not None and reply.code == 334 and not self._over:
            assert "\n" not in reply.text, "a challenge of more than one line"
            if self._line(RESPONSE) is None:  # one too long has got its reply
                return
            reply = self._reply()

    def _body(self) -> None:
        """RFC 5321 4.1.1.4: the first CRLF.CRLF ends it, and the CRLF of DATA counts."""
        stream = b"\r\n" + self._client[self._at :]
        end = stream.find(b"\r\n.\r\n")
        if end < 0:
            self._at = len(self._client)
            self._stop()
            return
        data = stream[2 : end + 2]
        self._at += end + 3
        reply, body = self._reply(), unstuffed(data)
        too_big = 0 < self._limit < len(body)
        assert reply != TOO_BIG or too_big, "a body was called too big that is not"
        assert reply not in (BAD_LINES, LONG_LINE) or not is_canonical(body), f"{reply} to a body that is canonical"
        if reply is not None and reply.is_positive:
            assert is_canonical(body) and not too_big, "a body was accepted that is not canonical, or too big"
            self.messages.append(body)

    def _chunk(self, line: bytes) -> None:
        match = BDAT.fullmatch(line.rstrip(b" \t"))
        if match is None:
            reply = self._reply()
            assert reply is None or self._ended, "the conversation went on behind a chunk without a size"
            self._over = True
            return
        size = int(match[1])
        data = self._client[self._at : self._at + size]
        if len(data) < size:
            self._at = len(self._client)
            self._stop()
            return
        self._at += size
        reply = self._reply()
        if reply is None or not reply.is_positive:
            bad = self._binary and not is_canonical(header_of(self._chunks + data))
            assert reply != BAD_HEADER or bad, "a header was called bad that is not"
            return
        self._chunks += data
        if match[2]:
            self._message()

    def _message(self) -> None:
        body, self._chunks = self._chunks, b""
        if not self._binary:
            if body and not body.endswith(b"\r\n"):
                body += b"\r\n"
            assert is_canonical(body), "chunks were accepted that are not canonical"
        assert is_canonical(header_of(body)), "a header was accepted that is not canonical"
        self.messages.append(body)
