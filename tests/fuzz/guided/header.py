"""The header of a message on its way in: what is scanned, what is left out, who wrote it.

Cut in pieces it is as when it comes at once; against a reading line by line: how many Received, how long, what is left out;
what passes is a part of what came, and never more than an empty line is added; a From is read in one way or not at all.  Under
BODY=BINARYMIME it is refused where a lenient reader would see other lines in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import getaddresses
from typing import Final

from mta.receive.submission import LEFT_OUT, SubmittedHeader, authors
from mta.receive.trace import HeaderScan
from mta.smtp.address import parse_address
from mta.smtp.chunk import ChunkedBody
from mta.status import Reply
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.observer import header_of, is_canonical
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]

LENIENT: Final = re.compile(rb"\r\n|\r|\n")
FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")


def scanned(pieces: list[bytes]) -> tuple[int, int, bool, bool]:
    """What is known at the end."""
    scan = HeaderScan()
    for piece in pieces:
        scan.feed(piece)
    return scan.hops, scan.size, scan.headless, scan.tls_required_no


def scan(draw: Draw) -> None:
    """See the module; the header that a naive reader finds is as long."""
    message = draw.wire
    hops, size, headless, no = scanned([message])
    assert scanned(draw.pieces(message)) == (hops, size, headless, no), "it matters how it is cut"
    assert 0 <= size <= len(message) and headless == (message[:1] in (b" ", b"\t"))
    header = message[:size].lower()
    assert hops == len(re.findall(rb"(?:^|(?<=\r\n))received:", header)), "another number of hops"
    assert not no or b"tls-required:" in header
    end = (b"\r\n" + message).find(b"\r\n\r\n")
    if end >= 0 and all(FIELD.match(line) or line[:1] in b" \t" for line in message[:end].split(b"\r\n") if line):
        assert size == end, "another end of the header"


def mended(pieces: list[bytes]) -> tuple[bytes, SubmittedHeader]:
    """What is stored of it."""
    header = SubmittedHeader()
    return b"".join([header.feed(piece) for piece in pieces]) + header.end(), header


def submitted(draw: Draw) -> None:
    """See the module."""
    message = draw.wire
    out, header = mended([message])
    again, other = mended(draw.pieces(message))
    assert header.error == other.error, "it matters how it is cut"
    if header.error is not None:
        return
    assert (again, other.has, other.froms) == (out, header.has, header.froms), "it matters how it is cut"
    wanted, has = _naive(message)
    assert out == wanted, f"{wanted!r} is to be stored"
    assert header.has == has & {b"date", b"message-id", b"from"}
    for field in header.froms:
        authors(field)


def _naive(message: bytes) -> tuple[bytes, set[bytes]]:
    """Line by line: what stays, and the names of the fields."""
    out, has, name = b"", set(), b""
    rest = message
    while rest:
        line, crlf, after = rest.partition(b"\r\n")
        line += crlf
        if line == b"\r\n":
            return out + rest, has
        if line[:1] not in (b" ", b"\t"):
            field = FIELD.match(line)
            name = field[1].lower() if field else b""
            has.add(name)
        if not name:
            return out + b"\r\n" + rest, has
        out += b"" if name in LEFT_OUT else line
        rest = after
    return out, has


def written_by(draw: Draw) -> None:
    """Whoever is found is a mailbox, and the standard library, which reads more, sees each of them too."""
    field = b"From:" + draw.wire
    for address in authors(field):
        assert parse_address(address).address == address
        if "(" not in field.decode() and '"' not in field.decode() and "[" not in address:
            assert address in [found for _, found in getaddresses([field.decode().partition(":")[2].strip()])], address


def judged(pieces: list[bytes]) -> Reply | None:
    """As chunks of a binary message."""
    body = ChunkedBody(0, binary=True)
    for piece in pieces:
        body.announce(len(piece))
        body.feed(piece)
    body.end()
    return body.error


def binary(draw: Draw) -> None:
    """See the module."""
    message = draw.wire
    error, header = judged([message]), header_of(message)
    assert judged(draw.pieces(message)) == error, "it matters how it is cut"
    assert (error is None) == is_canonical(header), f"{error} to {header!r}"
    assert error or LENIENT.split(header) == header.split(b"\r\n"), "somebody else sees other lines"


KINDS: Final = (scan, submitted, written_by, binary)


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    draw.pick(KINDS)(draw)


def seeds() -> Iterator[bytes]:
    """Headers."""
    for message in (
        b"Received: a\r\nReceived: b\r\n\tc\r\nSubject: x\r\n\r\nReceived: no\r\n",
        b"TLS-Required: No\r\nSubject: x\r\n\r\n",
        b"TLS-Required:\r\n no\r\nX: y\r\n\r\n",
        b"Bcc: a@b\r\n c@d\r\nReturn-Path: <x@y>\r\nDate: now\r\n\r\nbody\r\n",
        b"From: A <a@b.test>\r\nFrom : c@d.test\r\nno field\r\n",
        b" fold\r\nSubject: x\r\n\r\n",
        b"\r\nbody",
        b"Message-ID: <a@b>\r\nx",
        b"Subject: x\nFrom: c@d.test\r\n\r\n\0",
    ):
        for kind in (0, 1, 3):
            for cut in (0, 1, 3):
                yield joined([kind, cut], message)
    for text in (
        b' "A, B" <a@b.test>, c@d.test',
        b" (x) a@[192.0.2.1]",
        b" =?utf-8?q?x?= <\xc3\xbc@d.test>\r\n",
        b' "a b"@c.test',
        b" A <a@b>, <c@d>",
    ):
        yield joined([2], text)


WORDS = (
    b"Received:",
    b"TLS-Required: No",
    b"From:",
    b"Bcc: ",
    b"Resent-Bcc:",
    b"Return-Path:",
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"\t",
    b": ",
    b"<a@b.c>",
    b'"',
    b"(",
    b",",
)
TARGET = Target("header", check, seeds, WORDS)
