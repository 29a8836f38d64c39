"""Where our CPU goes, room by room: microseconds for each message, one column for each scenario.

    python -m bench.rooms [--only NAME,NAME] [--scale 1] [--top 0] [--out docs]

The scenarios, next hops and generators are those of `python -m bench`, and so is what is needed to run it.  Each scenario runs on
two servers: one as it is, for what its threads have used (/proc), and one whose reactor is under cProfile.  That costs more than
the server itself, so of the second only the shares are taken, and laid over what the reactor's thread of the first has used.
What belongs to no room of ours (C functions, made-up classes) is its caller's.  System calls stand by themselves, with the wait
for the interpreter's lock behind them; the poll, which mostly waits, is left out.  --top prints the dearest functions too.  The
table goes into --out, where performance.md has marks for it (`bench/book.py`).
"""

from __future__ import annotations

import argparse
import os
import pstats
import re
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from bench import book, loopback
from bench.__main__ import ROOT, say
from bench.hop import running
from bench.methods import measured
from bench.processes import TICKS
from bench.report import Cell, lines_of
from bench.scenario import SCENARIOS, Scenario
from bench.servers import ours
from bench.servers.place import Place, Running
from mta.testing.pki import Authority
from tests.peers.peers import wait_for

__all__ = ["Profile", "main"]

USUAL: Final = ("accept", "relay-20", "tls-kept", "size-100k", "destinations-10000")
PROFILED: Final = """\
import os
from cProfile import Profile
from twisted.internet import reactor
from twisted.scripts.twistd import run
profile = Profile()
reactor.callWhenRunning(profile.enable)
reactor.addSystemEventTrigger("before", "shutdown", profile.disable)
reactor.addSystemEventTrigger("after", "shutdown", profile.dump_stats, "profile.new")
reactor.addSystemEventTrigger("after", "shutdown", os.rename, "profile.new", "profile")
run()
"""
SYSTEM: Final = re.compile(r"'(?:send|recv|connect|accept|close|register|unregister|modify)' of|posix\.\w+|_socket")
ROOMS: Final = (  # the first that fits
    ("mta/smtp/", "smtp: both machines"),
    ("mta/receive/", "receive"),
    ("mta/queue/sqlite/", "queue: SQLite, on this thread"),
    ("mta/queue/scheduler/", "queue: scheduler"),
    ("mta/queue/", "queue: way in, way out"),
    ("mta/relay/", "relay"),
    ("mta/route/", "route, DNS"),
    ("mta/dns/", "route, DNS"),
    ("/dns/", "route, DNS"),
    ("mta/tls/", "TLS"),
    ("OpenSSL/", "TLS"),
    ("twisted/protocols/tls", "TLS"),
    ("mta/control/log", "log"),
    ("twisted/", "Twisted: dispatch, Deferreds"),
    ("mta/", "values, and the rest"),
)
CALLS: Final = "system calls"
REST: Final = "values, and the rest"
QUEUE: Final = "threads of the queue"
COUNT: Final = "calls of functions"


def room_of(file: str) -> str:
    """In which room a file of a profile stands; attrs makes classes whose file is their name."""
    file = re.sub(r"^<attrs generated \w+ (.*)>$", lambda made: made[1].replace(".", "/"), file)
    return next((room for part, room in ROOMS if part in file), REST)


@attrs.define
class Profile:
    """Of one scenario.  seconds: own time under the profile, by room; calls; top: (seconds, calls, what) of functions."""

    seconds: Counter[str]
    calls: int
    top: list[tuple[float, int, str]]

    @classmethod
    def read(cls, path: Path) -> Profile:
        """A dump of cProfile.  Of what is no file's, each caller has its own part."""
        seconds: Counter[str] = Counter()
        calls, top = 0, []
        found = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
        for (file, line, name), (_, number, own, _, callers) in found.items():
            calls += number
            if "'poll' of" in name:
                continue
            top.append((own, number, f"{file.rpartition('site-packages/')[2].removeprefix(f'{ROOT}/')}:{line} {name}"))
            if file != "~":
                seconds[room_of(file)] += own
            elif SYSTEM.search(name):
                seconds[CALLS] += own
            else:
                for (caller, _, _), (_, _, part, _) in callers.items():
                    seconds[room_of(caller)] += part
        return cls(seconds, calls, sorted(top, reverse=True))


