"""The sessions that are open, and the one timer for all of them.

RFC 5321 4.5.3.2.7: a server waits at least five minutes for the next command.  A session only writes down until when
it waits (`deadline`, in seconds of the reactor's clock); once a second the roster looks who is over it and tells them.
So no command costs a timer, an expiry comes up to a second late, and with nobody connected nothing runs at all.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Enrolled", "Roster"]

INTERVAL = 1.0  # seconds


class Enrolled(Protocol):
    """What the roster, and the service through it, know of a session."""

    deadline: float

    def begin(self) -> None:
        """The service is open: speak, unless that has been done."""

    def expire(self) -> None:
        """The deadline has passed: close, or set another."""

    def stop(self) -> None:
        """End, but let a running transaction have its answer."""

    def cut(self) -> None:
        """End now."""


class Roster:
    """Who is here.  open: the service is ready, whoever comes may begin."""

    def __init__(self, clock: IReactorTime) -> None:
        self.open = False
        self._clock = clock
        self._here: dict[Enrolled, None] = {}
        self._sweep_call: IDelayedCall | None = None
        self._empty: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._here)

    def here(self) -> list[Enrolled]:
        """All sessions, the oldest first."""
        return list(self._here)

    def enter(self, session: Enrolled) -> None:
        """A session has begun; its deadline is set."""
        self._here[session] = None
        if self._sweep_call is None:
            self._sweep_call = self._clock.callLater(INTERVAL, self._sweep)

    def leave(self, session: Enrolled) -> None:
        """A session is gone.  Harmless when it was not here."""
        self._here.pop(session, None)
        if self._here:
            return
        if self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        waiting, self._empty = self._empty, []
        for deferred in waiting:
            deferred.callback(None)

    def when_empty(self) -> Deferred[None]:
        """Fires when the last session is gone, at once when there is none."""
        deferred: Deferred[None] = Deferred()
        if self._here:
            self._empty.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def _sweep(self) -> None:
        self._sweep_call = self._clock.callLater(INTERVAL, self._sweep)  # first: the last expiry may cancel it
        now = self._clock.seconds()
        for session in [session for session in self._here if session.deadline <= now]:
            session.expire()
