"""The page of metrics where there are several workers: what each says of itself, and what the supervisor knows of them.

A worker that does not answer within `PATIENCE` is down (`mta_worker_up`) and hinders nobody.  The question stays asked, so that
one that hangs is found out as by any other (`child.py`), and is not asked again without end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from mta.control.metrics import Page, decoded
from mta.envelope import Measure
from mta.workers.door import Worker

__all__ = ["PATIENCE", "Census", "Watched"]

PATIENCE: Final = 5.0  # seconds; Prometheus waits for 10


class Watched(Worker, Protocol):
    """A worker's place.  restarts: how often it has ended without being told."""

    restarts: int


class Census:
    """workers: those that there are when it is asked.  own: what is measured here."""

    def __init__(
        self, workers: Callable[[], Sequence[Watched]], own: Callable[[], Iterable[Measure]], reactor: IReactorTime
    ) -> None:
        self._workers = workers
        self._own = own
        self._reactor = reactor

    async def page(self) -> Page:
        """Of now."""
        workers = self._workers()
        results: Any = await DeferredList([self._of(worker) for worker in workers], consumeErrors=True)
        page: dict[str, Sequence[Measure]] = {}
        own = [*self._own(), ("mta_workers", (), len(workers))]
        for worker, (answered, measures) in zip(workers, results, strict=True):
            name = str(worker.number)
            own.append(("mta_worker_up", (name,), int(answered)))
            own.append(("mta_worker_restarts_total", (name,), worker.restarts))
            if answered:
                page[name] = measures
        return {"": own, **page}

    def _of(self, worker: Worker) -> Deferred[list[Measure]]:
        """What one says; errbacks, whatever the reason, when that is nothing to go by."""
        waiting: Deferred[Any] = Deferred()
        worker.ask({"command": "metrics"}).addCallbacks(waiting.callback, waiting.errback)
        return waiting.addTimeout(PATIENCE, self._reactor).addCallback(lambda answer: decoded(answer["page"][""]))
