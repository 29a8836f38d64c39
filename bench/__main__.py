"""Our server beside Postfix, Exim, OpenSMTPD and aiosmtpd: every scenario, in turns, several rounds, medians and spread.

    python -m bench [--only NAME,NAME] [--servers mta,postfix] [--rounds 5] [--scale 1] [--out docs] [--quick]

As root, after `make peers`, on Linux; it enters a network namespace of its own, where there is nothing but the loopback.  Every
server is durable (fsync before 250), has its queue below --directory, logs every delivery to a file, and is tuned as its own
manual says; one that does not start is left out.  The scenarios are a table, `bench/scenario.py`; --list shows it.  Each result
is written as soon as it is there, into --out: JSON and pictures in its folder bench, tables into its performance.md.  --quick
shows in minutes that all of it works, and writes nothing unless --out is given.  Exit status 0 when every server was measured,
whatever the goals say.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import attrs

from bench import book, loopback
from bench.accounts import opened
from bench.book import Result
from bench.figures import Round
from bench.hop import Hop, running
from bench.methods import first, measured
from bench.report import fdatasync
from bench.scenario import FAMILIES, SCENARIOS, Rig, Scenario, quick
from bench.servers.place import Place, Running
from bench.servers.table import NAMES, SHARE, STARTERS, unable
from mta.testing.pki import Authority

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def started(rig: Rig, destinations: int, directory: Path) -> Iterator[tuple[dict[str, Running], Hop]]:
    """The next hop and all servers of a rig, in folders; gone at the end."""
    directory.chmod(0o755)
    issued = Authority.create().issue("localhost", "127.0.0.1")
    with ExitStack() as stack:
        hop = stack.enter_context(running(rig, destinations, directory, issued))
        servers = {}
        for name in rig.servers:
            (folder := directory / name.lower().replace(" ", "").replace(",", "-")).mkdir()
            try:
                server = STARTERS[name](name, Place(folder, rig, hop.port, issued.write(folder)))
            except (OSError, RuntimeError) as error:
                say(f"{name} takes no part, it does not start: {error}")
                continue
            group = stack.enter_context(opened(f"{directory.name}-{folder.name}", server.contestant.pid))
            stack.callback(server.stop)
            servers[name] = attrs.evolve(server, contestant=attrs.evolve(server.contestant, group=group))
        yield servers, hop


def contest(scenario: Scenario, servers: dict[str, Running], hop: Hop, rounds: int) -> dict[str, list[Round]]:
    """All rounds of all servers, interleaved; one of idle connections, for the next would find the memory of the first."""
    rounds = 1 if scenario.method == "idle" else rounds
    shares = {name: scenario.scaled(SHARE.get(name, 1.0)) for name in servers if name not in scenario.without}
    found: dict[str, list[Round]] = {name: [] for name in shares}
    for number in range(rounds + 1):
        for name in list(found) if number % 2 else reversed(list(found)):
            share, server = shares[name], servers[name].contestant
            try:
                figures = measured(server, share, hop) if number else first(server, share.scaled(0.25), hop)
            except Exception as error:  # the others are measured all the same
                say(f"{scenario.name}: {name} is left out: {str(error).strip().splitlines()[-1]}")
                del found[name]
            else:
                found[name].append(figures)
                shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
                say(f"  {scenario.name} {number or 'first'}/{rounds} {name}: {shown}")
    return found


def run(rig: Rig, scenarios: Sequence[Scenario], options: argparse.Namespace) -> bool:
    """All scenarios of one rig; False when a server was left out."""
    whole = True
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        about = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, fdatasync {fdatasync(Path(name))}"}
        with started(rig, max(scenario.destinations for scenario in scenarios), Path(name)) as (servers, hop):
            about |= {f"{server}, told here": one.here for server, one in servers.items()}
            settings = {f"{server} {one.version}": one.settings for server, one in servers.items()}
            for scenario in scenarios:
                say(f"{scenario.name}: {FAMILIES[scenario.family].title}, {scenario.label}")
                rounds = contest(scenario, servers, hop, options.rounds)
                whole = whole and len(rounds) == len(set(rig.servers) - set(scenario.without))
                amount = {scenario.label: scenario.amount(options.rounds)}
                if rounds:
                    tell(scenario, Result(scenario.name, rounds, {**amount, **about}, settings), options.out)
    return whole


def tell(scenario: Scenario, result: Result, out: Path | None) -> None:
    """Print it, and write it."""
    family = FAMILIES[scenario.family]
    for line in (*book.table(family, {scenario.name: result}), *map(str, result.verdicts(scenario))):
        print(line, flush=True)
    if out is not None:
        book.save(result, out)
        book.published(out)


def chosen(options: argparse.Namespace, missing: Collection[str] = ()) -> list[Scenario]:
    """The scenarios that the options want, with the servers that are wanted and not missing.  ValueError for unknown names."""
    known = {scenario.name for scenario in SCENARIOS} | set(FAMILIES)
    wanted = _words(options.only, known) or known
    names = {NAMES[word] for word in _words(options.servers, set(NAMES))} or set(STARTERS)
    found = []
    for scenario in SCENARIOS:
        if scenario.name not in wanted and scenario.family not in wanted:
            continue
        servers = tuple(name for name in scenario.rig.servers if name in names and name not in missing)
        scenario = attrs.evolve(scenario, rig=attrs.evolve(scenario.rig, servers=servers))
        found.append(quick(scenario) if options.quick else scenario.scaled(options.scale))
    return [scenario for scenario in found if scenario.rig.servers]


def _words(given: str, known: set[str]) -> set[str]:
    words = {word for word in given.split(",") if word}
    if unknown := words - known:
        raise ValueError(f"{', '.join(sorted(unknown))}: known are {', '.join(sorted(known))}")
    return words


def say(line: str) -> None:
    """How far it is."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser("bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of scenarios or of their families, with commas between them")
    parser.add_argument("--servers", default="", help=f"of {','.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=0, help="for each server (5; 1 with --quick)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the messages of each round (1)")
    parser.add_argument("--quick", action="store_true", help="very small sizes")
    parser.add_argument("--out", type=Path, help="folder of performance.md and bench/ (docs; nothing with --quick)")
    parser.add_argument("--directory", default="/var/tmp", help="of all queues; a real disk (/var/tmp)")
    parser.add_argument("--list", action="store_true", help="the scenarios, and end")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.out = options.out or (None if options.quick else ROOT / "docs")
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:20} {FAMILIES[scenario.family].title}, {scenario.label}: {', '.join(scenario.rig.servers)}")
        return 0
    try:
        chosen(options)
    except ValueError as error:
        parser.error(str(error))
    loopback.enter("bench", arguments)
    with tempfile.TemporaryDirectory(prefix="mta-bench-") as name:
        missing = unable(STARTERS, Path(name))
    for name, why in missing.items():
        say(f"{name} takes no part: {why}")
    scenarios = chosen(options, missing)
    whole = [run(rig, list(group), options) for rig, group in groupby(scenarios, key=lambda scenario: scenario.rig)]
    return 0 if scenarios and all(whole) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
