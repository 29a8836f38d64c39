"""Replies: the reader of the sender-SMTP, and its machine, against a server that says anything; and what we write, read again.

Nothing but BadReply; however it is cut, the same replies come of it; no text has a control character.  The machine ends in one way,
and every recipient has the one reply that decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from mta.smtp.client import Sender, Transaction
from mta.smtp.credentials import Login, Terms
from mta.smtp.event import (
    AuthAnswered,
    BodyWanted,
    Broken,
    Ended,
    Greeted,
    HelloAnswered,
    QuitAnswered,
    ResetAnswered,
    Transacted,
)
from mta.smtp.extension import parse_extensions, size_limit
from mta.smtp.grammar import CONTROL, MAX_REPLY, MAX_REPLY_LINE_READ
from mta.smtp.reply import BadReply, ReplyParser, serialise
from mta.smtp.sasl import CLIENT, choose
from mta.status import Reply
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]

LOGIN: Final = Login("user", "pencil")
RECIPIENTS: Final = ("b@mx.test", "c@mx.test", "ü@mx.test")


def read(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    """The replies, and whether they ended badly."""
    parser, replies = ReplyParser(), []
    for piece in pieces:
        parser.receive(piece)
        try:
            replies += iter(parser.take, None)
        except BadReply:
            return replies, True
        waiting = len(parser._buffer) - parser._at
        assert waiting < MAX_REPLY_LINE_READ and parser._size <= MAX_REPLY, "it keeps too much"
    return replies, False


def parser(draw: Draw) -> None:
    """See the module."""
    whole = read([draw.wire])
    assert read(draw.pieces(draw.wire)) == whole, "it matters how it is cut"
    for reply in whole[0]:
        assert 200 <= reply.code <= 599 and not CONTROL.search(reply.text.replace("\n", "")), reply
        if reply.is_positive:
            extensions = parse_extensions(reply)
            assert size_limit(extensions) >= 0 and choose(extensions.get("AUTH", ""), tuple(CLIENT), False) not in (
                "PLAIN",
                "LOGIN",
            )


def writer(draw: Draw) -> None:
    """Any text as a reply of ours: SMTP, ASCII, bounded lines; read again it has the code, and the text where that was fit."""
    code, enhanced = draw.pick((250, 354, 421, 451, 550)), draw.pick(("", "4.7.1", "5.7.1", "2.0.0"))
    text = draw.wire.decode("utf-8", "replace")
    said = serialise(Reply(code, enhanced, text), True)
    assert said.isascii() and all(len(line) <= 510 for line in said.split(b"\r\n"))
    assert said.count(b"\r\n") == said.count(b"\r") == said.count(b"\n") >= 1 and b"\0" not in said
    replies, bad = read([said])
    if said.count(b"\r\n") <= 500:
        assert not bad and [reply.code for reply in replies] == [code], "our own reply is none"


class Played:
    """A sender that does all it can, and a server that answers with the wire."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        known = draw.pick(
            (None, {}, {"PIPELINING": "", "CHUNKING": "", "BINARYMIME": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""})
        )
        self.sender = Sender("c.test", in_tls=draw.flag(), extensions=known)
        flags = draw.below(256)
        self._most = 1 + draw.below(3)
        self._transaction = Transaction("a@c.test", RECIPIENTS, 9, flags)
        self._asks = [self._hello, self._auth, self._transact, self.sender.reset, self._transact, self.sender.quit]
        self._over = False
        self._sent = 0
        if known is not None or draw.flag():
            self._next()
        for piece in [part for segment in draw.segments() for part in draw.pieces(segment)]:
            self.sender.receive_data(piece)
            self._act()

    def _act(self) -> None:
        for event in self.sender.events():
            assert not self._over, f"{event} behind the end"
            if isinstance(event, Ended | Broken | QuitAnswered):
                self._over = True
            elif isinstance(event, Transacted):
                assert len(event.replies) == len(self._transaction.recipients), "a recipient without a reply"
                self._next()
            elif isinstance(event, BodyWanted):
                for piece in self._draw.pieces(b"S: x\r\n\r\n.\r\n"):
                    self.sender.send_body(piece)
                self.sender.end_body()
            elif isinstance(event, Greeted | HelloAnswered | AuthAnswered | ResetAnswered):
                self._next()
        self._sent += len(self.sender.data_to_send())
        assert not (self._over and self.sender.is_idle), "it would be handed on"

    def _next(self) -> None:
        if self._asks and not self.sender.awaiting:
            self._asks.pop(0)()

    def _hello(self) -> None:
        self.sender.hello()

    def _auth(self) -> None:
        mechanism = choose(self.sender.extensions.get("AUTH", ""), tuple(CLIENT), True)
        if mechanism:
            self.sender.authenticate(mechanism, LOGIN, Terms(b"nonce"))
        else:
            self._next()

    def _transact(self) -> None:
        """The recipients that this server can be told, as the relay has it."""
        said = RECIPIENTS if "SMTPUTF8" in self.sender.extensions else RECIPIENTS[:2]
        self._transaction = attrs.evolve(self._transaction, recipients=said[: self._most])
        if self.sender.unfit(self._transaction) is None:
            self.sender.transact(self._transaction, rset=self._draw.flag())
        else:
            self._next()


KINDS: Final = (parser, writer, Played)


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    draw.pick(KINDS)(draw)


def seeds() -> Iterator[bytes]:
    """What servers say."""
    hello = b"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 9\r\n250-AUTH PLAIN CRAM-MD5 SCRAM-SHA-256\r\n250 SMTPUTF8\r\n"
    talk = (
        b"220 mx\r\n\xff"
        + hello
        + b"\xff334 cj1h\r\n\xff535 5.7.8 No\r\n\xff250 ok\r\n250 2.1.5 ok\r\n550 5.1.1 No\r\n354 go\r\n\xff250 taken\r\n"
    )
    for reply in (b"250 2.0.0 Ok\r\n", b"250-a\r\n250\r\n", b"550 5.7.1 x\xff\r\n421 bye\r\n", b"250-x\r\n251 y\r\n", hello):
        yield joined([0], reply)
        yield joined([1], reply)
        yield joined([2, 1], reply)
    yield joined([2], talk + b"\xff250 reset\r\n\xff221 bye\r\n")
    yield joined([2, 1, 0, 0, 2], b"250 ok\r\n" * 9)
    yield joined([2, 2, 0, 0, 2], b"250 ok\r\n" * 3 + b"\xff354 go\r\n\xff250 ok\r\n" * 4)


WORDS = (
    b"250 ",
    b"250-",
    b"354 go\r\n",
    b"421 ",
    b"220 ",
    b"334 ",
    b"535 ",
    b"550 5.1.1 ",
    b"\r\n",
    b"\xff",
    b"250-PIPELINING\r\n",
    b"250-AUTH PLAIN\r\n",
)
TARGET = Target("reply", check, seeds, WORDS)
