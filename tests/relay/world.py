"""A relay between scripted servers on loopback: real TCP, real TLS, and a clock that a test can put forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as real
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mta.config.settings import Handover, Relay, Retry, RouteAuth, Settings, Timeouts, TlsClient
from mta.envelope import Claim, Flag, Job, Kind, Message, Outcome, Settlement, Target
from mta.hints import MemoryHints
from mta.interfaces import IBodyReader, IDemands, IEventLog, INextHops, ITlsReports
from mta.relay.credentials import Credentials
from mta.relay.handover import HandoverPolicy
from mta.relay.service import RelayService
from mta.testing.peers import ScriptedServer
from mta.testing.pki import Authority
from mta.tls.client import ClientTls
from mta.tls.policy import Demand, Level, Required

AUTHORITY = Authority.create()
ISSUED = AUTHORITY.issue("mx1.example.org", "mx2.example.org", "127.0.0.1")
BODY = b"Subject: test\r\n\r\n.a dot, and a body\r\n"
PREFIX = b"Received: from here\r\n"
FAST = Timeouts(quit=0.3, connect=2.0)


class Shifted:
    """The reactor, with its clock put forward; timers run in real time."""

    def __init__(self) -> None:
        self.shift = 0.0
        self.callLater = real.callLater
        self.connects: list[tuple[Any, ...]] = []

    def seconds(self) -> float:
        return real.seconds() + self.shift

    def connectTCP(self, *args: Any) -> Any:
        self.connects.append(args)
        return real.connectTCP(*args)


@implementer(INextHops)
class Hops:
    """Hosts of every next hop; a Deferred or an exception where a test wants one."""

    def __init__(self, targets: list[Target]) -> None:
        self.targets = targets
        self.answers: dict[str, Deferred[list[Target]]] = {}
        self.asked: list[str] = []

    def hosts(self, next_hop: str) -> Deferred[list[Target]]:
        self.asked.append(next_hop)
        return self.answers.get(next_hop) or succeed(self.targets)


@implementer(IDemands)
class Owed:
    """Demands at once, from the level alone; `changed` makes of each what a test wants."""

    def __init__(self) -> None:
        self.default = Level.MAY
        self.changed: Callable[[Demand], Demand] = lambda demand: demand
        self.asked: list[tuple[str, Level | None, int, str]] = []
        self.holds = inf  # until when (seconds of the reactor's clock)
        self.answer: Deferred[list[Demand]] | None = None

    def of(self, next_hop: str, level: Level | None, targets: Sequence[Target], flags: int, sasl: str) -> Deferred[list[Demand]]:
        self.asked.append((next_hop, level, flags, sasl))
        demands = []
        for target in targets:
            required = Required(
                level or self.default,
                target.name,
                target.address,
                target.port,
                next_hop,
                (target.name,),
                sni=target.name,
                origin="route" if level else "default",
                requiretls=bool(flags & Flag.REQUIRETLS),
                sasl=sasl,
                never_clear=bool(sasl or flags & Flag.REQUIRETLS),
            )
            demands.append(self.changed(Demand(target, required)))
        return self.answer or succeed(demands)

    def until(self, demands: Sequence[Demand]) -> float:
        return self.holds


@implementer(ITlsReports)
class Reports:
    """What TLSRPT would count: "success", or result type and a part of the detail."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.details: list[str] = []

    def succeeded(self, required: Required) -> None:
        self.counted.append("success")

    def failed(self, required: Required, result_type: str, detail: str) -> None:
        self.counted.append(result_type)
        self.details.append(detail)


@implementer(IEventLog)
class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.events.append((name, queue_id, dict(fields)))