def threads(pid: int) -> tuple[float, float]:
    """Seconds of CPU of the reactor's thread, and of all others."""
    used = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        fields = (path / "stat").read_text().rpartition(")")[2].split()
        used[int(path.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    reactor = used.pop(pid)
    return reactor, sum(used.values())


def costs(scenario: Scenario, directory: Path, top: int) -> dict[str, float]:
    """Microseconds for a message by room, and the calls."""
    directory.mkdir()
    directory.chmod(0o755)
    issued = Authority.create().issue("localhost", "127.0.0.1")
    with ExitStack() as stack:
        hop = stack.enter_context(running(scenario.rig, scenario.destinations, directory, issued))

        def started(name: str, program: str) -> Running:
            (folder := directory / name).mkdir()
            server = ours.start("mta", Place(folder, scenario.rig, hop.port, issued.write(folder)), program=program)
            stack.callback(server.stop)
            measured(server.contestant, scenario.scaled(0.25), hop)
            return server

        plain = started("plain", ours.TWISTD)
        before = threads(plain.contestant.pid)
        measured(plain.contestant, scenario, hop)
        reactor, others = (now - then for now, then in zip(threads(plain.contestant.pid), before, strict=True))
        plain.stop()  # it may be stopped twice
        watched = started("profiled", PROFILED)
        measured(watched.contestant, scenario, hop)
        os.kill(watched.contestant.pid, signal.SIGTERM)
        dump = directory / "profiled" / "profile"
        wait_for(dump.exists, "the profile", 60)
        profile = Profile.read(dump)
    messages = scenario.messages
    share = reactor / messages * 1e6 / sum(profile.seconds.values())
    found = {room: seconds * share for room, seconds in profile.seconds.items()}
    found[QUEUE] = others / messages * 1e6
    found[COUNT] = profile.calls / (messages * 1.25)
    for own, number, what in profile.top[:top]:
        print(f"{scenario.name:12} {own * share:7.1f} us {number / messages / 1.25:7.2f} calls  {what}")
    return found


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """A row for each room, the dearest first; a column for each scenario."""
    totals = {room: sum(of.get(room, 0.0) for of in found.values()) for room in (*dict(ROOMS).values(), CALLS)}
    order = [*sorted(totals, key=lambda room: -totals[room]), QUEUE]
    rows: list[list[Cell]] = [[room, *(round(of.get(room, 0.0)) for of in found.values())] for room in order]
    rows.append(["in all", *(round(sum(of.get(room, 0.0) for room in order)) for of in found.values())])
    rows.append([COUNT, *(round(of[COUNT]) for of in found.values())])
    return lines_of(["us for each message", *found], rows)


def main(arguments: list[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser("bench.rooms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(USUAL), help="names of scenarios, with commas between them")
    parser.add_argument("--scale", type=float, default=1.0, help="times the messages")
    parser.add_argument("--top", type=int, default=0, help="functions that are shown")
    parser.add_argument("--out", type=Path, help="folder of performance.md")
    options = parser.parse_args(arguments)
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := [name for name in options.only.split(",") if name not in known]:
        parser.error(f"{', '.join(unknown)}: known are {', '.join(known)}")
    loopback.enter("bench.rooms", arguments)
    found = {}
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        for name in options.only.split(","):
            say(name)
            found[name] = costs(known[name].scaled(options.scale), Path(directory) / name, options.top)
    lines = table(found)
    print("\n".join(lines))
    if options.out is not None:
        page = options.out / "performance.md"
        page.write_text(book.between(page.read_text(), "rooms", "Where the time goes", lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
