"""Where the rooms are wired together, and the only file that imports them all.

`make_mta` is the embedder's door: it returns a service, touches nothing of the process, and opens no database, lock,
thread or socket before `startService` (twistd forks after `makeService`).  What `twistd mta` calls is in `mta.entry`, what
belongs to the process in `mta.process`.

Order of the start: log, resolver, queue (recovery, then the first deliveries), at last the ports: a client is greeted
only by a server that can keep its mail.  Order of the stop: ports, running transactions, running deliveries and their
settlements, connections, database, log.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock, maybeDeferred
from twisted.logger import Logger

from mta.bounce.service import BounceAgent
from mta.config.at_start import kept
from mta.config.settings import Settings
from mta.control.log import EventLog
from mta.control.metrics import Page, decoded
from mta.control.scrapes import Scrapes
from mta.deliver.service import MaildirAgent
from mta.dns.client import Resolver
from mta.envelope import Measure
from mta.evidence import Evidence
from mta.generation import Generation, Lasting
from mta.interfaces import IDeliveryAgent, IEventLog, IHandover, IMailResolver, IMeasured, IPolicy, IQueue, IRecipients
from mta.node import ALONE, Node
from mta.queue.ids import id_text
from mta.queue.service import QueueService
from mta.queue.sqlite.engine import SqliteQueue
from mta.receive.court import Outside
from mta.receive.service import ReceiveService
from mta.relay.service import RelayService
from mta.status import misconfigured, transient
from mta.tls.watch import CertificateWatch
from mta.workers.adoption import Adoption

__all__ = ["Mta", "make_mta"]

_bugs = Logger()


@attrs.frozen(slots=True)
class Reloaded:
    """A reload that succeeded.  restart: keys that have changed and hold only after a restart."""

    generation: int
    restart: tuple[str, ...]


class Mta(Service):
    """One whole mail server.  Made by `make_mta`.

    ready: fires when the ports are open (or the server was stopped meanwhile), errbacks with a MailError that says what is
    wrong; a start that failed has undone itself.  failed: fires with the reason when the queue can no longer be trusted
    with mail (an I/O error of its disk): stop the process, a restart reads the disk anew.  own: log and resolver
    where they were made here, and so are opened and closed here; what an embedder brings is his to open and to close.
    measured: whom `measures` asks; whoever owns the process may add to them.
    """

    name = "mta"

    def __init__(
        self,
        *,
        log: IEventLog,
        own: tuple[EventLog | None, Resolver | None],
        maildir: MaildirAgent,
        relay: RelayService,
        queue: QueueService,
        receive: ReceiveService,
        bounces: BounceAgent,
        adoption: Adoption | None,
        evidence: Evidence,
        watch: CertificateWatch,
        generation: Generation,
        lasting: Lasting,
        measured: list[Any],
        reactor: Any,
    ) -> None:
        self.log = log
        self.measured = measured
        self._now: Callable[[], float] = reactor.seconds
        self._began = 0.0
        self._scrapes = Scrapes(self._page, reactor, log)
        self.queue = queue
        self.receive = receive
        self.ready: Deferred[None] = Deferred()
        self.failed: Deferred[BaseException] = Deferred()
        self._own_log, self._own_resolver = own
        self._reloading = DeferredLock()
        self._stopping = DeferredLock()  # a start that failed undoes itself, and may be stopped meanwhile
        self._maildir = maildir
        self._relay = relay
        self._bounces = bounces
        self._adoption = adoption
        self._evidence = evidence
        self._watch = watch
        self._generation = generation
        self._lasting = lasting

    def privilegedStartService(self) -> None:
        """Bind the ports while it is allowed.  Raises MailError when one is in use."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self.receive.privilegedStartService()

    def startService(self) -> None:
        """Begin; `ready` tells the end of it."""
        super().startService()  # type: ignore[no-untyped-call]
        self._began = self._now()
        Deferred.fromCoroutine(self._start()).chainDeferred(self.ready)

    async def _start(self) -> None:
        try:
            if self._own_log is not None:
                self._own_log.open()
            if self._own_resolver is not None:
                self._own_resolver.start()
            await self._evidence.start()
            if not self.running:
                return  # it was stopped meanwhile, and has undone what was begun
            self._maildir.start()
            self._relay.startService()  # type: ignore[no-untyped-call]
            if self._adoption is not None:
                await self._adoption.repeat()
                if not self.running:
                    return
            self.queue.startService()
            if self.queue.ready is not None:
                await self.queue.ready
            if self.running:  # else it was stopped meanwhile
                await self.receive.open()
                await self._scrapes.open(self._generation.settings.metrics.listen)
                self._watch.startService()
                if self._adoption is not None:
                    self._adoption.begin()
        except BaseException:
            await self._stop()
            raise

    def stopService(self) -> Deferred[None]:
        """Fires when all is closed and nothing of ours is left on the reactor."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._stop()

    def _stop(self) -> Deferred[None]:
        return self._stopping.run(lambda: Deferred.fromCoroutine(self._close()))

    async def _close(self) -> None:
        self.log.event("stopping", "", {})
        self._watch.stopService()
        await self._scrapes.close()
        await self.receive.stopService()
        if self._adoption is not None:
            await self._adoption.stop()
        settled = self.queue.stopService()  # starts nothing from here on, and awaits what runs
        relayed = self._relay.stopService()  # ends what runs: without it the queue would await each next hop that stalls
        await settled
        await DeferredList([relayed, self._maildir.stop()])
        await self._evidence.stop()
        if self._own_resolver is not None:
            await self._own_resolver.close()
        self.log.event("stopped", "", {})
        if self._own_log is not None:
            self._own_log.close()

    async def measures(self) -> list[Measure]:
        """All metrics as they are now (docs/operators.md, "Metrics"), but for those of a part that cannot tell its own."""
        found: list[Measure] = [("mta_start_time_seconds", (), self._began), ("mta_generation", (), self._generation.number)]
        for part in self.measured:
            try:
                found += decoded(await maybeDeferred(part.measures))
            except CancelledError:
                raise  # nobody waits any more
            except Exception:  # an embedder's, perhaps; whoever looks for what is wrong needs the others
                _bugs.failure("{part} cannot be measured", part=part)
        return found

    async def _page(self) -> Page:
        return {"": await self.measures()}

    def reopen(self) -> None:
        """Go on in a new log file of the same name (the old one was renamed)."""
        if self._own_log is not None:
            self._own_log.reopen()

    def reload(self, settings: Settings) -> Deferred[Reloaded]:
        """Serve by other settings: what is new holds for new connections, what runs goes on as it began.

        Errbacks, and then nothing has changed: MailError for a file, a certificate or a port that cannot be had, or a server
        that is not open; ValueError for what no configuration file can say.
        """
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reload(settings)))

    async def _reload(self, settings: Settings) -> Reloaded:
        old = self._generation
        settings, restart = kept(old.settings, settings)
        new = Generation.of(settings, self._lasting, old)
        if new.tls.fault and old.tls.offered:  # `tls.error = "offer-nothing"`: of a start, not of a slip while we run
            raise transient("4.3.5", "Local configuration error", reason=new.tls.fault)
        scrapes = await self._scrapes.bind(settings.metrics.listen)
        try:
            await self.receive.reconfigure(settings, new.router, new.tls)
        except BaseException:
            await self._scrapes.drop(scrapes)
            raise
        await self._scrapes.use(scrapes)
        if not self.running:  # a stop has come in between: nothing may begin anew behind it
            raise transient("4.3.2", "The service stops", reason="the server stops: the settings stay")
        # All that can fail has succeeded.
        self._generation = new
        self._maildir.mailbox = new.router.mailbox
        self._bounces.reconfigure(settings.dsn, int(settings.retry.queue_lifetime * 1000))
        self._evidence.reconfigure(settings)
        self._watch.reconfigure(new.tls)
        self._relay.reconfigure(
            settings,
            new.number,
            next_hops=new.next_hops,
            tls=new.client_tls,
            handover=new.handover,
            routes=new.levels,
            credentials=new.credentials,
        )
        self.queue.reconfigure(settings, new.router)  # at last: it may begin deliveries at once
        self.log.event("reload", "", {"status": "done", "generation": new.number, "restart": ",".join(restart) or None})
        return Reloaded(new.number, tuple(restart))


def make_mta(
    settings: Settings,
    *,
    reactor: Any,
    resolver: IMailResolver | None = None,
    handover: IHandover | None = None,
    policy: IPolicy | None = None,
    portal: Portal | None = None,
    recipients: IRecipients | None = None,
    log: IEventLog | None = None,
    engine: IQueue | None = None,
    node: Node = ALONE,
) -> Mta:
    """A mail server for any Twisted application (docs/embedding.md).  MailError when a certificate cannot be used.

    It is one server in this process: with `[service] workers` above 1 it is a MailError too.  node: of those of a supervisor.
    """
    if settings.service.workers > 1:
        raise misconfigured("service.workers: more than one is for twistd and `mta run`; embedded there is one server")
    own_log = own_resolver = None
    if log is None:
        log = own_log = EventLog(settings.log, reactor, reactor.seconds, node.number if node.count > 1 else None)
    if resolver is None:
        resolver = own_resolver = Resolver(reactor, settings.dns, random=random.SystemRandom())
    lasting = Lasting(resolver, log, random.SystemRandom(), handover)
    first = Generation.of(settings, lasting)
    hints_last = engine is None  # whoever brings a queue of his own may want nothing on disk
    tools: dict[str, Any] = {"reactor": reactor, "resolver": resolver, "log": log, "random": random.Random()}
    evidence = Evidence(settings, **tools, lasting=hints_last, node=node)
    relay = _relay(settings, first, evidence, reactor, log)
    maildir = MaildirAgent(reactor, first.router.mailbox, hostname=settings.hostname)
    agents: dict[str, IDeliveryAgent] = {"smtp": relay, "maildir": maildir}

    def broken(reason: BaseException) -> None:
        if not mta.failed.called:
            mta.failed.callback(reason)

    fresh = engine is None
    engine = engine or _engine(settings, node, reactor, broken)
    queue, bounces = _queue(settings, engine, first, agents, reactor, log)
    adoption = Adoption(settings.data_dir, node.number, node.count, queue, reactor=reactor, log=log) if fresh else None
    outside = Outside(resolver, evidence.hints, recipients)
    seams = {"reactor": reactor, "log": log, "policy": policy, "portal": portal, "outside": outside, "listen": node.listen}
    receive = ReceiveService(settings, queue, first.router, tls=first.tls, own_addresses=lasting.addresses, **seams)
    parts: dict[str, Any] = {"maildir": maildir, "relay": relay, "queue": queue, "receive": receive, "bounces": bounces}
    parts |= {"adoption": adoption, "evidence": evidence, "watch": CertificateWatch(first.tls, reactor, log)}
    parts["measured"] = [part for part in (receive, queue, engine, relay, resolver, log) if IMeasured.providedBy(part)]
    mta = Mta(log=log, own=(own_log, own_resolver), generation=first, lasting=lasting, reactor=reactor, **parts)
    return mta


def _engine(settings: Settings, node: Node, reactor: Any, broken: Callable[[BaseException], None]) -> IQueue:
    completions = settings.queue.completions
    return SqliteQueue(settings.data_dir, reactor, node=node.number, completions=completions, on_fatal=broken)


def _relay(settings: Settings, first: Generation, evidence: Evidence, reactor: Any, log: IEventLog) -> RelayService:
    return RelayService(
        settings,
        reactor=reactor,
        next_hops=first.next_hops,
        demands=evidence.demands,
        tls=first.client_tls,
        handover=first.handover,
        hints=evidence.hints,
        log=log,
        routes=first.levels,
        credentials=first.credentials,
        reports=evidence.reports,
        name_of=id_text,
    )


def _queue(
    settings: Settings, engine: IQueue, first: Generation, agents: dict[str, IDeliveryAgent], reactor: Any, log: IEventLog
) -> tuple[QueueService, BounceAgent]:
    """Each needs the other: the queue for its warnings of delay, the agent to have its reports stored."""
    queue = QueueService(
        engine,
        first.router,
        agents,
        settings,
        reactor=reactor,
        log=log,
        random=random.Random(),
        warn=lambda overdue: bounces.delayed(overdue),
    )
    agents["bounce"] = bounces = BounceAgent(
        settings.hostname,
        queue,
        now=lambda: int(reactor.seconds() * 1000),
        random=os.urandom,
        log=log,
        name_of=id_text,
        open_body=engine.open_body,
        dsn=settings.dsn,
        lifetime=int(settings.retry.queue_lifetime * 1000),
    )
    return queue, bounces
