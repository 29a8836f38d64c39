"""What strangers publish and we read: DNS replies, MTA-STS records and policies (RFC 8461), TLSRPT records (RFC 8460).

Nothing but StsError for a policy; whatever was read is bounded and plain: names that may go into a log, a question or a command, and
the policy that is remembered is the one that was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mta.dns.answer import Mx
from mta.dns.message import GARBLED, MAX_TTL, Question, belongs, is_truncated
from mta.dns.parse import parse
from mta.tls.mtasts import MAX_AGE, StsError, StsPolicy, parse_policy, record_id
from mta.tls.tlsrpt import report_addresses
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]

TYPES: Final = ("MX", "A", "AAAA", "TXT", "TLSA", "PTR", "CNAME")
IDENT: Final = 0x1234


def plain(text: str) -> None:
    """ASCII, without blanks and controls."""
    assert text.isascii() and text.isprintable() and " " not in text, text


def reply(draw: Draw) -> None:
    """To our question, or not."""
    question = Question.of("c.test", draw.pick(TYPES))
    wire = question.to_wire(IDENT)[:2] + draw.wire
    if not belongs(wire, IDENT, question):
        return
    is_truncated(wire)
    answer = parse(wire, question)
    assert 0 <= answer.ttl <= MAX_TTL
    plain(answer.canonical)
    plain(answer.rcode)
    for record in answer.records if question.rdtype in ("MX", "PTR", "CNAME", "A", "AAAA") else ():
        plain(record.host if isinstance(record, Mx) else record)
    assert answer.rcode != GARBLED or not answer.records


def policy(draw: Draw) -> None:
    """Over HTTPS."""
    try:
        read = parse_policy("id1", draw.wire)
    except StsError as error:
        assert str(error)
        return
    assert 0 <= read.max_age <= MAX_AGE and (read.mx or read.mode == "none")
    for line in read.lines:
        plain(line.replace(" ", ""))
    assert StsPolicy.of_hint(read.as_hint()) == read, "another one is remembered"
    assert parse_policy("id1", "\n".join(read.lines).encode()) == read, "another one is reported"
    read.allows("mx.c.test")


def records(draw: Draw) -> None:
    """TXT."""
    texts = draw.segments()
    plain(record_id(texts))
    for address in report_addresses(texts):
        assert address.isascii() and address.isprintable(), address


KINDS: Final[tuple[Callable[[Draw], None], ...]] = (reply, policy, records)


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    draw.pick(KINDS)(draw)


def seeds() -> Iterator[bytes]:
    """By the book."""
    name, head = b"\1c\4test\0", bytes.fromhex("8180 0001 0001 0000 0000")
    data = {
        1: bytes([192, 0, 2, 1]),
        2: bytes(16),
        0: b"\0\x0a\2mx\xc0\x0c",
        3: b"\x0bv=STSv1; id",
        4: b"\3\1\1" + bytes(32),
        5: b"\1a\xc0\x0c",
        6: b"\1a\xc0\x0c",
    }
    for kind, number in enumerate((15, 1, 28, 16, 52, 12, 5)):
        question = name + number.to_bytes(2, "big") + b"\0\1"
        record = b"\xc0\x0c" + number.to_bytes(2, "big") + b"\0\1\0\0\1\0" + len(data[kind]).to_bytes(2, "big") + data[kind]
        yield joined([0, kind], head + question + record)
        yield joined([0, kind], head[:1] + b"\x83" + b"\0\1\0\0\0\0\0\0" + question)
    for text in (
        b"version: STSv1\r\nmode: enforce\r\nmx: mx.c.test\r\nmx: *.c.test\r\nmax_age: 86400\r\n",
        b"version: STSv1\nmode: none\nmax_age: 1\nx: y\n",
    ):
        yield joined([1], text)
    yield joined([2], b"v=STSv1; id=20260101;\xffv=TLSRPTv1; rua=mailto:a@c.test,https://c.test/x")


WORDS = (
    b"v=STSv1;",
    b" id=",
    b"v=TLSRPTv1;",
    b"rua=",
    b"mailto:",
    b"https://",
    b"mx: ",
    b"mode: testing",
    b"max_age: ",
    b"\xc0\x0c",
    b"\xff",
    b"*.",
)
TARGET = Target("published", check, seeds, WORDS, max_length=1024)
