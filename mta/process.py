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
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.mistake import ConfigError
from mta.config.settings import Settings
from mta.control.metrics import listed
from mta.control.queue import QueueCommands
from mta.control.reloads import Reloads
from mta.control.socket import Answer, Command
from mta.control.vitals import Vitals
from mta.status import MailError

if TYPE_CHECKING:
    from mta.service import Mta

__all__ = ["Door", "Process", "end", "give_up", "mistakes_of", "raise_file_limit", "reason_of"]

SWITCH_INTERVAL = 0.001  # seconds


class Door(Protocol):
    """Where commands come in: the control socket, or a worker's channel to its supervisor."""

    def open(self) -> None:
        """The server is ready.  MailError."""

    def close(self) -> Deferred[None] | None:
        """It stops.  May be called when it is not open."""


class Process(Service):
    """The service that owns the process it runs in."""

    _log = Logger()

    def __init__(
        self,
        make: Callable[[], Mta],
        reactor: Any,
        reread: Callable[[], Settings],
        door: Callable[[Mapping[str, Command]], Door],
    ) -> None:
        """make: makes the server; MailError is a mistake of the operator's.  Called at once, before twistd forks.

        reread: reads the configuration anew, in a thread; ConfigError.  door: makes it, for these commands.
        """
        self._reactor = reactor
        self._reread = reread
        self._reloads = Reloads(self._reload)
        try:
            self._mta = make()
        except MailError as error:
            give_up(error)
        self._mta.measured += (self._reloads, Vitals())
        queue = QueueCommands(self._mta.queue, lambda: int(reactor.seconds() * 1000), self._mta.log)
        own = {"reload": self._reload_asked, "reopen": self._reopen_asked, "metrics": self._metrics_asked}
        self._door = door({**own, **queue.table()})

    def privilegedStartService(self) -> None:
        """Bind the ports; one that is in use ends the process here."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        raise_file_limit()
        try:
            self._mta.privilegedStartService()
        except MailError as error:
            give_up(error)

    def startService(self) -> None:
        """Prepare the process, start the server."""
        super().startService()  # type: ignore[no-untyped-call]
        sys.setswitchinterval(SWITCH_INTERVAL)
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        self._mta.failed.addCallback(self._fail)
        self._mta.ready.addCallback(self._open_door)
        self._mta.ready.addErrback(lambda failure: self._fail(reason_of(failure)))
        self._mta.startService()

    def _open_door(self, _: None) -> None:
        if self.running:  # else it was stopped meanwhile
            self._door.open()

    def stopService(self) -> Deferred[None]:
        """Stop the server."""
        super().stopService()  # type: ignore[no-untyped-call]
        closed = maybeDeferred(self._door.close)
        closed.addErrback(lambda failure: self._log.failure("the door of commands", failure))
        return closed.addCallback(lambda _: self._mta.stopService())

    def reload(self) -> Deferred[Answer]:
        """Go on in a new log file, and by the configuration as it is now.  Never errbacks.

        Fires with {"generation", "restart"}, or {"ok": False, "mistakes"} when all stays as it was.  See `Reloads`.
        """
        self._mta.reopen()
        return self._reloads.ask()

    async def _reload_asked(self, _: Mapping[str, Any]) -> Answer:
        return await self.reload()

    async def _reopen_asked(self, _: Mapping[str, Any]) -> Answer:
        self._mta.reopen()
        return {}

    async def _metrics_asked(self, _: Mapping[str, Any]) -> Answer:
        return {"page": {"": listed(await self._mta.measures())}}

    async def _reload(self) -> Answer:
        try:
            settings = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._reread)
            done = await self._mta.reload(settings)
        except Exception as error:
            mistakes = mistakes_of(error, self._log)
        else:
            return {"generation": done.generation, "restart": done.restart}
        for mistake in mistakes:
            self._mta.log.event("reload", "", {"status": "refused", "mistake": mistake})
        return {"ok": False, "mistakes": mistakes}

    def _fail(self, reason: object) -> None:
        end(self._reactor, self._log, reason)


def end(reactor: Any, log: Logger, reason: object) -> None:
    """End the process, with status 1.

    twistd has no exit status of its own, so it is set behind it: after it has cleaned up, when Python ends.
    """
    print(f"mta: {reason}", file=sys.stderr)
    log.critical("{reason}", reason=reason)
    atexit.register(_exit, 1)
    if reactor.running:
        reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)


def mistakes_of(error: Exception, log: Logger) -> list[str]:
    """Why a reload was refused, in lines for people; a bug is logged.  To be called while it is handled."""
    if isinstance(error, ConfigError):
        return [str(mistake) for mistake in error.mistakes]
    if isinstance(error, MailError):
        return [error.reason or str(error)]
    log.failure("the reload failed")
    return [f"internal trouble: {error!r}"]


def raise_file_limit() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reason_of(failure: Failure) -> str:
    """What an operator can act on: the reason of our own errors, the traceback of a bug."""
    if isinstance(failure.value, MailError) and failure.value.reason:
        return failure.value.reason
    known = isinstance(failure.value, MailError | OSError)
    return str(failure.value) if known else str(failure.getTraceback())


def give_up(error: MailError) -> NoReturn:
    """The reason in one line, and status 1: it is the operator who can mend it, a traceback would only hide it."""
    print(f"mta: {error.reason or error}", file=sys.stderr)
    raise SystemExit(1) from error


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
