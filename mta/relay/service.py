"""The delivery agent "smtp": takes jobs to the mail servers of their next hop (RFC 5321).

It knows the way from the job's destination (`agent:route/next-hop`), asks `INextHops` where to go, and lets an `Attempt`
do it.  Answers of `INextHops` are used again for a few seconds, so that a job to a busy destination begins in the same
turn, on a connection that is already open.  `deliver` never errbacks and always fires; a bug defers the mail.
At stop, running transactions may finish, what has not begun one is given back, connections get their QUIT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import Settings
from mta.envelope import Job, Kind, Settlement, Target, split_dest
from mta.interfaces import IDeliveryAgent, IEventLog, IHandover, IHints, INextHops
from mta.relay.attempt import Attempt, Way, Ways, bug, settle_all
from mta.relay.connection import Conduct
from mta.relay.destination import Plan, StrikeMemory
from mta.relay.pool import Pool
from mta.status import MailError, Reply, Scope
from mta.tls.client import ClientTls
from mta.tls.policy import Level

__all__ = ["RelayService"]


@implementer(IDeliveryAgent)
class RelayService(Service):
    """Relays.  routes: the TLS level of each route by its name; others get the default of `[tls_client]`.

    reactor: IReactorTCP and IReactorTime.  name_of: a message's id as people see it.
    """

    REMEMBERED: Final = 5.0  # seconds that the hosts of a next hop are used again without asking
    CLOSING_DELAY: Final = 60.0  # seconds at most until a site that says 421 is asked again
    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        next_hops: INextHops,
        tls: ClientTls,
        handover: IHandover,
        hints: IHints,
        log: IEventLog,
        routes: Mapping[str, Level],
        name_of: Callable[[int], str] = str,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._next_hops = next_hops
        self._routes = routes
        self._default = Level(settings.tls_client.level)
        self._name_of = name_of
        self._memory = StrikeMemory(hints, settings.tls_client)
        self._closing_delay = min(self.CLOSING_DELAY, settings.retry.minimal_backoff)
        self.pool = Pool(settings.handover, reactor, hints)
        timeout = settings.tls_client.starttls_timeout
        conduct = Conduct(settings.hostname, settings.timeouts, timeout, tls, self.pool, reactor)
        sources = {6 if ":" in address else 4: address for address in settings.relay.source_address}
        self._ways = Ways(conduct, settings.handover, sources, handover, log)
        self._way_of: dict[str, Way] = {}
        self._hosts: dict[str, tuple[float, list[Target]]] = {}
        self._asking: set[Deferred[list[Target]]] = set()
        self._running: set[Deferred[Settlement]] = set()
        self._drained: Deferred[None] | None = None

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """One outcome for each claim of the job.  Never errbacks, always fires."""
        done: Deferred[Settlement] = Deferred()
        self._running.add(done)
        done.addCallback(self._finished, done)
        way = self._way(job.dest)
        attempt = Attempt(self._ways, way, job, self._name_of(job.message.id), done)
        known = self._hosts.get(way.next_hop)
        if known is not None and self._reactor.seconds() < known[0]:
            self._begin(attempt, way, known[1])
        else:
            self._ask(attempt, job, done, way)
        return done

    def _finished(self, settlement: Settlement, done: Deferred[Settlement]) -> Settlement:
        self._running.discard(done)
        if self._drained is not None and not self._running:
            drained, self._drained = self._drained, None
            drained.callback(None)
        return settlement

    def _way(self, dest: str) -> Way:
        way = self._way_of.get(dest)
        if way is None:
            _, route, next_hop = split_dest(dest)
            way = Way(route, next_hop, self._level(route))
            if len(self._way_of) >= 10_000:
                self._way_of.clear()
            self._way_of[dest] = way
        return way

    def _level(self, route: str) -> Level:
        """What the route demands now, and never less than when the mail was filed under it."""
        name, _, owed = route.partition("+")
        demands = [self._routes[name]] if name in self._routes else []
        if owed:
            demands.append(Level(owed))
        return max(demands, key=list(Level).index, default=self._default)

    def _ask(self, attempt: Attempt, job: Job, done: Deferred[Settlement], way: Way) -> None:
        """Where to go?  What is not known yet takes its time."""
        asked = maybeDeferred(self._next_hops.hosts, way.next_hop)
        self._asking.add(asked)

        def answered(targets: list[Target]) -> None:
            self._asking.discard(asked)
            if len(self._hosts) >= 10_000:
                self._hosts.clear()
            self._hosts[way.next_hop] = self._reactor.seconds() + self.REMEMBERED, targets
            self._begin(attempt, way, targets)

        def unknown(failure: Failure) -> None:
            self._asking.discard(asked)
            done.callback(self._lost_way(job, failure))

        asked.addCallbacks(answered, unknown)

    def _lost_way(self, job: Job, failure: Failure) -> Settlement:
        """The next hop has no hosts, or nobody could say."""
        if isinstance(failure.value, MailError):
            return settle_all(job, failure.value)
        if self._ways.stopping:
            stopping = MailError(Reply(451, "4.3.2", "The service stops"), "stopping", Scope.SESSION)
            return settle_all(job, stopping, Kind.GIVEN_BACK)
        self._log.failure("looking up the hosts of {dest} failed", failure, dest=job.dest)
        return settle_all(job, bug(failure.value))

    def _begin(self, attempt: Attempt, way: Way, targets: list[Target]) -> None:
        attempt.begin(Plan(targets, way.level, self._memory, self._settings.tls_client, self._closing_delay))

    def stopService(self) -> Deferred[Any]:
        """Fires when every delivery is settled and every connection closed, after `Pool.STOP_LIMIT` at the latest."""
        Service.stopService(self)  # type: ignore[no-untyped-call]
        self._ways.stopping = True
        for asked in list(self._asking):
            asked.cancel()
        if self._running:
            drained = self._drained = Deferred()
            return DeferredList([self.pool.stop(), drained])
        return self.pool.stop()
