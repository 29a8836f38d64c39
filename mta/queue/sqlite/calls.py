"""How calls reach the writer of the durable queue, and how bodies that are files become the queue's with them.

The lowest part of `SqliteQueue` (engine.py): what has gathered in a turn of the reactor is handed over as one batch.  A
call that comes before the queue is open, or after it began to close, fails with 4.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime

from mta.envelope import NewMessage
from mta.queue.body import Spool
from mta.queue.ids import Generator
from mta.queue.sqlite.operation import Ask, Change, Operation
from mta.queue.sqlite.reads import Reads
from mta.queue.sqlite.sweep import Sweep
from mta.queue.sqlite.writer import FAILED, Writer
from mta.queue.state import Carried
from mta.status import MailError, transient

__all__ = ["Calls", "Reactor"]

T = TypeVar("T")

PATIENCE = 0.005  # seconds that settlements wait for somebody to share a sync with


class Reactor(IReactorFromThreads, IReactorTime):
    """What is asked of the reactor."""


class Calls:
    """now: ms since the epoch.  The writer, the readers, the spool and the sweep are there from the start on."""

    writer: Writer
    _path: Path
    _reads: Reads
    _spool: Spool
    _sweep: Sweep

    def __init__(self, reactor: Reactor, now: Callable[[], int]) -> None:
        self._reactor = reactor
        self._now = now
        self._ids: Generator | None = None  # None: not started
        self._gathered: list[Operation] = []  # for the next batch
        self._urgent = False  # somebody waits for one of them
        self._writing = 0  # operations that the writer has and has not answered
        self._launch: IDelayedCall | None = None

    def _change(self, work: Callable[[apsw.Connection, list[int]], Any]) -> Deferred[Any]:
        return self._submit(Change(work))

    def _ask(self, work: Callable[[apsw.Connection], Any]) -> Deferred[Any]:
        return self._submit(Ask(work))

    def _submit(self, operation: Operation) -> Deferred[Any]:
        if self._ids is None:
            return self._not_running()
        self._gathered.append(operation)
        if not (operation.patient or self._urgent):
            self._urgent = True
            if self._launch is not None:
                self._launch.reset(0)
        if not self._writing and self._launch is None:
            self._launch = self._reactor.callLater(0 if self._urgent else PATIENCE, self._write)
        return operation.deferred

    def _go_on(self) -> None:
        """The writer is idle again."""
        if self._urgent:
            self._write()
        elif self._gathered:
            self._launch = self._reactor.callLater(PATIENCE, self._write)

    def _write(self) -> None:
        """Hand everything that has gathered to the writer: one batch, one wake-up of its thread, one sync.

        While it writes, operations gather here and not in its inbox: the two threads share the interpreter's lock, and
        a batch of 3 costs them nearly what a batch of 30 costs (measured).  What somebody waits for is not delayed: when
        the writer is idle the batch is what this turn of the reactor has brought.  Settlements alone, for which nobody
        waits, are: a client that sends one message after the other would wait for the sync of each and of its settlement.
        """
        self._launch, self._urgent = None, False
        gathered, self._gathered = self._gathered, []
        self._writing += len(gathered)
        self.writer.submit(gathered)

    def _not_running(self) -> Deferred[Any]:
        return fail(transient("4.3.2", "the queue is not running"))

    def _running(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        """The coroutine that `work` makes, if the queue runs."""
        return self._not_running() if self._ids is None else Deferred.fromCoroutine(work())

    # -- bodies

    def _give(self, messages: Sequence[NewMessage | Carried]) -> MailError | None:
        """Large bodies become the queue's; an error when a file that a row would name is not there (R6)."""
        given: list[int] = []
        for message in messages:
            if message.body.data is None:
                if not self._spool.give(message.id):
                    for id in given:
                        self._spool.stored(id, False)
                    return transient("4.3.0", "the body is not there", reason=f"message {message.id}")
                given.append(message.id)
        return None

    def _stored(self, messages: Sequence[NewMessage | Carried], error: MailError | None, in_spite: Container[int] = ()) -> None:
        """They are in the file, or an error says why not."""
        if error is FAILED:
            return  # a row may name a file of these: they are not touched
        for message in messages:
            stored = error is None or message.id in in_spite
            if stored and not message.return_by:
                self._sweep.stored(message.id, message.expires)
            if message.body.data is None:
                self._spool.stored(message.id, stored)
