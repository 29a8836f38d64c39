"""Replies as bytes: RFC 5321 4.2, with enhanced status codes (RFC 2034, RFC 3463).

`serialise` writes a Reply, `ReplyParser` reads them from a stream.  What is written is ASCII, has no control
character and no line over 512 octets, whatever the text was; only a challenge of AUTH is never broken up (RFC 4954 4).
What is read is strict in framing (only CRLF ends a line, one code in all lines, bounded lines and bounded replies) and
free in text: bytes that are no UTF-8 and control characters are replaced, so that no reply can do harm in a log line or
a report.  A stream that breaks these rules raises `BadReply`; nothing may be read from it after that.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mta.smtp.grammar import CONTROL, MAX_REPLY, MAX_REPLY_LINE, MAX_REPLY_LINE_READ, MAX_REPLY_LINES
from mta.status import Reply

__all__ = ["BadReply", "ReplyParser", "parse_reply", "serialise"]

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:[ -]([^\r\n\0]*))?")  # RFC 5321 4.2: Reply-code is 2yz to 5yz
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")  # RFC 3463 2
_SHORT = 400  # characters of a text that fits into one line in any case
_CACHED = 512  # most replies are always the same few


class BadReply(Exception):
    """The stream is no SMTP; the text says why."""


@lru_cache(maxsize=_CACHED)
def serialise(reply: Reply, enhanced: bool) -> bytes:
    """The reply's lines.  enhanced: begin each with the enhanced code, where the reply has one and RFC 2034 allows it."""
    prefix = f"{reply.enhanced} " if enhanced and reply.enhanced and not reply.is_intermediate else ""
    if len(reply.text) <= _SHORT and reply.text.isascii() and reply.text.isprintable():  # most of them
        return f"{reply.code} {prefix}{reply.text}\r\n".encode("ascii")
    texts: list[str] = []
    for line in reply.lines:
        clean = CONTROL.sub("?", line)
        room = len(clean) + 1 if reply.code == 334 else MAX_REPLY_LINE - len(prefix) - len("250 \r\n")  # RFC 4954 4
        texts += [clean[at : at + room] for at in range(0, len(clean), room)] or [""]
    lines = [f"{reply.code}-{prefix}{text}\r\n" for text in texts]
    lines[-1] = f"{reply.code} {prefix}{texts[-1]}\r\n"
    return "".join(lines).encode("ascii", "replace")


def parse_reply(lines: list[bytes]) -> Reply:
    """The reply that these lines are, given without their CRLF."""
    code = lines[0][:3]
    texts = []
    for line in lines:
        texts.append(CONTROL.sub("?", _judge(line, code).decode("utf-8", "replace")))
    enhanced = _ENHANCED.match(texts[0])
    if enhanced is None or texts[0][0] != chr(code[0]):  # RFC 2034 3: the classes must agree
        return Reply(int(code), "", "\n".join(texts))
    prefix = enhanced[0]
    return Reply(int(code), prefix, "\n".join([_without(prefix, text) for text in texts]))


def _judge(line: bytes, code: bytes) -> bytes:
    """The text of a line of a reply with that code."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadReply("not a reply line")
    if match[1] != code:
        raise BadReply("different codes in one reply")
    return match[2] or b""


def _without(prefix: str, text: str) -> str:
    if text == prefix:
        return ""
    return text.removeprefix(prefix + " ")


@lru_cache(maxsize=_CACHED)
def _parse_line(line: bytes) -> Reply:
    return parse_reply([line])


class ReplyParser:
    """Bytes in, replies out."""

    __slots__ = ("_at", "_buffer", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []  # of a reply that goes on
        self._size = 0  # their bytes

    def receive(self, data: bytes) -> None:
        """Bytes from the server."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    @property
    def pending(self) -> bool:
        """Bytes were received that `take` has not given back as a reply."""
        return self._at < len(self._buffer) or bool(self._lines)

    def take(self) -> Reply | None:
        """The next whole reply, None while there is none.  Raises BadReply."""
        while True:
            line = self._take_line()
            if line is None:
                return None
            goes_on = line[3:4] == b"-"
            if not (goes_on or self._lines):
                return _parse_line(line)
            self._lines.append(line)
            self._size += len(line) + 2
            if len(self._lines) > MAX_REPLY_LINES or self._size > MAX_REPLY:
                raise BadReply("a reply without end")
            if goes_on:
                _judge(line, self._lines[0][:3])  # at once: the end of what is no reply may never come
            else:
                lines, self._lines, self._size = self._lines, [], 0
                return parse_reply(lines)

    def _take_line(self) -> bytes | None:
        start = self._at
        end = self._buffer.find(b"\n", start)
        if (len(self._buffer) if end < 0 else end) - start >= MAX_REPLY_LINE_READ:
            raise BadReply("a reply line too long")
        if end < 0:
            return None
        if end == start or self._buffer[end - 1] != 0x0D:
            raise BadReply("a bare LF in a reply")
        self._at = end + 1
        return self._buffer[start : end - 1]
