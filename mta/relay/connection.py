"""The wire under a session: bytes to the machine and back, one time limit at a time, and every way to an end.

One Twisted protocol for the whole life of a connection, also behind STARTTLS.  It writes once
for each turn and keeps the limits of RFC 5321 4.5.3.2 with one lazily armed timer.  What a phase means when the connection
ends in it stands in `TROUBLES`.  However the end comes, the owner hears `failed` exactly once, or nothing when it had
already let go; the connection then looks after its own QUIT, close or abort and leaves the pool when it is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final
from typing import Protocol as Shape

import attrs
from twisted.internet import error
from twisted.internet.interfaces import IAddress, IConnector, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from mta.config.settings import Timeouts
from mta.interfaces import ITlsReports
from mta.relay.deadline import Deadline
from mta.relay.destination import Fault, Trouble
from mta.relay.pool import Pool
from mta.relay.tally import Tally
from mta.smtp import event
from mta.smtp.client import Sender
from mta.status import Reply
from mta.tls.client import ClientTls
from mta.tls.policy import Achieved
from mta.wire import PromptWriter

if TYPE_CHECKING:
    from mta.relay.session import Session

__all__ = ["Conduct", "Connection", "Owner", "Phase"]

IN_CLEAR: Final = Achieved()


class Phase(Enum):
    """How far a connection has come; the value is how a failure in it is told."""

    CONNECTING = "while connecting"
    GREETING = "before the greeting"
    HELLO = "at EHLO"
    STARTTLS = "at STARTTLS"
    HANDSHAKE = "in the TLS handshake"
    TLS_HELLO = "at EHLO inside TLS"
    AUTH = "at AUTH"
    READY = "between two transactions"
    TRANSACTION = "in the transaction"
    IDLE = "while idle"
    TAKEDOWN = "while TLS is taken down"
    RETEST = "in clear text, after TLS was taken down"
    LEAVING = "at QUIT"
    CLOSED = "after the end"


# What it means when the connection ends or falls silent in a phase.
TROUBLES: Final = {
    Phase.CONNECTING: Trouble.CONNECT,
    Phase.GREETING: Trouble.GREETING,
    Phase.HELLO: Trouble.HELLO,
    Phase.STARTTLS: Trouble.T5,
    Phase.HANDSHAKE: Trouble.T6,
    Phase.TLS_HELLO: Trouble.T8,
    Phase.AUTH: Trouble.AUTH,
}


class Owner(Shape):
    """Who uses a connection now."""

    def ready(self, session: Session) -> None:
        """The greeting was heard, TLS is as it must be, EHLO was answered: transact."""

    def transacted(self, session: Session, done: event.Transacted) -> None:
        """The transaction is over, in order."""

    def failed(self, session: Session, fault: Fault) -> None:
        """The connection came to nothing.  It is not the owner's any more."""


@attrs.frozen(slots=True)
class Conduct:
    """What all connections of one relay have in common.

    reactor: IReactorTCP and IReactorTime.  reports: told of each new TLS session and of each that did not come to be.
    random: that many unforeseeable bytes.
    """

    hello: str
    timeouts: Timeouts
    starttls_timeout: float
    tls: ClientTls
    pool: Pool
    reactor: Any
    reports: ITlsReports | None = None
    random: Callable[[int], bytes] = os.urandom
    tally: Tally = attrs.Factory(Tally)


