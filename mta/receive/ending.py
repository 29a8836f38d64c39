"""How a connection from a client ends: out of time, because the service stops, by a bug, or when all is said.

RFC 5321 3.8 (421 before we close) and 4.5.3.2 (timeouts).  A running transaction gets its answer first wherever that can be: what
the queue commits must not be refused.  The last reply has CLOSING_TIME to be taken; who does not take it is cut off, and
so is whoever never began (a TLS handshake, a PROXY header).  The roster calls `expire` when the `deadline` is over.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.receive.flow import Flow
from mta.receive.limits.table import SESSION_TIME, TOO_LONG
from mta.receive.security import SLOT_TIME
from mta.status import Reply

if TYPE_CHECKING:
    from mta.receive.allowance import Allowance
    from mta.receive.listener import Listener
    from mta.receive.origin import Origin
    from mta.receive.security import Security
    from mta.receive.transaction import Transaction
    from mta.smtp.server import Receiver

__all__ = ["BROKEN", "CLOSING_TIME", "LAST_TRANSACTION", "LAST_WORDS", "Ending", "Stage"]

CLOSING_TIME: Final = 10.0  # seconds for the client to take our last reply and to close
LAST_WORDS: Final = 2.0  # the same when the service stops
LAST_TRANSACTION: Final = 600.0  # seconds that a transaction may run on when the session's time is over

TIMED_OUT: Final = Reply(421, "4.4.2", "Timeout, closing connection")
STOPPING: Final = Reply(421, "4.3.2", "Service is stopping, closing connection")
BROKEN: Final = Reply(421, "4.3.0", "Local error, closing connection")

_bugs = Logger(__name__)


class Stage(Enum):
    """Where the connection stands; the machine knows where the conversation does."""

    HEADER = "header"  # a proxy has yet to say for whom it has come; nothing else is known
    WAITING = "waiting"  # for the service, or for a handshake slot (implicit TLS); nothing is read
    TALKING = "talking"
    HANDSHAKE = "handshake"
    CLOSING = "closing"  # the last word was said
    GONE = "gone"


class Ending(Flow):
    """See the module.  deadline: `expire` is called then, in seconds of the reactor's clock.  why: it ended."""

    machine: Receiver
    security: Security
    origin: Origin
    allowance: Allowance
    address: str

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.common = listener.common
        self.stage = Stage.WAITING
        self.transaction: Transaction | None = None
        self.pending: Deferred[Any] | None = None  # it has the answer that the machine waits for
        self.overdue = False  # and its time is over
        self.deadline = 0.0
        self.why = ""
        self._until = inf  # the session's own time
        self._counted = False  # in common.connections
        self._turning = False
        self._stopping = False
        self._parting: Reply | None = None  # what is said when the running transaction is over

    def turn(self) -> None:
        """Act on what the machine has understood, then write once."""
        raise NotImplementedError

    # ---- what the service and the roster call

    def expire(self) -> None:
        """The deadline has passed."""
        over = self.stage is Stage.TALKING and self.common.clock.seconds() >= self._until
        if over and self._parting is not TOO_LONG:
            self._until += LAST_TRANSACTION
            self._touch()  # a running transaction has the usual time
            self.allowance.note("session", SESSION_TIME)
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
                self.why = "no PROXY header in time" if self.stage is Stage.HEADER else "TLS handshake timed out"
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

    def _wait_no_more(self) -> None:
        """Nobody has said anything for too long: the client, or somebody whom we asked."""
        if self.transaction is not None and self.transaction.storing:
            self._touch()  # the queue has its own deadline, and what it commits must not be refused
        elif self.pending is not None:
            self._touch()
            self.overdue = True
            self.pending.cancel()
        else:
            self.shut(BROKEN if self.transaction is not None and self.transaction.writing else TIMED_OUT)

    # ---- what everybody may call

    @property
    def is_gone(self) -> bool:
        """Nobody will hear an answer: the client went, or 421 was said."""
        return self.stage is Stage.GONE or self.stage is Stage.CLOSING

    def broken(self, failure: Failure) -> None:
        """A bug: the traceback for us, 421 for the client."""
        _bugs.failure("a session with {client} broke", failure, client=self.address)
        self.shut(BROKEN)

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
        if self.stage is Stage.HEADER:
            self.origin.missing(self.why)
        self.stage = Stage.CLOSING
        self.deadline = self.common.clock.seconds() + (LAST_WORDS if self._stopping else CLOSING_TIME)
        self.security.leave()
        self.flow()
        if self._counted:
            self.transport.unregisterProducer()  # else Twisted waits for us to finish
        self.transport.loseConnection()

    def _touch(self) -> None:
        """Something has happened: the client has its time anew (RFC 5321 4.5.3.2)."""
        timeouts = self.common.settings.timeouts
        reading = self.transaction is not None and self.transaction.reading
        deadline = self.common.clock.seconds() + (timeouts.data_block if reading else timeouts.command)
        self.deadline = deadline if deadline < self._until else self._until
