"""Messages of MIME for tests: trees of parts, written out octet for octet."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from itertools import pairwise

from hypothesis import strategies as st

from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.entity import Odd
from mta.smtp.convert.survey import Findings, Plan, Survey

UMLAUT = "Grüße aus Köln\r\n".encode("latin-1")


def survey(*pieces: bytes) -> Findings:
    """Of a message in pieces."""
    look = Survey()
    for piece in pieces:
        look.look(piece)
    return look.findings()


def converted(data: bytes, eight: bool = False, places: list[int] | None = None) -> bytes:
    """A message made fit; Odd where it cannot be."""
    plan = survey(data).plan(eight)
    if not isinstance(plan, Plan):
        raise Odd(plan)
    conversion = Conversion(plan)
    out = [conversion.convert(piece) for piece in cut(data, places or [])]
    return b"".join([*out, conversion.finish()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """In pieces."""
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(borders)]


def leaves(data: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every leaf, as another program reads them."""
    return _leaves(message_from_bytes(data))


def _leaves(message: Message) -> list[tuple[str, bytes]]:
    if message.is_multipart():
        return [leaf for part in message.get_payload() for leaf in _leaves(part)]  # type: ignore[union-attr]
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    return [(message.get_content_type(), content)]


lines = st.one_of(
    st.binary(max_size=90), st.text(max_size=90).map(str.encode), st.text("-=. \té\x7f", max_size=200).map(str.encode)
).map(lambda line: line.translate(None, b"\0\r\n"))
texts = st.lists(lines, max_size=8).map(b"\r\n".join)
raws = st.binary(max_size=200)


@st.composite
def entities(draw: st.DrawFn, content: st.SearchStrategy[bytes] = texts, depth: int = 0) -> bytes:
    """Header and body, without the CRLF that would end the body."""
    kind = draw(st.sampled_from(["leaf", "leaf", "multipart", "message"])) if depth < 3 else "leaf"
    encoding = draw(st.sampled_from(["", "Content-Transfer-Encoding: 8bit\r\n", "content-transfer-encoding:\r\n binary\r\n"]))
    if kind == "leaf":
        major = draw(st.sampled_from(["", "Content-Type: text/plain; charset=utf-8\r\n", "Content-Type: Image/PNG; name=x\r\n"]))
        body = draw(content)
    elif kind == "message":
        major = "Content-Type: message/rfc822\r\n"
        body = b"Subject: inner\r\n" + draw(entities(content, depth + 1))
    else:
        boundary = f"=_b{depth}_{draw(st.integers(0, 9))}z"
        major = f'Content-Type: multipart/mixed;\r\n boundary="{boundary}"\r\n'
        delimiter = b"--" + boundary.encode()
        parts = draw(st.lists(entities(content, depth + 1), min_size=1, max_size=3))
        body = b"preamble\r\n" + b"".join([delimiter + b"\r\n" + part + b"\r\n" for part in parts]) + delimiter + b"--"
    return major.encode() + encoding.encode() + b"\r\n" + body


messages = entities().map(lambda entity: b"Subject: a test\r\nMIME-Version: 1.0\r\n" + entity + b"\r\n")
raw_messages = entities(raws).map(lambda entity: b"Subject: a test\r\n" + entity)
places = st.lists(st.integers(0, 5_000), max_size=12)
