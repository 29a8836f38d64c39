"""The place of one worker: it is kept running there until it is told to stop.

Whoever ends without being told is started again (`restart.py` says when), by what the settings are then.  Each start that
succeeds, and each end, is a line of the log: `event=worker worker=N status=ready|ended|stopped reason=...`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from mta.control.socket import Answer
from mta.interfaces import IEventLog
from mta.status import MailError, transient
from mta.workers.child import Child
from mta.workers.restart import Backoff

__all__ = ["Post", "no_worker"]


class Post:
    """launch: starts a process for that number; OSError, ValueError.  ready: called whenever a worker is."""

    def __init__(
        self,
        number: int,
        reactor: IReactorTime,
        launch: Callable[[int], Child],
        log: IEventLog,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._reactor = reactor
        self._launch = launch
        self._log = log
        self._tell = ready
        self._backoff = Backoff()
        self._child: Child | None = None
        self.restarts = 0  # ends that nobody had asked for
        self._begun = 0.0
        self._again: IDelayedCall | None = None
        self._wanted = False

    @property
    def is_ready(self) -> bool:
        """It serves, and answers."""
        return self._child is not None and self._child.is_ready and not self._child.is_silent

    def start(self) -> Deferred[None]:
        """Fires when it serves; errbacks with a MailError when it has ended before, and then it is tried again later."""
        self._wanted, self._again = True, None
        self._begun = self._reactor.seconds()
        try:
            child = self._child = self._launch(self.number)
        except (OSError, ValueError) as error:
            self._lost(f"cannot be started: {error}")
            return fail(transient("4.3.2", "a worker cannot be started", reason=str(error)))
        child.ended.addCallback(self._ended, child)
        return child.ready.addCallback(self._ready)

    def _ready(self, _: None) -> None:
        self._log.event("worker", "", {"worker": self.number, "status": "ready"})
        self._tell()

    def _ended(self, why: str, child: Child) -> str:
        if self._child is child:
            self._child = None
            if self._wanted:
                self._lost(why)
            else:
                self._log.event("worker", "", {"worker": self.number, "status": "stopped", "reason": why})
        return why

    def _lost(self, why: str) -> None:
        self.restarts += 1
        delay = self._backoff.after(self._reactor.seconds() - self._begun)
        self._log.event("worker", "", {"worker": self.number, "status": "ended", "reason": why, "again_in": delay})
        self._again = self._reactor.callLater(delay, self.try_again)

    def try_again(self) -> None:
        """Start, and leave it to the log to say what comes of it."""
        self.start().addErrback(no_worker)

    def ask(self, request: Mapping[str, Any]) -> Deferred[Answer]:
        """What the worker says; errbacks with a MailError when it does not serve."""
        if self._child is None or not self._child.is_ready:
            return fail(transient("4.3.2", "a worker does not run", reason=f"worker {self.number} does not run"))
        return self._child.ask(request)

    def reopen(self) -> None:
        """Have it go on in a new log file, also one that does not serve yet."""
        if self._child is not None:
            self._child.ask({"command": "reopen"}).addErrback(no_worker)

    def stop(self, patience: float) -> Deferred[None]:
        """Fires when it has ended, and is not to be started again.  patience: seconds until it is killed."""
        self._wanted = False
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = None
        if self._child is None:
            return succeed(None)
        return self._child.stop(patience).addCallback(lambda _: None)


def no_worker(failure: Failure) -> None:
    """For those who need no answer: the log tells of a worker that is gone, or has not started."""
    failure.trap(MailError)  # type: ignore[no-untyped-call]
