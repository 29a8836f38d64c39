"""The header of a submitted message, mended on its way to the queue: RFC 6409 8, RFC 5322 3.6.

What must not leave us (`LEFT_OUT`: who got a blind copy, a Return-Path of nobody's) is left out with its folds; all other
bytes pass as they came, however they were cut, and at most one line is kept back.  What is missing (Date, Message-ID, From)
is not put in here: it stands in the prefix, in front of the header.  Where the header ends without its empty line, because
a line comes that is no field, that empty line is added: else the first words of a body would be taken for part of ours.
A header with an endless line or a From without measure has an `error`.  Pure.
"""

from __future__ import annotations

import re
from typing import Final

from mta.smtp.address import parse_address
from mta.smtp.data import LONG_LINE
from mta.smtp.grammar import MAX_TEXT_LINE
from mta.status import MailError, Reply

__all__ = ["FROM_TOO_LONG", "LEFT_OUT", "MAX_FROM", "SubmittedHeader", "authors", "missing"]

LEFT_OUT: Final = frozenset({b"bcc", b"resent-bcc", b"return-path"})  # RFC 5322 3.6.3, RFC 5321 4.4
MAX_FROM: Final = 16_384  # bytes of all From fields
FROM_TOO_LONG: Final = Reply(552, "5.3.4", "From header field too big")

_CRLF: Final = b"\r\n"
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")  # RFC 5322 2.2, and the blanks of 4.5
_NEEDED: Final = frozenset({b"date", b"message-id", b"from"})

# RFC 5322 3.4, without groups, nested comments, routes and addresses as names: what can be read in two ways is not read.
# Every repetition is possessive: matching is linear.
_CFWS: Final = r"(?:[ \t\r\n]|\((?:[^()\\]|\\.)*+\))*+"  # no other blank: not everybody takes a form feed for one
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_ATOMS: Final = r'[^\x00-\x20\x7f"(),<>:;@\[\]\\]++'
_ADDRESS: Final = rf"((?:{_QUOTED}|{_ATOMS})@(?:{_ATOMS}|\[[^\s\[\]\\]*+\]))"
_MAILBOX: Final = re.compile(
    rf"{_CFWS}(?:(?:(?:{_QUOTED}|{_ATOMS}){_CFWS})*+<{_CFWS}{_ADDRESS}{_CFWS}>|{_ADDRESS}){_CFWS}(?:,|\Z)", re.DOTALL
)


class SubmittedHeader:
    """Pieces of a message in, the same without what is left out.

    has: the names of Date, Message-ID and From where they were there.  froms: what was said in each From, folds and all.
    error: why the message may not be accepted.
    """

    __slots__ = ("_kept", "_name", "_over", "error", "froms", "has")

    def __init__(self) -> None:
        self.has: set[bytes] = set()
        self.froms: list[bytes] = []
        self.error: Reply | None = None
        self._kept = b""  # a line without its end yet
        self._name = b""  # of the field that goes on
        self._over = False  # the header is

    def feed(self, data: bytes) -> bytes:
        """The next piece of the message; what there is to be stored of it."""
        if self._over:
            return data
        data, self._kept = self._kept + data, b""
        lines: list[bytes] = []
        start = 0
        while not self._over and (end := data.find(_CRLF, start)) >= 0:
            lines.append(self._line(data[start : end + 2]))
            start = end + 2
        rest = data[start:]
        if not self._over and len(rest) <= MAX_TEXT_LINE:
            self._kept = rest
        else:
            if not self._over:
                self.error, self._over = LONG_LINE, True
            lines.append(rest)
        return b"".join(lines)

    def end(self) -> bytes:
        """The message is over; what was kept back of it.  Only chunks (RFC 3030) can end amid a line."""
        rest, self._kept = self._kept, b""
        return self._line(rest) if rest else b""

    def _line(self, line: bytes) -> bytes:
        """A line of the header, or the one that ends it."""
        if line == _CRLF:
            self._over = True
            return line
        if line[0] not in b" \t":
            field = _FIELD.match(line)
            self._name = field[1].lower() if field else b""
            if self._name in _NEEDED:
                self.has.add(self._name)
            if self._name == b"from":
                self.froms.append(b"")
        if not self._name:  # neither a field nor the fold of one
            self._over = True
            return _CRLF + line
        if self._name == b"from":
            self._note(line)
        return b"" if self._name in LEFT_OUT else line

    def _note(self, line: bytes) -> None:
        """Remember what From says."""
        if sum(map(len, self.froms)) + len(line) > MAX_FROM or len(self.froms) > MAX_FROM // 16:
            self.error = FROM_TOO_LONG
        else:
            self.froms[-1] += line


def missing(has: set[bytes], *, sender: str, date: str, message_id: str) -> bytes:
    """The fields to be added to a header that `has` these: RFC 6409 8.2 (Date), 8.3 (Message-ID); From is the reverse-path."""
    lines = []
    if b"date" not in has:
        lines.append(f"Date: {date}\r\n")
    if b"from" not in has:
        lines.append(f"From: <{sender}>\r\n")
    if b"message-id" not in has:
        lines.append(f"Message-ID: <{message_id}>\r\n")
    return "".join(lines).encode()


def authors(field: bytes) -> tuple[str, ...]:
    """The addresses in a From field, with its name and its CRLF; () where it cannot be read in one way only (RFC 5322 3.6.2)."""
    try:
        text = field.partition(b":")[2].decode("utf-8").strip(" \t\r\n")
        found: list[str] = []
        at = 0
        while at < len(text):
            mailbox = _MAILBOX.match(text, at)
            if mailbox is None:
                return ()
            found.append(parse_address(mailbox[1] or mailbox[2]).address)
            at = mailbox.end()
    except (UnicodeDecodeError, MailError):
        return ()
    return () if text.endswith(",") else tuple(found)
