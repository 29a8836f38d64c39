"""B6: how long a client waits for its 250 while the queue is busy with itself.

Twenty clients send without a pause; beside them nothing but the checkpoints, then summaries one after the other, a backup of
the whole queue, and a hold of many recipients.  Through the service, all in one process: whoever stops the reactor or the
writer shows here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from bench.queue.plan import Plan
from bench.queue.rig import OK, Agent, Rig
from bench.queue.stock import Backlog
from bench.report import Chart, Report, percentile
from mta.queue.state import Alteration, Selector

__all__ = ["b6"]

CLIENTS = 20
HELD = "smtp:default/held.test"
Beside = Callable[[], Coroutine[Deferred[Any], Any, object]]


async def b6(plan: Plan) -> Report:
    """Latency of 250 beside upkeep."""
    hold, seconds = plan.size(100_000, 2_000), plan.size(20, 2)
    columns = ("beside", "took s", "accepted", "msg/s", "p50 ms", "p99 ms", "max ms", "checkpoints")
    report = plan.report("b6", f"Latency of 250, {CLIENTS} clients", columns, clients=CLIENTS)
    rig = await plan.rig(Backlog(plan.rows), Backlog(hold, 1, HELD, lanes=4)).serve(Agent(plan.reactor, OK))

    async def nothing() -> None:
        await deferLater(plan.reactor, seconds, lambda: None)

    async def summary() -> None:
        await rig.queue.summary(rig.now())

    async def backup() -> None:
        await rig.queue.backup(rig.directory / "copy", lambda *_: None)

    async def held() -> None:
        count, after = 0, 1
        place = 0
        while after:
            done, after = await rig.queue.alter(Selector(dest=HELD), Alteration.HOLD, rig.now(), 500, place)
            count, place = count + done, after
        if count != hold:
            raise AssertionError(f"{count} of {hold} recipients were held")

    works: dict[str, Beside] = {"checkpoints only": nothing, "summary": summary, "backup": backup, f"hold of {hold:,}": held}
    worst: dict[str, float] = {}
    for name, work in works.items():
        checkpoints = rig.counts.checkpoints
        took, waits = await _beside(rig, work)
        waited = [percentile(waits, 50) * 1000, percentile(waits, 99) * 1000, max(waits) * 1000]
        worst[name] = waited[-1]
        report.rows.append([name, took, len(waits), len(waits) / took, *waited, rig.counts.checkpoints - checkpoints])
    await rig.stop()
    report.chart = Chart("ms, longest", list(worst), {"250": list(worst.values())})
    report.notes.append("wanted: none longer than 250 ms")
    return report


async def _beside(rig: Rig, work: Beside) -> tuple[float, list[float]]:
    """Clients send for as long as the work takes: how long that was, and how long each message waited (seconds)."""
    assert rig.service is not None
    service, waits, ended = rig.service, list[float](), False

    async def client() -> None:
        while not ended:
            message, began = rig.message(), time.perf_counter()
            await service.accept(message)
            waits.append(time.perf_counter() - began)

    clients = [Deferred.fromCoroutine(client()) for _ in range(CLIENTS)]
    began = time.perf_counter()
    try:
        await work()
    finally:
        ended = True
        took = time.perf_counter() - began
        for sending in clients:
            await sending
    return took, waits
