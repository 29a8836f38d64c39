"""One connection from a client: who has come, bytes, the turn of the machine.  TLS is in `security.py`, what is said on it in
`session.py`, how it ends in `ending.py`, who the client is in `origin.py`.

A Twisted protocol around the receiver-SMTP (`mta.smtp.server`) that keeps
the promises about the connection: where TLS begins a *fresh* machine takes the place of the old one, and only the
counters and the clock of the session go on; input that nobody takes and output that nobody reads stop the reading.
What breaks in here costs this connection (421), never the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mta.receive.access import Address
from mta.receive.allowance import Allowance
from mta.receive.ending import BROKEN, Ending, Stage
from mta.receive.limits.table import Limit
from mta.receive.listener import Listener
from mta.receive.origin import HEADER_TIME, Origin, Whence
from mta.receive.security import Security
from mta.smtp.server import Counters, Event, Receiver, ReceiverOptions
from mta.status import Reply
from mta.tls.context import Prepared
from mta.tls.policy import Achieved
from mta.wire import PromptWriter

if TYPE_CHECKING:
    from mta.receive.auth.accounts import Login

__all__ = ["Connection"]

MAX_UNPARSED: Final = 65536  # bytes of commands that wait for an answer; above it nothing is read

_bugs = Logger(__name__)


class Connection(Ending):
    """See the module.  A subclass says what an event of the machine is answered with (`acts`) and how the conversation begins."""

    acts: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]]
    machine: Receiver
    write: Callable[[bytes], None]
    whence: Whence
    address: str
    client: Address | None
    trusted: bool
    key: bytes

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self.implicit = listener.listen.tls == "implicit"
        self.security = Security(self)
        self.origin = Origin(self)
        self.allowance = Allowance(self)
        self.counters = Counters()
        self.login: Login | None = None  # who the client has proved to be
        self._early = b""  # of TLS, behind a PROXY header

    # ---- what Twisted calls

    def connectionMade(self) -> None:
        """Ask who has come."""
        self.write = PromptWriter(self.transport)
        self._began = self.common.clock.seconds()
        self._until = self._began + (self.common.settings.limits.session_time or inf)
        self._touch()
        self.common.roster.enter(self)
        self.origin.connected(self.transport.getPeer())

    def await_header(self) -> None:
        """It is a proxy, and says first for whom it has come."""
        self.stage = Stage.HEADER
        self.deadline = self._began + HEADER_TIME

    def arrived(self, early: bytes = b"", **more: object) -> None:
        """It is known who the client is: count it in, and begin unless the service is not ready.  early: it has said that."""
        common = self.common
        self.stage = Stage.WAITING
        self._touch()
        self.machine = self.fresh(self.listener.in_clear(self.client, self.trusted))
        if self.client is not None and ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # each reply is one write, and somebody waits for it
        over = self.allowance.arrives()
        if over is not None:
            self._turn_away(over)
            return
        self._counted = True
        self.transport.registerProducer(self, True)
        what = {"client": self.address, "port": self.whence.port, "proxy": self.origin.proxy, **more}
        common.log.event("connect", "", what)
        if self.implicit:
            self._early = early
        else:
            self.machine.receive_data(early)
        self.flow()
        if common.roster.open:
            self.begin()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the conversation, TLS taken off."""
        if self.stage is Stage.CLOSING:
            return
        if self.stage is Stage.HEADER:
            self.origin.hear(data)
            return
        if self.stage is Stage.TALKING and self.allowance.delays_input(data):
            return
        if self.machine.in_body:
            self._touch()  # elsewhere only a whole command gains time
            self.machine.receive_data(data)
            self.measure(len(data), self.machine.in_body)
        else:
            self.machine.receive_data(data)
        self.turn()

    def handshakeCompleted(self) -> None:
        """TLS is up: go on like a connection that has just begun (RFC 3207 4.2)."""
        if self.stage is not Stage.HANDSHAKE:
            return
        self.security.completed()
        self.stage = Stage.TALKING
        options = self.security.options()
        self.machine = self.fresh(options, in_tls=not self.implicit, implicit=self.implicit)
        self._touch()
        if self.implicit:
            self.welcome()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave nothing behind: no count, no slot, no body, no question."""
        why = self.why or self.security.ending(reason, self.stage is Stage.HANDSHAKE)
        if self.stage is Stage.HEADER:
            self.origin.missing(why)
        self.stage = Stage.GONE
        common = self.common
        self.security.leave()
        self.allowance.leave()
        if self._counted:
            self.machine.abandon()
            common.connections.leave(self.key)
            common.log.event("disconnect", "", self._summary(why))
        self.forget()
        common.roster.leave(self)
        if self.pending is not None:
            self.pending.cancel()  # last: it may call what an embedder wrote

    def heard(self) -> None:
        """The client has ended its side: answer what it has said, then close."""
        self.allowance.hurry()
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

    # ---- what the transaction calls

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

    def _turn_away(self, over: Limit) -> None:
        """Too many connections.  Nothing can be said in clear where TLS comes first."""
        self.allowance.note("connect", over)
        if not self.implicit and over.reply is not None:
            self.machine.shut(over.reply)
            self.write(self.machine.data_to_send())
        self.close()

    def _summary(self, why: str) -> Mapping[str, object]:
        return {
            "client": self.address,
            "proxy": self.origin.proxy,
            "helo": self.helo,
            "account": self.account or None,
            "why": why,
            "seconds": round(self.common.clock.seconds() - self._began, 3),
            **attrs.asdict(self.counters, recurse=False),
            "tls_version": self.achieved.version or None,
            "cipher": self.achieved.cipher or None,
            "tls_resumed": "yes" if self.achieved.resumed else None,
        }

    # ---- the turn

    def fresh(self, options: ReceiverOptions, **where: bool) -> Receiver:
        """A machine that knows nothing; only what is counted goes on."""
        return Receiver(self.listener.entitle(options, self.origin.first), self.counters, **where)

    def welcome(self) -> None:
        """The connection stands, in TLS where that comes first: begin the conversation."""
        raise NotImplementedError

    def refuse(self, stage: str, reply: Reply, **fields: object) -> None:
        """Answer no, and log it."""
        raise NotImplementedError

    def turn(self) -> None:
        """Act on what the machine has understood, then write once."""
        acts = self.acts
        self._turning = True
        try:
            while events := self.machine.events():  # XCLIENT puts a fresh machine in its place
                for event in events:
                    acts[type(event)](self, event)
        except Exception:
            _bugs.failure("a session with {client} broke", client=self.address)
            self.shut(BROKEN)
        self._turning = False
        machine = self.machine
        if out := machine.data_to_send():
            self.write(out)
            self._touch()
        if machine.ended:
            self.close()
        elif self.heard_all and not machine.asks:
            self.close(self.security.ending())
        elif self._parting is not None:
            self._part(self._parting)
        elif self._paused or machine.asks or machine.buffered:  # else nothing waits; whatever else fills up calls `flow` itself
            self.flow()

    @property
    def is_full(self) -> bool:
        """Not while closing: the end must be seen."""
        return self.stage is not Stage.CLOSING and (
            self._choked
            or self.stage is Stage.WAITING
            or self.allowance.delays
            or (self.stage is not Stage.HEADER and self.machine.buffered >= MAX_UNPARSED)
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
        self.origin.restore()
        self.write(self.machine.data_to_send())
        return True

    def shake_hands(self, prepared: Prepared, seconds: float) -> None:
        """The next byte is TLS.  The machine is dead: a fresh one takes its place when TLS is up.  seconds: until `expire`."""
        self.stage = Stage.HANDSHAKE
        self.common.tally.handshakes += 1
        self.write = self.transport.write
        self.deadline = self.common.clock.seconds() + seconds
        self.transport.startTLS(prepared)
        self.flow()
        if self._early:
            early, self._early = self._early, b""
            self.transport.protocol.dataReceived(early)  # that is the TLS layer now

    def forget(self) -> None:
        """What the client said and who it proved to be is no longer known: TLS begins (RFC 3207 4.2), or it has gone."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None
        if self.login is not None:
            self.login.leave()
            self.login = None


classImplements(Connection, IHandshakeListener)
