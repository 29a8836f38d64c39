"""B3, B5 and B12: mail goes round.  The service, the scheduler and the engine, with an agent that answers for the peer.

B3: accepted, delivered, settled; the backlogs take turns as in B1.  B5: everything is answered 451.  B12: nobody waits for
the mail of another, neither for a campaign to the same destinations nor for a destination that is slow.
"""

from __future__ import annotations

import time
from statistics import median
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from bench.queue.plan import Plan
from bench.queue.rig import LATER, OK, Agent
from bench.queue.stock import Backlog
from bench.report import Chart, Report, percentile
from mta.envelope import Job
from mta.queue.filing import LANES

__all__ = ["b3", "b5", "b12"]

ROUNDS = 3
PATIENCE = 300  # seconds for the last single message


class Tally:
    """Counts jobs; `reached(n)` fires at the n-th."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # message: how often
        self._waiting: tuple[int, Deferred[None]] | None = None

    def __call__(self, job: Job) -> None:
        self.seen[job.message.id] = self.seen.get(job.message.id, 0) + 1
        if self._waiting is not None and len(self.seen) >= self._waiting[0]:
            waiting, self._waiting = self._waiting[1], None
            waiting.callback(None)

    async def reached(self, many: int) -> None:
        """When so many messages have been seen."""
        if len(self.seen) < many:
            self._waiting = many, Deferred()
            await self._waiting[1]

    @property
    def twice(self) -> int:
        """Messages seen more than once."""
        return sum(count > 1 for count in self.seen.values())


async def b3(plan: Plan) -> Report:
    """Full circle, with nothing and with much deferred."""
    columns = ("deferred", "at once", "msg/s", "of empty", "p50 ms", "p99 ms", "delivered twice")
    report = plan.report("b3", "Accept, deliver to an agent in the process, settle; 4 KiB", columns, rounds=ROUNDS)
    tallies = {rows: Tally() for rows in plan.backlogs}
    rigs = {}
    for rows, tally in tallies.items():
        agent = Agent(plan.reactor, OK, done=tally)
        rigs[rows] = await plan.rig(Backlog(rows)).serve(agent)
    rates: dict[tuple[int, int], list[float]] = {}
    waits: dict[tuple[int, int], list[float]] = {}
    levels = {1: plan.size(500, 100), 20: plan.size(5_000, 500), 100: plan.size(10_000, 1_000)}
    for number in range(ROUNDS):
        for concurrency, many in levels.items():
            for rows in plan.backlogs if number % 2 == 0 else reversed(plan.backlogs):
                goal, began = len(tallies[rows].seen) + many, time.perf_counter()
                waits.setdefault((rows, concurrency), []).extend(await rigs[rows].accept(many, concurrency))
                await tallies[rows].reached(goal)
                rates.setdefault((rows, concurrency), []).append(many / (time.perf_counter() - began))
    for rig in rigs.values():
        await rig.stop()
    middle = {key: median(found) for key, found in rates.items()}
    for (rows, concurrency), rate in sorted(middle.items()):
        wait = [percentile(waits[rows, concurrency], percent) * 1000 for percent in (50, 99)]
        report.rows.append([rows, concurrency, rate, f"{rate / middle[0, concurrency]:.0%}", *wait, tallies[rows].twice])
    series = {f"{rows:,} deferred": [middle[rows, concurrency] for concurrency in levels] for rows in plan.backlogs}
    report.chart = Chart("messages/s", [f"{concurrency} at once" for concurrency in levels], series)
    report.notes.append("wanted: the largest backlog within 15 % of empty, nothing twice")
    return report


async def b5(plan: Plan) -> Report:
    """A storm of deferrals."""
    many = plan.size(100_000, 3_000)
    columns = ("recipients", "s to quiet", "rows/s", "commits", "fdatasync/row", "WAL MB", "longest WAL MB", "checkpoints")
    report = plan.report("b5", "A storm: every recipient is answered 451", columns, destinations=1_000)
    tally = Tally()
    rig = await plan.rig().serve(Agent(plan.reactor, LATER, done=tally))
    began = time.perf_counter()
    await rig.accept(many, 200)
    await tally.reached(many)
    while rig.service is not None and rig.service._scheduler.active:
        await deferLater(plan.reactor, 0.01, lambda: None)
    seconds, counts = time.perf_counter() - began, rig.counts
    await rig.stop()
    costs = (counts.commits, counts.syncs / many, counts.wal / 1e6, counts.wal_most / 1e6, counts.checkpoints)
    report.rows.append([many, seconds, many / seconds, *costs])
    report.chart = Chart("recipients/s", [f"{many:,} recipients"], {"accepted, tried, deferred": [many / seconds]})
    return report


async def b12(plan: Plan) -> Report:
    """Fairness: what single messages wait while somebody else has very much mail."""
    campaign, singles = plan.size(200_000, 4_000), plan.size(600, 60)
    columns = ("beside", "singles to", "singles", "p50 ms", "p99 ms", "max ms")
    report = plan.report("b12", f"Waiting of single messages beside {campaign:,} of a campaign", columns, campaign=campaign)
    same = Backlog(campaign, 5, "smtp:default/big{}.test", due=0, spread=0, lanes=1)
    slow = Backlog(campaign, 1, "smtp:default/slow.test", due=0, spread=0, lanes=1)
    worst: dict[str, float] = {}
    for name, stock, domain in (
        ("nothing", Backlog(0), "big{}.test"),
        ("a campaign to the same 5 destinations", same, "big{}.test"),
        ("a slow destination with all of it", slow, "other{}.test"),
    ):
        waits = await _singles(plan, stock, domain, singles)
        for told, chance in ((name, False), (f"{name}, in its lane", True)):
            found = [wait for wait, shared in waits if (shared and stock is same) is chance]
            if found:
                worst[told] = percentile(found, 99) * 1000
                figures = percentile(found, 50) * 1000, worst[told], max(found) * 1000
                report.rows.append([told, domain.format("N"), len(found), *figures])
    report.chart = Chart("ms until delivered, p99 (log)", list(worst), {"singles": list(worst.values())}, log=True)
    report.notes.append("a transaction takes 50 ms, to the slow destination 2 s; wanted: p99 less than twice that beside nothing")
    report.notes.append(f"one sender in {LANES} shares the campaign's lane by chance, and waits behind all of it")
    return report


async def _singles(plan: Plan, stock: Backlog, domain: str, many: int) -> list[tuple[float, bool]]:
    """Ten messages a second, each of a sender of its own: the seconds until each is delivered, and is it in the lane of the
    campaign?"""
    began: dict[int, tuple[float, bool]] = {}
    ended: dict[int, float] = {}

    def done(job: Job) -> None:
        ended[job.message.id] = time.perf_counter()

    agent = Agent(plan.reactor, OK, lambda job: 2.0 if job.dest.endswith("/slow.test") else 0.05, done)
    rig = await plan.rig(stock).serve(agent)
    assert rig.service is not None
    await deferLater(plan.reactor, 1.0, lambda: None)  # the campaign is under way
    for number in range(many):
        key, place = f"single{number}", number % 5
        message = rig.message(domain.format(place), key)
        shared = crc32(key.encode()) % LANES == place  # `fill` puts the campaign there
        began[message.id] = time.perf_counter(), shared
        await rig.service.accept(message)
        await deferLater(plan.reactor, 0.1, lambda: None)
    deadline = time.perf_counter() + PATIENCE
    while not began.keys() <= ended.keys() and time.perf_counter() < deadline:
        await deferLater(plan.reactor, 0.05, lambda: None)
    await rig.stop()
    return [(ended.get(id, deadline) - at, shared) for id, (at, shared) in began.items()]
