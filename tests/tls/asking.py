"""What the tests of `mta.tls.demand` have in common: zones, policies, and the question from a next hop to its demands."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.settings import Dns, Settings, TlsClient
from mta.dns.answer import Answer
from mta.interfaces import IEventLog, IMailResolver
from mta.route.hosts import NextHops
from mta.testing.dns import FakeResolver
from mta.tls.demand import Demands
from mta.tls.mtasts import Mode, StsPolicy
from mta.tls.policy import Demand

DATA = b"\xab" * 32
GOOD = [(3, 1, 1, DATA)]
TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
TRUSTED = Dns(servers=("127.0.0.1:53",), trusted=True)


def tlsa(host: str, port: int = 25) -> str:
    return f"_{port}._tcp.{host}"


def zone(*hosts: str, tlsa_of: dict[str, list[tuple[int, int, int, bytes]]] | None = None) -> dict[str, dict[str, list[object]]]:
    """example.org, whose MX are these hosts in this order, each with one address."""
    records: dict[str, dict[str, list[object]]] = {"example.org": {"MX": [(10 * at, host) for at, host in enumerate(hosts, 1)]}}
    records |= {host: {"A": [f"192.0.2.{at}"]} for at, host in enumerate(hosts, 1)}
    return records | {tlsa(host): {"TLSA": list(found)} for host, found in (tlsa_of or {}).items()}


class Policies:
    """MTA-STS policies at once, out of a dictionary; holds for `holds` seconds."""

    def __init__(self, **policies: StsPolicy) -> None:
        self.policies = {name.replace("_", "."): policy for name, policy in policies.items()}
        self.asked: Counter[str] = Counter()
        self.holds = 1000.0
        self.fresh: dict[str, StsPolicy] = {}
        self.doubt = False

    def policy(self, domain: str) -> Deferred[StsPolicy | None]:
        self.asked[domain] += 1
        return succeed(self.policies.get(domain))

    def refetch(self, domain: str) -> Deferred[StsPolicy | None]:
        self.asked[f"{domain} again"] += 1
        return succeed(self.fresh.get(domain, self.policies.get(domain)))

    def in_doubt(self, domain: str) -> bool:
        return self.doubt

    def until(self, domain: str) -> float:
        return self.holds


def enforce(*mx: str) -> StsPolicy:
    return StsPolicy("id1", Mode.ENFORCE, mx, 86400)


@implementer(IEventLog)
class Log:
    """What was said."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def event(self, name: str, queue_id: str, fields) -> None:
        self.events.append((name, fields["reason"]))


@implementer(IMailResolver)
class SlowResolver:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, str, Deferred[Answer]]] = []

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        answer: Deferred[Answer] = Deferred()
        self.waiting.append((name, rdtype, answer))
        return answer


class DemandsCase(SynchronousTestCase):
    """Builds the thing and asks it."""

    def make(
        self, resolver, *, level="dane", sts=None, table=(), dns=TRUSTED, wall=TODAY, routes=(), start=True, **client
    ) -> Demands:
        self.log, self.clock = Log(), Clock()
        settings = Settings(
            hostname="mx.example.com",
            data_dir=Path("/nowhere"),
            tls_client=TlsClient(level=level, **client),
            tls_policy=tuple(table),
            dns=dns,
            route=tuple(routes),
        )
        demands = Demands(settings, resolver, sts, clock=self.clock, log=self.log, wall=lambda: wall)
        if start:
            self.assertIsNone(self.successResultOf(demands.start()))
        return demands

    def owed(self, records, **more) -> list[Demand]:
        """The demands at all addresses of the next hop, which come at once."""
        return self.successResultOf(self.ask(records, **more))

    def ask(
        self, records, *, secure=True, fail=None, next_hop="example.org", route=None, flags=0, **more
    ) -> Deferred[list[Demand]]:
        """Ask a new one, with hosts and DNS out of these records; secure: what is vouched for beside the probe's answer."""
        if not isinstance(secure, bool):
            secure = {*secure, ""}  # the root, which the probe asks for
        self.resolver = FakeResolver(records, secure=secure, fail=fail)
        self.demands = self.make(self.resolver, **more)
        hops = NextHops(self.resolver, random=Random(1))
        targets = self.successResultOf(hops.hosts(next_hop))
        return self.demands.of(next_hop, route, targets, flags, "")

    def levels(self, demands: list[Demand]) -> list[str]:
        """In short: the level, or why not."""
        return ["refused" if each.refusal else each.required.level.value for each in demands]

    def tlsa_asked(self) -> list[str]:
        return [name for name, rdtype in self.resolver.asked if rdtype == "TLSA"]
