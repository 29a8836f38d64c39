"""Where the rooms are wired together, and the only file that imports them all.

`make_mta` is the embedder's door: it returns a service, touches nothing of the process, and opens no database, lock,
thread or socket before `startService` (twistd forks after `makeService`).  `Options` and `makeService` are what
`twistd mta` calls; what belongs to the process is in `mta.process`.

Order of the start: log, resolver, queue (recovery, then the first deliveries), at last the ports: a client is greeted
only by a server that can keep its mail.  Order of the stop: ports, running transactions, running deliveries and their
settlements, connections, database, log.
"""

from __future__ import annotations

import os
import pathlib
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.usage import Options as UsageOptions
from zope.interface import implementer

from mta.bounce.service import BounceAgent
from mta.config.loader import load
from mta.config.mistake import ConfigError
from mta.config.settings import RouteAuth, Settings
from mta.control.log import EventLog
from mta.deliver.service import MaildirAgent
from mta.dns.client import Resolver
from mta.envelope import Target
from mta.hints import MemoryHints
from mta.interfaces import IDeliveryAgent, IDemands, IEventLog, IHandover, IMailResolver, IPolicy, IQueue
from mta.process import Process
from mta.queue.ids import id_text
from mta.queue.service import QueueService
from mta.queue.sqlite.engine import SqliteQueue
from mta.receive.service import ReceiveService
from mta.relay.credentials import Credentials
from mta.relay.handover import HandoverPolicy
from mta.relay.service import RelayService
from mta.route.hosts import NextHops
from mta.route.service import Router
from mta.smtp.address import Path
from mta.tls.client import ClientTls
from mta.tls.context import ServerTls
from mta.tls.policy import Demand, Level, Required

__all__ = ["Mta", "Options", "makeService", "make_mta"]


class Mta(Service):
    """One whole mail server.  Made by `make_mta`.

    ready: fires when the ports are open (or the server was stopped meanwhile), errbacks with a MailError that says what is
    wrong; a start that failed has undone itself.  failed: fires with the reason when the queue can no longer be trusted
    with mail (an I/O error of its disk): stop the process, a restart reads the disk anew.  own: log and resolver
    where they were made here, and so are opened and closed here; what an embedder brings is his to open and to close.
    """

    name = "mta"

    def __init__(
        self,
        *,
        log: IEventLog,
        own: tuple[EventLog | None, Resolver | None],
        tls: ServerTls,
        maildir: MaildirAgent,
        relay: RelayService,
        queue: QueueService,
        receive: ReceiveService,
    ) -> None:
        self.log = log
        self.tls = tls
        self.queue = queue
        self.receive = receive
        self.ready: Deferred[None] = Deferred()
        self.failed: Deferred[BaseException] = Deferred()
        self._own_log, self._own_resolver = own
        self._maildir = maildir
        self._relay = relay

    def privilegedStartService(self) -> None:
        """Bind the ports while it is allowed.  Raises MailError when one is in use."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.receive.privilegedStartService()

    def startService(self) -> None:
        """Begin; `ready` tells the end of it."""
        super().startService()  # type: ignore[no-untyped-call]
        Deferred.fromCoroutine(self._start()).chainDeferred(self.ready)

    async def _start(self) -> None:
        try:
            if self._own_log is not None:
                self._own_log.open()
            if self._own_resolver is not None:
                self._own_resolver.start()
            self._maildir.start()
            self._relay.startService()  # type: ignore[no-untyped-call]
            self.queue.startService()
            if self.queue.ready is not None:
                await self.queue.ready
            if self.running:  # else it was stopped meanwhile
                await self.receive.open()
        except BaseException:
            await self._stop()
            raise

    def stopService(self) -> Deferred[None]:
        """Fires when all is closed and nothing of ours is left on the reactor."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.log.event("stopping", "", {})
        await self.receive.stopService()
        settled = self.queue.stopService()  # starts nothing from here on, and awaits what runs
        relayed = self._relay.stopService()  # ends what runs: without it the queue would await each next hop that stalls
        await settled
        await DeferredList([relayed, self._maildir.stop()])
        if self._own_resolver is not None:
            await self._own_resolver.close()
        self.log.event("stopped", "", {})
        if self._own_log is not None:
            self._own_log.close()

    def reopen(self) -> None:
        """SIGHUP: go on in a new log file, read the certificates anew.  MailError keeps the old ones."""
        if self._own_log is not None:
            self._own_log.reopen()
        self.tls.reload()


