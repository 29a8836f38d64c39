"""What is measured: one row for each scenario, one for each family of them (a table and a picture in the manual).

A rig is what must run for it: the servers, what they are to do, the next hop.  Scenarios of the same rig that stand together
share one.  A method is how mail comes: "source" is Postfix's smtp-source, "load" our own generator, "pace" that one at half of
the most that a server has just taken, "idle" no mail at all, but connections.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from bench.figures import Goal
from mta.testing.sink import Faults

__all__ = ["FAMILIES", "SCENARIOS", "Family", "Rig", "Scenario", "quick"]

Method = Literal["source", "load", "pace", "idle"]


@attrs.frozen
class Rig:
    """duty: "accept" keeps the mail in the queue, "relay" passes it on.  own: the next hop is mta.testing.sink."""

    servers: tuple[str, ...]
    duty: Literal["accept", "relay"] = "relay"
    tls: bool = False  # in and out
    by_mx: bool = False  # each destination has an MX with an address of its own
    own: bool = False
    faults: Faults = Faults()


@attrs.frozen
class Scenario:
    """messages: of a round of the fastest server, slower ones get a share.  size: octets.  keeps: each session its connection."""

    name: str
    family: str
    label: str
    rig: Rig
    messages: int
    method: Method = "source"
    sessions: int = 20
    size: int = 4096
    recipients: int = 1
    destinations: int = 1
    keeps: bool = True
    without: tuple[str, ...] = ()  # servers of the rig
    goals: tuple[Goal, ...] = ()

    def amount(self, rounds: int) -> str:
        """What a round sends, in words."""
        if self.method == "idle":
            return f"{self.messages} connections"
        return f"{self.messages:,} messages of {self.size:,} octets, {rounds} rounds"

    def scaled(self, factor: float) -> Scenario:
        """That many times the messages, but at least one for each session, and for each destination up to a hundred."""
        least = max(self.sessions, min(self.destinations, 100))
        return attrs.evolve(self, messages=max(round(self.messages * factor), least))


@attrs.frozen
class Family:
    """name: of the marks in the manual and of the picture.

    columns: figures that are shown.  drawn: the one in the picture, log: on such a scale.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    drawn: str
    log: bool = False


def quick(scenario: Scenario) -> Scenario:
    """Sizes at which it only shows that it works."""
    most = {"idle": 30, "pace": 60}.get(scenario.method, 4 if scenario.size > 1 << 20 else 60)
    sessions = min(scenario.sessions, 5)
    return attrs.evolve(
        scenario, messages=min(scenario.messages, most), sessions=sessions, destinations=min(scenario.destinations, 50)
    )


THROUGHPUT: Final = ("rate", "cpu", "peak", "p50", "p99")
FAMILIES: Final = {
    family.name: family
    for family in (
        Family("accept", "Accepting, nothing is passed on", ("rate", "cpu", "peak"), "rate"),
        Family("relay", "Relaying in clear, 4 KiB", THROUGHPUT, "rate"),
        Family("sizes", "Relaying in clear, by size", ("rate", "megabytes", "cpu", "peak"), "megabytes"),
        Family("recipients", "Relaying in clear, by recipients of a message", THROUGHPUT, "rate"),
        Family("destinations", "Relaying by MX, by number of destinations", THROUGHPUT, "rate"),
        Family("tls", "Relaying, TLS in and out, 4 KiB", (*THROUGHPUT, "handshakes"), "rate"),
        Family("faults", "Relaying beside failures", THROUGHPUT, "rate"),
        Family(
            "pace",
            "At half of the most it takes",
            ("rate", "reply50", "reply99", "reply999", "end50", "end99", "end999"),
            "reply99",
        ),
        Family("idle", "Memory of idle connections", ("each",), "each", log=True),
    )
}

