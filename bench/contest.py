"""Servers side by side: the same messages through each of them to the same next hop, in turns.

All servers run all the time; the rounds are interleaved, forward and back (A B C, C B A ...), so that what else the machine
does falls on all.  A round lasts from the first connection to the last delivery that the server has logged.  CPU: user and
system time of all processes of a server.  Delay: end to end, from each server's own log.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import attrs

from bench import accounts
from bench.figures import Round
from bench.processes import cpu_seconds
from bench.report import percentile
from tests.peers.peers import smtp_source

__all__ = ["RELAYED", "Contestant", "Tail", "Traffic", "delivered", "measure", "seconds", "send"]

RELAYED = "user@relayed.test"  # nobody's own domain: it goes on to the next hop
STALL = 60.0  # seconds without a delivery: give up
UNITS = {b"d": 86_400.0, b"h": 3_600.0, b"m": 60.0, b"s": 1.0}
DURATION = re.compile(rb"([0-9.]+)([dhms]?)")


@attrs.frozen
class Contestant:
    """A server that is measured: its port, its processes, its log and what a delivery looks like there.

    group: in which the kernel counts its CPU time; without one it is the sum over the processes.
    """

    name: str
    port: int
    pid: int
    log: Path
    delivery: re.Pattern[bytes]  # group 1: the delay
    group: Path | None = None

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        return cpu_seconds(self.pid) if self.group is None else accounts.seconds(self.group)


@attrs.frozen
class Traffic:
    """What smtp-source sends.  keeps: each session its connection, not a new one for each message."""

    messages: int
    sessions: int = 20
    size: int = 4096
    recipients: int = 1
    keeps: bool = True
    to: str = RELAYED


class Tail:
    """Deliveries in a log since the last look."""

    def __init__(self, contestant: Contestant) -> None:
        self._path = contestant.log
        self._delivery = contestant.delivery
        self._at = self._path.stat().st_size
        self._rest = b""

    def delays(self) -> list[float]:
        """Of the deliveries that are new, in seconds."""
        with open(self._path, "rb") as file:
            file.seek(self._at)
            data = self._rest + (new := file.read())
        self._at += len(new)
        whole, newline, self._rest = data.rpartition(b"\n")
        return [seconds(match[1]) for match in self._delivery.finditer(whole + newline)]


def seconds(duration: bytes) -> float:
    """Of 0.25, 0.25s or 1m3.2s."""
    return sum(float(number) * UNITS.get(unit, 1.0) for number, unit in DURATION.findall(duration))


def send(contestant: Contestant, traffic: Traffic) -> None:
    """All of it, by smtp-source; returns at its last answer."""
    options = ["-N", "-s", str(traffic.sessions), "-m", str(traffic.messages), "-l", str(traffic.size)]
    options += ["-r", str(traffic.recipients)] if traffic.recipients > 1 else []
    options += ["-d"] if traffic.keeps else []
    smtp_source(contestant.port, *options, to=traffic.to, timeout=3600)


def delivered(contestant: Contestant, tail: Tail, count: int) -> list[float]:
    """Wait for so many deliveries; their delays.  TimeoutError when none comes for a while."""
    delays, heard = tail.delays(), time.monotonic()
    while len(delays) < count:
        if new := tail.delays():
            delays += new
            heard = time.monotonic()
        elif time.monotonic() - heard > STALL:
            raise TimeoutError(f"{contestant.name}: {len(delays)} of {count} delivered, then nothing for {STALL} s")
        time.sleep(0.01)
    return delays


def measure(contestant: Contestant, traffic: Traffic) -> Round:
    """One round of mail by smtp-source, relayed."""
    tail, cpu, began = Tail(contestant), contestant.cpu(), time.monotonic()
    send(contestant, traffic)
    delays = delivered(contestant, tail, traffic.messages * traffic.recipients)
    took = time.monotonic() - began
    return {
        **throughput(traffic.messages, traffic.size, took, contestant.cpu() - cpu),
        "p50": percentile(delays, 50) * 1000,
        "p99": percentile(delays, 99) * 1000,
    }


def throughput(messages: int, size: int, took: float, cpu: float) -> Round:
    """Of a round that took so many seconds, and so many of CPU."""
    return {"rate": messages / took, "megabytes": messages * size / took / 1e6, "cpu": cpu / messages * 1000}
