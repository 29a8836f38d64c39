"""`mta.workers.census`: the page of several workers that are none, on a Clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.status import transient
from mta.workers.census import PATIENCE, Census


class Worker:
    """One that answers as it was told to; a Deferred: later."""

    def __init__(self, number: int, answer: Any, restarts: int = 0) -> None:
        self.number = number
        self.answer = answer
        self.restarts = restarts
        self.asked: list[Mapping[str, Any]] = []

    def ask(self, request: Mapping[str, Any]) -> Deferred[Any]:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)


def says(connections: int) -> dict[str, Any]:
    return {"ok": True, "page": {"": [["mta_connections_open", ["mx"], connections]]}}


class CensusTests(SynchronousTestCase):
    """`Census`."""

    def setUp(self) -> None:
        self.clock = Clock()

    def page(self, *workers: Worker) -> Deferred[Any]:
        census = Census(lambda: workers, lambda: [("mta_generation", (), 4)], self.clock)
        return Deferred.fromCoroutine(census.page())

    def told(self, *workers: Worker) -> Any:
        return self.successResultOf(self.page(*workers))

    def test_all(self) -> None:
        """What each says under its number; what is known here; each is asked once."""
        workers = Worker(0, says(3)), Worker(1, says(5), restarts=2)
        page = self.told(*workers)
        self.assertEqual([("mta_connections_open", ("mx",), 3)], page["0"])
        self.assertEqual([("mta_connections_open", ("mx",), 5)], page["1"])
        wanted = [
            ("mta_generation", (), 4),
            ("mta_workers", (), 2),
            ("mta_worker_up", ("0",), 1),
            ("mta_worker_restarts_total", ("0",), 0),
            ("mta_worker_up", ("1",), 1),
            ("mta_worker_restarts_total", ("1",), 2),
        ]
        self.assertEqual(wanted, page[""])
        self.assertEqual([[{"command": "metrics"}]] * 2, [worker.asked for worker in workers])
        self.assertEqual([], self.clock.getDelayedCalls())

    def up(self, page: Any) -> list[int]:
        return [number for name, _, number in page[""] if name == "mta_worker_up"]

    def test_who_says_nothing_of_use(self) -> None:
        """One that does not run, one that refuses, ones that say what nobody can read: down, and the others are told of."""
        gone = transient("4.3.2", "gone", reason="worker 1 does not run")
        refusal = {"ok": False, "error": "unknown command 'metrics'"}
        odd = {"ok": True, "page": {"": [["mta_of_tomorrow", [], 1]]}}
        page = self.told(*map(Worker, range(5), (says(1), gone, refusal, odd, {"ok": True, "page": 7})))
        self.assertEqual([1, 0, 0, 0, 0], self.up(page))
        self.assertEqual({"", "0"}, set(page))

    def test_one_that_hangs(self) -> None:
        """It is waited for a moment, with all others at the same time; its answer then comes too late, and hurts nobody."""
        late: list[Deferred[Any]] = [Deferred(), Deferred()]
        asked = self.page(Worker(0, late[0]), Worker(1, says(2)), Worker(2, late[1]))
        self.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        page = self.successResultOf(asked)
        self.assertEqual(([0, 1, 0], {"", "1"}), (self.up(page), set(page)))
        late[0].callback(says(1))
        late[1].errback(ZeroDivisionError())  # whatever: it was asked, and nobody waits any more
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_who_asked_is_gone(self) -> None:
        """Nothing is left on the clock, and the answers hurt nobody."""
        late: Deferred[Any] = Deferred()
        asked = self.page(Worker(0, late), Worker(1, says(2)))
        asked.cancel()
        asked.addErrback(lambda _: None)
        self.assertEqual([], self.clock.getDelayedCalls())
        late.callback(says(1))

    def test_nobody(self) -> None:
        """What is known here is told all the same."""
        page = self.told(Worker(0, transient("4.3.2", "gone")))
        self.assertEqual([("mta_generation", (), 4), ("mta_workers", (), 1)], page[""][:2])
        self.assertEqual([0], self.up(page))