ALL: Final = ("mta", "mta, 2 workers", "Postfix", "Exim", "OpenSMTPD")
ACCEPT: Final = Rig((*ALL, "aiosmtpd"), "accept")
RELAY: Final = Rig(ALL)
BY_MX: Final = Rig(ALL, by_mx=True)
TLS: Final = Rig(("mta", "mta, 2 workers", "mta, no reuse", "Postfix, reuse", "Postfix", "Exim"), tls=True, own=True)
# no number below 10 of each hundred is taken, and the MX of destination 49 hangs
FAULTS: Final = Rig(ALL, by_mx=True, own=True, faults=Faults(5, 5, frozenset({"127.1.0.50"})))
TIMED: Final = Rig(ALL, own=True)
IDLE_IN_TLS: Final = Rig(("mta", "Postfix", "Exim"), "accept", tls=True)

SHORT_QUEUE: Final = ("OpenSMTPD",)  # it lets 5 connections wait at its door, the others try again after seconds, or hang

SCENARIOS: Final = (
    # idle connections before any mail: what mail leaves behind in the heap would take them in
    Scenario(
        "idle", "idle", "in clear", ACCEPT, 500, method="idle", goals=(Goal("each", "mta", at_most=1 / 50, other="Postfix"),)
    ),
    Scenario("accept", "accept", "20 sessions", ACCEPT, 5_000, goals=(Goal("rate", "mta", at_least=4, other="Postfix"),)),
    Scenario("idle-tls", "idle", "in TLS", IDLE_IN_TLS, 500, method="idle"),
    Scenario("relay-1", "relay", "1 session", RELAY, 1_000, sessions=1),
    Scenario(
        "relay-20",
        "relay",
        "20 sessions",
        RELAY,
        5_000,
        goals=(
            Goal("rate", "mta", at_least=3, other="Postfix"),
            Goal("rate", "mta", at_least=20, other="Exim"),
            Goal("cpu", "mta", at_most=1 / 3, other="Postfix"),
        ),
    ),
    Scenario("relay-20-new", "relay", "20 sessions, a connection each", RELAY, 3_000, keeps=False),
    Scenario(
        "relay-100",
        "relay",
        "100 sessions",
        RELAY,
        5_000,
        sessions=100,
        without=SHORT_QUEUE,
        goals=(Goal("rate", "mta, 2 workers", at_least=4, other="Postfix"),),
    ),
    Scenario("relay-500", "relay", "500 sessions", RELAY, 5_000, sessions=500, without=SHORT_QUEUE),
    Scenario("size-1k", "sizes", "1 KiB", RELAY, 5_000, size=1 << 10),
    Scenario("size-4k", "sizes", "4 KiB", RELAY, 5_000, size=4 << 10),
    Scenario(
        "size-100k",
        "sizes",
        "100 KiB",
        RELAY,
        2_000,
        size=100 << 10,
        goals=(Goal("megabytes", "mta", at_least=2, other="Postfix"),),
    ),
    Scenario(
        "size-10m",
        "sizes",
        "10 MiB",
        RELAY,
        60,
        size=10 << 20,
        goals=(Goal("megabytes", "mta", at_least=1, other="Postfix"), Goal("peak", "mta", at_most=150)),
    ),
    Scenario("recipients-50", "recipients", "50 recipients", RELAY, 500, recipients=50),
    Scenario("destinations-1", "destinations", "1 destination", BY_MX, 5_000, method="load"),
    Scenario("destinations-100", "destinations", "100 destinations", BY_MX, 5_000, method="load", destinations=100),
    Scenario(
        "destinations-10000",
        "destinations",
        "10,000 destinations",
        BY_MX,
        10_000,
        method="load",
        destinations=10_000,
        without=("OpenSMTPD",),  # 8 messages in a second
    ),
    Scenario(
        "tls-kept",
        "tls",
        "sessions kept",
        TLS,
        3_000,
        method="load",
        goals=(Goal("rate", "mta", at_least=3, other="Postfix, reuse"),),
    ),
    Scenario("tls-new", "tls", "a connection each", TLS, 1_000, method="load", keeps=False),
    Scenario("faults", "faults", "10 % fail, 1 of 100 hangs", FAULTS, 5_000, method="load", destinations=100),
    Scenario(
        "pace",
        "pace",
        "half of its most",
        TIMED,
        3_000,
        method="pace",
        goals=(Goal("reply99", "mta", at_most=1, other="Postfix"),),
    ),
)