def make_mta(
    settings: Settings,
    *,
    reactor: Any,
    resolver: IMailResolver | None = None,
    handover: IHandover | None = None,
    policy: IPolicy | None = None,
    log: IEventLog | None = None,
    engine: IQueue | None = None,
) -> Mta:
    """A mail server for any Twisted application (docs/embedding.md).  MailError when a certificate cannot be used."""
    unpredictable = random.SystemRandom()
    own_log = own_resolver = None
    if log is None:
        log = own_log = EventLog(settings.log, reactor, reactor.seconds)
    if resolver is None:
        resolver = own_resolver = Resolver(reactor, settings.dns, random=unpredictable)
    tls = ServerTls.load(settings.tls)
    router = Router(settings)
    addresses: set[tuple[str, int]] = set()  # of our own ports; filled when they are open
    relay = RelayService(
        settings,
        reactor=reactor,
        next_hops=_next_hops(settings, router, resolver, unpredictable, addresses),
        demands=_Levels(Level(settings.tls_client.level)),
        tls=ClientTls(settings.tls_client),
        handover=handover or HandoverPolicy(settings.handover),
        hints=MemoryHints(reactor),
        log=log,
        routes={name: Level(level) for name, level in router.levels.items()},
        credentials=_credentials(router.auth),
        name_of=id_text,
    )
    maildir = MaildirAgent(reactor, router.mailbox, hostname=settings.hostname)
    agents: dict[str, IDeliveryAgent] = {"smtp": relay, "maildir": maildir}

    def broken(reason: BaseException) -> None:
        if not mta.failed.called:
            mta.failed.callback(reason)

    engine = engine or SqliteQueue(settings.data_dir, reactor, completions=settings.queue.completions, on_fatal=broken)
    queue = QueueService(engine, router, agents, settings, reactor=reactor, log=log, random=random.Random())
    agents["bounce"] = _bounces(settings, queue, reactor, log)
    receive = ReceiveService(settings, queue, router, reactor=reactor, log=log, policy=policy, tls=tls, own_addresses=addresses)
    own = (own_log, own_resolver)
    mta = Mta(log=log, own=own, tls=tls, maildir=maildir, relay=relay, queue=queue, receive=receive)
    return mta


def _credentials(auth: Mapping[str, RouteAuth]) -> dict[str, Credentials]:
    key = os.urandom(32)
    return {name: Credentials.load(known, key) for name, known in auth.items()}


@implementer(IDemands)
class _Levels:
    """Demands that rest on the levels of routes and `[tls_client]` alone."""

    def __init__(self, default: Level) -> None:
        self._default = default

    def of(self, next_hop: str, level: Level | None, targets: Sequence[Target], flags: int, sasl: str) -> Deferred[list[Demand]]:
        """See IDemands."""
        owed, origin = (level, "route") if level else (self._default, "default")
        demands = []
        for target in targets:
            name = target.name
            required = Required(owed, name, target.address, target.port, next_hop, (name,), sni=name, origin=origin, sasl=sasl)
            demands.append(Demand(target, attrs.evolve(required, never_clear=bool(sasl))))
        return succeed(demands)

    def until(self, demands: Sequence[Demand]) -> float:
        """See IDemands."""
        return inf


def _bounces(settings: Settings, queue: QueueService, reactor: Any, log: IEventLog) -> BounceAgent:
    return BounceAgent(
        settings.hostname,
        queue,
        now=lambda: int(reactor.seconds() * 1000),
        random=os.urandom,
        log=log,
        name_of=id_text,
        lifetime=int(settings.retry.queue_lifetime * 1000),
    )


def _next_hops(
    settings: Settings, router: Router, resolver: IMailResolver, unpredictable: random.Random, addresses: set[tuple[str, int]]
) -> NextHops:
    return NextHops(
        resolver,
        random=unpredictable,
        own_names=(settings.hostname,),
        own_addresses=addresses,
        port=settings.relay.port,
        prefer=settings.relay.prefer,
        # A local domain as next hop: mail that waits from before it was one.  It is not the sender who can mend that.
        relays=router.relays | {Path("", domain).domain_key for domain in settings.local_domains},
    )


class Options(UsageOptions):
    """The options of `twistd mta`."""

    longdesc = "A mail transfer agent: SMTP in, durable queue, SMTP over TLS out."
    optParameters = [["config", "c", "/etc/mta/mta.toml", "The configuration file."]]
    optFlags = [["check", None, "Read the configuration, say ok or every mistake, and end."]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.overrides: list[str] = []

    def opt_set(self, override: str) -> None:
        """KEY=VALUE: lay one key over the file; may be repeated."""
        self.overrides.append(override)


def makeService(options: Options) -> IService:
    """What twistd runs.  A configuration with mistakes prints them all and ends the process with status 1."""
    try:
        settings = load(pathlib.Path(options["config"]), options.overrides)
    except ConfigError as error:
        _end([str(error)], 1)
    if options["check"]:
        _end(["ok"], 0)
    from twisted.internet import reactor  # installed by twistd before it calls this

    return Process(lambda: make_mta(settings, reactor=reactor), reactor)


def _end(lines: Iterable[str], status: int) -> Any:
    for line in lines:
        print(line, file=sys.stderr if status else sys.stdout)
    raise SystemExit(status)
