"""mta and Postfix side by side: the same messages from smtp-source through each of them to the same smtp-sink.

    python -m bench.relay [--messages 5000] [--rounds 5] [--sessions 20] [--size 4096] [--reconnect] [--directory D]

As root, after `make peers`.  Each session sends its share of the mail over one connection (smtp-source -d), unless
--reconnect.  Both servers run all the time; the rounds are interleaved (mta, Postfix, Postfix, mta ...), so
that what else the machine does falls on both.  A round lasts from the first connection to the last delivery.  Both are
durable (fsync before 250, queues in the same directory), log every delivery to a file, speak no TLS here and may open 20
connections to the next hop.  Postfix is tuned as its TUNING_README says: no in_flow_delay, no chroot, no client limits.
CPU: user and system time of all processes of a server.  Delay: end to end, from each server's own log (delay=).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

import attrs

from bench.processes import cpu_seconds
from tests.peers.peers import smtp_sink, smtp_source, start_postfix
from tests.peers.server import MtaProcess, relay_to

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
DELIVERED = re.compile(rb" event=delivered .*? delay=([0-9.]+)")
SENT = re.compile(rb" delay=([0-9.]+),.* status=sent")
FORM = "{:<8} {:>7} {:>12} {:>16} {:>10} {:>10}"
STALL = 60.0  # seconds without a delivery: give up


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


def measure(contestant: Contestant, options: argparse.Namespace) -> Round:
    """One round."""
    tail, delays = Tail(contestant), list[float]()
    cpu, began = cpu_seconds(contestant.pid), time.monotonic()
    numbers = ("-N", "-s", str(options.sessions), "-m", str(options.messages), "-l", str(options.size))
    smtp_source(contestant.port, *numbers, *([] if options.reconnect else ["-d"]), timeout=3600)
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


@contextmanager
def contestants(directory: Path) -> Iterator[tuple[Contestant, Contestant]]:
    """Both servers and the next hop, running; all gone at the end."""
    with ExitStack() as stack:

        def folder(name: str) -> Path:
            (path := directory / name).mkdir()
            return path

        sink = smtp_sink(folder("sink"))
        stack.callback(sink.stop)
        postfix = start_postfix(folder("postfix"), relay_to=sink.port, processes=200, extra=TUNED)
        stack.callback(postfix.stop)
        mta = MtaProcess(folder("mta"), relay_to(sink.port, tls="none"))
        stack.callback(mta.kill9)
        mta.start()
        yield (
            Contestant("mta", mta.port, mta.pid, mta.directory / "events.log", DELIVERED),
            Contestant("Postfix", postfix.port, postfix.pid, postfix.directory / "maillog", SENT),
        )


def report(rounds: dict[str, list[Round]]) -> None:
    """Every round, the medians and the ratios."""
    print(FORM.format("", "round", "messages/s", "CPU s per 1,000", "p50 ms", "p99 ms"))
    for name, measured in rounds.items():
        for number, figures in enumerate(measured, 1):
            print(row(name, number, figures))
    ours, theirs = middle(rounds["mta"]), middle(rounds["Postfix"])
    print(row("mta", "median", ours), row("Postfix", "median", theirs), "", "mta : Postfix, medians", sep="\n")
    print(f"messages per second  {ours.rate / theirs.rate:.2f}")
    print(f"CPU per message      {ours.cpu / theirs.cpu:.2f}")
    print(f"delay p50            {ours.p50 / max(theirs.p50, 0.001):.2f}")
    print(f"delay p99            {ours.p99 / max(theirs.p99, 0.001):.2f}")


def middle(rounds: list[Round]) -> Round:
    """The median of each figure."""
    return Round(*(median(figures) for figures in zip(*map(attrs.astuple, rounds), strict=True)))


def row(name: str, label: object, figures: Round) -> str:
    """A line of the table."""
    rate, cpu, p50, p99 = attrs.astuple(figures)
    return FORM.format(name, label, f"{rate:.0f}", f"{cpu:.3f}", f"{1000 * p50:.0f}", f"{1000 * p99:.0f}")


def main(arguments: list[str]) -> int:
    """Run the benchmark; exit status 0 when all mail arrived."""
    parser = argparse.ArgumentParser("bench.relay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000, help="of each round (5000)")
    parser.add_argument("--rounds", type=int, default=5, help="for each server (5)")
    parser.add_argument("--sessions", type=int, default=20, help="of smtp-source (20)")
    parser.add_argument("--size", type=int, default=4096, help="bytes of each body (4096)")
    parser.add_argument("--reconnect", action="store_true", help="a new connection for each message, not 20 that are kept")
    parser.add_argument("--directory", default="/var/tmp", help="of both queues; a real disk (/var/tmp)")
    options = parser.parse_args(arguments)
    rounds: dict[str, list[Round]] = {"mta": [], "Postfix": []}
    with tempfile.TemporaryDirectory(prefix="mta-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with contestants(Path(name)) as pair:
            for number in range(options.rounds):
                for contestant in pair if number % 2 == 0 else reversed(pair):
                    rounds[contestant.name].append(measure(contestant, options))
                    print(f"round {number + 1}: {contestant.name} {rounds[contestant.name][-1].rate:.0f}/s", file=sys.stderr)
    report(rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
