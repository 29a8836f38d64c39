"""The receiver's machine: any options, any bytes in any pieces, any answers of the session, now or later, STARTTLS and XCLIENT.

What must hold: no exception; what waits unparsed is bounded; replies are SMTP, in ASCII, without a word of the client's; every
whole command has one reply and none has two; a body is accepted as somebody in between would read it (observer.py), canonical
but behind the header of what is binary; behind the end nothing is parsed; no counter goes back.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import attrs

from mta.smtp.command import BINARYMIME
from mta.smtp.credentials import PassedOn, PlainCredentials
from mta.smtp.event import (
    Auth,
    AuthStep,
    BodyChunk,
    BodyEnd,
    BodyStart,
    ChunkEnd,
    Hello,
    MailFrom,
    RcptTo,
    Refused,
    StartTls,
    Verify,
    XClient,
)
from mta.smtp.extension import KEYWORDS
from mta.smtp.order import REQUIREMENTS
from mta.smtp.reply import ReplyParser
from mta.smtp.sasl import MECHANISMS, SERVER, pass_on
from mta.smtp.server import Counters, Receiver, ReceiverOptions
from mta.smtp.xclient import XCLIENT, XFORWARD
from mta.status import Reply
from tests.fuzz.guided import dialogs
from tests.fuzz.guided.draw import MARKER, Draw, joined
from tests.fuzz.guided.observer import Observer, header_of, is_canonical
from tests.fuzz.guided.target import Target
from tests.smtp.talk import CHALLENGE, PENCIL, YES

__all__ = ["FIELDS", "TARGET", "Played"]

MOST_WAITING: Final = 12_288  # bytes, of the longest line that there may be
FIELDS: Final[dict[str, tuple[Any, ...]]] = {  # in the order in which they are chosen; the first is the usual
    "max_size": (100_000, 9, 0, 300, 10),
    "max_recipients": (3, 1, 1000),
    "starttls": (True, False),
    "starttls_needs_ehlo": (True, False),
    "starttls_in_transaction": ("reset", "refuse"),
    "max_errors": (5, 99, 20, 0, 1),
    "auth": ((), MECHANISMS, ("PLAIN", "LOGIN"), ("PLAIN",), ("CRAM-MD5",), ("SCRAM-SHA-256",), MECHANISMS[4:5], ("EXTERNAL",)),
    "auth_elsewhere": ((), ("PLAIN",), MECHANISMS),
    "mechanisms": (SERVER, {name: partial(pass_on, name) for name in SERVER}),
    "binding": (b"", b"a channel"),
    "mail_requires": REQUIREMENTS,
    "requiretls": (False, True),
    "binarymime": (False, True),
    "deliver_by": (None, 0, 60),
    "future_release": (0, 600),
    "mt_priority": (False, True),
    "vrfy": ("252", "off", "local"),
    "withhold": (frozenset(), *(frozenset({keyword}) for keyword in KEYWORDS)),
    "entitled": ((), (XCLIENT, XFORWARD)),
    "refuse_all": (None, Reply(554, "5.7.1", "No")),
    "max_auth_failures": (3, 0, 1),
    "max_transactions": (1000, 0, 2),
    "max_recipients_total": (0, 2),
    "max_commands": (0, 7),
    "in_tls": (False, True),
    "implicit": (False, True),
    "greet": (True, False),
}
_OF_MACHINE: Final = ("in_tls", "implicit", "greet")
_VERBS: Final = {"", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "HELP", "QUIT"}
_VERBS |= {"XCLIENT", "XFORWARD", "EXPN", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML"}
LATER: Final = "later"
SHUT: Final = "shut"
_SAYS: Final = (  # what a session does with a question; 0 is yes, and so are most
    *["yes"] * 9,
    Reply(451, "4.3.0", "Not now"),
    Reply(550, "5.7.1", "No\nreally \x07 not\r é"),
    Reply(421, "4.3.2", "Stopping"),
    LATER,
    LATER,
    Reply(454, "", ""),
    SHUT,
)
_ASKS: Final = (Hello, Auth, AuthStep, MailFrom, RcptTo, Verify, BodyStart, ChunkEnd, BodyEnd, StartTls, XClient)


def _options(chosen: dict[str, Any]) -> ReceiverOptions:
    """Made to fit: what contradicts itself is for the options to refuse, and their tests."""
    given = {name: value for name, value in chosen.items() if name not in _OF_MACHINE}
    if any(name.endswith("-PLUS") for name in given["auth"]):
        given["binding"] = b"a channel"
    return ReceiverOptions("mx.test", challenge=lambda: CHALLENGE, now=lambda: 1e9, **given)


class Played:
    """One conversation, from the greeting to the end of the wire."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        chosen = {name: draw.pick(values) for name, values in FIELDS.items()}
        self._options = _options(chosen)
        self._counters = Counters()
        self._secure = chosen["in_tls"] or chosen["implicit"]
        self._waiting: Any = None  # a question to be answered later
        self.messages: list[tuple[bytes, bool]] = []  # and whether each is binary
        self._greets_late = not (chosen["greet"] or chosen["in_tls"])
        self._begin(Receiver(self._options, self._counters, chosen["in_tls"], chosen["implicit"]), not chosen["in_tls"])
        if not self._greets_late:
            self._machine.greet()
        for segment in draw.segments():
            self._segment(segment)
        self._close()

    def _begin(self, machine: Receiver, greeted: bool) -> None:
        self._machine, self._greeted = machine, greeted
        self._in, self._out = b"", b""
        self._accepted: list[bytes] = []  # by this machine
        self._body: list[bytes] = []
        self._is_binary = False
        self._in_tls_now = False  # 220 to STARTTLS was said: it hears nothing more

    def _segment(self, segment: bytes) -> None:
        for piece in self._draw.pieces(segment):
            if not (self._machine.ended or self._in_tls_now):
                self._in += piece
            before = attrs.astuple(self._counters)
            self._machine.receive_data(piece)
            self._act()
            after = attrs.astuple(self._counters)
            assert all(a <= b for a, b in zip(before, after, strict=True)), "a counter went back"
        if self._greets_late:
            self._greets_late = False
            self._machine.greet()
            self._act()
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._answer(waiting, "yes")
            self._act()
        if self._in_tls_now:
            self._close()
            self._secure = True
            self._begin(Receiver(self._options, self._counters, in_tls=True), False)

    def _act(self) -> None:
        while events := self._machine.events():
            for event in events:
                self._event(event)
        machine = self._machine
        self._out += machine.data_to_send()
        if machine.ended:
            assert not machine.buffered and not machine.asks, "something is left behind the end"
        elif not (machine.asks or self._greets_late):
            assert machine.buffered <= MOST_WAITING, f"{machine.buffered} bytes wait unparsed"

    def _event(self, event: Any) -> None:
        if type(event) is BodyChunk:
            assert event.data, "a piece of nothing"
            self._body.append(event.data)
        elif type(event) is Refused:
            assert event.command in _VERBS, event
        elif isinstance(event, _ASKS):
            assert self._waiting is None, "two questions at a time"
            self._answer(event, _SAYS[self._draw.below(len(_SAYS))])

    # ---- the session

    def _answer(self, event: Any, says: Any) -> None:
        if self._machine.ended:
            return
        if says is LATER:
            self._waiting = event
        elif says is SHUT or (type(event) is XClient and says != "yes"):
            self._machine.shut(Reply(421, "4.3.2", "Stopping"))
        elif type(event) is XClient:
            self._assume()
        elif says != "yes":
            self._machine.reply(says)
        elif type(event) is AuthStep:
            self._step(event.question)
        else:
            self._agree(event)

    def _step(self, question: Any) -> None:
        if not isinstance(question, PassedOn):
            self._machine.supply(PENCIL)
        elif self._draw.flag():
            self._machine.supply(bytes([self._draw.below(256)]) * self._draw.below(4) * 300)
        else:
            self._machine.supply(PlainCredentials(question.mechanism, "", "user", "pencil"))

    def _agree(self, event: Any) -> None:
        if type(event) is MailFrom:
            self._is_binary = bool(event.flags & BINARYMIME)
        elif type(event) is BodyStart:
            self._body = []
        elif type(event) is BodyEnd and event.error is None:
            body = b"".join(self._body)
            assert is_canonical(header_of(body) if self._is_binary else body), "a body that is not canonical"
            self._accepted.append(body)
            self.messages.append((body, self._is_binary))
        self._machine.reply(YES[type(event)])
        self._in_tls_now = type(event) is StartTls and not self._machine.ended

    def _assume(self) -> None:
        """XCLIENT: the next machine greets somebody else."""
        self._out += self._machine.data_to_send()
        self._close()
        machine = Receiver(self._options, self._counters, implicit=self._secure, authenticated=self._draw.flag())
        self._begin(machine, True)
        machine.greet()

    # ---- the end of a machine

    def _close(self) -> None:
        machine = self._machine
        self._out += machine.data_to_send()
        assert self._out.isascii(), "a reply that is not ASCII"
        assert MARKER.lower() not in self._out.lower(), "a reply with what the client said"
        parser = ReplyParser()
        parser.receive(self._out)
        replies = list(iter(parser.take, None))
        assert not parser.pending, "half a reply"
        assert all(len(line) <= 510 or line[:3] == b"334" for line in self._out.split(b"\r\n")), "a line too long"
        observer = Observer(self._in, replies, self._greeted, machine.ended, machine.asks, self._options.max_size)
        assert observer.messages == self._accepted, f"{observer.messages} were seen, {self._accepted} accepted"


