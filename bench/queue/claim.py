"""B4: what it costs to ask for twenty due recipients of a destination, however many there are.

Time is that of the claim on the writer's connection; VM steps are SQLite's own instructions, which no other load on the
machine can change.  Claims go round the destinations in a random order, and through one destination with all the rows
one after the other, as its cursor goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from random import Random

import apsw

from bench.queue.plan import Plan
from bench.queue.stock import DEST, LANES, Backlog
from bench.report import Chart, Report, percentile
from mta.envelope import Want
from mta.queue.sqlite import schema
from mta.queue.sqlite.claims import Claims

__all__ = ["b4"]

QUOTA = 20
COUNTED = 100  # claims whose steps are counted


def wants(destinations: int) -> Iterator[Want]:
    """Whom to ask for, round and round."""
    places = list(range(destinations))
    Random(4).shuffle(places)
    for place in cycle(places):
        yield Want(DEST.format(place), place % LANES, QUOTA)


def steps(db: apsw.Connection, claims: Claims, want: Want, now: int) -> int:
    """Instructions of SQLite's machine for a claim."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    db.set_progress_handler(step, 1)
    claims.claim(db, [want], now)
    db.set_progress_handler(None)
    return count


async def b4(plan: Plan) -> Report:
    """Claims of 20, by how many rows and destinations there are."""
    columns = ("due rows", "destinations", "claims", "rows a claim", "p50 ms", "p99 ms", "VM steps p50", "VM steps max")
    report = plan.report("b4", "A claim of 20", columns)
    many = plan.size(2_000, 200)
    sizes = ((20_000, 1_000), (plan.rows, 1_000), (plan.rows, min(50_000, plan.rows // 20)), (plan.rows, 1))
    found: list[float] = []
    for rows, destinations in sizes:
        path = plan.folder(Backlog(rows, destinations, due=-3600, spread=1800, lanes=1)) / "queue" / "0.db"
        db = schema.open_writer(path)
        now, asking, claims = int(time.time() * 1000), wants(destinations), Claims()
        seconds: list[float] = []
        got = 0
        for _ in range(min(many, rows // QUOTA - COUNTED)):
            want, began = next(asking), time.perf_counter()
            got += len(claims.claim(db, [want], now))
            seconds.append(time.perf_counter() - began)
        counted = [steps(db, claims, next(asking), now) for _ in range(COUNTED)]
        db.close()
        found.append(percentile(seconds, 99) * 1000)
        times = (percentile(seconds, 50) * 1000, found[-1])
        claimed = got / len(seconds)
        report.rows.append([rows, destinations, len(seconds), claimed, *times, percentile(counted, 50), max(counted)])
    labels = [f"{rows:,} rows, {destinations:,} destinations" for rows, destinations in sizes]
    report.chart = Chart("ms, p99", labels, {"claim of 20": found})
    report.notes.append("wanted: p99 less than 2 ms, and with all rows at most 1.5 times that of the first line")
    return report
