"""The sender-SMTP as a machine: RFC 5321 3 and 4, RFC 2920 (pipelining), RFC 3207 (STARTTLS), RFC 4954 (AUTH), without I/O.

Bytes in (`receive_data`), events out (`events`), bytes to send (`data_to_send`).  The laws:

1. Replies are matched with what was asked, in order.  A reply that nobody asked for ends it all (`Broken`), but for 421
   (`Ended`).  So do bytes that lay there before the question was sent, and bytes behind the reply to STARTTLS: they were
   injected (CVE-2021-38371).
2. After `Broken`, `Ended`, a negative answer to the RSET of a transaction, and `QuitAnswered` nothing is read or sent.
   `awaiting` still names what was due, `replies` what was answered of a transaction that was cut off.
3. The extensions are those of the last EHLO of this machine; a fresh machine behind STARTTLS knows none.
4. Mail data leaves in one way only (data.py), or in chunks (chunk_writer.py, RFC 3030) under BODY=BINARYMIME.  A body once
   begun must be ended: a session that cannot read the rest of it has no way but closing the connection.
5. AUTH is said only when the session asks for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from mta.smtp.chunk_writer import ChunkWriter
from mta.smtp.credentials import ClientExchange, Login, Terms, Undecodable, decode, encode
from mta.smtp.data import DotStuffer
from mta.smtp.event import (
    AuthAnswered,
    BodyWanted,
    Broken,
    Ended,
    Greeted,
    HelloAnswered,
    QuitAnswered,
    ResetAnswered,
    StartTlsAnswered,
    Transacted,
)
from mta.smtp.exchange import Exchange
from mta.smtp.extension import parse_extensions
from mta.smtp.grammar import MAX_COMMAND_LINE_SENT
from mta.smtp.reply import BadReply, ReplyParser
from mta.smtp.sasl import CLIENT, MUTUAL
from mta.smtp.transaction import Transaction, script, unfit
from mta.status import Reply

__all__ = ["Event", "Sender", "Transaction"]

Event: TypeAlias = (
    Greeted
    | HelloAnswered
    | AuthAnswered
    | StartTlsAnswered
    | ResetAnswered
    | BodyWanted
    | Transacted
    | QuitAnswered
    | Ended
    | Broken
)

_NO_TERMS: Final = Terms()
_NO_EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType({})
_TOO_MANY: Final = ("", "5.5.3")  # with 552: the recipients are too many, or the server says nothing else


class Sender:
    """One conversation, or the part of it before or in TLS.

    in_tls: TLS was begun by STARTTLS: no greeting comes, EHLO is the first word.  extensions: known already, for a
    conversation that another delivery has begun and hands over.
    """

    __slots__ = (
        "_due",
        "_events",
        "_exchange",
        "_helo",
        "_in_tls",
        "_mechanism",
        "_name",
        "_out",
        "_over",
        "_parser",
        "_responses",
        "_unproven",
        "extensions",
        "heard",
    )

    def __init__(self, name: str, in_tls: bool = False, extensions: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._in_tls = in_tls
        self._parser = ReplyParser()
        self._due: deque[str] = deque() if in_tls or extensions is not None else deque(("greeting",))
        self._events: list[Event] = []
        self._out: list[bytes] = []
        self._exchange: Exchange | None = None
        self._mechanism = ""  # of AUTH, while its answer is due
        self._responses: ClientExchange | None = None  # to its challenges; None when it was cancelled
        self._unproven = 0  # challenges to come before 235 is believed
        self._helo = False  # EHLO was refused
        self._over = False
        self.heard = 0  # whole replies
        self.extensions: Mapping[str, str] = _NO_EXTENSIONS if extensions is None else extensions

    # ---- what the session sees

    @property
    def awaiting(self) -> str:
        """The reply that is due: greeting, hello, starttls, auth, mail, rcpt, data, chunk, end_of_data, rset, quit, or ""."""
        return self._due[0] if self._due else ""

    @property
    def body_ended(self) -> bool:
        """The end of the body was sent, and its reply is due: the message may have been taken."""
        return "end_of_data" in self._due

    @property
    def is_idle(self) -> bool:
        """Nothing is due, nothing lies unread: this conversation may be handed on."""
        return not (self._over or self._due or self._exchange or self._parser.pending)

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The replies to RCPT so far, in order, of the transaction that goes on or was cut off by Ended or Broken."""
        return tuple(self._exchange.replies) if self._exchange else ()

    def receive_data(self, data: bytes) -> None:
        """Bytes from the server."""
        if self._over:
            return
        self._parser.receive(data)
        try:
            while not self._over and (reply := self._parser.take()):
                self._received(reply)
        except BadReply as error:
            self._break(str(error))

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

    def unfit(self, transaction: Transaction) -> Reply | None:
        """Why this server cannot take it (permanent), None when it can."""
        return unfit(transaction, self.extensions)

    # ---- what the session asks

    def hello(self) -> None:
        """EHLO; the machine says HELO by itself where EHLO is refused in clear."""
        self._ask("hello", f"EHLO {self._name}\r\n".encode("ascii"))

    def starttls(self) -> None:
        """STARTTLS, alone in its segment; offered or not (docs/tls.md: at mandatory levels it is tried always)."""
        self._ask("starttls", b"STARTTLS\r\n")

    def authenticate(self, mechanism: str, login: Login, terms: Terms = _NO_TERMS) -> None:
        """AUTH, and the responses to its challenges; `AuthAnswered` follows.  KeyError for a mechanism not in sasl.CLIENT."""
        self._mechanism, self._responses = mechanism, CLIENT[mechanism](login, terms)
        self._unproven = MUTUAL.get(mechanism, 0)
        command = f"AUTH {mechanism}\r\n".encode("ascii")
        if initial := next(self._responses):
            at_once = command[:-2] + b" " + encode(initial) + b"\r\n"
            command = at_once if len(at_once) <= MAX_COMMAND_LINE_SENT else command  # RFC 4954 4
        self._ask("auth", command)

    def reset(self) -> None:
        """RSET by itself."""
        self._ask("rset", b"RSET\r\n")

    def quit(self) -> None:
        """QUIT."""
        self._ask("quit", b"QUIT\r\n")

    def transact(self, transaction: Transaction, rset: bool = False) -> None:
        """Begin a transaction, with RSET in front of it if wanted; pipelined where that was offered (RFC 2920 3.1).

        ValueError for an address with a control character: ask `unfit` first.
        """
        steps = script(transaction, self.extensions, rset)
        if not self._may_ask():
            return
        exchange = self._exchange = Exchange(transaction, iter(steps), steps[-1][0] != "data")
        if "PIPELINING" in self.extensions:
            self._due.extend([awaited for awaited, _ in steps])
            self._out.append(b"".join([line for _, line in steps]))
            exchange.steps = iter(())
        else:
            self._step(exchange)

    def send_body(self, data: bytes) -> None:
        """The next bytes of the body, after BodyWanted."""
        exchange = self._exchange
        if exchange is None or exchange.stuffer is None or self._over:
            return
        if stuffed := exchange.stuffer.feed(data):
            self._out.append(stuffed)
            if exchange.chunked:
                self._due.append("chunk")

    def end_body(self) -> None:
        """The body is whole."""
        exchange = self._exchange
        if exchange is None or exchange.stuffer is None or self._over:
            return
        self._out.append(exchange.stuffer.end())
        self._due.append("end_of_data")

    # ---- asking

    def _may_ask(self) -> bool:
        """Not after the end, and not over bytes that would be taken for the answer (docs/tls.md)."""
        if not self._over and self._parser.pending and not self._due:
            self._break("bytes that nobody asked for")
        return not self._over

    def _ask(self, awaited: str, line: bytes) -> None:
        if self._may_ask():
            self._due.append(awaited)
            self._out.append(line)

    def _step(self, exchange: Exchange) -> None:
        """Say the next line, where lines go one by one."""
        for awaited, line in exchange.steps:
            if awaited == "data" and not exchange.accepted:
                self._finish(exchange, None, None)
            else:
                self._ask(awaited, line)
            return

    # ---- answers

    def _received(self, reply: Reply) -> None:
        self.heard += 1
        if reply.code == 421:  # RFC 5321 3.8: at any time
            self._over = True
            self._events.append(Ended(reply))
        elif self._due:
            _ANSWERS[self._due.popleft()](self, reply)
        else:
            self._break("a reply that nobody asked for")

    def _greeting_answered(self, reply: Reply) -> None:
        self._events.append(Greeted(reply))

    def _hello_answered(self, reply: Reply) -> None:
        if reply.is_permanent and not (self._helo or self._in_tls):  # RFC 5321 3.2; never in TLS (docs/tls.md)
            self._helo = True
            self._ask("hello", f"HELO {self._name}\r\n".encode("ascii"))
            return
        extensions = parse_extensions(reply) if reply.is_positive and not self._helo else {}
        # RFC 3207 4.2, RFC 8689 2: the one is offered in clear only, the other in TLS only; else ignored (docs/tls.md)
        extensions.pop("STARTTLS" if self._in_tls else "REQUIRETLS", None)
        self.extensions = extensions
        self._events.append(HelloAnswered(reply, extensions))

    def _starttls_answered(self, reply: Reply) -> None:
        if self._parser.pending:
            self._break("bytes behind the reply to STARTTLS")
            return
        self._over = reply.code == 220  # what comes now is TLS, and another machine's
        self._events.append(StartTlsAnswered(reply))

    def _auth_answered(self, reply: Reply) -> None:
        if reply.is_positive and self._unproven > 0:
            self._break("login taken by a server that has not proved to know the password")
        elif reply.code != 334:
            self._responses = None
            self._events.append(AuthAnswered(reply, self._mechanism))
        elif self._responses is None:
            self._break("AUTH goes on though it was cancelled")
        else:
            self._ask("auth", self._respond(self._responses, reply.text))

    def _respond(self, responses: ClientExchange, challenge: str) -> bytes:
        """The response to a challenge; RFC 4954 4: one that cannot be read, or is one too many, cancels."""
        try:
            response = encode(responses.send(decode(challenge.encode()))) + b"\r\n"
            self._unproven -= 1
            return response
        except (Undecodable, StopIteration):
            self._responses = None
            return b"*\r\n"

    def _rset_answered(self, reply: Reply) -> None:
        exchange = self._exchange
        if exchange is not None and reply.is_positive:
            self._step(exchange)
            return
        self._over = exchange is not None
        self._events.append(ResetAnswered(reply))

    def _mail_answered(self, reply: Reply) -> None:
        exchange = self._running()
        exchange.mail = reply
        if reply.is_positive:
            self._step(exchange)
        elif not self._due:
            self._finish(exchange, None, None)

    def _rcpt_answered(self, reply: Reply) -> None:
        exchange = self._running()
        if reply.code == 552 and exchange.accepted and reply.enhanced in _TOO_MANY:  # RFC 5321 4.5.3.1.10: 452 is meant
            reply = Reply(452, "4.5.3", f"Too many recipients: {reply}")
        exchange.replies.append(reply)
        exchange.accepted += reply.is_positive
        if not exchange.chunked:
            self._step(exchange)
        elif not self._due:
            self._begin_chunks(exchange)

    def _begin_chunks(self, exchange: Exchange) -> None:
        """Only when the recipients are known: a chunk must be read whole even where it is refused (RFC 3030 2)."""
        if exchange.accepted and not exchange.mail_refused:
            exchange.stuffer = ChunkWriter()
            self._events.append(BodyWanted())
        else:
            self._finish(exchange, None, None)

    def _chunk_answered(self, reply: Reply) -> None:
        """The refusal of a chunk is that of the message; those that are on their way are refused too (RFC 3030 2)."""
        exchange = self._running()
        exchange.refusal = exchange.refusal or (None if reply.is_positive else reply)
        if exchange.refusal is not None:
            exchange.stuffer = None
            if not self._due:
                self._finish(exchange, exchange.refusal, exchange.refusal)

    def _data_answered(self, reply: Reply) -> None:
        exchange = self._running()
        if reply.code != 354:
            if reply.is_positive or reply.is_intermediate:
                self._break("DATA was neither opened nor refused")
            else:
                self._finish(exchange, reply, None)
        elif not exchange.accepted:  # RFC 2920 3.1: it must be ended all the same
            self._due.append("end_of_data")
            self._out.append(b".\r\n")
        elif exchange.mail_refused:
            self._break("DATA was opened though MAIL was refused")  # a lone dot could be taken for a message
        else:
            exchange.stuffer = DotStuffer()
            self._events.append(BodyWanted())

    def _end_of_data_answered(self, reply: Reply) -> None:
        exchange = self._running()
        if exchange.refusal is not None:
            self._finish(exchange, exchange.refusal, exchange.refusal)
        else:
            self._finish(exchange, reply, reply if exchange.stuffer else None)

    def _quit_answered(self, reply: Reply) -> None:
        self._over = True
        self._events.append(QuitAnswered(reply))

    # ---- ends

    def _running(self) -> Exchange:
        assert self._exchange is not None, "mail, rcpt, data are due in a transaction only"
        return self._exchange

    def _finish(self, exchange: Exchange, decider: Reply | None, final: Reply | None) -> None:
        self._exchange = None
        self._events.append(Transacted(exchange.decided(decider), exchange.mail, final))

    def _break(self, reason: str) -> None:
        self._over = True
        self._events.append(Broken(reason))


_ANSWERS: Final[Mapping[str, Callable[[Sender, Reply], None]]] = {
    "greeting": Sender._greeting_answered,
    "hello": Sender._hello_answered,
    "starttls": Sender._starttls_answered,
    "auth": Sender._auth_answered,
    "mail": Sender._mail_answered,
    "rcpt": Sender._rcpt_answered,
    "data": Sender._data_answered,
    "chunk": Sender._chunk_answered,
    "end_of_data": Sender._end_of_data_answered,
    "rset": Sender._rset_answered,
    "quit": Sender._quit_answered,
}
