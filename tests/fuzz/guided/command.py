"""The arguments of commands, and what the sender-SMTP makes of them again: MAIL, RCPT, VRFY, EHLO, XCLIENT, XFORWARD, addresses.

Nothing but MailError, whose reply has no word of the argument.  What was understood is written as one line, without a control
character, and read again it is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

from mta.smtp.address import parse_address, parse_path
from mta.smtp.command import mail_line, parse_hello, parse_mail, parse_rcpt, parse_vrfy, rcpt_line, split
from mta.smtp.dsn import from_xtext, original_recipient, rcpt_parameters, to_xtext
from mta.smtp.extension import EXTRAS, parameters_of
from mta.smtp.grammar import CONTROL
from mta.smtp.terms import read_terms
from mta.smtp.xclient import NOT_FORWARDED, parse_xclient, parse_xforward
from mta.status import MailError
from tests.fuzz.guided.draw import MARKER, Draw, joined
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]

ALL: Final = parameters_of(EXTRAS)
OPEN_HEADER: Final = re.compile(r"[\s()<>,;\\\"]")


def mail(argument: bytes) -> None:
    """And back."""
    event = parse_mail(argument, 0, ALL)
    read_terms(event.parameters, 60, 600, 1e9)
    line = mail_line(event.sender.address, event.size, event.flags, event.envid)
    again = parse_mail(_argument(line), 0, ALL)
    assert (again.sender, again.size, again.flags, again.envid) == (event.sender, event.size, event.flags, event.envid)


def rcpt(argument: bytes) -> None:
    """And back, in UTF-8 and without."""
    event = parse_rcpt(argument, utf8=True)
    address = event.recipient.address
    for utf8 in (True, False):
        if not (utf8 or address.isascii()):
            continue
        said = rcpt_parameters(address, event.notify, event.orcpt, utf8)
        again = parse_rcpt(_argument(rcpt_line(address, said)), utf8)
        assert (again.recipient, again.notify) == (event.recipient, event.notify)
        assert event.orcpt is None or (again.orcpt or "").isascii() or utf8
        assert event.orcpt is None or not utf8 or again.orcpt == event.orcpt
    if event.orcpt is not None:
        kind, shown = original_recipient(event.orcpt, True)
        assert kind and shown and not CONTROL.search(shown.replace("\t", "")), "a control character in a report"


def vrfy(argument: bytes) -> None:
    """An address, or nothing."""
    address = parse_vrfy(argument)
    assert address is None or address.domain


def hello(argument: bytes) -> None:
    """A name that may stand in a Received line."""
    assert not OPEN_HEADER.search(parse_hello(argument))


def xclient(argument: bytes) -> None:
    """Facts that may stand in the log and the trace."""
    said = parse_xclient(argument).attributes
    for name, value in said.items():
        assert value is None or (value.isascii() and value.isprintable() and " " not in value), name
    if said.get("addr"):
        ip_address(said["addr"] or "")
    assert not OPEN_HEADER.search((said.get("name") or "") + (said.get("helo") or "")), "it would break the trace"


def xforward(argument: bytes) -> None:
    """Twice the same is the same."""
    said = parse_xforward(argument, NOT_FORWARDED)
    assert parse_xforward(argument, said) == said
    assert all(value.isascii() and value.isprintable() and " " not in value for value in said.values())


def address(argument: bytes) -> None:
    """In the envelope, in a queue, in the DNS."""
    path, rest = parse_path(argument, utf8=True)
    assert not CONTROL.search(path.address)
    assert argument.endswith(rest)
    if path.address:
        assert parse_path(f"<{path.address}>".encode(), utf8=True) == (path, b""), "not the same again"
        assert parse_address(path.address) == path
        assert path.domain_key == path.domain_key.lower() and path.domain_key.isascii()
        if path.domain and path.domain[0] != "[":
            assert parse_path(f"<a@{path.domain_key}>".encode(), utf8=False)[0].domain_key == path.domain_key


def xtext(argument: bytes) -> None:
    """Encoded and decoded."""
    text = argument.decode("latin-1")
    from_xtext(text)
    assert not text.isascii() or from_xtext(to_xtext(text)) == text


def _argument(line: bytes) -> bytes:
    """Of one line, and no more."""
    assert line.endswith(b"\r\n") and not re.search(rb"[\0\r\n]", line[:-2]), "more than a line"
    return split(line[:-2])[1]


KINDS: Final[tuple[Callable[[bytes], None], ...]] = (mail, rcpt, vrfy, hello, xclient, xforward, address, xtext)


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    kind = draw.pick(KINDS)
    argument = b"".join(draw.segments()).strip(b" ")[:2040]
    try:
        kind(argument)
    except MailError as error:
        assert 400 <= error.reply.code < 600 and error.reply.text.isascii() and error.reply.enhanced
        assert MARKER.decode().lower() not in str(error.reply).lower()


def seeds() -> Iterator[bytes]:
    """By the book."""
    said = (
        (
            0,
            "FROM:<a@c.test> SIZE=9 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=a+3D AUTH=<> BY=60;RT HOLDFOR=60 MT-PRIORITY=-3",
        ),
        (0, 'FROM:<"a b\\"c"@[IPv6:::1]> BODY=BINARYMIME HOLDUNTIL=2001-09-09T02:50:00.5+01:00'),
        (0, "FROM:<>"),
        (1, "TO:<b@mx.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@d"),
        (1, "TO:<Postmaster> NOTIFY=NEVER ORCPT=utf-8;ä\\x{E4}@d"),
        (1, "TO:<@a.b,@c.d:ü@bücher.example>"),
        (2, "<b@mx.test>"),
        (3, "[192.0.2.1]"),
        (4, "NAME=c.test ADDR=IPV6:2001:db8::1 PORT=25 PROTO=ESMTP HELO=c LOGIN=u+2Bv DESTADDR=192.0.2.1 DESTPORT=[UNAVAILABLE]"),
        (5, "NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1 PROTO=SMTP HELO=c IDENT=x SOURCE=LOCAL"),
        (6, "<a.b@bücher.example>"),
        (6, "<a@[192.0.2.1]> x"),
        (7, "a+2Bb=c ü"),
    )
    for kind, text in said:
        yield joined([kind], text.encode())


WORDS = tuple(
    ' SIZE=| BODY=| SMTPUTF8| NOTIFY=| ORCPT=utf-8;|\\x{10FFFF}|+2B|<>|@|[IPv6:|:]|\\\\|"|xn--|ß|\u3002|\u200d|\u0130|=[TEMPUNAVAIL]| LOGIN='.encode().split(
        b"|"
    )
)
TARGET = Target("command", check, seeds, WORDS, max_length=2048)
