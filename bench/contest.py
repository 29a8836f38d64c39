"""Servers side by side: the same messages from smtp-source through each of them to the same next hop, in turns.

All servers run all the time; the rounds are interleaved, forward and back (A B C, C B A ...), so that what else the machine
does falls on all.  A round lasts from the first connection to the last delivery that the server has logged.  CPU: user and
system time of all processes of a server.  Delay: end to end, from each server's own log (delay=).  Postfix is tuned as its
TUNING_README says: no in_flow_delay, no chroot, no client limits.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import attrs

from bench.processes import cpu_seconds
from tests.peers.peers import smtp_source

__all__ = [
    "DELIVERED",
    "SENT",
    "TUNED",
    "Contestant",
    "Round",
    "Tail",
    "arguments",
    "contest",
    "folders",
    "measure",
    "middle",
    "show",
]

TUNED = {
    "default_process_limit": "200",
    "in_flow_delay": "0",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "default_destination_concurrency_limit": "20",
    "initial_destination_concurrency": "20",
    "qmgr_message_active_limit": "20000",
    "delay_logging_resolution_limit": "3",
}
RELAYED = "user@relayed.test"  # nobody's own domain: it goes on to the next hop
DELIVERED = re.compile(rb" event=delivered .*? delay=([0-9.]+)")
SENT = re.compile(rb" relay=127\.0\.0\.1\[.*? delay=([0-9.]+),.* status=sent")  # to the next hop, not into a mailbox
COLUMNS = {"": "<16", "round": ">7", "messages/s": ">12", "CPU s per 1,000": ">16", "p50 ms": ">8", "p99 ms": ">8"}
HANDSHAKES = {"handshakes per 1,000": ">21"}  # where there is TLS
STALL = 60.0  # seconds without a delivery: give up

Contestants = Sequence["Contestant"]


@attrs.frozen
class Contestant:
    """A server that is measured: its port, its processes, its log and what a delivery looks like there."""

    name: str
    port: int
    pid: int
    log: Path
    delivery: re.Pattern[bytes]  # group 1: the delay in seconds


@attrs.frozen
class Round:
    """What one round has shown."""

    rate: float  # messages per second
    cpu: float  # seconds per 1,000 messages
    p50: float  # of the delay, in seconds
    p99: float
    handshakes: float = 0.0  # at the next hop, per 1,000 messages


class Tail:
    """Deliveries in a log since the last look."""

    def __init__(self, contestant: Contestant) -> None:
        self._path = contestant.log
        self._delivery = contestant.delivery
        self._at = self._path.stat().st_size
        self._rest = b""

    def delays(self) -> list[float]:
        """Of the deliveries that are new."""
        with open(self._path, "rb") as file:
            file.seek(self._at)
            data = self._rest + (new := file.read())
        self._at += len(new)
        whole, newline, self._rest = data.rpartition(b"\n")
        return [float(match[1]) for match in self._delivery.finditer(whole + newline)]


def measure(contestant: Contestant, options: argparse.Namespace, to: str = "user@sink.test") -> Round:
    """One round of mail for that address; handshakes are not looked at."""
    tail, delays = Tail(contestant), list[float]()
    cpu, began = cpu_seconds(contestant.pid), time.monotonic()
    numbers = ("-N", "-s", str(options.sessions), "-m", str(options.messages), "-l", str(options.size))
    smtp_source(contestant.port, *numbers, *([] if options.reconnect else ["-d"]), to=to, timeout=3600)
    heard = time.monotonic()
    while len(delays) < options.messages:
        if new := tail.delays():
            delays += new
            heard = time.monotonic()
        elif time.monotonic() - heard > STALL:
            raise TimeoutError(f"{contestant.name}: {len(delays)} of {options.messages} delivered, then nothing for {STALL} s")
        time.sleep(0.01)
    seconds = time.monotonic() - began
    cuts = quantiles(delays, n=100)
    spent = cpu_seconds(contestant.pid) - cpu
    return Round(options.messages / seconds, spent / options.messages * 1000, cuts[49], cuts[98])


def contest(
    running: Callable[[Path], AbstractContextManager[Contestants]],
    options: argparse.Namespace,
    handshakes: Callable[[Path], int] | None = None,
) -> Mapping[str, list[Round]]:
    """All rounds of all servers.

    running: starts next hop and servers in a folder; all are gone at the end.  handshakes: how many the next hop in that folder
    has had so far.
    """
    rounds: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running(directory) as servers:
            for number in range(options.rounds):
                for server in servers if number % 2 == 0 else reversed(servers):
                    before = handshakes(directory) if handshakes else 0
                    measured = measure(server, options, RELAYED)
                    if handshakes:
                        fresh = (handshakes(directory) - before) / options.messages * 1000
                        measured = attrs.evolve(measured, handshakes=fresh)
                    rounds.setdefault(server.name, []).append(measured)
                    print(f"round {number + 1}: {server.name} {measured.rate:.0f}/s", file=sys.stderr)
    return rounds


@contextmanager
def folders(directory: Path) -> Iterator[tuple[ExitStack, Callable[[str], Path]]]:
    """A stack for what must be stopped, and a maker of folders."""

    def folder(name: str) -> Path:
        (path := directory / name).mkdir()
        return path

    with ExitStack() as stack:
        yield stack, folder


def show(rounds: Mapping[str, list[Round]]) -> None:
    """Every round, the medians, and the ratios of the first server to each of the others."""
    medians = {name: middle(measured) for name, measured in rounds.items()}
    columns = {**COLUMNS, **(HANDSHAKES if any(figures.handshakes for figures in medians.values()) else {})}
    rows = [list(columns)]
    rows += [_cells(name, number, figures) for name, measured in rounds.items() for number, figures in enumerate(measured, 1)]
    rows += [_cells(name, "median", figures) for name, figures in medians.items()]
    for cells in rows:
        print("".join(format(cell, form) for cell, form in zip(cells, columns.values(), strict=False)))
    (first, ours), *others = medians.items()
    for name, theirs in others:
        print(f"\n{first} : {name}, medians")
        print(f"messages per second  {ours.rate / theirs.rate:.2f}")
        print(f"CPU per message      {ours.cpu / theirs.cpu:.2f}")
        print(f"delay p50            {ours.p50 / max(theirs.p50, 0.001):.2f}")
        print(f"delay p99            {ours.p99 / max(theirs.p99, 0.001):.2f}")


def middle(rounds: list[Round]) -> Round:
    """The median of each figure."""
    return Round(*(median(figures) for figures in zip(*map(attrs.astuple, rounds), strict=True)))


def _cells(name: str, label: object, figures: Round) -> list[str]:
    """A line of the table; the handshakes are the last."""
    rate, cpu, p50, p99, handshakes = attrs.astuple(figures)
    return [name, str(label), f"{rate:.0f}", f"{cpu:.3f}", f"{1000 * p50:.0f}", f"{1000 * p99:.0f}", f"{handshakes:.0f}"]


def arguments(name: str, text: str | None, given: list[str]) -> argparse.Namespace:
    """The options that all contests have."""
    parser = argparse.ArgumentParser(name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000, help="of each round (5000)")
    parser.add_argument("--rounds", type=int, default=5, help="for each server (5)")
    parser.add_argument("--sessions", type=int, default=20, help="of smtp-source (20)")
    parser.add_argument("--size", type=int, default=4096, help="bytes of each body (4096)")
    parser.add_argument("--reconnect", action="store_true", help="a new connection for each message, not 20 that are kept")
    parser.add_argument("--directory", default="/var/tmp", help="of all queues; a real disk (/var/tmp)")
    return parser.parse_args(given)
