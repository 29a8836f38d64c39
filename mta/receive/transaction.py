"""One mail transaction, from MAIL to the queue's answer (RFC 5321 3.3, 4.1.1.2 to 4.1.1.5).

"250" to the end of data is said only when the queue's commit has returned; until then every way out leaves nothing
behind: a refusal, a full disk (452, the connection lives on), a client that goes away.  A client that goes while the
commit is under way has sent its message: it is kept, and the log says that nobody heard so.  The body goes to the
queue piece by piece; when the queue asks to wait, the session stops reading.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.envelope import Action, BodyRef, Flag, NewMessage, NewRecipient, Refusal, Ruling
from mta.receive.limits.connections import client_key
from mta.receive.trace import HEADER_TOO_BIG, TOO_MANY_HOPS, HeaderScan, protocol, received
from mta.smtp.dsn import both
from mta.smtp.event import BodyEnd, ChunkEnd, MailFrom, RcptTo
from mta.status import MailError, Reply

if TYPE_CHECKING:
    from mta.interfaces import IBodySink
    from mta.receive.session import Session

__all__ = ["LOCAL_ERROR", "Transaction"]

LOCAL_ERROR: Final = Reply(451, "4.3.0", "Local error in processing")
SENDER_OK: Final = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient ok")
CHUNK_OK: Final = Reply(250, "2.0.0", "Chunk received")
GO_AHEAD: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
NOT_OWNED: Final = Reply(553, "5.7.1", "Sender address rejected: not owned by user")
TOO_BUSY: Final = Reply(452, "4.3.1", "Too much mail is waiting, try again later")

SLOW: Final = 0.8  # the queue's pressure from which new mail is slowed down, up to MAX_DELAY at 1
MAX_DELAY: Final = 1.0  # seconds

_SMTPUTF8: Final = int(Flag.SMTPUTF8)  # plain numbers: arithmetic with enum flags is slow
_REQUIRETLS: Final = int(Flag.REQUIRETLS)
_TLS_REQUIRED_NO: Final = int(Flag.TLS_REQUIRED_NO)

_bugs = Logger(__name__)


class Transaction:
    """See the module.  A new one is made for each MAIL; the machine has checked the order of the commands.

    reading: the body is open.  writing: the queue takes no more of it just now.  storing: it has all, and will answer.
    """

    __slots__ = (
        "_began",
        "_discard",
        "_end",
        "_failed",
        "_header",
        "_hold",
        "_mail",
        "_recipients",
        "_sender",
        "_session",
        "_sink",
        "_unwritten",
        "reading",
        "storing",
        "writing",
    )
    source = "smtp"  # NewMessage.source

    def __init__(self, session: Session, mail: MailFrom) -> None:
        self._session = session
        self._mail = mail
        self._sender = mail.sender.address
        self._began = session.common.clock.seconds()
        self._recipients: dict[str, NewRecipient] = {}  # each once, in order
        self._sink: IBodySink | None = None
        self._header = HeaderScan()
        self._hold = self._discard = ""  # why
        self._unwritten: list[bytes] = []  # what came after the queue asked to wait: at most one read
        self._end: BodyEnd | ChunkEnd | None = None
        self._failed: Reply | None = None  # why the rest of the body is read for nothing
        self.reading = False
        self.writing = False
        self.storing = False

    # ---- the envelope

    def mail(self) -> None:
        """MAIL: may mail come in at all?"""
        session = self._session
        if session.allowance.refuses_mail():
            return
        sender, login = self._sender, session.login
        pressure = session.common.accept.pressure
        if pressure > 1:
            session.refuse("mail", TOO_BUSY, **{"from": sender})
        elif login is not None and not login.may_send(sender):
            session.refuse("mail", NOT_OWNED, **{"from": sender}, account=login.name)
        else:
            session.ask("mail", partial(self._sender_taken, pressure), self._about_sender)

    def _about_sender(self) -> dict[str, object]:
        return {"sender": self._sender, "size": self._mail.size, "parameters": self._mail.parameters}

    def _sender_taken(self, pressure: float) -> None:
        session = self._session
        if pressure <= SLOW:
            session.answer(SENDER_OK)
            return
        delay = min(MAX_DELAY, MAX_DELAY * (pressure - SLOW) / (1 - SLOW))
        later: Deferred[None] = deferLater(session.common.clock, delay)
        session.wait(later, "mail", lambda: session.answer(SENDER_OK))

    def rcpt(self, event: RcptTo) -> None:
        """RCPT: may this client send there, and is there a way?"""
        session = self._session
        if session.allowance.refuses_recipient(len(self._recipients)):
            return
        address = event.recipient.address
        reply = session.common.access.refusal(session.trusted or bool(session.account), event.recipient)
        if reply is None:
            way = session.common.router.route(address)
            if isinstance(way, Refusal):
                reply = way.reply
        if reply is not None:
            session.refuse("rcpt", reply, **{"from": self._sender, "to": address})
        else:
            taken = partial(self._recipient_taken, address, event)
            session.ask("rcpt", taken, lambda: {"sender": self._sender, "recipient": address})

    def _recipient_taken(self, address: str, event: RcptTo) -> None:
        """Whoever is named twice gets one copy, and its sender every report that either of them asked for."""
        notify, orcpt, known = event.notify, event.orcpt, self._recipients.get(address)
        if known is not None:
            notify, orcpt = both(known.notify, notify), known.orcpt or orcpt
        self._recipients[address] = NewRecipient(address, orcpt, notify)
        self._session.answer(RECIPIENT_OK)

    # ---- the body

    def data(self) -> None:
        """DATA: is there room?"""
        self._session.ask("data", self._open, self._envelope)

    def _open(self) -> None:
        try:
            self._sink = self._session.common.accept.create_body(len(self._recipients))
        except MailError as error:
            self._session.refuse("data", error.reply, why=error.reason or None, **{"from": self._sender})
            return
        self.reading = True
        self._session.answer(GO_AHEAD)

    def chunk(self, data: bytes) -> None:
        """A piece of the body."""
        self.reading = True
        self._header.feed(data)
        if self.writing:
            self._unwritten.append(data)
        elif self._failed is None:
            self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._sink is not None
        try:
            wait = self._sink.write(data)
        except MailError as error:
            self._fail(error)
            return
        if wait is not None:
            self.writing = True
            self._session.flow()
            wait.addErrback(self._not_written).addCallback(self._written).addErrback(self._session.broken)

    def _not_written(self, failure: Failure) -> None:
        self._fail(_error(failure))

    def _written(self, _: None) -> None:
        """The queue takes more: give it what has come meanwhile."""
        self.writing = False
        waiting, self._unwritten = self._unwritten, []
        if self._session.is_gone:
            return
        if waiting and self._failed is None:
            self._write(b"".join(waiting))
        if self._end is not None and not self.writing:
            self._close(self._end)
        self._session.flow()

    def _fail(self, error: MailError) -> None:
        """The rest of the body is read and forgotten: the client hears us at its end only."""
        if self._failed is None:
            self._failed = error.reply
            self._abort()

    def end(self, event: BodyEnd | ChunkEnd) -> None:
        """The end of data, or of a chunk of it: what is wrong with the message already ends it there (RFC 3030 2)."""
        if self.writing:
            self._end = event
        else:
            self._close(event)

    def _close(self, event: BodyEnd | ChunkEnd) -> None:
        session = self._session
        self.reading = False
        self._end = event
        reply = self._failed or event.error or self._fault()
        if reply is not None:
            self._refuse(reply)
        elif type(event) is ChunkEnd:
            self._end = None
            session.answer(CHUNK_OK)
        else:
            session.ask("end", self._store, lambda: {"size": event.size, **self._envelope()})

    def _fault(self) -> Reply | None:
        """What is wrong with the message, as far as it has come."""
        header, limits = self._header, self._session.common.settings.limits
        if 0 < limits.header_size < header.size:
            return HEADER_TOO_BIG
        return TOO_MANY_HOPS if header.hops > limits.received_hops else None

    # ---- to the queue

    def rule(self, ruling: Ruling) -> None:
        """A policy wants the message held, or thrown away; the first to say so gives the reason."""
        if ruling.action is Action.HOLD:
            self._hold = self._hold or ruling.reason or "policy"
        else:
            self._discard = self._discard or ruling.reason or "policy"

    def _store(self) -> None:
        assert self._sink is not None
        if self._session.allowance.refuses_message(len(self._recipients)):
            self._abort()
            return
        if self._discard:
            self._throw_away(self._sink.name)
            return
        self.storing = True
        self._sink.finish().addCallbacks(self._accept, self._not_accepted).addErrback(self._session.broken)

    def _throw_away(self, name: str) -> None:
        """The client hears what it always hears."""
        self._abort()
        session = self._session
        what = {"from": self._sender, "to": ",".join(self._recipients), "client": session.address}
        session.common.log.event("discarded", name, {**what, "why": self._discard})
        session.answer(_queued_as(name))

    def _accept(self, body: BodyRef) -> None:
        session = self._session
        if session.is_gone:  # nobody waits for the answer, and nothing was promised
            self.storing = False
            self._abort()
            session.allowance.not_stored(len(self._recipients))
            return
        try:
            stored = session.common.accept.accept(self._message(body))
        except Exception:
            stored = fail()
        stored.addCallbacks(self._accepted, self._not_accepted).addErrback(session.broken)

    def _message(self, body: BodyRef) -> NewMessage:
        assert self._sink is not None
        session, mail = self._session, self._mail
        by = mail.terms.deliver_by
        created = int(session.common.clock.seconds() * 1000)
        return NewMessage(
            id=self._sink.id,
            sender=self._sender,
            recipients=tuple(self._recipients.values()),
            body=body,
            prefix=self._prefix(self._sink.name, created / 1000),
            created=created,
            expires=created + session.common.lifetime,
            source=self.source,
            account=session.account or None,
            flags=self._flags(),
            envid=mail.envid,
            trace=session.traced(self._hold),
            lane_key=self._lane_key(),
            hold=self._hold,
            priority=mail.terms.priority,
            deliver_by=0 if by is None else int((self._began + by.seconds) * 1000),
        )

    def _prefix(self, name: str, seconds: float) -> bytes:
        """What stands in front of the body: our trace (RFC 5321 4.4), which no body may add to."""
        session = self._session
        trace = received(
            helo=session.helo,
            client=session.client,
            hostname=session.common.settings.hostname,
            with_protocol=self._protocol(),
            name=name,
            recipient=next(iter(self._recipients)) if len(self._recipients) == 1 else "",
            seconds=seconds,
            tls=session.achieved,
            client_name=session.client_name,
            priority=self._mail.terms.priority,
        )
        return trace + b"\r\n" if self._header.headless else trace

    def _flags(self) -> int:
        """RFC 8689 5: "TLS-Required: No" in the header lowers what is owed, unless REQUIRETLS was given."""
        by = self._mail.terms.deliver_by
        flags = self._mail.flags if by is None else self._mail.flags | by.flags
        if flags & _REQUIRETLS or not self._header.tls_required_no:
            return flags
        return flags | _TLS_REQUIRED_NO if self._session.common.settings.tls_client.allow_tls_required_no else flags

    def _protocol(self) -> str:
        session = self._session
        utf8 = bool(self._mail.flags & _SMTPUTF8)
        return protocol(session.extended, utf8, tls=bool(session.achieved.version), authenticated=bool(session.account))

    def _lane_key(self) -> str:
        """Whose turn it is (docs/queue.md): an account's; of our own the sender's domain's; a stranger may invent those."""
        if self._session.account:
            return f"account:{self._session.account}"
        domain = self._mail.sender.domain_key
        return domain if domain and self._session.trusted else client_key(self._session.client).hex()

    def _accepted(self, _: int) -> None:
        self.storing = False
        assert self._sink is not None
        assert self._end is not None
        session, sink, self._sink = self._session, self._sink, None
        fields: dict[str, object] = {
            "from": self._sender,
            "nrcpt": len(self._recipients),
            "size": self._end.size,
            "client": session.address,
            "proxy": session.origin.proxy,
            **session.machine.forwarded,
            "account": session.account or None,
            "helo": session.helo,
            "tls_version": session.achieved.version or None,
            "cipher": session.achieved.cipher or None,
            "delay": round(session.common.clock.seconds() - self._began, 3),
            "hold": self._hold or None,
            **self._mail.terms.facts,
        }
        if session.is_gone:
            fields["client_gone"] = "yes"  # it will send the message again (RFC 1047)
        session.common.log.event("accepted", sink.name, fields)
        session.answer(_queued_as(sink.name))

    def _not_accepted(self, failure: Failure) -> None:
        self.storing = False
        self._session.allowance.not_stored(len(self._recipients))
        error = _error(failure)
        self._refuse(error.reply, why=error.reason or None)

    # ---- ends

    def abandon(self) -> None:
        """The client is gone, or has begun anew.  What the queue is storing already is the queue's."""
        if not self.storing:
            self._abort()

    def _refuse(self, reply: Reply, **fields: object) -> None:
        self._abort()
        size = self._end.size if self._end else 0
        self._session.refuse("end", reply, **{"from": self._sender}, nrcpt=len(self._recipients), size=size, **fields)

    def _abort(self) -> None:
        if self._sink is not None:
            self._sink.abort()
            self._sink = None

    def _envelope(self) -> dict[str, object]:
        """For the policy."""
        return {"sender": self._sender, "recipients": tuple(self._recipients)}


def _queued_as(name: str) -> Reply:
    return Reply(250, "2.0.0", f"Ok: queued as {name}")


def _error(failure: Failure) -> MailError:
    """What the queue said; anything but a MailError is a bug, and passes."""
    if isinstance(failure.value, MailError):
        return failure.value
    _bugs.failure("the queue failed", failure)
    return MailError(LOCAL_ERROR, failure.getErrorMessage())
