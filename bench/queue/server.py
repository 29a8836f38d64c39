"""B2, B7 and B8: the whole server as a process of its own, with nothing and with much in its queue.

Mail comes from smtp-source and goes to smtp-sink; what else stands in the queue is for other destinations and not due.  The
queue is filled while the server is down, after a first start that has made the file.  B8 kills the server while it delivers.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Thread

from bench.contest import Contestant, Traffic, measure
from bench.figures import Round, medians
from bench.processes import cpu_seconds, forget_peak, memory, settled
from bench.queue.plan import Plan
from bench.queue.stock import Backlog, fill
from bench.report import Chart, Report
from bench.servers.ours import DELIVERED
from mta.envelope import Route
from mta.queue.rerouting import KEY as ROUTES
from mta.queue.sqlite import schema
from mta.queue.sqlite import statements as sql
from tests.peers.peers import Server, smtp_sink, smtp_source, wait_for
from tests.peers.server import MtaProcess, relay_to

__all__ = ["b2", "b7", "b8", "serving"]

SESSIONS = 20
ROUNDS = 3


@contextmanager
def serving(plan: Plan, *stock: Backlog, flying: int = 0) -> Iterator[tuple[MtaProcess, Server]]:
    """A server that has that in its queue, not yet started, and its next hop.  flying: mail for it that was in flight."""
    folder = plan.folder()
    for name in ("sink", "mta"):
        (folder / name).mkdir(mode=0o755)
    sink = smtp_sink(folder / "sink")
    mta = MtaProcess(folder / "mta", relay_to(sink.port, match="sink.test", tls="none"))
    try:
        mta.start()
        wait_for(lambda: _noted(mta.directory / "data"), "the digest of the routes")  # else all is routed anew
        mta.stop()
        dest = Route("route1", "smtp", f"[127.0.0.1]:{sink.port}", "none").dest
        flight = [Backlog(flying, 1, dest, "sink.test", due=-60, spread=0, taken=True)] if flying else []
        seconds = fill(mta.directory / "data", *stock, *flight)
        print(f"{sum(backlog.rows for backlog in stock) + flying:,} rows filled in, {seconds:.1f} s", flush=True)
        yield mta, sink
    finally:
        mta.kill9()
        sink.stop()


def _noted(data_dir: Path) -> bool:
    """Has the server said by which routes its mail is filed?"""
    db = schema.open_reader(data_dir / "queue" / "0.db")
    try:
        return db.execute(sql.NOTED, (ROUTES,)).get is not None
    finally:
        db.close()


def deferred(rows: int, destinations: int = 1_000) -> Backlog:
    """Mail for other domains, by their MX."""
    return Backlog(rows, destinations, "smtp:_mx/site{}.test")


async def b2(plan: Plan) -> Report:
    """Through SMTP: smtp-source, the server, smtp-sink.  One server for each backlog, all run and take turns."""
    columns = ("backlog", "msg/s", "of empty", "CPU s per 1,000", "delay p50 ms", "delay p99 ms")
    many = plan.size(5_000, 300)
    report = plan.report("b2", f"Relaying, {SESSIONS} sessions, 4 KiB", columns, messages=many, rounds=ROUNDS)
    rounds: dict[str, list[Round]] = {f"{rows:,} deferred": [] for rows in plan.backlogs}
    with ExitStack() as stack:
        servers: dict[int, Contestant] = {}
        for rows in plan.backlogs:
            mta, _ = stack.enter_context(serving(plan, deferred(rows)))
            mta.start()
            servers[rows] = Contestant("mta", mta.port, mta.pid, mta.directory / "events.log", DELIVERED)
            measure(servers[rows], _traffic(many // 5))  # what the first mail loads is not measured
        for number in range(ROUNDS):
            for rows in plan.backlogs if number % 2 == 0 else reversed(plan.backlogs):
                rounds[f"{rows:,} deferred"].append(measure(servers[rows], _traffic(many)))
    found = medians(rounds)
    empty = next(iter(found.values()))["rate"]
    for backlog, figures in found.items():
        share = f"{figures['rate'] / empty:.0%}"
        report.rows.append([backlog, figures["rate"], share, figures["cpu"], figures["p50"], figures["p99"]])
    report.chart = Chart("messages/s", list(found), {"mta": [figures["rate"] for figures in found.values()]})
    report.notes.append("wanted: the largest backlog within 15 % of empty; beside Postfix: python -m bench")
    return report


def _traffic(messages: int) -> Traffic:
    """What `measure` is to send."""
    return Traffic(messages, SESSIONS, to="user@sink.test")


async def b7(plan: Plan) -> Report:
    """Memory of the server's process."""
    rest, many = plan.size(60, 3), plan.size(5_000, 300)
    columns = ("deferred", "destinations", "idle MiB", f"after {rest} s MiB", "more than empty", "under load, peak MiB")
    report = plan.report("b7", "Resident memory", columns, messages=many)
    empty, shown = 0.0, dict[str, float]()
    few, much = 1_000, min(50_000, max(plan.rows // 2, 1))
    for rows, destinations in ((0, few), (plan.rows // 10, few), (plan.rows, few), (plan.rows, much)):
        with serving(plan, deferred(rows, destinations)) as (mta, _):
            mta.start()
            idle = settled(mta.pid) / 1024
            time.sleep(rest)
            later = settled(mta.pid) / 1024
            empty = empty or later
            forget_peak(mta.pid)
            smtp_source(mta.port, "-N", "-d", "-s", str(SESSIONS), "-m", str(many), "-l", "4096", timeout=600)
            mta.wait_for_event("delivered", many, timeout=600)
            peak = memory(mta.pid, "VmHWM") / 1024
        report.rows.append([rows, destinations, idle, later, later - empty, peak])
        shown[f"{rows:,} rows, {destinations:,} destinations"] = later
    report.chart = Chart("MiB", list(shown), {"idle": list(shown.values())})
    report.notes.append("wanted: at most 60 MiB more than empty")
    return report


async def b8(plan: Plan) -> Report:
    """Start after a kill -9: until the ports are open, and until the first mail is delivered."""
    flying = plan.size(20_000, 2_000)
    columns = ("deferred", "in flight", "what was killed", "s to listening", "s to first delivery", "CPU s")
    report = plan.report("b8", "Start after a kill -9", columns)
    shown: dict[str, float] = {}
    for rows in (0, plan.rows):
        with serving(plan, deferred(rows), flying=flying) as (mta, _):
            for name in ("with all that in flight", "while it delivered"):
                started = time.time()
                mta.start()
                listening = time.time() - started
                mta.wait_for_event("delivered", 1, timeout=600)
                first = _first(mta, started)
                report.rows.append([rows, flying, name, listening, first, cpu_seconds(mta.pid)])
                shown[f"{rows:,} deferred, {name}"] = first
                _load(mta, 1_000)
                mta.kill9()
                (mta.directory / "events.log").unlink()
    report.chart = Chart("s to first delivery", list(shown), {"mta": list(shown.values())})
    report.notes.append("wanted: less than 5 s")
    return report


def _first(mta: MtaProcess, started: float) -> float:
    """Seconds from the start of the process to its first delivery, by its log."""
    entry = mta.log("delivered")[0]
    return datetime.fromisoformat(entry.time).timestamp() - started


def _load(mta: MtaProcess, messages: int) -> None:
    """Mail comes and goes; returns in the middle of it, what kills the server then ends the client too."""

    def send() -> None:
        with suppress(subprocess.SubprocessError):  # it is killed under it
            smtp_source(mta.port, "-N", "-d", "-s", str(SESSIONS), "-m", str(messages * 100), "-l", "4096", timeout=60)

    before = mta.count("delivered")
    Thread(target=send, daemon=True).start()
    mta.wait_for_event("delivered", before + messages, timeout=120)


def wal(directory: Path) -> int:
    """Bytes of the log of a server's queue; 0 where there is none."""
    path = directory / "data" / "queue" / "0.db-wal"
    return path.stat().st_size if path.exists() else 0
