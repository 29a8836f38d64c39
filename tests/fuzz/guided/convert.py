"""Conversion for a server that takes less: any message, in any pieces, comes out fit and means the same, or does not come out.

The survey and the conversion never raise but `Odd`; what comes out is canonical, in seven bits where that is wanted, no longer than
was said; a mail program (the standard library's) sees in it the same parts with the same octets.  For a mailbox: in lines, and
what was no text has its octets there too.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from quopri import decodestring

from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.survey import BASE64, QUOTED, Findings, Survey
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.observer import is_canonical
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]


def surveyed(pieces: list[bytes]) -> Findings:
    """All of it was seen."""
    survey = Survey()
    for piece in pieces:
        survey.look(piece)
    return survey.findings()


def contents(message: Message) -> list[bytes]:
    """What each leaf has when it is decoded; of text without the difference that ends of lines make."""
    return [bytes(part.get_payload(decode=True) or b"") for part in message.walk() if not part.is_multipart()]


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    eight, mailbox, message = draw.flag(), draw.flag(), draw.wire
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    findings = surveyed([message])
    others = surveyed(draw.pieces(message))
    plan = findings.mailbox_plan() if mailbox else findings.plan(eight)
    other = others.mailbox_plan() if mailbox else others.plan(eight)
    assert plan == other or (isinstance(plan, str) and isinstance(other, str)), "it matters how it is cut"
    assert (
        findings.high == (not message.isascii()) and findings.raw == (not is_canonical(message)) and findings.size == len(message)
    )
    if isinstance(plan, str):
        assert plan, "no reason"
        return
    conversion = Conversion(plan)
    out = b"".join([conversion.convert(piece) for piece in draw.pieces(message)]) + conversion.finish()
    if mailbox:
        assert out.count(b"\r\n") == out.count(b"\r") == out.count(b"\n") and b"\0" not in out, "not in lines"
        arrived(message, out)
    else:
        assert is_canonical(out), "not canonical"
        assert eight or out.isascii(), "not in seven bits"
    assert len(out) <= plan.size, f"{len(out)} octets where {plan.size} were the most"
    assert out == message or any(plan.encodings), "changed without a reason"
    same(message, out)
    if plan.encodings in ((BASE64,), (QUOTED,)):
        read = b64decode if plan.encodings == (BASE64,) else decodestring
        assert read(_body(out)) == _body(message), "other octets"


def _body(message: bytes) -> bytes:
    return (b"\r\n" + message).partition(b"\r\n\r\n")[2]


def same(message: bytes, out: bytes) -> None:
    """For who reads it."""
    before, after = message_from_bytes(message), message_from_bytes(out)
    if before.defects or not is_canonical(message):
        return
    assert [part.get_content_type() for part in before.walk()] == [part.get_content_type() for part in after.walk()], (
        "other parts"
    )
    assert [_text(one) for one in contents(before)] == [_text(one) for one in contents(after)], "other contents"


def arrived(message: bytes, out: bytes) -> None:
    """What is binary and no text is the same, octet for octet, when the ends of lines have changed; and so is what is encoded now."""
    before, after = message_from_bytes(message), message_from_bytes(out.replace(b"\r\n", b"\n"))
    if before.defects or not is_canonical(message):
        return
    encodings = [str(part["Content-Transfer-Encoding"]).lower() for part in before.walk() if not part.is_multipart()]
    now = [str(part["Content-Transfer-Encoding"]).lower() for part in after.walk() if not part.is_multipart()]
    for old, new, octets, others in zip(encodings, now, contents(before), contents(after), strict=True):
        assert (octets if new == "base64" != old else octets.replace(b"\r\n", b"\n")) == others, "other octets in the mailbox"


def _text(octets: bytes) -> bytes:
    return octets.rstrip(b"\r\n")


def seeds() -> Iterator[bytes]:
    """Messages with all that there is."""
    head = b"From: a@b\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
    part = (
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc = -dash \t\r\n-\r\n"
    )
    binary = b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\0\r\n"
    for message in (
        b"Subject: x\r\n\r\n\xc3\xbc\r\n",
        head + b"Content-Transfer-Encoding: 8bit\r\n\r\n" + b"\xe4" * 900 + b"\r\n",
        head + b"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n" + part + binary + b"--b--\r\nepilogue\r\n",
        head + b'Content-Type: multipart/digest; boundary="b"\r\n\r\n--b\r\n\r\nSubject: y\r\n\r\n\xc3\xbc\r\n--b--\r\n',
        head + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: y\r\n\r\n\xc3\xbc\r\n",
        head + b"Content-Type: multipart/signed; boundary=b\r\n\r\n" + part + b"--b--\r\n",
        b"DKIM-Signature: v=1\r\n" + head + b"\r\n\xc3\xbc\r\n",
        head
        + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
        + part
        + b"--b--\r\n--a--\r\n",
    ):
        for eight, mailbox in ((0, 0), (1, 0), (1, 1)):
            yield joined([eight, mailbox], message)
            yield joined([eight, mailbox, 1, 1], message)


WORDS = (
    b"Content-Type: ",
    b"multipart/mixed; boundary=b\r\n",
    b"Content-Transfer-Encoding: ",
    b"8bit",
    b"binary",
    b"base64",
    b"--b\r\n",
    b"--b--\r\n",
    b"\r\n\r\n",
    b"message/rfc822",
    b"text/plain",
    b"\xc3\xbc",
    b"\0",
    b"MIME-Version: 1.0\r\n",
    b"=",
    b" \r\n",
)
TARGET = Target("convert", check, seeds, WORDS)
