"""A two-stage run over real connections: H30, and what grouping saves; C46 and C47 over the relay's own outcomes."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mta.config.settings import Queue, Settings
from mta.envelope import BodyRef, NewMessage, NewRecipient, Route, Target
from mta.interfaces import INextHops, IRouter
from mta.queue.memory import MemoryQueue
from mta.queue.service import QueueService
from tests.queue.station import FakeAgent, delivered
from tests.relay.world import RelayCase

HOSTS = 3
MESSAGES = 20


@implementer(INextHops)
class ByLetter:
    """d0, d3, d6 ... .example lead to the first server, d1, d4 ... to the second, and so on."""

    def __init__(self, targets: list[Target]) -> None:
        self.targets = targets

    def hosts(self, next_hop: str) -> Deferred[list[Target]]:
        return succeed([self.targets[int(next_hop[1:].partition(".")[0]) % len(self.targets)]])


@implementer(IRouter)
class ByMx:
    """Everything by MX."""

    digest = "1"

    def route(self, address: str) -> Route:
        return Route("may", "smtp", address.rpartition("@")[2])


class RunSessionsTests(RelayCase):
    """A queue, a relay, servers on loopback."""

    def queue(self, mode: str) -> QueueService:
        relay = self.start()
        relay._next_hops = ByLetter(self.hops.targets)
        self.engine = MemoryQueue(lambda: int(self.reactor.seconds() * 1000))
        service = QueueService(
            self.engine,
            ByMx(),
            {"smtp": relay, "bounce": FakeAgent(delivered)},
            Settings("mx.example.com", Path("/nowhere"), queue=Queue(mode=mode)),
            reactor=self.reactor,
            log=self.log,
            random=Random(1),
        )
        service.startService()
        return service

    async def accept(self, service: QueueService, domains: int) -> None:
        """20 messages of different senders to so many domains."""
        for number in range(MESSAGES):
            now = int(self.reactor.seconds() * 1000)
            await service.accept(
                NewMessage(
                    self.engine.create_body(1).id,
                    f"s{number}@example.com",
                    (NewRecipient(f"u@d{number % domains}.example"),),
                    BodyRef(5, b"hello"),
                    b"",
                    now,
                    now + 86_400_000,
                    lane_key=f"s{number}",
                )
            )

    async def connections(self, mode: str, domains: int) -> int:
        """How many connections were made until all was delivered."""
        for _ in range(HOSTS):
            self.serve()
        service = self.queue(mode)
        assert service.ready is not None
        await service.ready
        try:
            await self.accept(service, domains)
            if mode == "spool":
                await self.turn(0.05)
                self.assertEqual([], self.reactor.connects)
                await service.run()
            while self.engine._rows:
                await self.turn()
        finally:
            await service.stopService()
        return len(self.reactor.connects)

    async def test_h30_twenty_messages_three_hosts(self) -> None:
        """H30: 20 messages to 3 domains with a host each: 3 connections."""
        self.assertEqual(3, await self.connections("spool", 3))

    async def test_h30_many_domains(self) -> None:
        """H30: grouped by host, not by domain: 20 domains on 3 hosts go over 3 connections too."""
        self.assertEqual(3, await self.connections("spool", 20))

    async def test_without_a_run(self) -> None:
        """One by one, as it comes, takes more: else the two above would prove nothing."""
        self.assertTrue(await self.connections("deliver", 20) > 3)
