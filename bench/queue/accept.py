"""B1 and B13: what it costs to make mail durable.  The engine alone, without a network, a router or a log.

B1 holds the queue's main promise against itself: files with 0, a tenth and all of the rows are open side by side and take
turns, so that what else the machine does falls on all; the medians of three rounds are compared.  B13 shows what the group
commit, lazy completions and FULL give and cost.
"""

from __future__ import annotations

import time
from statistics import median

import apsw
import attrs

from bench.queue.plan import Plan
from bench.queue.rig import Rig
from bench.queue.stock import Backlog
from bench.report import Chart, Report, percentile
from mta.queue.sqlite import writer

__all__ = ["b1", "b13"]

ROUNDS = 3
# commits in groups, completions, synchronous
WAYS = ((True, "strict", "FULL"), (True, "lazy", "FULL"), (True, "strict", "NORMAL"), (False, "strict", "FULL"))


@attrs.frozen
class Figures:
    """Of one round."""

    rate: float  # messages a second
    p50: float  # ms
    p99: float
    syncs: float  # a message
    wal: float  # KB a message


async def measure(rig: Rig, many: int, concurrency: int, *, settled: bool = False) -> Figures:
    """One round.  The mail goes again at its end; settled: that is measured too."""
    counts = rig.counts
    commits, wal, began = counts.syncs, counts.wal, time.perf_counter()
    waits, claims = await rig.enqueue(many, concurrency)
    if settled:
        await rig.settle(claims, concurrency)
    seconds = time.perf_counter() - began
    found = Figures(
        many / seconds,
        percentile(waits, 50) * 1000,
        percentile(waits, 99) * 1000,
        (counts.syncs - commits) / many,
        (counts.wal - wal) / many / 1000,
    )
    if not settled:
        await rig.settle(claims, 200)
    return found


def middle(rounds: list[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*(median(values) for values in zip(*map(attrs.astuple, rounds), strict=True)))


def levels(plan: Plan) -> dict[int, int]:
    """Messages of a round, by how many are sent at once."""
    return {1: plan.size(1_000, 100), 10: plan.size(5_000, 500), 100: plan.size(20_000, 1_000), 1000: plan.size(20_000, 2_000)}


async def b1(plan: Plan) -> Report:
    """Messages a second into the engine, with nothing and with much deferred."""
    columns = ("deferred", "at once", "msg/s", "of empty", "p50 ms", "p99 ms", "fdatasync/msg", "WAL KB/msg")
    report = plan.report("b1", "Enqueue, engine only, 4 KiB", columns, rounds=ROUNDS)
    rigs = {rows: await plan.rig(Backlog(rows)).start() for rows in plan.backlogs}
    found: dict[tuple[int, int], list[Figures]] = {}
    for number in range(ROUNDS):
        for concurrency, many in levels(plan).items():
            for rows in plan.backlogs if number % 2 == 0 else reversed(plan.backlogs):
                figures = await measure(rigs[rows], many, concurrency)
                found.setdefault((rows, concurrency), []).append(figures)
    for rig in rigs.values():
        await rig.stop()
    rates = {key: middle(rounds).rate for key, rounds in found.items()}
    for (rows, concurrency), rounds in sorted(found.items()):
        rate, *rest = attrs.astuple(middle(rounds))
        report.rows.append([rows, concurrency, rate, f"{rate / rates[0, concurrency]:.0%}", *rest])
    series = {f"{rows:,} deferred": [rates[rows, concurrency] for concurrency in levels(plan)] for rows in plan.backlogs}
    report.chart = Chart("messages/s", [f"{concurrency} at once" for concurrency in levels(plan)], series)
    report.notes.append("wanted: the largest backlog within 15 % of empty; 5,000/s with 100 at once")
    return report


async def b13(plan: Plan) -> Report:
    """Accepted and settled, by how often and how firmly it is written."""
    columns = ("commits", "completions", "synchronous", "at once", "msg/s", "p50 ms", "p99 ms", "fdatasync/msg", "WAL KB/msg")
    report = plan.report("b13", "Accept and settle: group commit, completions, synchronous", columns, rounds=ROUNDS)
    found: dict[tuple[tuple[bool, str, str], int], list[Figures]] = {}
    for _ in range(ROUNDS):
        for concurrency, full, quick in ((1, 500, 50), (10, 2_000, 200), (100, 10_000, 500)):
            for way in WAYS:
                many = plan.size(full, quick) // (1 if way[0] else 4)
                found.setdefault((way, concurrency), []).append(await _written(plan, way, many, concurrency))
    series: dict[str, list[float]] = {}
    for (way, concurrency), rounds in sorted(found.items(), key=lambda item: WAYS.index(item[0][0])):
        said, figures = ("grouped" if way[0] else "one by one", *way[1:]), middle(rounds)
        report.rows.append([*said, concurrency, *attrs.astuple(figures)])
        series.setdefault(", ".join(said), []).append(figures.rate)
    report.chart = Chart("messages/s (log)", ["1 at once", "10 at once", "100 at once"], series, log=True)
    report.notes.append("NORMAL is no setting: after a power cut it has lost mail that was answered with 250")
    return report


async def _written(plan: Plan, way: tuple[bool, str, str], many: int, concurrency: int) -> Figures:
    grouped, completions, synchronous = way
    usual = writer.MAX_OPERATIONS
    rig = await plan.rig(completions=completions).start()

    def set_synchronous(db: apsw.Connection) -> None:
        db.execute(f"PRAGMA synchronous={synchronous}")

    await rig.queue._ask(set_synchronous)
    writer.MAX_OPERATIONS = usual if grouped else 1
    try:
        return await measure(rig, many, concurrency, settled=True)
    finally:
        writer.MAX_OPERATIONS = usual
        await rig.stop()
