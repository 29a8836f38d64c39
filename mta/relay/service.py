"""The delivery agent "smtp": takes jobs to the mail servers of their next hop (RFC 5321).

It knows the way from the job's destination (`agent:route/next-hop`), asks `INextHops` where to go and `IDemands` what TLS
is owed there, and lets an `Attempt` do it.  Both answers are used again for a few seconds, so that a job to a busy
destination begins in the same turn, on a connection that is already open.  `deliver` never errbacks and always fires;
a bug defers the mail.
At stop, running transactions may finish, what has not begun one is given back, connections get their QUIT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakSet

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import Settings
from mta.envelope import Job, Kind, Measure, Settlement, Target, split_dest
from mta.interfaces import IDeliveryAgent, IDemands, IEventLog, IHandover, IHints, IMeasured, INextHops, ISites, ITlsReports
from mta.relay.attempt import Attempt
from mta.relay.connection import Conduct
from mta.relay.credentials import Credentials
from mta.relay.destination import Plan, StrikeMemory, Trouble, where
from mta.relay.outcome import bug, settle_all
from mta.relay.pool import Pool
from mta.relay.site import Sites, site_of
from mta.relay.tally import Tally
from mta.relay.way import KEY_FLAGS, Outlook, Way, Ways
from mta.status import MailError, Reply, Scope
from mta.tls.client import ClientTls
from mta.tls.policy import Demand, Level
from mta.tls.tlsrpt import result_type

__all__ = ["RelayService"]

_LEVELS: Final = tuple(Level)  # the weakest first


@implementer(IDeliveryAgent, IMeasured, ISites)
class RelayService(Service):
    """Relays.  routes, credentials: TLS level and AUTH of each route that has one, by its name.

    reactor: IReactorTCP and IReactorTime.  name_of: a message's id as people see it.
    """

    REMEMBERED: Final = 5.0  # seconds that the hosts of a next hop are used again without asking
    MOST_KNOWN: Final = 10_000  # destinations
    CLOSING_DELAY: Final = 60.0  # seconds at most until a site that says 421 is asked again
    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        next_hops: INextHops,
        demands: IDemands,
        tls: ClientTls,
        handover: IHandover,
        hints: IHints,
        log: IEventLog,
        routes: Mapping[str, Level],
        credentials: Mapping[str, Credentials] = MappingProxyType({}),
        reports: ITlsReports | None = None,
        name_of: Callable[[int], str] = str,
    ) -> None:
        self._reactor = reactor
        self._next_hops = next_hops
        self._demands = demands
        self._routes = routes
        self._credentials = credentials
        self._reports = reports
        self._name_of = name_of
        self._hints = hints
        self._events = log
        self._pools: WeakSet[Pool] = WeakSet()  # those of older generations live as long as their attempts and connections
        self._known: dict[tuple[str, int], Outlook] = {}
        self._sites = Sites(settings.site)
        self._tally = Tally()
        self._arrange(settings, tls, handover)
        self._asking: set[Deferred[Any]] = set()
        self._running: set[Deferred[Settlement]] = set()
        self._drained: Deferred[None] | None = None

    def _arrange(self, settings: Settings, tls: ClientTls, handover: IHandover, generation: int = 1) -> None:
        self._settings = settings
        self._memory = StrikeMemory(self._hints, settings.tls_client)
        self._closing_delay = min(self.CLOSING_DELAY, settings.retry.minimal_backoff)
        self.pool = Pool(settings.handover, self._reactor, self._hints)
        self._pools.add(self.pool)
        timeout = settings.tls_client.starttls_timeout
        lasting: dict[str, Any] = {"reactor": self._reactor, "reports": self._reports, "tally": self._tally}
        conduct = Conduct(settings.hostname, settings.timeouts, timeout, tls, self.pool, **lasting)
        sources = {6 if ":" in address else 4: address for address in settings.relay.source_address}
        self._ways = Ways(conduct, settings.handover, sources, handover, self._events, generation, settings.relay.eightbit)

    def reconfigure(
        self,
        settings: Settings,
        generation: int,
        *,
        next_hops: INextHops,
        tls: ClientTls,
        handover: IHandover,
        routes: Mapping[str, Level],
        credentials: Mapping[str, Credentials],
    ) -> None:
        """Other settings for the deliveries to come; what is looked up already and what runs goes on by the old ones.

        Connections are never shared over the change: those that idle get their QUIT, the busy ones when they are done.
        """
        self._next_hops, self._routes, self._credentials = next_hops, routes, credentials
        self.pool.retire()
        self._known.clear()
        self._sites.reconfigure(settings.site)
        self._arrange(settings, tls, handover, generation)

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        pools = list(self._pools)
        idle = sum(pool.idle for pool in pools)
        return self._tally.measures(sum(pool.alive for pool in pools) - idle, idle, sum(pool.shaking for pool in pools))

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """One outcome for each claim of the job.  Never errbacks, always fires."""
        done: Deferred[Settlement] = Deferred()
        self._running.add(done)
        done.addCallback(self._finished, done)
        message = job.message
        attempt = Attempt(self._ways, job, self._name_of, done)
        flags = message.flags & KEY_FLAGS
        known = self._known.get((job.dest, flags))
        if known is not None and self._reactor.seconds() < known.until:
            self._begin(attempt, known)
        else:
            self._ask(attempt, job, flags, done)
        return done

    def _finished(self, settlement: Settlement, done: Deferred[Settlement]) -> Settlement:
        self._running.discard(done)
        if self._drained is not None and not self._running:
            drained, self._drained = self._drained, None
            drained.callback(None)
        return settlement

    def _way(self, dest: str) -> Way:
        _, route, next_hop = split_dest(dest)
        name, _, owed = route.partition("+")
        return Way(route, next_hop, self._level(name, owed), self._credentials.get(name))

    def _level(self, route: str, owed: str) -> Level | None:
        """What the route demands now, and never less than when the mail was filed under it; None: nothing of its own."""
        demands = [self._routes[route]] if route in self._routes else []
        if owed:
            demands.append(Level(owed))
        return max(demands, key=_LEVELS.index, default=None)

    def _ask(self, attempt: Attempt, job: Job, flags: int, done: Deferred[Settlement]) -> None:
        """Where to go, and what is owed there?  What is not known yet takes its time."""
        asked = Deferred.fromCoroutine(self._look(job.dest, flags))
        self._asking.add(asked)

        def answered(outlook: Outlook) -> None:
            self._asking.discard(asked)
            self._begin(attempt, outlook)

        def unknown(failure: Failure) -> None:
            self._asking.discard(asked)
            done.callback(self._lost_way(job, failure))

        asked.addCallbacks(answered, unknown)

    async def _look(self, dest: str, flags: int) -> Outlook:
        way, ways = self._way(dest), self._ways
        targets: list[Target] = await self._next_hops.hosts(way.next_hop)
        until = self._reactor.seconds() + self.REMEMBERED
        demands: list[Demand] = await self._demands.of(way.next_hop, way.level, targets, flags, way.sasl)
        site = self._sites.of(target.name for target in targets)
        outlook = ways.outlook(way, demands, flags, min(until, self._demands.until(demands)), site)
        meanwhile = self._known.get((dest, flags))
        if meanwhile is not None and self._reactor.seconds() < meanwhile.until:
            return meanwhile  # of a job that asked at the same time: what is left out is told and counted once
        if ways is self._ways:  # else it was asked for by older settings
            if len(self._known) >= self.MOST_KNOWN:
                self._known.clear()
            self._known[dest, flags] = outlook
        for demand in outlook.refused:
            self._note(demand)
        return outlook

    def _note(self, demand: Demand) -> None:
        """A host that is left out is told once for each look-up: others may take the mail, and then nobody would know."""
        assert demand.refusal is not None, "that is why it is left out"
        self._tally.faults[Trouble.POLICY.value] += 1
        required = demand.required
        fields = {
            "relay": where(demand.target),
            "class": Trouble.POLICY.value,
            "level": required.level.value,
            "origin": required.origin,
            "reason": demand.refusal.reply.text,
        }
        self._ways.events.event("tls-fault", "", fields)
        if self._reports is not None:
            reason = demand.refusal.reply.text
            self._reports.failed(required, result_type(Trouble.POLICY.value, reason), reason)

    def _lost_way(self, job: Job, failure: Failure) -> Settlement:
        """The next hop has no hosts, or nobody could say."""
        if isinstance(failure.value, MailError):
            return settle_all(job, failure.value)
        if self.pool.stopping:
            stopping = MailError(Reply(451, "4.3.2", "The service stops"), "stopping", Scope.SESSION)
            return settle_all(job, stopping, Kind.GIVEN_BACK)
        self._log.failure("looking up where {dest} is failed", failure, dest=job.dest)
        return settle_all(job, bug(failure.value))

    def _begin(self, attempt: Attempt, outlook: Outlook) -> None:
        tls = self._settings.tls_client
        attempt.begin(Plan(outlook.candidates, outlook.refused, self._memory, tls, self._closing_delay), outlook.site)

    def site(self, dest: str) -> Deferred[str]:
        """See ISites."""
        return Deferred.fromCoroutine(self._site(dest))

    async def _site(self, dest: str) -> str:
        try:
            targets = await self._next_hops.hosts(split_dest(dest)[2])
        except MailError:  # its delivery hears the same, and says so
            return ""
        return site_of(f"{target.name}:{target.port}" for target in targets)

    def stopService(self) -> Deferred[Any]:
        """Fires when every delivery is settled and every connection closed, after `Pool.STOP_LIMIT` at the latest."""
        Service.stopService(self)  # type: ignore[no-untyped-call]
        ends = [pool.stop() for pool in self._pools]
        for asked in list(self._asking):
            asked.cancel()
        if self._running:
            drained = self._drained = Deferred()
            ends.append(drained)
        return DeferredList(ends)
