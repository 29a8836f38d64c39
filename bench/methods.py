"""How a scenario is measured: one function for each method, from a server and a number of messages to a round.

Every scenario begins with a round that is not counted: it loads what the first mail loads, and shows the peak of the memory,
for looking at the memory of two hundred processes costs time that would be missing in the others.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bench.contest import RELAYED, Contestant, Tail, Traffic, delivered, measure, send, throughput
from bench.figures import Round
from bench.hop import Hop, address
from bench.processes import settled, watching
from bench.report import percentile
from bench.scenario import Scenario

__all__ = ["first", "measured"]

ROOT = Path(__file__).resolve().parent.parent
PACE = 0.5  # of the most


def measured(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """One round."""
    return METHODS[scenario.method](server, scenario, hop)


def first(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """The round that does not count: only the peak of the memory, in MiB, is kept."""
    if scenario.method == "idle":
        _smtp(server.port, scenario.rig.tls).quit()  # what the first connection loads is no cost of the others
        return {}
    with watching(server.pid) as peak:
        measured(server, scenario, hop)
        peak.look()
    return {"peak": peak.most / 1024}


def source(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """smtp-source; relayed mail is waited for, accepted mail must stay where it is."""
    traffic = Traffic(scenario.messages, scenario.sessions, scenario.size, scenario.recipients, scenario.keeps)
    if scenario.rig.duty == "relay":
        return measure(server, traffic)
    tail, cpu, began = Tail(server), server.cpu(), time.monotonic()
    send(server, traffic)
    took = time.monotonic() - began
    if tail.delays():
        raise AssertionError(f"{server.name} passes mail on that it was to keep")
    return throughput(traffic.messages, traffic.size, took, server.cpu() - cpu)


def load(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """Our generator, in a closed loop."""
    hop.begin()
    tail, cpu = Tail(server), server.cpu()
    answer = _generate(server, scenario)
    delays = delivered(server, tail, expected(scenario))
    took, spent = time.monotonic() - answer["began"], server.cpu() - cpu
    found = {
        **throughput(scenario.messages, scenario.size, took, spent),
        "p50": percentile(delays, 50) * 1000,
        "p99": percentile(delays, 99) * 1000,
    }
    if scenario.rig.tls:
        found["handshakes"] = hop.counts()["handshakes"] / scenario.messages * 1000
    return found


def pace(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """Our generator, as fast as it goes, then at half of that: what a server is asked that has something left."""
    most = load(server, scenario, hop)["rate"]
    hop.begin()
    tail = Tail(server)
    answer = _generate(server, scenario, "--rate", str(most * PACE))
    delivered(server, tail, scenario.messages)
    reply, end = answer["delays"], hop.counts()["delays"]
    return {
        "rate": answer["rate"],
        **{f"reply{key[1:]}": 1000 * reply[key] for key in ("p50", "p99", "p999")},
        **{f"end{key[1:]}": 1000 * end[key] for key in ("p50", "p99", "p999")},
    }


def idle(server: Contestant, scenario: Scenario, hop: Hop) -> Round:
    """As many connections as messages are said: each has heard the answer to its last EHLO, then says nothing."""
    before = settled(server.pid)
    clients = [_smtp(server.port, scenario.rig.tls) for _ in range(scenario.messages)]
    after = settled(server.pid)
    for client in clients:
        client.close()
    return {"each": max(after - before, 0) / scenario.messages}


METHODS: Final[Mapping[str, Callable[[Contestant, Scenario, Hop], Round]]] = {
    "source": source,
    "load": load,
    "pace": pace,
    "idle": idle,
}


def recipient(scenario: Scenario) -> str:
    """As mta.testing.load wants it."""
    return "user{n}@d{d}.far.test" if scenario.rig.by_mx else RELAYED


def expected(scenario: Scenario) -> int:
    """How many deliveries must come: what the next hop refuses, and whoever hangs, is left out."""
    faults = scenario.rig.faults
    answers = [address(destination) not in faults.hang for destination in range(scenario.destinations)]
    return sum(faults.takes(number) and answers[number % len(answers)] for number in range(scenario.messages))


def _smtp(port: int, tls: bool) -> smtplib.SMTP:
    """A connection, past its EHLO; in TLS, past the EHLO in it."""
    client = smtplib.SMTP("127.0.0.1", port, local_hostname="idle.test", timeout=60)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
    client.ehlo()
    return client


def _generate(server: Contestant, scenario: Scenario, *more: str) -> dict[str, Any]:
    """Run mta.testing.load; what it says.  RuntimeError unless every message was accepted."""
    command = [sys.executable, "-m", "mta.testing.load", "--port", str(server.port), "--messages", str(scenario.messages)]
    for name in ("sessions", "size", "recipients", "destinations"):
        command += [f"--{name}", str(getattr(scenario, name))]
    command += ["--recipient", recipient(scenario), "--sender", "from@far.test"]
    command += [*([] if scenario.keeps else ["--new-connections"]), *(["--tls"] if scenario.rig.tls else []), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{server.name}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["accepted"] < scenario.messages:
        raise RuntimeError(f"{server.name} did not accept all: {done.stdout}")
    return answer
