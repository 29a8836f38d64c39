"""Looks after our own certificates while the server runs: new files are taken up, and what is wrong is said in time.

Every `tls.watch` seconds the files' times, sizes and inodes are compared, which costs a few system calls and reads
nothing that has not changed.  At the start, after each new certificate and once a day the log says which certificates
have expired, will within a week, or carry a signature that peers refuse.  One timer; nothing here can end the server.
"""

from __future__ import annotations

from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mta.interfaces import IEventLog
from mta.tls.context import DAY, ServerTls

__all__ = ["CertificateWatch"]

UNWATCHED: Final = 3600.0  # seconds between two turns where the files are not looked at: only the dates are

_bugs = Logger()


class CertificateWatch(Service):
    """See the module.  clock: its seconds are those since the epoch, as the reactor's are."""

    name = "certificates"

    def __init__(self, tls: ServerTls, clock: IReactorTime, log: IEventLog) -> None:
        self._tls = tls
        self._clock = clock
        self._log = log
        self._timer: IDelayedCall | None = None
        self._told = 0.0  # when the alarms were last given
        self._loads = -1  # what they were about

    def startService(self) -> None:
        """Begin; the first alarms are given at once."""
        super().startService()  # type: ignore[no-untyped-call]
        self._turn(look=False)

    def stopService(self) -> None:
        """Leave nothing on the clock."""
        super().stopService()  # type: ignore[no-untyped-call]
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def reconfigure(self, tls: ServerTls) -> None:
        """Other certificates are in use from now on: look after these."""
        self._tls, self._loads = tls, -1
        if self._timer is not None:
            self._timer.cancel()
            self._turn(look=False)

    def _turn(self, look: bool = True) -> None:
        try:
            if look and self._tls.watch:
                self._tls.look()
            self._alarm()
        except Exception:
            _bugs.failure("the certificates could not be looked after")
        self._timer = self._clock.callLater(self._tls.watch or UNWATCHED, self._turn)

    def _alarm(self) -> None:
        now = self._clock.seconds()
        if self._loads == self._tls.loads and now - self._told < DAY:
            return
        self._told, self._loads = now, self._tls.loads
        for event, fields in self._tls.alarms(now):
            self._log.event(event, "", fields)
