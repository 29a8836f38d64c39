"""Idle connections that wait for the next delivery with the same reuse key (docs/tls.md, "Hand-over").

A connection idles up to `idle_limit`; one that is the third or later of its key (`idle_max_per_key`) only `BRIEF`, long
enough to ride out the gap between two group commits of a busy queue without holding the peer's processes.  One timer
looks after all of them.  Expiry says QUIT; a connection on which the peer says or closes anything while it idles is
dropped without a word.  A connection is given back by the same rules by which it was kept: time before count, because
a count alone makes the slowest host the one whose connections live longest (Postfix).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mta.config.settings import Handover
from mta.interfaces import IHints
from mta.relay.handover import ReuseKey

if TYPE_CHECKING:
    from mta.relay.session import Session
    from mta.smtp.client import Transaction

__all__ = ["Pool"]


class Pool:
    """All connections of one relay: those that are alive, and those of them that idle."""

    BRIEF: Final = 1.0  # seconds
    QUIT_LIMIT: Final = 5.0  # seconds that a stop waits for the answers to QUIT
    STOP_LIMIT: Final = 20.0  # seconds that it waits for running transactions
    STALE_LIMIT: Final = 3  # in a row: then the host's connections are not kept for
    SUSPENSION: Final = 600.0  # seconds
    MOST_STALE: Final = 10_000  # hosts that are counted
    KIND: Final = "keep-suspended"
    LEARNED: Final = "clear-refused"
    LEARNED_FOR: Final = 86400.0  # seconds

    def __init__(self, settings: Handover, clock: IReactorTime, hints: IHints) -> None:
        self._settings = settings
        self._clock = clock
        self._hints = hints
        self._alive: set[Session] = set()
        self._idle: dict[ReuseKey, list[Session]] = {}
        self._queues: tuple[OrderedDict[Session, float], OrderedDict[Session, float]] = (OrderedDict(), OrderedDict())
        self._stale: dict[str, int] = {}
        self._timer: IDelayedCall | None = None
        self.stopping = False
        self._retired = False
        self._stopped: Deferred[None] | None = None

    @property
    def idle(self) -> int:
        """How many connections idle."""
        return len(self._queues[0]) + len(self._queues[1])

    @property
    def alive(self) -> int:
        """How many connections there are."""
        return len(self._alive)

    @property
    def shaking(self) -> int:
        """How many of them are in a TLS handshake."""
        return sum(session.shaking for session in self._alive)

    def joined(self, session: Session) -> None:
        """A new connection."""
        self._alive.add(session)

    def left(self, session: Session) -> None:
        """A connection is closed, whoever closed it."""
        self._alive.discard(session)
        self.forget(session)
        if self._stopped is not None and not self._alive:
            self._finish_stop()

    def acquire(self, key: ReuseKey, transaction: Transaction) -> Session | None:
        """The idle connection used last that may carry this transaction; those that cannot are left for others."""
        sessions = self._idle.get(key)
        if not sessions:
            return None
        oldest = self._clock.seconds() - self._settings.reuse_time_limit
        for session in sessions[::-1]:
            if session.opened <= oldest:
                self.forget(session)
                session.quit()
            elif session.unfit(transaction) is None:
                self.forget(session)
                return session
        return None

    def release(self, session: Session) -> str:
        """Keep a connection whose transaction is over.  "" when it idles now, else why it may not: the caller says QUIT."""
        now = self._clock.seconds()
        if why := self.refusal(session, now):
            return why
        settings = self._settings
        same = self._idle.setdefault(session.key, [])
        brief = len(same) >= settings.idle_max_per_key
        due = now + (min(self.BRIEF, settings.idle_limit) if brief else settings.idle_limit)
        same.append(session)
        self._queues[brief][session] = due
        if self._timer is None:
            self._timer = self._clock.callLater(due - now, self._expire)
        elif brief and self._timer.getTime() > due:
            self._timer.reset(due - now)
        session.park(now)
        return ""

    def refusal(self, session: Session, now: float) -> str:
        """Why it may not idle, "" when it may: the limits of docs/tls.md."""
        settings = self._settings
        if self.stopping:
            return "stopping"
        if self._retired:
            return "reload"
        if session.opened + settings.reuse_time_limit <= now:
            return "reuse_time_limit"
        if settings.reuse_count_limit and session.uses >= settings.reuse_count_limit:
            return "reuse_count_limit"
        if session.mail_max and session.uses >= session.mail_max:
            return "peer-limit"  # LIMITS MAILMAX, RFC 9422
        if settings.idle_limit <= 0 or not settings.idle_max_per_key or self.idle >= settings.idle_max_total:
            return "idle-limits"
        if self._hints.get(self.KIND, _host(session.key)) is not None:
            return "suspended"
        return ""

    def forget(self, session: Session) -> None:
        """It does not idle any more."""
        for queue in self._queues:
            if queue.pop(session, None) is not None:
                same = self._idle[session.key]
                same.remove(session)
                if not same:
                    del self._idle[session.key]

    def stale(self, key: ReuseKey) -> None:
        """A kept connection turned out dead at pick-up.  The third in a row suspends keeping for that host."""
        host = _host(key)
        count = self._stale.pop(host, 0) + 1
        if count >= self.STALE_LIMIT:
            self._hints.put(self.KIND, host, True, self._clock.seconds() + self.SUSPENSION)
        else:
            if len(self._stale) >= self.MOST_STALE:
                self._stale.clear()
            self._stale[host] = count

    def learn(self, key: ReuseKey, why: str) -> None:
        """The host does not go on in clear text after TLS: it gets QUIT from now on."""
        self._hints.put(self.LEARNED, _host(key), why, self._clock.seconds() + self.LEARNED_FOR)

    def learned(self, key: ReuseKey) -> str:
        """Why CLEAR is not tried with that host, "" when it may be."""
        why: str | None = self._hints.get(self.LEARNED, _host(key))
        return why or ""

    def fine(self, key: ReuseKey) -> None:
        """A kept connection served again."""
        if self._stale:
            self._stale.pop(_host(key), None)

    def _expire(self) -> None:
        """QUIT to all whose time is up, then sleep until the next."""
        self._timer = None
        now = self._clock.seconds()
        heads = []
        for queue in self._queues:
            while queue:
                session, due = next(iter(queue.items()))
                if due > now:
                    heads.append(due)
                    break
                self.forget(session)
                session.quit()
        if heads:
            self._timer = self._clock.callLater(min(heads) - now, self._expire)

    def retire(self) -> None:
        """Another configuration holds, and another pool: QUIT to all that idle, and to the others when they are done (H38)."""
        self._retired = True
        self._cancel()
        self._quit_idle()

    def stop(self) -> Deferred[None]:
        """QUIT to all that idle, the end to those that were not used yet; fires when every connection is closed.

        Those that only wait for the end are cut after `QUIT_LIMIT`, running transactions after `STOP_LIMIT`.
        """
        self.stopping = True
        self._cancel()
        if not self._alive:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        self._timer = self._clock.callLater(self.QUIT_LIMIT, self._cut_leaving)
        self._quit_idle()
        for session in [session for session in self._alive if session.unused]:
            session.cut()
        return stopped

    def _quit_idle(self) -> None:
        for session in [session for queue in self._queues for session in queue]:
            self.forget(session)
            session.quit()

    def _cut_leaving(self) -> None:
        self._timer = self._clock.callLater(self.STOP_LIMIT - self.QUIT_LIMIT, self._cut)
        for session in [session for session in self._alive if session.leaving]:
            session.drop()

    def _cut(self) -> None:
        self._timer = None
        for session in list(self._alive):
            session.cut()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish_stop(self) -> None:
        stopped, self._stopped = self._stopped, None
        self._cancel()
        if stopped is not None:
            stopped.callback(None)


def _host(key: ReuseKey) -> str:
    return f"{key.host}[{key.address}]:{key.port}"
