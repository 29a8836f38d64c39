"""Threads for what takes long: a few of their own, and a line before them that has an end.

A password hash takes a tenth of a second by design.  The reactor must not stand still for it, nor may a storm of logins
take the threads that others need: here are so many threads and no more, none before the first piece of work, and who comes
when too many wait already is told `Busy` at once (454: come back).  What its asker has given up is not begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.cred.error import LoginFailed
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

__all__ = ["MAX_WAITING", "Busy", "Workers"]

MAX_WAITING: Final = 100


class Busy(LoginFailed):
    """Too much is being asked."""


class _Work:
    """One piece; `deferred` is None when nobody waits for it any more."""

    __slots__ = ("deferred", "do")

    def __init__(self, do: Callable[[], Any]) -> None:
        self.do = do
        self.deferred: Deferred[Any] | None = Deferred(self._given_up)

    def _given_up(self, deferred: Deferred[Any]) -> None:
        self.deferred = None

    def __call__(self) -> Any:
        return self.do() if self.deferred is not None else None


class Workers:
    """reactor: IReactorFromThreads.  Nothing runs before `start`, and nothing behind `stop`."""

    def __init__(self, reactor: Any, threads: int, waiting: int = MAX_WAITING) -> None:
        self._reactor = reactor
        self._threads = threads
        self._waiting = waiting
        self._pool: ThreadPool | None = None
        self._here: set[_Work] = set()

    @property
    def load(self) -> int:
        """Pieces of work that run or wait."""
        return len(self._here)

    def start(self) -> None:
        """May be called twice."""
        if self._pool is None:
            self._pool = ThreadPool(0, self._threads, "mta-auth")
            self._pool.start()

    def stop(self) -> None:
        """Give up what waits; wait for what runs."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for work in list(self._here):
                if work.deferred is not None:
                    work.deferred.cancel()
            pool.stop()

    def resize(self, threads: int) -> None:
        """From now on so many."""
        self._threads = threads
        if self._pool is not None:
            self._pool.adjustPoolsize(0, threads)

    def run(self, do: Callable[[], Any]) -> Deferred[Any]:
        """What it returns, done in a thread; errbacks with Busy, or with what it raises."""
        if self._pool is None or len(self._here) >= self._threads + self._waiting:
            return fail(Busy())
        work = _Work(do)
        answer = work.deferred
        assert answer is not None
        self._here.add(work)

        def done(succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(self._done, work, result)

        self._pool.callInThreadWithCallback(done, work)
        return answer

    def _done(self, work: _Work, result: Any | Failure) -> None:
        self._here.discard(work)
        deferred, work.deferred = work.deferred, None
        if deferred is not None:
            deferred.callback(result)
