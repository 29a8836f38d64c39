"""AUTH, both ends, against a peer that says anything: the octets behind base64, or the base64 itself, in any order.

What must hold: nothing but MailError at the server and Undecodable at the client; a name is never empty (but beside a token)
and has no control character; a token is one; an exchange ends, and whose token is refused hears why before that; SCRAM takes nobody who has not proved to know the password, and the client no server; SASLprep
knows its own outcome again; base64 is what the standard library takes, and no more.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterator

from mta.receive.auth.dovecot_words import answer_in
from mta.smtp.auth import Exchange, Next, begin, refuse
from mta.smtp.credentials import (
    BearerCredentials,
    Credentials,
    JudgedCredentials,
    Login,
    PassedOn,
    PlainCredentials,
    Terms,
    Undecodable,
    VerifierWanted,
    decode,
    encode,
)
from mta.smtp.options import ReceiverOptions
from mta.smtp.sasl import CLIENT, MECHANISMS, SERVER
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import PLUS, SCRAM, verifier_in
from mta.smtp.secret import secret_in
from mta.status import MailError, Reply
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target
from tests.smtp.talk import CHALLENGE, PENCIL

__all__ = ["TARGET"]

OPTIONS = ReceiverOptions("mx.test", auth=MECHANISMS, challenge=lambda: CHALLENGE, binding=b"a channel")
TERMS = Terms(CHALLENGE, b"a channel", True)
LOGIN = Login("user", "pencil")
CONTROL = re.compile("[\0-\x08\x0a-\x1f\x7f]")
TOKEN = re.compile(r"([A-Za-z0-9._~+/-]+=*)?", re.A)  # RFC 6750 2.1, or none
NO = Reply(535, "5.7.8", "No")
MOST_STEPS = 8


def judged(credentials: Credentials, honest: bool) -> None:
    """Who is this?"""
    for name in (credentials.user, credentials.authzid):
        assert not CONTROL.search(name), "a control character in a name"
        name.encode()
    if credentials.mechanism not in ("EXTERNAL", "OAUTHBEARER"):
        assert credentials.user, "nobody"
    if isinstance(credentials, BearerCredentials):
        assert TOKEN.fullmatch(credentials.token), "no token"
    if isinstance(credentials, PlainCredentials):
        assert credentials.password and "\0" not in credentials.password, "an empty password"
    if isinstance(credentials, JudgedCredentials) and not honest:
        assert credentials.error, "taken without the password"


def of_session(exchange: Exchange, step: Next) -> Next:
    """Until there is a challenge, or the end."""
    while isinstance(step, VerifierWanted | PassedOn):
        step = exchange.supply(PENCIL)
    return step


def server(draw: Draw) -> None:
    """A client that lies."""
    name, raw = draw.pick(MECHANISMS).encode(), draw.flag()
    lines = [part if raw else encode(part) for part in draw.segments()[:MOST_STEPS]]
    first = b"" if draw.flag() else b" " + (lines.pop(0) or b"=")
    try:
        exchange, step = begin(name + first, OPTIONS)
        step = of_session(exchange, step)
        while isinstance(step, Reply) and lines:
            decode(step.text.encode())
            step = of_session(exchange, exchange.answer(lines.pop(0)))
    except MailError as error:
        assert error.reply.code in (501, 504)
        return
    if not isinstance(step, Reply):
        judged(step, honest=False)  # type: ignore[arg-type]
        refused(step, lines)  # type: ignore[arg-type]


def refused(credentials: Credentials, lines: list[bytes]) -> None:
    """They are worth nothing: one challenge more for those who show tokens, and the end whatever they say to it."""
    refusal = refuse(credentials.mechanism, NO)
    assert (refusal is not None) == isinstance(credentials, BearerCredentials)
    if refusal is None:
        return
    last, challenge = refusal
    assert "status" in json.loads(decode(challenge.text.encode()))
    try:
        assert last.answer(lines.pop(0) if lines else b"") == NO
    except MailError as error:
        assert error.reply.code == 501


def client(draw: Draw) -> None:
    """A server that lies: it never proves to know the password."""
    mechanism = draw.pick(tuple(CLIENT))
    responses = CLIENT[mechanism](LOGIN, TERMS)
    next(responses)
    answered = 0
    for challenge in draw.segments()[:MOST_STEPS]:
        try:
            response = responses.send(challenge)
        except (Undecodable, StopIteration):
            return
        assert mechanism in (SCRAM, PLUS, "CRAM-MD5", "LOGIN", "PLAIN")
        assert b"pencil" not in response or mechanism in ("LOGIN", "PLAIN"), "the password in clear"
        answered += 1
        assert answered < 2 or mechanism not in (SCRAM, PLUS), "a server was believed that has proved nothing"


def between(draw: Draw) -> None:
    """Both are honest; somebody in between changes one octet: then they do not agree."""
    mechanism = draw.pick((SCRAM, PLUS))
    turn, place, octet = draw.below(4), draw.below(256), draw.below(256)
    ours = CLIENT[mechanism](LOGIN, TERMS)
    theirs = SERVER[mechanism](Terms(CHALLENGE, b"a channel", True))
    next(theirs)
    changed = False

    def passed(message: bytes, at: int) -> bytes:
        nonlocal changed
        if at == turn and message:
            spot = place % len(message)
            if spot != len(message) - 2:  # in front of "=" two bits stand for nothing
                other = message[:spot] + bytes([octet]) + message[spot + 1 :]
                changed = other != message
                return other
        return message

    try:
        step = theirs.send(passed(next(ours), 0))
        assert isinstance(step, VerifierWanted)
        challenge = theirs.send(PENCIL)
        assert isinstance(challenge, bytes)
        signature = theirs.send(passed(ours.send(passed(challenge, 1)), 2))
        assert isinstance(signature, bytes)
        theirs.send(ours.send(passed(signature, 3)))
    except Undecodable:
        assert changed, "they did not understand one another"
    except StopIteration as end:
        judged(end.value, honest=True)
        assert bool(end.value.error) == changed, "they agree though somebody was between, or do not though nobody was"


def texts(draw: Draw) -> None:
    """Readers of single texts."""
    octets = draw.wire
    try:
        known = decode(octets)
    except Undecodable:
        known = None
    try:
        standard = b64decode(octets, validate=True)
    except binascii.Error:
        standard = None
    assert known is None or known == standard, "another base64"
    text = octets.decode("utf-8", "replace")
    try:
        prepared = saslprep(text)
    except ValueError:
        prepared = ""
    if prepared and prepared.isascii():
        assert saslprep(prepared) == prepared, "SASLprep does not know its own outcome"
    for read in (lambda: verifier_in(text), lambda: secret_in(text), lambda: answer_in(octets)):
        try:
            read()
        except ValueError:
            pass


KINDS = (server, client, between, texts)


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    KINDS[draw.below(len(KINDS))](draw)


def seeds() -> Iterator[bytes]:
    """What the mechanisms really say."""
    said = (
        (0, b"\0user\0pencil"),
        (1, b"user\xffpencil"),
        (2, b"user 0123456789abcdef0123456789abcdef"),
        (3, b"n,,n=user,r=abcdef\xffc=biws,r=abcdef,p=AAAA\xff"),
        (4, b"p=tls-exporter,a=other,n=us=2Cer,r=abcdef\xffc=biws,r=abcdef,p=AAAA"),
        (5, b"user@c.test"),
        (6, b"n,a=us=2Cer,\1host=c.test\1auth=Bearer abc=\1\1\xff\1"),
        (7, b"user=user\1auth=Bearer abc\1\1\xff"),
    )
    for mechanism, wire in said:
        yield joined([0, mechanism, 0, 0], wire)
        yield joined([0, mechanism, 0, 1], wire)
        yield joined([0, mechanism, 1, 0], b"*\xffAA==")
    for mechanism in range(5):
        yield joined([1, mechanism], b"r=abc,s=QUFB,i=4096\xffv=AAAA\xff")
    for mechanism in range(2):
        for turn in range(4):
            yield joined([2, mechanism, turn, 7, 7], b"")
    for text in (
        b"AAAA",
        b"QQ==",
        b"SCRAM-SHA-256$4096:QUFB$QUFB:QUFB",
        "\u00adI\u2168ª".encode(),
        b"OK\t1\tuser=u\ttemp",
        b"CONT\t2\tQQ==",
    ):
        yield joined([3], text)


WORDS = (
    b"n,,",
    b"y,,",
    b"p=tls-exporter,",
    b"a=",
    b"n=",
    b",r=",
    b",s=",
    b",i=4096",
    b"c=biws",
    b",p=",
    b"v=",
    b"=2C",
    b"=3D",
    b"\1",
    b"auth=Bearer ",
    b"user=",
    b"host=",
    b"\0",
    b"\xff",
)
TARGET = Target("auth", check, seeds, WORDS, max_length=512)
