"""A domain with an MTA-STS policy, a web that serves it, and a clock: what the tests of the cache stand on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.hints import MemoryHints
from mta.testing.dns import FakeResolver
from mta.tls.mtasts import StsPolicy
from mta.tls.mtasts_cache import StsPolicies

NAME = "_mta-sts.example.test"
WEEK = 604_800


def text(mode: str = "enforce", mx: str = "mx.example.test", max_age: int = WEEK) -> bytes:
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n".encode()


class Log:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.events.append((name, dict(fields)))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class JsonHints(MemoryHints):
    """As a file would: what is put must be plain data."""

    def put(self, kind: str, key: str, value: Any, expires: float) -> None:
        super().put(kind, key, json.loads(json.dumps(value)), expires)


class Resolver(FakeResolver):
    """TTLs count from now on, as on the wire."""

    clock: Clock

    def answer(self, name: str, rdtype: str) -> Any:
        return attrs.evolve(super().answer(name, rdtype), expires=self.clock.seconds() + self.ttl)


class Web:
    """The policy hosts of the world: what they say, and what was asked of them."""

    def __init__(self) -> None:
        self.says: Any = text()
        self.fetched: list[str] = []
        self.waiting: list[Deferred[bytes]] = []

    def fetch(self, domain: str) -> Deferred[bytes]:
        self.fetched.append(domain)
        if self.says is None:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return fail(self.says) if isinstance(self.says, Exception) else succeed(self.says)


class Case(SynchronousTestCase):
    """One domain, example.test, that announces policy "1" in enforce mode, on a clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.hints = JsonHints(self.clock)
        self.log = Log()
        self.web = Web()
        self.resolver = Resolver({NAME: {"TXT": ["v=STSv1; id=1;"]}}, ttl=600)
        self.resolver.clock = self.clock
        self.start()

    def start(self, **more: Any) -> None:
        """Also: the process anew, with the hints of the last."""
        self.policies = StsPolicies(self.resolver, self.web.fetch, self.hints, self.clock, self.log, **more)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def announce(self, *records: str) -> None:
        self.resolver.records = {NAME: {"TXT": list(records)}}

    def policy(self, domain: str = "example.test") -> StsPolicy | None:
        return self.successResultOf(self.policies.policy(domain))

    def asked(self, name: str = NAME) -> int:
        return self.resolver.asked[name, "TXT"]