def check(data: bytes) -> None:
    """Play it."""
    Played(Draw(data))


def seeds() -> Iterator[bytes]:
    """The dialogs; and one for each option, against what is not the usual."""
    yield from dialogs.seeds(FIELDS)
    wire = b"EHLO c\r\n\xffMAIL FROM:<a@c.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n\xffS: x\r\n\r\n..\r\n.\r\nQUIT\r\n"
    usual = [0] * len(FIELDS)
    yield joined(usual, wire)
    for at in range(len(usual)):
        yield joined([*usual[:at], 1, *usual[at + 1 :]], wire)
    logins = [*usual]
    logins[list(FIELDS).index("auth")] = 1
    nonce = b64encode(b"n,,n=user,r=" + b"x" * 400)
    yield joined(logins, b"EHLO c\r\n\xffAUTH SCRAM-SHA-256 " + nonce + b"\r\n\xff*\r\n")
    binary = [*usual]
    binary[list(FIELDS).index("binarymime")] = 1
    begin = b"EHLO c\r\n\xffMAIL FROM:<a@c.test> BODY=BINARYMIME\r\nRCPT TO:<b@mx.test>\r\n"
    for header in (b"S: x\r\n\r\n\0", b"S: x\nFrom: b@c\r\n\r\n", b"no end\r"):
        yield joined(binary, begin + b"BDAT 4\r\n" + header[:4] + b"BDAT %d LAST\r\n" % (len(header) - 4) + header[4:])
    for says in range(9, 16):
        yield joined([*usual, 0, 0, 0, says], wire)


