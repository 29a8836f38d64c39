"""The receiver-SMTP as a machine: RFC 5321 3 and 4, RFC 2920 (pipelining), RFC 3207 (STARTTLS), without I/O.

Bytes in (`receive_data`), events out (`events`), bytes to send (`data_to_send`).  The laws:

1. Nothing is parsed while an event waits for its answer; `reply` lets it go on, and decides which state follows.
2. `ALLOWED` (order.py) says which verbs may come in which state; others are 503.  Verbs are looked up, never called by name.
3. Only CRLF ends a command line.  A bare CR, a bare LF or a NUL is refused with 500 and ends the conversation.
4. Bytes that lie behind EHLO, HELO, DATA or STARTTLS when these are answered, or that came before the greeting, were
   sent without waiting (RFC 2920 3.1): 554, end.  So nothing crosses the border to TLS or into a body.
5. After 220 to STARTTLS the machine is dead: a fresh one with the same `Counters` takes its place.
6. No reply contains what the client said.

`receive_data` never raises.  `ended` means: send what there is to send, then close.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from mta.smtp import wording
from mta.smtp.command import SMTPUTF8, parse_hello, parse_mail, parse_nothing, parse_rcpt, split
from mta.smtp.data import BodyReader
from mta.smtp.event import Auth, BodyChunk, BodyEnd, BodyStart, Hello, MailFrom, Quit, RcptTo, Refused, Reset, StartTls
from mta.smtp.extension import offer
from mta.smtp.line import LineBuffer, LineTooLong, Unframed
from mta.smtp.options import Counters, ReceiverOptions
from mta.smtp.order import ALLOWED, State, is_foreign, misplaced
from mta.smtp.reply import serialise
from mta.status import MailError, Reply

__all__ = ["Counters", "Event", "Receiver", "ReceiverOptions"]

Question: TypeAlias = Hello | Auth | MailFrom | RcptTo | BodyStart | BodyEnd | StartTls  # these want an answer
Event: TypeAlias = Question | BodyChunk | Reset | Refused | Quit


_STARTTLS_MAX: Final = 3  # in one connection (docs/tls.md)


class Receiver:
    """One conversation, or the part of it before or in TLS."""

    __slots__ = (
        "_body",
        "_counters",
        "_events",
        "_in_tls",
        "_lines",
        "_options",
        "_out",
        "_question",
        "_recipients",
        "_rejected",
        "_state",
        "_utf8",
        "_verbs",
        "extended",
        "hello_name",
    )

    def __init__(self, options: ReceiverOptions, counters: Counters, in_tls: bool = False) -> None:
        self._options = options
        self._counters = counters
        self._in_tls = in_tls
        self._lines = LineBuffer()
        self._events: list[Event] = []
        self._out: list[bytes] = []
        self._question: Question | None = None  # waits for its answer
        self._body: BodyReader | None = None
        self._recipients = 0  # accepted, in this transaction
        self._rejected = 0
        self._utf8 = False  # MAIL had SMTPUTF8
        self.hello_name = ""
        self.extended = False  # EHLO, not HELO
        self._enter(State.CONNECTED if in_tls else State.SILENT)

    # ---- what the session sees

    @property
    def ended(self) -> bool:
        """Nothing more will be read: send what there is to send, then close."""
        return self._state is State.ENDED

    @property
    def in_transaction(self) -> bool:
        """Between an accepted MAIL and its end."""
        return self._state in (State.MAIL, State.RCPT, State.BODY)

    @property
    def buffered(self) -> int:
        """Bytes that wait unparsed."""
        return len(self._lines)

    def greet(self) -> None:
        """Say 220; a client that spoke before it gets 554 instead."""
        if self._state is not State.SILENT:
            return
        if self.buffered:
            self._unsynchronised(b"")
            return
        self._enter(State.CONNECTED)
        self._say(Reply(220, "", f"{self._options.hostname} ESMTP"), enhanced=False)

    def receive_data(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._state is State.ENDED or self._state is State.TLS:
            return
        self._lines.receive(data)
        self._parse()

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        if not self._out:
            return b""
        out, self._out = b"".join(self._out), []
        return out

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits.  Code 421 also ends.  An answer that comes after the end is dropped."""
        question, self._question = self._question, None
        if question is None:
            if self.ended:
                return
            raise RuntimeError("no event waits for an answer")
        if reply.code == 421:
            self.shut(reply)
            return
        _ANSWERS[type(question)](self, question, reply)
        self._parse()

    def shut(self, reply: Reply) -> None:
        """Say that (421, as a rule) whatever is going on, and end."""
        if self.ended:
            return
        self._say(reply)
        self._enter(State.ENDED)
        self._body = self._question = None
        self._lines.clear()

    # ---- bytes

    def _parse(self) -> None:
        while self._question is None and self._lines:
            if self._body is not None:
                self._read_body(self._body)
            elif not (self._verbs and self._read_command()):
                return

    def _read_command(self) -> bool:
        """Take a line and obey it; False when there is no whole line."""
        try:
            line = self._lines.take_line()
            if line is None:
                return False
            self._counters.commands += 1
            verb, argument = split(line)
            act = self._verbs.get(verb)
            if act is not None:
                act(self, argument)
            else:
                self._misplaced(verb, line)
        except MailError as error:
            self._refuse(verb, error.reply)
        except LineTooLong:
            self._refuse(b"", wording.LINE_TOO_LONG)
        except Unframed:
            self._die(b"", wording.NOT_FRAMED)
        return True

    def _read_body(self, body: BodyReader) -> None:
        chunk, rest = body.feed(self._lines.take_all())
        if chunk:
            self._events.append(BodyChunk(chunk))
        if rest is not None:
            self._lines.receive(rest)
            self._counters.bytes += body.size
            self._ask(BodyEnd(body.size, body.error))

    # ---- commands

    def _misplaced(self, verb: bytes, line: bytes) -> None:
        known, reply = misplaced(self._state, verb)
        if not known and is_foreign(line):
            self._die(b"", wording.NOT_SMTP)
        else:
            self._refuse(known, reply)

    def _ehlo(self, argument: bytes) -> None:
        self._ask(Hello(parse_hello(argument), extended=True))

    def _helo(self, argument: bytes) -> None:
        self._ask(Hello(parse_hello(argument), extended=False))

    def _auth(self, argument: bytes) -> None:
        self._refuse(b"AUTH", wording.NOT_IMPLEMENTED)

    def _mail(self, argument: bytes) -> None:
        self._ask(parse_mail(argument, self._options.max_size))

    def _rcpt(self, argument: bytes) -> None:
        if self._recipients >= self._options.max_recipients:
            self._count_rejected()
            self._refuse(b"RCPT", wording.TOO_MANY_RECIPIENTS, is_error=False)  # no mistake: the rest comes in another mail
            return
        try:
            self._ask(parse_rcpt(argument, self._utf8))
        except MailError:
            self._count_rejected()
            raise

    def _data(self, argument: bytes) -> None:
        parse_nothing(argument)
        if self._recipients:
            self._ask(BodyStart())
        elif self.buffered:
            self._unsynchronised(b"DATA")
        else:
            self._refuse(b"DATA", wording.NO_VALID_RECIPIENT if self._rejected else wording.RCPT_FIRST)

    def _starttls(self, argument: bytes) -> None:
        """The checks of docs/tls.md in their order; those that need more than the wire are the session's."""
        options = self._options
        if argument:
            self._refuse(b"STARTTLS", wording.STARTTLS_SYNTAX)
        elif self._in_tls:
            self._refuse(b"STARTTLS", wording.TLS_ACTIVE)
        elif not options.starttls:
            self._refuse(b"STARTTLS", wording.NOT_IMPLEMENTED)
        elif options.starttls_needs_ehlo and not self.extended:
            self._refuse(b"STARTTLS", wording.HELLO_FIRST)
        elif self._counters.starttls >= _STARTTLS_MAX:
            self._die(b"STARTTLS", wording.TOO_MANY_STARTTLS)
        elif self.in_transaction and options.starttls_in_transaction == "refuse":
            self._refuse(b"STARTTLS", wording.IN_TRANSACTION)
        else:
            self._counters.starttls += 1
            self._forget()
            self._ask(StartTls())

    def _rset(self, argument: bytes) -> None:
        parse_nothing(argument)
        if self.in_transaction:
            self._enter(State.READY)
        self._events.append(Reset())
        self._say(wording.OK)

    def _noop(self, argument: bytes) -> None:
        self._say(wording.OK)  # RFC 5321 4.1.1.9: an argument is ignored

    def _vrfy(self, argument: bytes) -> None:
        self._say(wording.WILL_TRY)

    def _help(self, argument: bytes) -> None:
        self._say(wording.HELP_TLS if self._options.starttls and not self._in_tls else wording.HELP)

    def _quit(self, argument: bytes) -> None:
        parse_nothing(argument)
        self._events.append(Quit())
        self.shut(wording.BYE)

    # ---- answers

    def _hello_answered(self, event: Hello, reply: Reply) -> None:
        if self.buffered:
            self._unsynchronised(b"EHLO" if event.extended else b"HELO")
        elif not reply.is_positive:
            self._say(reply)
        else:
            self._forget()  # RFC 5321 4.1.4: as if RSET had been given
            self._enter(State.READY)
            self.hello_name, self.extended = event.name, event.extended
            self._welcome(reply)

    def _welcome(self, reply: Reply) -> None:
        """RFC 5321 4.1.1.1, ehlo-ok-rsp: our name comes first."""
        options = self._options
        text = reply.text if reply.text.startswith(options.hostname) else f"{options.hostname} {reply.text}".rstrip()
        if self.extended:
            text = "\n".join((text, *offer(options.max_size, options.starttls and not self._in_tls)))
        self._say(Reply(reply.code, "", text), enhanced=False)

    def _mail_answered(self, event: MailFrom, reply: Reply) -> None:
        self._say(reply)
        if reply.is_positive:
            self._utf8 = bool(event.flags & SMTPUTF8)
            self._counters.transactions += 1
            self._enter(State.MAIL)

    def _rcpt_answered(self, event: RcptTo, reply: Reply) -> None:
        self._say(reply)
        if not reply.is_positive:
            self._count_rejected()
            return
        self._recipients += 1
        self._counters.recipients += 1
        if self._state is State.MAIL:
            self._enter(State.RCPT)

    def _data_answered(self, event: BodyStart, reply: Reply) -> None:
        if self.buffered:
            self._unsynchronised(b"DATA")
            return
        self._say(reply)
        if reply.is_intermediate:
            self._body = BodyReader(self._options.max_size)
            self._enter(State.BODY)

    def _body_answered(self, event: BodyEnd, reply: Reply) -> None:
        if event.error is not None and reply.is_positive:
            reply = event.error  # law 7 (docs/architecture.md): such a body is never accepted, whatever the session says
        self._say(reply)
        if reply.is_positive:
            self._counters.messages += 1
        self._enter(State.READY)

    def _starttls_answered(self, event: StartTls, reply: Reply) -> None:
        if reply.code == 220 and self.buffered:
            self._unsynchronised(b"STARTTLS")  # docs/tls.md, CVE-2011-0411
            return
        self._say(reply)
        if reply.code == 220:
            self._enter(State.TLS)

    # ---- small things

    def _enter(self, state: State) -> None:
        """The one place where the state changes."""
        self._state = state
        self._verbs = _TABLE[state]
        if state is State.READY:
            self._recipients = self._rejected = 0
            self._body = None

    def _ask(self, question: Question) -> None:
        self._question = question
        self._events.append(question)

    def _forget(self) -> None:
        """Drop the mail transaction, if there is one."""
        if self.in_transaction:
            self._enter(State.READY)
            self._events.append(Reset())

    def _say(self, reply: Reply, enhanced: bool = True) -> None:
        self._out.append(serialise(reply, enhanced))

    def _count_rejected(self) -> None:
        self._rejected += 1
        self._counters.rejected += 1

    def _refuse(self, verb: bytes, reply: Reply, is_error: bool = True) -> None:
        if is_error and self._counters.errors >= self._options.max_errors:
            self._die(verb, wording.TOO_MANY_ERRORS)
            return
        self._counters.errors += is_error
        self._say(reply)
        self._events.append(Refused(verb.decode("ascii"), reply))

    def _die(self, verb: bytes, reply: Reply) -> None:
        """Refuse, and end."""
        self._counters.errors += 1
        self._events.append(Refused(verb.decode("ascii"), reply))
        self.shut(reply)

    def _unsynchronised(self, verb: bytes) -> None:
        self._die(verb, wording.NOT_SYNCHRONISED)


_VERBS: Final[Mapping[bytes, Callable[[Receiver, bytes], None]]] = {
    b"EHLO": Receiver._ehlo,
    b"HELO": Receiver._helo,
    b"STARTTLS": Receiver._starttls,
    b"AUTH": Receiver._auth,
    b"MAIL": Receiver._mail,
    b"RCPT": Receiver._rcpt,
    b"DATA": Receiver._data,
    b"RSET": Receiver._rset,
    b"NOOP": Receiver._noop,
    b"VRFY": Receiver._vrfy,
    b"HELP": Receiver._help,
    b"QUIT": Receiver._quit,
}
_TABLE: Final = {state: {verb: _VERBS[verb] for verb in verbs} for state, verbs in ALLOWED.items()}
_ANSWERS: Final[Mapping[type, Callable[[Receiver, Any, Reply], None]]] = {
    Hello: Receiver._hello_answered,
    MailFrom: Receiver._mail_answered,
    RcptTo: Receiver._rcpt_answered,
    BodyStart: Receiver._data_answered,
    BodyEnd: Receiver._body_answered,
    StartTls: Receiver._starttls_answered,
}
