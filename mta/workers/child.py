"""A worker as its supervisor sees it: one process, from its start to its end.

What it writes to standard error is logged line by line: what it says last is the reason when it ends.  It is asked by `ask`;
nobody waits for an answer of a process that is gone.  An answer may take hours, but while one is owed the process is asked for
a sign of life every `PULSE` seconds: one that gives none hangs.  It is silent then, and asked nothing more until it says
something.  `stop` is SIGTERM, and SIGKILL for whoever has not ended in time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mta.control.socket import Answer
from mta.status import MailError, transient
from mta.workers.frame import FROM_WORKER, READY, TO_WORKER, Errand, Frames, packed
from mta.workers.frame import said as answers

__all__ = ["PULSE", "Child", "spawn"]

REASON: Final = "mta: "  # begins a line that says why a process of ours ends (process.py)
PULSE: Final = 20.0  # seconds; who hangs is found out after twice that, and `mta queue` waits for 60
LINE: Final = 8192  # bytes of a line of standard error that are kept


class Child(ProcessProtocol):
    """said: told each line of its standard error.  ValueError: no frame can hold the errand.

    ready: fires when it serves; errbacks with a MailError when it has ended before.  ended: fires with the reason, in words.
    """

    transport: Any

    def __init__(self, reactor: Any, errand: Errand, said: Callable[[str], None]) -> None:
        self.errand = errand
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[str] = Deferred()
        self.is_ready = False
        self.is_silent = False  # it hangs
        self._first = packed(errand)
        self._reactor = reactor
        self._said = said
        self._frames = Frames(answers)
        self._line = b""
        self._last = ""  # what it has said; of what it gives as its reason that
        self._number = READY
        self._pulse = READY  # the question for a sign of life that was asked last
        self._watching: IDelayedCall | None = None
        self._asked: dict[int, Deferred[Answer]] = {}
        self._over = False
        self._kill: IDelayedCall | None = None

    # -- what the supervisor wants

    def ask(self, request: Mapping[str, Any]) -> Deferred[Answer]:
        """Its answer; errbacks with a MailError when it ends, or hangs.  ValueError when no frame can hold it."""
        if self._over or self.is_silent:
            return fail(self._gone() if self._over else self._hangs())
        number, answer = self._number + 1, Deferred[Answer]()
        try:
            self.transport.writeToChild(TO_WORKER, packed((number, dict(request))))
        except KeyError:  # its end of the pipe is closed: that it has ended is told soon
            return fail(self._gone())
        self._number, self._asked[number] = number, answer
        if self._watching is None:
            self._watching = self._reactor.callLater(PULSE, self._watch)
        return answer

    def _watch(self) -> None:
        """Somebody has waited for a while, perhaps: does it hang, or does that take its time?"""
        self._watching = None
        if self._pulse in self._asked:
            self.is_silent = True
            self._refuse(self._hangs)
        elif self._asked:
            self.ask({"command": "queue.now"}).addErrback(lambda _: None)
            self._pulse = self._number

    def _refuse(self, why: Callable[[], MailError]) -> None:
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(why())

    def stop(self, patience: float) -> Deferred[str]:
        """End it.  Fires with the reason when it has ended; seconds until it is killed."""
        stopped: Deferred[str] = Deferred()
        if self._over:
            stopped.callback("")
            return stopped

        def tell(why: str) -> str:
            stopped.callback(why)
            return why

        self.ended.addCallback(tell)
        self._signal("TERM")
        if self._kill is None:
            self._kill = self._reactor.callLater(patience, self._signal, "KILL")
        return stopped

    def _signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass  # it is told soon

    # -- what Twisted calls

    def connectionMade(self) -> None:
        """The process is there: say what it is to be."""
        self.transport.writeToChild(TO_WORKER, self._first)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Answers, and what it says to people."""
        if childFD != FROM_WORKER:
            self._hear(data)
            return
        try:
            for number, answer in self._frames.feed(data):
                self._answered(number, answer)
        except ValueError as error:
            self._said(f"the worker cannot be understood: {error}")
            self._signal("KILL")

    def _answered(self, number: int, answer: Answer) -> None:
        self.is_silent = False
        if number == READY:
            if self.is_ready:
                raise ValueError("it is ready twice")
            self.is_ready = True
            self.ready.callback(None)
        elif number in self._asked:
            self._asked.pop(number).callback(answer)

    def _hear(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[-LINE:]
        for line in lines:
            if text := line[:LINE].decode("utf-8", "replace").rstrip():
                if text.startswith(REASON) or not self._last.startswith(REASON):
                    self._last = text
                self._said(text)

    def processEnded(self, reason: Failure) -> None:
        """Its end, and that of its pipes."""
        self._over, self.is_ready = True, False
        for timer in (self._kill, self._watching):
            if timer is not None and timer.active():
                timer.cancel()
        self._hear(b"\n")
        why = self._reason(reason)
        if not self.ready.called:
            self.ready.errback(transient("4.3.2", "a worker has not started", reason=why))
        self._refuse(self._gone)
        self.ended.callback(why)

    def _gone(self) -> MailError:
        return transient("4.3.2", "a worker is gone", reason=f"worker {self.errand.number} has ended")

    def _hangs(self) -> MailError:
        return transient("4.3.2", "a worker hangs", reason=f"worker {self.errand.number} does not answer")

    def _reason(self, reason: Failure) -> str:
        """Status or signal; and what it has said last where that was a failure of its own."""
        if isinstance(reason.value, ProcessDone):
            return "ended"
        value: Any = reason.value
        if value.signal is not None:
            return f"ended by signal {value.signal}"
        return f"{self._last.removeprefix(REASON)} (status {value.exitCode})" if self._last else f"status {value.exitCode}"


def spawn(reactor: Any, child: Child, descriptors: Mapping[int, int]) -> None:
    """Start the process.  descriptors: its sockets, and which of ours they are.  OSError."""
    command = [sys.executable, "-P", "-m", "mta.worker", str(child.errand.number)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes: dict[int, int | str] = {TO_WORKER: "w", 1: 1, 2: "r", FROM_WORKER: "r", **descriptors}
    reactor.spawnProcess(child, sys.executable, command, env=environment, childFDs=pipes)