WORDS = (
    *(verb.encode() + b" " for verb in sorted(_VERBS) if verb),
    *b"\r\n|\r\n.\r\n|\n.\n|\r\n.\n|\n.\r\n|\r.\r|\xff|\xfe|\0|FROM:<a@c>|TO:<b@mx.test>|FROM:<>|TO:<postmaster>".split(b"|"),
    *b" SIZE=9| BODY=BINARYMIME| BODY=8BITMIME| SMTPUTF8| REQUIRETLS| RET=HDRS| ENVID=e| NOTIFY=NEVER| ORCPT=rfc822;a".split(
        b"|"
    ),
    *b" BY=60;R| HOLDFOR=60| HOLDUNTIL=2026-01-01T00:00:00Z| MT-PRIORITY=3| AUTH=<>|BDAT 3 LAST\r\nabc|BDAT 2\r\n\r\n".split(
        b"|"
    ),
    *b"PLAIN|LOGIN|CRAM-MD5|SCRAM-SHA-256|EXTERNAL|=|*|AHRpbQB0YW4=|dGlt|GET / HTTP/1.1|ADDR=192.0.2.1|HELO=c|PROTO=ESMTP".split(
        b"|"
    ),
)
TARGET = Target("receiver", check, seeds, WORDS, max_length=2600)
