"""One connection from a client: bytes, time and the end.  TLS is in `security.py`, what is said on it in `session.py`.

RFC 5321 3.8 and 4.5.3.2 (ends and timeouts).  A Twisted protocol around the receiver-SMTP (`mta.smtp.server`) that keeps
the promises about the connection: where TLS begins a *fresh* machine takes the place of the old one, and only the
counters and the clock of the session go on; input that nobody takes and output that nobody reads stop the reading.
What breaks in here costs this connection (421), never the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.receive.access import client_address
from mta.receive.flow import Flow
from mta.receive.limits import client_key
from mta.receive.listener import Listener
from mta.receive.security import SLOT_TIME, Security
from mta.smtp.server import Counters, Event, Receiver
from mta.status import Reply
from mta.tls.context import Prepared
from mta.tls.policy import Achieved
from mta.wire import PromptWriter

if TYPE_CHECKING:
    from mta.receive.auth import Login
    from mta.receive.transaction import Transaction

__all__ = ["Connection", "Stage"]

MAX_UNPARSED: Final = 65536  # bytes of commands that wait for an answer; above it nothing is read
CLOSING_TIME: Final = 10.0  # seconds for the client to take our last reply and to close
LAST_WORDS: Final = 2.0  # the same when the service stops
LAST_TRANSACTION: Final = 600.0  # seconds that a transaction may run on when the session's time is over

TIMED_OUT: Final = Reply(421, "4.4.2", "Timeout, closing connection")
TOO_LONG: Final = Reply(421, "4.4.2", "Session has lasted too long, closing connection")
STOPPING: Final = Reply(421, "4.3.2", "Service is stopping, closing connection")
BROKEN: Final = Reply(421, "4.3.0", "Local error, closing connection")

_bugs = Logger()


class Stage(Enum):
    """Where the connection stands; the machine knows where the conversation does."""

    WAITING = "waiting"  # for the service, or for a handshake slot (implicit TLS); nothing is read
    TALKING = "talking"
    HANDSHAKE = "handshake"
    CLOSING = "closing"  # the last word was said
    GONE = "gone"


@implementer(IHandshakeListener)
class Connection(Flow):
    """See the module.  A subclass says what an event of the machine is answered with (`acts`) and how the conversation begins."""

    acts: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]]
    machine: Receiver
    write: Callable[[bytes], None]

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.common = listener.common
        self.implicit = listener.listen.tls == "implicit"
        self.security = Security(self)
        self.stage = Stage.WAITING
        self.counters = Counters()
        self.transaction: Transaction | None = None
        self.login: Login | None = None  # who the client has proved to be
        self.deadline = 0.0
        self.pending: Deferred[Any] | None = None  # it has the answer that the machine waits for
        self.why = ""  # it ended
        self._counted = False  # in common.connections
        self._turning = False
        self._stopping = False
        self._parting: Reply | None = None  # what is said when the running transaction is over

    # ---- what Twisted calls

    def connectionMade(self) -> None:
        """Count the connection in, and begin unless the service is not ready."""
        common = self.common
        peer = self.transport.getPeer()
        self.write = PromptWriter(self.transport)
        self.address = str(getattr(peer, "host", "local"))
        self.client = client_address(self.address)
        self.trusted = common.access.trusts(self.client)
        self.key = client_key(self.client)
        self.machine = Receiver(self.listener.in_clear(self.client, self.trusted), self.counters)
        self._began = common.clock.seconds()
        self._until = self._began + (common.settings.limits.session_time or inf)
        self._touch()
        common.roster.enter(self)
        if self.client is not None and ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # each reply is one write, and somebody waits for it
        refusal = common.connections.enter(self.key, exempt=self.trusted)
        if refusal is not None:
            self._turn_away(refusal)
            return
        self._counted = True
        self.transport.registerProducer(self, True)
        common.log.event("connect", "", {"client": self.address, "port": getattr(peer, "port", 0)})
        self.flow()
        if common.roster.open:
            self.begin()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the conversation, TLS taken off."""
        if self.stage is Stage.CLOSING:
            return
        if self.transaction is not None and self.transaction.reading:
            self._touch()  # elsewhere only a whole command gains time
        self.machine.receive_data(data)
        self.turn()

    def handshakeCompleted(self) -> None:
        """TLS is up: go on like a connection that has just begun (RFC 3207 4.2)."""
        if self.stage is not Stage.HANDSHAKE:
            return
        self.security.completed()
        self.stage = Stage.TALKING
        options = self.listener.in_tls(self.trusted, self.security.distrust)
        self.machine = Receiver(options, self.counters, in_tls=not self.implicit, implicit=self.implicit)
        self._touch()
        if self.implicit:
            self.welcome()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave nothing behind: no count, no slot, no body, no question."""
        why = self.why or self.security.ending(reason, self.stage is Stage.HANDSHAKE)
        self.stage = Stage.GONE
        common = self.common
        self.security.leave()
        if self._counted:
            common.connections.leave(self.key)
            common.log.event("disconnect", "", self._summary(why))
        self.forget()
        common.roster.leave(self)
        if self.pending is not None:
            self.pending.cancel()  # last: it may call what an embedder wrote

    def heard(self) -> None:
        """The client has ended its side: answer what it has said, then close."""
        if self.stage is Stage.TALKING:
            self.turn()
        else:
            self.close(self.security.ending())

    # ---- what the service and the roster call

    def begin(self) -> None:
        """The service is ready: speak, or take the TLS handshake first."""
        if self.stage is not Stage.WAITING:
            return
        if self.implicit:
            self.security.ask()
            return
        self.stage = Stage.TALKING
        self.welcome()

    def expire(self) -> None:
        """The deadline has passed."""
        over = self.stage is Stage.TALKING and self.common.clock.seconds() >= self._until
        if over and self._parting is not TOO_LONG:
            self._until += LAST_TRANSACTION
            self._touch()  # a running transaction has the usual time
            self._part(TOO_LONG)
        elif over and not (self.transaction is not None and self.transaction.storing):
            self.shut(TOO_LONG)
        elif self.stage is Stage.TALKING:
            self._wait_no_more()
        elif self.stage is Stage.WAITING and not self.common.roster.open:
            self._touch()  # it is we who are late
        elif self.stage is Stage.HANDSHAKE and self.security.give_way():
            self.deadline += self.common.settings.tls.handshake_timeout - SLOT_TIME
        else:
            if self.stage is not Stage.CLOSING:
                self.why = "TLS handshake timed out"
            self.transport.abortConnection()

    def stop(self) -> None:
        """The service stops: end now, or when the running transaction has its answer."""
        self._stopping = True
        if self.stage is Stage.CLOSING:
            self.deadline = min(self.deadline, self.common.clock.seconds() + LAST_WORDS)
        else:
            self._part(STOPPING)

    def cut(self) -> None:
        """End now, whatever is going on."""
        if self.stage is Stage.TALKING:
            self.shut(STOPPING)
        elif self.stage is not Stage.GONE:
            self.why = self.why or str(self._parting or STOPPING)
            self.transport.abortConnection()

    def _part(self, reply: Reply) -> None:
        """Say that and end: now, or when the running transaction has its answer."""
        self._parting = reply
        if self.stage is not Stage.TALKING:
            self.cut()
        elif self.machine.in_transaction:
            self.flow()
        else:
            self.shut(reply)

    # ---- what the transaction calls

    @property
    def is_gone(self) -> bool:
        """Nobody will hear an answer: the client went, or 421 was said."""
        return self.stage is Stage.GONE or self.stage is Stage.CLOSING

    @property
    def achieved(self) -> Achieved:
        """What TLS there is, empty in clear."""
        return self.security.achieved

    @property
    def account(self) -> str:
        """The account that the client has logged in to, "" for none."""
        return self.login.name if self.login is not None else ""

    @property
    def helo(self) -> str:
        """The name the client gave, "" before it gave one."""
        return self.machine.hello_name

    @property
    def extended(self) -> bool:
        """It gave it by EHLO."""
        return self.machine.extended

    def answer(self, reply: Reply) -> None:
        """Answer the event that the machine waits with.  Too late an answer is dropped."""
        if self.stage is Stage.GONE:
            return
        self.machine.reply(reply)
        if not self._turning:
            self.turn()

    def broken(self, failure: Failure) -> None:
        """A bug: the traceback for us, 421 for the client."""
        _bugs.failure("a session with {client} broke", failure, client=self.address)
        self.shut(BROKEN)

    def _turn_away(self, reply: Reply) -> None:
        """Too many connections.  Nothing can be said in clear where TLS comes first."""
        self.common.log.event("rejected", "", {"stage": "connect", "client": self.address, "reply": str(reply)})
        if not self.implicit:
            self.machine.shut(reply)
            self.write(self.machine.data_to_send())
        self.close()

    def _wait_no_more(self) -> None:
        """Nobody has said anything for too long: the client, or somebody whom we asked."""
        if self.transaction is not None and self.transaction.storing:
            self._touch()  # the queue has its own deadline, and what it commits must not be refused
        elif self.pending is not None:
            self._touch()
            self.pending.cancel()
        else:
            self.shut(BROKEN if self.transaction is not None and self.transaction.writing else TIMED_OUT)

    def shut(self, reply: Reply) -> None:
        """Say that, whatever is going on, and close."""
        if self.stage is not Stage.GONE:
            self.why = self.why or str(reply)
            self.machine.shut(reply)
            if not self._turning:
                self.turn()

    def close(self, why: str = "") -> None:
        """Let the last reply leave, then close.  A client that does not take it is cut off by `expire`."""
        if self.stage in (Stage.CLOSING, Stage.GONE):
            return
        self.why = self.why or why
        self.stage = Stage.CLOSING
        self.deadline = self.common.clock.seconds() + (LAST_WORDS if self._stopping else CLOSING_TIME)
        self.security.leave()
        self.flow()
        if self._counted:
            self.transport.unregisterProducer()  # else Twisted waits for us to finish
        self.transport.loseConnection()

    def _summary(self, why: str) -> Mapping[str, object]:
        return {
            "client": self.address,
            "helo": self.helo,
            "account": self.account or None,
            "why": why,
            "seconds": round(self.common.clock.seconds() - self._began, 3),
            **attrs.asdict(self.counters, recurse=False),
            "tls_version": self.achieved.version or None,
            "cipher": self.achieved.cipher or None,
        }

    # ---- the turn

    def welcome(self) -> None:
        """The connection stands, in TLS where that comes first: begin the conversation."""
        raise NotImplementedError

    def refuse(self, stage: str, reply: Reply, **fields: object) -> None:
        """Answer no, and log it."""
        raise NotImplementedError

    def turn(self) -> None:
        """Act on what the machine has understood, then write once."""
        machine, acts = self.machine, self.acts
        self._turning = True
        try:
            while events := machine.events():
                for event in events:
                    acts[type(event)](self, event)
        except Exception:
            _bugs.failure("a session with {client} broke", client=self.address)
            self.shut(BROKEN)
        self._turning = False
        if out := machine.data_to_send():
            self.write(out)
            self._touch()
        if machine.ended:
            self.close()
        elif self.heard_all and not machine.asks:
            self.close(self.security.ending())
        elif self._parting is not None:
            self._part(self._parting)
        else:
            self.flow()

    def _touch(self) -> None:
        """Something has happened: the client has its time anew (RFC 5321 4.5.3.2)."""
        timeouts = self.common.settings.timeouts
        reading = self.transaction is not None and self.transaction.reading
        deadline = self.common.clock.seconds() + (timeouts.data_block if reading else timeouts.command)
        self.deadline = deadline if deadline < self._until else self._until

    @property
    def is_full(self) -> bool:
        """Not while closing: the end must be seen."""
        return self.stage is not Stage.CLOSING and (
            self._choked
            or self.stage is Stage.WAITING
            or self.machine.buffered >= MAX_UNPARSED
            or (self.transaction is not None and self.transaction.writing)
        )

    # ---- what the TLS side calls

    def leave_clear(self, ready: Reply) -> bool:
        """Answer STARTTLS with yes; False when the client did not wait for it (554 was said)."""
        self.machine.reply(ready)
        if self.machine.ended or self.heard_all:
            if not self._turning:
                self.turn()
            return False
        self.forget()
        self.write(self.machine.data_to_send())
        return True

    def shake_hands(self, prepared: Prepared, seconds: float) -> None:
        """The next byte is TLS.  The machine is dead: a fresh one takes its place when TLS is up.  seconds: until `expire`."""
        self.stage = Stage.HANDSHAKE
        self.write = self.transport.write
        self.deadline = self.common.clock.seconds() + seconds
        self.transport.startTLS(prepared)
        self.flow()

    def forget(self) -> None:
        """What the client said and who it proved to be is no longer known: TLS begins (RFC 3207 4.2), or it has gone."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None
        if self.login is not None:
            self.login.leave()
            self.login = None
