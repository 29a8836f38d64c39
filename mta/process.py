"""What `twistd mta` and `mta run` do to the process, and what is never touched when the server is embedded.

More open files (every connection is one), a shorter thread switch interval (a commit waits for the GIL beside a busy
reactor: 166 ms became 6 ms), SIGHUP (new log file, certificates read anew).  A server that cannot start, or whose queue
fails later, ends the process with status 1 and says why on standard error: an operator, and systemd, must see it.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.status import MailError

if TYPE_CHECKING:
    from mta.service import Mta

__all__ = ["Process"]

SWITCH_INTERVAL = 0.001  # seconds


class Process(Service):
    """The service that owns the process it runs in."""

    _log = Logger()

    def __init__(self, make: Callable[[], Mta], reactor: Any) -> None:
        """make: makes the server; MailError is a mistake of the operator's.  Called at once, before twistd forks."""
        self._reactor = reactor
        try:
            self._mta = make()
        except MailError as error:
            _give_up(error)

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
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reopen))
        self._mta.failed.addCallback(self._fail)
        self._mta.ready.addErrback(lambda failure: self._fail(_reason(failure)))
        self._mta.startService()

    def stopService(self) -> Deferred[None]:
        """Stop the server."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._mta.stopService()

    def _reopen(self) -> None:
        try:
            self._mta.reopen()
        except MailError as error:
            self._log.error("reload: {error}; the old certificates are kept", error=error)

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