class Connection(Protocol):
    """The plumbing; `Session` has the conversation, and gives `actions` for the machine's events."""

    transport: Any = None
    actions: ClassVar[dict[type, Callable[[Any, Any], None]]]
    write: Callable[[bytes], None]

    def __init__(self, conduct: Conduct, owner: Owner) -> None:
        self.machine = Sender(conduct.hello)
        self.achieved = IN_CLEAR
        self.uses = 0  # transactions begun
        self.kept = False  # picked up at least once: what fails from then on is no fault of the host's TLS
        self._conduct = conduct
        self._owner: Owner | None = owner
        self._phase = Phase.CONNECTING
        self._clock: IReactorTime = conduct.reactor
        self._limits = _limits(conduct.timeouts)
        self._deadline = Deadline(self._clock, self._too_late)
        self._connector: IConnector | None = None
        self._done: event.Transacted | None = None
        self.began = self.opened = self._clock.seconds()

    # ---- the way up

    def connect(self, address: str, port: int, source: str) -> None:
        """Open the connection, from `source` where that is not ""."""
        conduct = self._conduct
        conduct.pool.joined(self)  # type: ignore[arg-type]
        conduct.tally.opened += 1
        bind = (source, 0) if source else None
        try:
            self._connector = conduct.reactor.connectTCP(address, port, _Once(self), conduct.timeouts.connect, bind)
        except Exception:  # no failure of the network is raised here: an address that is none, a bug
            conduct.pool.left(self)  # type: ignore[arg-type]
            raise

    def unconnected(self, reason: Failure) -> None:
        """No connection came to be."""
        self._phase = Phase.CLOSED
        self._conduct.pool.left(self)  # type: ignore[arg-type]
        self._tell(Fault(Trouble.CONNECT, Reply(451, "4.4.1", f"Cannot connect: {_short(reason)}")))

    def connectionMade(self) -> None:
        """The greeting is due."""
        self.opened = self._clock.seconds()
        if self._phase is Phase.CLOSED:  # it was given up meanwhile
            self.drop()
            return
        self._phase = Phase.GREETING
        self.write = PromptWriter(self.transport)
        self.transport.setTcpNoDelay(True)
        self._deadline.set(self._conduct.timeouts.greeting)

    # ---- bytes

    def dataReceived(self, data: bytes) -> None:
        """Feed the machine, act, write once."""
        if self._phase is Phase.IDLE or self._phase is Phase.CLOSED:
            self.drop()  # RFC 5321 3.8 allows 421 here; there is nobody to be told
            return
        machine = self.machine
        heard = machine.heard
        machine.receive_data(data)
        actions = self.actions
        while events := self.machine.events():
            for happened in events:
                actions[type(happened)](self, happened)
        self._turn(machine.heard > heard)  # part of a reply gains no time
        if self._done is not None:
            self._report()

    def _turn(self, gained: bool = True) -> None:
        """Write what there is, and wait for what is due: from now on, if something was gained or written."""
        phase = self._phase
        if phase is Phase.CLOSED:
            return
        if out := self.machine.data_to_send():
            self.write(out)
        if (gained or out) and phase is not Phase.HANDSHAKE and phase is not Phase.LEAVING:
            self._deadline.set(self._limits[self.machine.awaiting])

    def _report(self) -> None:
        """Tell the owner of the transaction that is over."""
        raise NotImplementedError

    def _loosen(self) -> None:
        """Let go of what a transaction holds."""
        raise NotImplementedError

    # ---- the end

    @property
    def after_dot(self) -> bool:
        """The end of the body was given to the transport and its reply has not come: the message may have been taken."""
        return self._phase is Phase.TRANSACTION and self.machine.body_ended

    def _give_up(self, fault: Fault, cut: bool = False) -> None:
        """End the connection, with QUIT unless cut, and tell the owner."""
        if self._done is not None:  # the transaction is over; only the connection is spoilt, `_report` will see it
            self.drop()
            return
        if cut:
            self.drop()
        else:
            self._say_quit()
        self._tell(fault)

    def _tell(self, fault: Fault) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.failed(self, fault)  # type: ignore[arg-type]

    def quit(self) -> None:
        """QUIT, wait a moment for the answer, close (RFC 5321 4.1.1.10)."""
        self._owner = None
        self._say_quit()

    def abandon(self) -> None:
        """Close without a word; the owner has what he wanted, and hears no more."""
        self._owner = None
        self.drop()

    @property
    def leaving(self) -> bool:
        """Nothing more will be asked of it."""
        return self._phase is Phase.LEAVING or self._phase is Phase.CLOSED

    @property
    def shaking(self) -> bool:
        """A TLS handshake is under way."""
        return self._phase is Phase.HANDSHAKE

    @property
    def idling(self) -> bool:
        """It waits for the next delivery."""
        return self._phase is Phase.IDLE

    def give_way(self) -> None:
        """It idles, and its place is wanted: QUIT."""
        self._conduct.pool.forget(self)  # type: ignore[arg-type]
        self.quit()

    @property
    def unused(self) -> bool:
        """Not ready for a transaction yet: nothing is lost when it is cut."""
        return self._phase in TROUBLES

    def _say_quit(self) -> None:
        if self.leaving:
            return
        self._phase = Phase.LEAVING
        self.machine.quit()
        self._turn()
        self._deadline.set(self._conduct.timeouts.quit)

    def _close(self) -> None:
        """Close in order; a peer that does not close TLS in its turn is cut off after the same short time."""
        self._phase = Phase.CLOSED
        self._deadline.set(self._conduct.timeouts.quit)
        self.transport.loseConnection()

    def drop(self) -> None:
        """Close without a word.  Nobody picks it up any more, though the transport tells its end only a turn later."""
        self._conduct.pool.forget(self)  # type: ignore[arg-type]
        self._loosen()
        self._phase = Phase.CLOSED
        self._deadline.stop()
        if self.transport is not None:
            self.transport.abortConnection()
        elif self._connector is not None:
            self._connector.disconnect()

    def cut(self) -> None:
        """The service stops and can wait no longer."""
        self._give_up(self._loss("cut"), cut=True)

    def _too_late(self) -> None:
        """A time limit has passed."""
        if self._phase is Phase.LEAVING:
            self._close()
        elif self._phase is Phase.CLOSED:
            self.drop()
        else:
            self._give_up(self._loss("timed out"), cut=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over, by us or by the peer."""
        self._deadline.stop()
        fault = self._loss(f"lost ({_short(reason)})")
        self._phase = Phase.CLOSED
        self._loosen()
        self._conduct.pool.left(self)  # type: ignore[arg-type]
        self._tell(fault)

    def _loss(self, how: str) -> Fault:
        """The fault when the connection ends now."""
        text = f"Connection {how} {self._phase.value}"
        if self.after_dot:
            return Fault(self._trouble(how), Reply(451, "4.4.2", f"{text}, after the end of data: result unknown"), True)
        trouble = self._trouble(how)
        return Fault(trouble, Reply(451, "4.7.5" if trouble.is_tls else "4.4.2", text))

    def _trouble(self, how: str) -> Trouble:
        """TLS that dies in its first transaction is a TLS fault (T9: Exchange 2003 did so); silence is not, nor is an
        end that we make ourselves, nor one after TLS has carried a message."""
        first = self._phase is Phase.TRANSACTION and not self.kept
        if first and self.achieved.version and how not in ("timed out", "cut"):
            return Trouble.T9
        return TROUBLES.get(self._phase, Trouble.LOST)


class _Once(ClientFactory):
    """A factory for one connection."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """Called when TCP is connected."""
        return self._connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Called when it is not."""
        self._connection.unconnected(reason)


def _limits(timeouts: Timeouts) -> dict[str, float]:
    """How long each reply may take, by the machine's word for it; "" is a body on its way."""
    return {
        "": timeouts.data_block,
        "greeting": timeouts.greeting,
        "hello": timeouts.hello,
        "starttls": timeouts.mail,
        "auth": timeouts.mail,
        "mail": timeouts.mail,
        "rcpt": timeouts.rcpt,
        "data": timeouts.data,
        "chunk": timeouts.data_block,
        "end_of_data": timeouts.end_of_data,
        "rset": timeouts.rset,
        "quit": timeouts.quit,
    }


def _short(reason: Failure) -> str:
    """What happened, in a few words for the log."""
    value = reason.value
    if isinstance(value, error.ConnectionDone):
        return "closed by the peer"
    if isinstance(value, error.TimeoutError):
        return "timed out"
    if isinstance(value, error.ConnectError) and value.osError is not None:
        return f"{value.__class__.__name__}: errno {value.osError}"
    detail = value.args[0] if value is not None and value.args else ""
    if isinstance(detail, list) and detail:  # OpenSSL: [(library, function, reason)]
        detail = detail[0][-1]
    return str(detail) or value.__class__.__name__
