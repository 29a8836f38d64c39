"""The receiver-SMTP as a machine: RFC 5321 3 and 4, RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 4954 (AUTH), without I/O.

Bytes in (`receive_data`), events out (`events`), bytes to send (`data_to_send`): conversation.py; BDAT: chunking.py.  The laws:

1. Nothing is parsed while an event waits for its answer; `reply` lets it go on, and decides which state follows.
2. `ALLOWED` (order.py) says which verbs may come in which state; others are 503.  Verbs are looked up, never called by name.
   A gate stands before it where TLS or AUTH must come first.
3. Only CRLF ends a command line.  A bare CR, a bare LF or a NUL is refused with 500 and ends the conversation.
4. Bytes that lie behind EHLO, HELO, DATA, STARTTLS or a challenge when these are answered, or that came before the
   greeting, were sent without waiting (RFC 2920 3.1): 554, end.  So nothing crosses the border to TLS or into a body.
5. After 220 to STARTTLS the machine is dead: a fresh one with the same `Counters` takes its place.  It knows nothing of
   EHLO, AUTH or a transaction (RFC 3207 4.2); the limits go on where they were.
6. No reply contains what the client said, and no event but `Auth` has a word of an AUTH exchange.

`receive_data` never raises.  `ended` means: send what there is to send, then close.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from mta.smtp import wording
from mta.smtp.auth import begin, refuse
from mta.smtp.chunking import Chunking
from mta.smtp.command import BINARYMIME, SMTPUTF8, parse_hello, parse_mail, parse_nothing, parse_rcpt, parse_vrfy
from mta.smtp.conversation import Event
from mta.smtp.data import BodyReader
from mta.smtp.event import Auth, AuthStep, BodyEnd, BodyStart, ChunkEnd, Hello, MailFrom, Quit, RcptTo, Reset, StartTls, Verify
from mta.smtp.extension import EXTRAS, offer, parameters_of
from mta.smtp.options import Counters, ReceiverOptions
from mta.smtp.order import ALLOWED, State, gate
from mta.smtp.terms import PARAMETERS as TERMS
from mta.smtp.terms import read_terms
from mta.smtp.xclient import NOT_FORWARDED, XCLIENT, XFORWARD, parse_xclient, parse_xforward
from mta.status import MailError, Reply

__all__ = ["Counters", "Event", "Receiver", "ReceiverOptions"]

_STARTTLS_MAX: Final = 3  # in one connection (docs/tls.md)

_Acts: TypeAlias = Mapping[bytes, Callable[[Any, bytes], None]]


def _reached(count: int, limit: int) -> bool:
    """0 is no limit."""
    return 0 < limit <= count


def _table(acts: _Acts) -> Mapping[State, _Acts]:
    """What each verb does in each state where it may come."""
    return {state: {verb: acts[verb] for verb in verbs} for state, verbs in ALLOWED.items()}


class Receiver(Chunking):
    """One conversation, or the part of it before or in TLS.

    in_tls: TLS was begun by STARTTLS: there is no greeting.  implicit: TLS was there from the first byte (RFC 8314), or
    before XCLIENT.  authenticated: XCLIENT has named a login.  forwarded: what XFORWARD has said for the log.
    """

    __slots__ = (
        "_extras",
        "_in_tls",
        "_offer",
        "_secure",
        "_utf8",
        "_withheld",
        "authenticated",
        "extended",
        "hello_name",
    )

    def __init__(
        self,
        options: ReceiverOptions,
        counters: Counters,
        in_tls: bool = False,
        implicit: bool = False,
        authenticated: bool = False,
    ) -> None:
        super().__init__(options, counters, State.CONNECTED if in_tls else State.SILENT)
        self._in_tls = in_tls
        self._secure = in_tls or implicit
        self._utf8 = False  # MAIL had SMTPUTF8
        self._offer = offer(options, self._secure)
        self._extras = parameters_of(EXTRAS.intersection(self._offer.keys()))
        self._withheld = parameters_of(options.withhold)
        self.hello_name = ""
        self.extended = False  # EHLO, not HELO
        self.authenticated = authenticated  # 235 was said
        self._set_gate()

    # ---- what the session sees

    def greet(self) -> None:
        """Say 220; a client that spoke before it gets 554 instead."""
        if self._state is not State.SILENT:
            return
        if self.buffered:
            self._unsynchronised(b"")
            return
        self._enter(State.CONNECTED)
        self._say(Reply(220, "", f"{self._options.hostname} ESMTP"), enhanced=False)

    # ---- commands

    def _ehlo(self, argument: bytes) -> None:
        self._ask(Hello(parse_hello(argument), extended=True))

    def _helo(self, argument: bytes) -> None:
        self._ask(Hello(parse_hello(argument), extended=False))

    def _auth(self, argument: bytes) -> None:
        """RFC 4954 4: when AUTH may come; what it may say is in auth.py."""
        options = self._options
        if not (options.auth or options.auth_elsewhere) or "AUTH" in options.withhold:
            self._refuse(b"AUTH", wording.NOT_IMPLEMENTED)
        elif not self.extended:
            self._refuse(b"AUTH", wording.HELLO_FIRST)
        elif self.in_transaction:
            self._refuse(b"AUTH", wording.IN_TRANSACTION)
        elif self.authenticated:
            self._refuse(b"AUTH", wording.AUTH_DONE)
        elif _reached(self._counters.auth_failures, options.max_auth_failures):
            self._die(b"AUTH", wording.TOO_MANY_LOGINS)
        else:
            self._exchange, step = begin(argument, options)
            self._go_on(step)

    def _mail(self, argument: bytes) -> None:
        options, counters = self._options, self._counters
        if _reached(counters.transactions, options.max_transactions):
            self._die(b"MAIL", wording.TOO_MANY_TRANSACTIONS)
        elif _reached(counters.recipients, options.max_recipients_total):
            self._die(b"MAIL", wording.TOO_MANY_IN_ALL)
        else:
            event = parse_mail(argument, options.max_size, self._extras, self._withheld)
            if event.parameters and not TERMS.isdisjoint(event.parameters):
                now = options.now() if options.now is not None else 0.0
                terms = read_terms(event.parameters, options.deliver_by or 0, options.future_release, now)
                if terms.priority > 0 and options.priority_by_login and not self.authenticated:
                    terms = attrs.evolve(terms, priority=0, lowered=True)
                event = attrs.evolve(event, terms=terms)
            self._ask(event)

    def _rcpt(self, argument: bytes) -> None:
        options = self._options
        if self._recipients >= options.max_recipients or _reached(self._counters.recipients, options.max_recipients_total):
            self._count_rejected()
            self._refuse(b"RCPT", wording.TOO_MANY_RECIPIENTS, is_error=False)  # no mistake: the rest comes in another mail
            return
        try:
            self._ask(parse_rcpt(argument, self._utf8, self._withheld))
        except MailError:
            self._count_rejected()
            raise

    def _data(self, argument: bytes) -> None:
        parse_nothing(argument)
        if self._recipients and not self._binary:
            self._ask(BodyStart())
        elif self.buffered:
            self._unsynchronised(b"DATA")
        elif self._binary:
            self._refuse(b"DATA", wording.BINARY_NEEDS_BDAT)
        else:
            self._refuse(b"DATA", wording.NO_VALID_RECIPIENT if self._rejected else wording.RCPT_FIRST)

    def _starttls(self, argument: bytes) -> None:
        """The checks of docs/tls.md in their order; those that need more than the wire are the session's."""
        options = self._options
        if argument:
            self._refuse(b"STARTTLS", wording.STARTTLS_SYNTAX)
        elif self._in_tls:
            self._refuse(b"STARTTLS", wording.TLS_ACTIVE)
        elif "STARTTLS" not in self._offer:
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

    def _xclient(self, argument: bytes) -> None:
        """It begins the conversation anew, so it is the last command of its group like EHLO (RFC 2920 3.1)."""
        if self._may(b"XCLIENT", XCLIENT):
            event = parse_xclient(argument)
            if self.buffered:
                self._unsynchronised(b"XCLIENT")
            else:
                self._ask(event)

    def _xforward(self, argument: bytes) -> None:
        if self._may(b"XFORWARD", XFORWARD):
            self.forwarded = parse_xforward(argument, self.forwarded)
            self._say(wording.OK)

    def _may(self, verb: bytes, offered: str) -> bool:
        if offered not in self._options.entitled:
            self._refuse(verb, wording.NOT_ENTITLED)
        elif self.in_transaction:
            self._refuse(verb, wording.IN_TRANSACTION)
        else:
            return True
        return False

    def _rset(self, argument: bytes) -> None:
        parse_nothing(argument)
        self.forwarded = NOT_FORWARDED
        if self.in_transaction:
            self._enter(State.READY)
        self._events.append(Reset())
        self._say(wording.OK)

    def _noop(self, argument: bytes) -> None:
        self._say(wording.OK)  # RFC 5321 4.1.1.9: an argument is ignored

    def _vrfy(self, argument: bytes) -> None:
        """RFC 5321 3.5.3 and 7.3: a site may say 252, and nothing of who is here."""
        if self._options.vrfy == "off":
            self._refuse(b"VRFY", wording.NOT_IMPLEMENTED)
            return
        address = parse_vrfy(argument)
        if address is None or self._options.vrfy == "252":
            self._say(wording.WILL_TRY)
        else:
            self._ask(Verify(address))

    def _help(self, argument: bytes) -> None:
        self._say(wording.HELP_TLS if "STARTTLS" in self._offer else wording.HELP)

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
            lines = [f"{keyword} {words}".rstrip() for keyword, words in self._offer.items()]
            text = "\n".join((text, *lines, *options.entitled))
        self._say(Reply(reply.code, "", text), enhanced=False)

    def _auth_answered(self, event: Auth, reply: Reply) -> None:
        refusal = refuse(event.credentials.mechanism, reply)
        if refusal is not None:
            self._exchange, reply = refusal
        self._say(reply)
        if reply.code == 235:
            self.authenticated = True
            self._set_gate()
        else:  # 454 is our own trouble
            self._counters.auth_failures += refusal is not None or reply.is_permanent

    def _step_answered(self, event: AuthStep, reply: Reply) -> None:
        """The session cannot help: AUTH ends without credentials."""
        self._exchange = None
        self._say(reply)
        self._counters.auth_failures += reply.is_permanent

    def _mail_answered(self, event: MailFrom, reply: Reply) -> None:
        self._say(wording.LOWERED if event.terms.lowered and reply.is_positive else reply)
        if reply.is_positive:
            self._utf8 = bool(event.flags & SMTPUTF8)
            self._binary = bool(event.flags & BINARYMIME)
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
        if self._chunk is not None:
            self._chunks_opened(self._chunk, reply)
            return
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
        self.forwarded = NOT_FORWARDED
        self._enter(State.READY)

    def _verify_answered(self, event: Verify, reply: Reply) -> None:
        self._say(reply)

    def _starttls_answered(self, event: StartTls, reply: Reply) -> None:
        if reply.code == 220 and self.buffered:
            self._unsynchronised(b"STARTTLS")  # docs/tls.md, CVE-2011-0411
            return
        self._say(reply)
        if reply.code == 220:
            self._enter(State.TLS)

    # ---- small things

    def _enter(self, state: State) -> None:
        super()._enter(state)
        if state is State.READY:
            self._recipients = self._rejected = 0
            self._chunks = None

    def _set_gate(self) -> None:
        options = self._options
        self._gate = gate(options.mail_requires, self._secure, self.authenticated, options.refuse_all)

    def _count_rejected(self) -> None:
        self._rejected += 1
        self._counters.rejected += 1

    # ---- the tables


Receiver.commands = _table(
    {
        b"EHLO": Receiver._ehlo,
        b"HELO": Receiver._helo,
        b"STARTTLS": Receiver._starttls,
        b"AUTH": Receiver._auth,
        b"MAIL": Receiver._mail,
        b"RCPT": Receiver._rcpt,
        b"DATA": Receiver._data,
        b"BDAT": Chunking._bdat,
        b"RSET": Receiver._rset,
        b"NOOP": Receiver._noop,
        b"VRFY": Receiver._vrfy,
        b"HELP": Receiver._help,
        b"QUIT": Receiver._quit,
        b"XCLIENT": Receiver._xclient,
        b"XFORWARD": Receiver._xforward,
    }
)
Receiver.answers = {
    Hello: Receiver._hello_answered,
    Auth: Receiver._auth_answered,
    AuthStep: Receiver._step_answered,
    MailFrom: Receiver._mail_answered,
    RcptTo: Receiver._rcpt_answered,
    Verify: Receiver._verify_answered,
    BodyStart: Receiver._data_answered,
    ChunkEnd: Chunking._chunk_answered,
    BodyEnd: Receiver._body_answered,
    StartTls: Receiver._starttls_answered,
}
