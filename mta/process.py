"""What `twistd mta` and `mta run` do to the process, and what is never touched when the server is embedded.

More open files (every connection is one), a shorter thread switch interval (a commit waits for the GIL beside a busy
reactor: 166 ms became 6 ms), the control socket, SIGHUP and `mta reload` (new log file, the whole configuration read anew).
A server that cannot start, or whose queue fails later, ends the process with status 1 and says why on standard error: an
operator, and systemd, must see it.  A reload with a mistake ends nothing: the log, and `mta reload`, say what it is.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.mistake import ConfigError
from mta.config.settings import Settings
from mta.control.queue import QueueCommands
from mta.control.socket import ControlSocket
from mta.status import MailError

if TYPE_CHECKING:
    from mta.service import Mta

__all__ = ["Process"]

SWITCH_INTERVAL = 0.001  # seconds


class Process(Service):
    """The service that owns the process it runs in."""

    _log = Logger()

    def __init__(self, make: Callable[[], Mta], reactor: Any, reread: Callable[[], Settings], control: Path) -> None:
        """make: makes the server; MailError is a mistake of the operator's.  Called at once, before twistd forks.

        reread: reads the configuration anew, in a thread; ConfigError.  control: where the control socket is to be.
        """
        self._reactor = reactor
        self._reread = reread
        self._reloading = False
        self._asked: list[Deferred[Mapping[str, object]]] = []  # for a reload that has not begun
        try:
            self._mta = make()
        except MailError as error:
            _give_up(error)
        queue = QueueCommands(self._mta.queue, lambda: int(reactor.seconds() * 1000), self._mta.log)
        self._control = ControlSocket(control, {"reload": self._reload_asked, **queue.table()}, reactor)

    def privilegedStartService(self) -> None:
        """Bind the ports; one that is in use ends the process here."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        raise_file_limit()
        try:
            self._mta.privilegedStartService()
        except MailError as error:
            _give_up(error)

    def startService(self) -> None:
        """Prepare the process, start the server."""
        super().startService()  # type: ignore[no-untyped-call]
        sys.setswitchinterval(SWITCH_INTERVAL)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        self._mta.failed.addCallback(self._fail)
        self._mta.ready.addCallback(self._open_control)
        self._mta.ready.addErrback(lambda failure: self._fail(_reason(failure)))
        self._mta.startService()

    def _open_control(self, _: None) -> None:
        if self.running:  # else it was stopped meanwhile
            self._control.open()

    def stopService(self) -> Deferred[None]:
        """Stop the server."""
        super().stopService()  # type: ignore[no-untyped-call]
        closed = maybeDeferred(self._control.close)
        closed.addErrback(lambda failure: self._log.failure("the control socket", failure))
        return closed.addCallback(lambda _: self._mta.stopService())

    def reload(self) -> Deferred[Mapping[str, object]]:
        """Go on in a new log file, and by the configuration as it is now.  Never errbacks.

        Fires with {"generation", "restart"}, or {"ok": False, "mistakes"} when all stays as it was.  All who ask while a
        reload runs, which may have read the files already, get one behind it between them.
        """
        self._mta.reopen()
        answer: Deferred[Mapping[str, object]] = Deferred()
        self._asked.append(answer)
        if not self._reloading:
            Deferred.fromCoroutine(self._reload_while_asked())
        return answer

    async def _reload_while_asked(self) -> None:
        self._reloading = True
        try:
            while self._asked:
                waiting, self._asked = self._asked, []
                said = await self._reload()
                for answer in waiting:
                    answer.callback(said)
        finally:
            self._reloading = False

    async def _reload_asked(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        return await self.reload()

    async def _reload(self) -> Mapping[str, object]:
        try:
            settings = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._reread)
            done = await self._mta.reload(settings)
        except ConfigError as error:
            mistakes = [str(mistake) for mistake in error.mistakes]
        except MailError as error:
            mistakes = [error.reason or str(error)]
        except Exception as error:
            self._log.failure("the reload failed")
            mistakes = [f"internal trouble: {error!r}"]
        else:
            return {"generation": done.generation, "restart": done.restart}
        for mistake in mistakes:
            self._mta.log.event("reload", "", {"status": "refused", "mistake": mistake})
        return {"ok": False, "mistakes": mistakes}

    def _fail(self, reason: object) -> None:
        """End the process, with status 1.

        twistd has no exit status of its own, so it is set behind it: after it has cleaned up, when Python ends.
        """
        print(f"mta: {reason}", file=sys.stderr)
        self._log.critical("{reason}", reason=reason)
        atexit.register(_exit, 1)
        if self._reactor.running:
            self._reactor.stop()
        else:
            self._reactor.callWhenRunning(self._reactor.stop)


def raise_file_limit() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reason(failure: Failure) -> str:
    """What an operator can act on: the reason of our own errors, the traceback of a bug."""
    if isinstance(failure.value, MailError) and failure.value.reason:
        return failure.value.reason
    known = isinstance(failure.value, MailError | OSError)
    return str(failure.value) if known else str(failure.getTraceback())


def _give_up(error: MailError) -> NoReturn:
    """The reason in one line, and status 1: it is the operator who can mend it, a traceback would only hide it."""
    print(f"mta: {error.reason or error}", file=sys.stderr)
    raise SystemExit(1) from error


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