@implementer(IBodyReader)
class Pieces:
    """A body read in pieces, each of which takes a turn of the reactor."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def read(self) -> Deferred[bytes]:
        return deferLater(real, 0, lambda: self.pieces.pop(0) if self.pieces else b"")

    def close(self) -> None:
        self.closed = True


def job(*recipients: str, route: str = "may", number: int = 1, reader: IBodyReader | None = None, **message: Any) -> Job:
    """One transaction to be.  route is also the TLS level."""
    recipients = recipients or ("rcpt@example.org",)
    dest = f"smtp:{route}/{message.pop('next_hop', 'example.org')}"
    facts: dict[str, Any] = {"size": len(PREFIX + BODY), "flags": 0, **message}
    stored = Message(number, "sender@example.com", 0, 0, nrcpt=len(recipients), **{"prefix": PREFIX, **facts})
    claims = tuple(Claim(number + n, number, dest, 0, 0, 0, address) for n, address in enumerate(recipients, 1))
    return Job(stored, claims, dest, None if reader else BODY, lambda: reader)


class RelayCase(TestCase):
    """Builds servers and a relay; at the end stops both and looks that nothing is left open."""

    timeout = 20

    def setUp(self) -> None:
        self.reactor = Shifted()
        self.log = Log()
        self.ports: list[Any] = []
        self.relay: RelayService | None = None
        self.hops = Hops([])
        self.owed = Owed()
        self.reports = Reports()
        self.credentials: dict[str, Credentials] = {}
        self.now = time.time
        trusted = Path(self.mktemp())
        trusted.write_bytes(AUTHORITY.certificate_pem)
        self.tls_client = TlsClient(trust=(trusted,))
        self.handover = Handover()
        self.timeouts = FAST
        self.sources: tuple[str, ...] = ()

    async def tearDown(self) -> None:
        if self.relay is not None:
            await self.relay.stopService()
            self.assertEqual((self.relay.pool.idle, len(self.relay.pool._alive)), (0, 0))
        for port in self.ports:
            port.factory.close_all()
            await port.stopListening()
        while any(port.factory.open for port in self.ports):
            await self.turn()

    def serve(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        tls: bool = True,
        name: str = "",
        interface: str = "127.0.0.1",
        **options: Any,
    ) -> ScriptedServer:
        """A server, and a target for it behind those there are."""
        options.setdefault("certificate", ISSUED if tls else None)
        server = ScriptedServer(script, **options)
        port = real.listenTCP(0, server, interface=interface)
        self.ports.append(port)
        name = name or f"mx{len(self.hops.targets) + 1}.example.org"
        self.hops.targets.append(Target(name, interface, port.getHost().port, len(self.ports)))
        return server

    def dead(self) -> None:
        """A target where nobody listens."""
        port = real.listenTCP(0, ScriptedServer(), interface="127.0.0.1")
        self.hops.targets.append(Target("dead.example.org", "127.0.0.1", port.getHost().port))
        port.stopListening()

    def start(self, **tls_client: Any) -> RelayService:
        """The relay, with a route for each level, which bears its name."""
        settings = Settings(
            hostname="relay.example.com",
            data_dir=Path(self.mktemp()),
            tls_client=attrs.evolve(self.tls_client, **tls_client),
            handover=self.handover,
            timeouts=self.timeouts,
            retry=Retry(),
            relay=Relay(source_address=self.sources),
        )
        self.relay = RelayService(
            settings,
            reactor=self.reactor,
            next_hops=self.hops,
            demands=self.owed,
            tls=ClientTls(settings.tls_client, lambda: self.now()),
            handover=HandoverPolicy(settings.handover),
            hints=MemoryHints(self.reactor),
            log=self.log,
            routes={level.value: level for level in Level},
            credentials=self.credentials,
            reports=self.reports,
            name_of=lambda number: f"Q{number}",
        )
        self.relay.startService()
        return self.relay

    async def afresh(self) -> None:
        """Forget all servers so far, the log, and what the relay has learned."""
        self.hops.targets.clear()
        self.log.events.clear()
        if self.relay is not None:
            await self.relay.stopService()
        self.start()

    def deliver(self, *recipients: str, **facts: Any) -> Deferred[Settlement]:
        """Hand a job to the relay; the relay is built at the first."""
        relay = self.relay or self.start()
        return relay.deliver(job(*recipients, **facts))

    async def outcome(self, *recipients: str, **facts: Any) -> Outcome:
        """The first outcome of a delivery."""
        return (await self.deliver(*recipients, **facts)).outcomes[0]

    async def delivered(self, **facts: Any) -> Outcome:
        """A delivery that must succeed."""
        outcome = await self.outcome(**facts)
        self.assertIs(outcome.kind, Kind.DELIVERED, outcome)
        return outcome

    async def deferred(self, **facts: Any) -> Outcome:
        """A delivery that must be deferred."""
        outcome = await self.outcome(**facts)
        self.assertIs(outcome.kind, Kind.DEFERRED, outcome)
        self.assertFalse(outcome.reply.is_permanent)
        return outcome

    async def quiet(self) -> None:
        """Wait until every connection but the idle ones is closed at both ends."""
        assert self.relay is not None
        while sum(len(port.factory.open) for port in self.ports) > self.relay.pool.idle:
            await self.turn()

    def turn(self, seconds: float = 0.01) -> Deferred[None]:
        """Let the reactor run."""
        return deferLater(real, seconds, lambda: None)

    def password(self, user: str, password: str, route: str = "verify", **auth: Any) -> Credentials:
        """The route logs in as this user."""
        path = Path(self.mktemp())
        path.write_text(f"{password}\n")
        known = self.credentials[route] = Credentials.load(RouteAuth(user, path, **auth), b"key")
        return known

    def faults(self) -> list[object]:
        """The classes of the TLS faults logged."""
        return [fields["class"] for name, _, fields in self.log.events if name == "tls-fault"]
