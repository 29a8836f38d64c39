"""Smuggling, in and out: what is one message for us is one message for everybody behind us (docs/tls.md, X12 to X16).

In: a body that the fuzzer has written, with commands behind it; the strict reading (observer.py) must see the messages that we
took.  Out: each of these, and octets that nobody has checked, through the writers of the sender-SMTP in any pieces: where
RFC 5321 sees the end of data, and nowhere else, must everybody see it who also takes a bare CR or LF for the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mta.smtp.chunk_writer import ChunkWriter
from mta.smtp.data import DotStuffer
from mta.smtp.reply import ReplyParser
from mta.smtp.server import ReceiverOptions
from tests.fuzz.guided.draw import PAUSE, Draw, joined
from tests.fuzz.guided.observer import Observer, is_canonical, unstuffed
from tests.fuzz.guided.target import Target
from tests.smtp.talk import Talk

__all__ = ["TARGET"]

OPTIONS = ReceiverOptions("mx.test", max_size=0, max_errors=99, binarymime=True, max_transactions=0)
BEGIN = (b"EHLO c\r\n", b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\n")
LENIENT = re.compile(rb"(?<![^\r\n])\.(?=[\r\n])")  # a dot alone on what somebody may take for a line


def played(segments: list[bytes]) -> list[bytes]:
    """The messages that we take, as the observer agrees."""
    talk = Talk(OPTIONS)
    said = talk.greeting + b"".join([talk.say(segment) for segment in segments])
    parser = ReplyParser()
    parser.receive(said)
    taken = b"".join(segments)
    if talk.machine.ended:
        taken = _until_end(segments)
    observer = Observer(taken, list(iter(parser.take, None)), True, talk.machine.ended, talk.machine.asks, 0)
    assert observer.messages == talk.messages, f"{observer.messages} were seen, {talk.messages} accepted"
    return talk.messages


def _until_end(segments: list[bytes]) -> bytes:
    """What was said before the machine hung up, whole segments."""
    machine, taken = Talk(OPTIONS), b""
    for segment in segments:
        if machine.machine.ended:
            break
        machine.say(segment)
        taken += segment
    return taken


def stuffed(pieces: list[bytes]) -> bytes:
    """As it leaves by DATA."""
    stuffer = DotStuffer()
    return b"".join([stuffer.feed(piece) for piece in pieces]) + stuffer.end()


def leaves(draw: Draw, body: bytes, canonical: bool) -> None:
    """By DATA, seen by the strict, the lenient, and by ourselves."""
    wire = stuffed(draw.pieces(body))
    assert wire == stuffed([body]), "what leaves depends on how it is cut"
    lines, _, rest = (b"\r\n" + wire).partition(b"\r\n.\r\n")
    assert not rest and wire.endswith(b".\r\n"), "two ends of data"
    assert len(LENIENT.findall(wire)) == 1, "somebody else sees another end of data"
    assert wire.count(b"\r\n") == wire.count(b"\r") == wire.count(b"\n") and b"\0" not in wire, "bare CR, bare LF or NUL"
    back = unstuffed(lines[2:] + b"\r\n") if lines else b""
    if not canonical:
        return
    assert back == (body if body.endswith(b"\r\n") or not body else body + b"\r\n"), "another message"
    assert played([*BEGIN, b"DATA\r\n", *draw.pieces(wire)]) == [back], "we ourselves read it otherwise"


def leaves_in_chunks(draw: Draw, body: bytes) -> None:
    """By BDAT, as it is."""
    writer = ChunkWriter()
    wire = b"".join([writer.feed(piece) for piece in draw.pieces(body)]) + writer.end()
    mail = b"MAIL FROM:<a@c.test> BODY=BINARYMIME\r\nRCPT TO:<b@mx.test>\r\n"
    assert played([BEGIN[0], mail, *draw.pieces(wire)]) == [body], "another message"


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    by_chunks = draw.flag()
    messages = played([*BEGIN, *([] if by_chunks else [b"DATA\r\n"]), *draw.segments()])
    for message in messages[:3]:
        leaves(draw, message, is_canonical(message))
        leaves_in_chunks(draw, message)
    leaves(draw, draw.wire, canonical=False)


def seeds() -> Iterator[bytes]:
    """Ends of data that are none, and messages behind messages."""
    again = b"MAIL FROM:<x@c.test>\r\nRCPT TO:<y@mx.test>\r\nDATA\r\n"
    for end in (b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n.\0\r\n", b"\r\n..\r\n", b".\r\n"):
        yield joined([], b"S: x\r\n\r\nbody" + end + again + PAUSE + b"S: y\r\n.dot\r\n.\r\nQUIT\r\n")
    yield joined([0, 1], b".\r\n")
    yield joined([1], b"BDAT 7\r\nS: x\r\n\rBDAT 5 LAST\r\n\n.\r\n\r" + again.replace(b"DATA\r\n", b"BDAT 3 LAST\r\nabc"))
    yield joined([1], b"BDAT 5 LAST\r\n\r\n.\r\n" + again + PAUSE + b"x\r\n.\r\n")


WORDS = (
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r.\r",
    b"\r\n.\n",
    b"\n.\r\n",
    b"..",
    b"\0",
    b"\r",
    PAUSE,
    b"DATA\r\n",
    b"BDAT 2 LAST\r\nab",
    b"RSET\r\n",
)
TARGET = Target("smuggling", check, seeds, WORDS)
