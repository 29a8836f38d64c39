"""MTA-STS policies of the domains that we send to, cached and refreshed (RFC 8461 3.3, 5.1, 10.2).

A policy holds from its fetch for max_age seconds, whatever DNS and web say meanwhile: who suppresses the record or the fetch
gains nothing as long as we have heard of it once.  The record is asked for again when its TTL has passed; another id in it
fetches the policy anew; policies are fetched daily before they expire (`StsRefresh`).  A fetch that failed is not repeated
for five minutes, and without a policy in the cache the mail goes as if there were none (3.3): `failure` has the reason for
the report.  Policies live in `IHints` and survive a restart there; all that is kept here is bounded.  Nothing here errbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.name import domain_fault
from mta.interfaces import IEventLog, IHints, IMailResolver
from mta.tls.mtasts import Mode, StsError, StsPolicy, parse_policy, record_id

__all__ = ["StsPolicies", "StsRefresh"]

ASK_LEAST = 120.0  # seconds between two questions for a record, however short its TTL
ASK_MOST = 86_400.0
RETRY = 300.0  # 3.3: after a fetch that failed
DAY = 86_400.0  # 3.3: the suggested frequency of the refresh
REFRESH_AGAIN = 3_600.0  # after a refresh that failed
REFRESH_AT_ONCE = 5
DOMAINS = 10_000  # remembered at once; the least recently used goes, its policy stays in the hints

POLICY = "mta-sts"  # the kind of the hints


@attrs.define(eq=False)
class _Known:
    """What is known of one domain.  Times are seconds of the clock."""

    policy: StsPolicy | None = None
    fetched: float = 0.0
    ask_at: float = 0.0  # the record
    fetch_at: float = 0.0  # not before: the last fetch failed
    failure: StsError | None = None
    unasked: bool = False  # the record could not be asked for
    callers: list[Deferred[StsPolicy | None]] | None = None  # while somebody asks
    is_same: bool = False  # meanwhile: the record says that the cached policy is the domain's still

    def ruling(self, now: float) -> StsPolicy | None:
        """The policy that holds now."""
        return self.policy if self.policy is not None and now < self.fetched + self.policy.max_age else None


class StsPolicies:
    """Which policy a domain has.

    fetch: the policy's text for a domain, or an StsError.  clock: whose seconds the hints expire by, which must go on over
    a restart (the reactor's do).  log: gets `sts-policy` for each policy that is new and `sts-fault` for each failure.
    """

    _log = Logger()

    def __init__(
        self,
        resolver: IMailResolver,
        fetch: Callable[[str], Deferred[bytes]],
        hints: IHints,
        clock: IReactorTime,
        log: IEventLog,
        limit: int = DOMAINS,
    ) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._hints = hints
        self._clock = clock
        self._events = log
        self._limit = limit
        self._known: dict[str, _Known] = {}  # in the order of use, oldest first
        self._roster: dict[str, float] = {}  # domain -> when its policy is due to be fetched again
        self._running: set[Deferred[None]] = set()
        self._closed = False

    def policy(self, domain: str) -> Deferred[StsPolicy | None]:
        """What holds for mail to `domain` (the next hop as the recipient's address has it, A-labels); None for no policy.

        A policy in mode "none" is given as such: it demands nothing.  Never errbacks.
        """
        name = _policy_domain(domain)
        if name is None:
            return succeed(None)
        known = self._recall(name)
        now = self._clock.seconds()
        if self._closed or known.is_same or (known.callers is None and now < known.ask_at):
            return succeed(known.ruling(now))
        return self._ask(name, known, again=False)

    def refetch(self, domain: str) -> Deferred[StsPolicy | None]:
        """The same, asked anew: before mail fails for good because of a policy (5.1).  At most one fetch in five minutes."""
        name = _policy_domain(domain)
        if name is None or self._closed:
            return self.policy(domain)
        return self._ask(name, self._recall(name), again=True)

    def until(self, domain: str) -> float:
        """Until when (seconds of the clock) the last answer of `policy` holds without asking again; 0.0: it never did."""
        known = self._known.get(domain.lower().removesuffix("."))
        if known is None:
            return 0.0
        policy = known.ruling(self._clock.seconds())
        return known.ask_at if policy is None else min(known.ask_at, known.fetched + policy.max_age)

    def failure(self, domain: str) -> StsError | None:
        """Why the last fetch failed, None where it did not: a fact for TLSRPT, also while a cached policy holds."""
        known = self._known.get(domain.lower().removesuffix("."))
        return known.failure if known is not None else None

    def in_doubt(self, domain: str) -> bool:
        """May there be a policy other than the last answer, because record or policy could not be had?"""
        known = self._known.get(domain.lower().removesuffix("."))
        return known is not None and (known.unasked or known.failure is not None)

    def refresh_due(self) -> Deferred[None]:
        """Fetch what was not fetched for a day.  Fires when that is done; never errbacks."""
        refreshed = Deferred.fromCoroutine(self._refresh_all())
        return refreshed.addErrback(lambda reason: self._log.failure("refresh of MTA-STS policies", reason))

    def close(self) -> Deferred[None]:
        """Give up what is being fetched; who waits for it gets what is cached.  Fires when nothing of ours is left running."""
        self._closed = True
        running = list(self._running)
        for each in running:
            each.cancel()
        gone: Deferred[None] = DeferredList(running).addCallback(lambda _: None)
        return gone

    def _recall(self, name: str) -> _Known:
        """What we know of a domain, from memory or from the hints."""
        known = self._known.pop(name, None) or self._from_hints(name)
        self._known[name] = known
        if len(self._known) > self._limit:
            oldest = next((each for each, other in self._known.items() if other.callers is None and other is not known), None)
            if oldest is not None:
                del self._known[oldest]
        return known

    def _from_hints(self, name: str) -> _Known:
        match self._hints.get(POLICY, name):
            case {"fetched": int() | float() as fetched} as hint:
                return _Known(StsPolicy.of_hint(hint), min(fetched, self._clock.seconds()))  # the clock may have been set back
        return _Known()

    def _ask(self, name: str, known: _Known, *, again: bool) -> Deferred[StsPolicy | None]:
        """One question for all who ask at the same time."""
        caller: Deferred[StsPolicy | None] = Deferred()
        if known.callers is not None:
            known.callers.append(caller)
            return caller
        known.callers = [caller]
        asked = Deferred.fromCoroutine(self._learn(name, known, again=again))
        self._running.add(asked)
        asked.addErrback(self._broken, name, known).addCallback(self._tell, known, asked)
        return caller

    def _tell(self, _: None, known: _Known, asked: Deferred[None]) -> None:
        self._running.discard(asked)
        callers, known.callers, known.is_same = known.callers or (), None, False
        for caller in callers:
            caller.callback(known.ruling(self._clock.seconds()))

    def _broken(self, reason: Failure, name: str, known: _Known) -> None:
        """Closed, or a bug: what is cached holds."""
        known.ask_at = min(known.ask_at, self._clock.seconds() + RETRY)
        if not isinstance(reason.value, CancelledError):
            self._log.failure("MTA-STS policy of {name}", reason, name=name)

    async def _learn(self, name: str, known: _Known, *, again: bool) -> None:
        """Ask for the record, and fetch the policy where it is new.  again: also where it is not."""
        known.ask_at = self._clock.seconds() + ASK_LEAST  # also when the lookup breaks
        answer = await self._resolver.query(f"_mta-sts.{name}", "TXT")
        now = self._clock.seconds()
        known.ask_at = now + min(max(answer.expires - now, ASK_LEAST), ASK_MOST)
        known.unasked = answer.failed
        found = record_id(answer.records) if answer.found else ""
        policy = known.ruling(now)
        if not found:  # no record, or nobody knows: what is cached holds on (5.1), and there was nothing to fetch
            known.failure = known.failure if policy is not None else None
        elif policy is None or policy.id != found or (again and now >= known.fetched + RETRY):
            if now >= known.fetch_at:
                known.is_same = policy is not None and policy.id == found  # then no mail need wait for a slow policy host
                await self._renew(name, known, found)
            if known.failure is not None:
                known.ask_at = min(known.ask_at, known.fetch_at)
        if known.policy is not None:  # what comes after it is asked for when it ends
            known.ask_at = min(known.ask_at, max(known.fetched + known.policy.max_age, now + ASK_LEAST))

    async def _renew(self, name: str, known: _Known, found: str) -> None:
        """Fetch the policy that the record announces; keep what we have where that fails."""
        try:
            policy = parse_policy(found, await self._fetch(name))
        except StsError as error:
            if self._closed:
                return
            known.failure, known.fetch_at = error, self._clock.seconds() + RETRY
            self._failed(name, known, error)
            return
        now = self._clock.seconds()
        is_new = policy != known.ruling(now)
        known.policy, known.fetched, known.fetch_at, known.failure = policy, now, 0.0, None
        self._enrol(name, known, policy)
        self._hints.put(POLICY, name, {**policy.as_hint(), "fetched": now}, now + policy.max_age)
        if is_new:
            mx = " ".join(policy.mx)
            fields = {"domain": name, "id": policy.id, "mode": str(policy.mode), "mx": mx, "max_age": policy.max_age}
            self._events.event("sts-policy", "", fields)

    def _failed(self, name: str, known: _Known, error: StsError) -> None:
        """Said aloud, so that a domain that cannot be refreshed is seen before its policy expires (3.3)."""
        policy = known.ruling(self._clock.seconds())
        cached = f"{policy.id} {policy.mode}" if policy is not None else "none"
        fields = {"domain": name, "result": str(error.result), "reason": error.detail, "cached": cached}
        self._events.event("sts-fault", "", fields)

    async def _refresh_all(self) -> None:
        now = self._clock.seconds()
        for name in self._hints.keys(POLICY):  # after a restart all of them are new
            self._roster.setdefault(name, now)
        due = iter([name for name, at in self._roster.items() if at <= now])
        await gatherResults([Deferred.fromCoroutine(self._refresh(due)) for _ in range(REFRESH_AT_ONCE)], consumeErrors=True)

    async def _refresh(self, due: Iterator[str]) -> None:
        for name in due:
            if self._closed:
                return
            known, now = self._recall(name), self._clock.seconds()
            policy = known.ruling(now)
            if policy is None:
                self._roster.pop(name, None)
            elif now < known.fetched + DAY or policy.mode is Mode.NONE:
                self._enrol(name, known, policy)
            else:
                self._roster[name] = now + REFRESH_AGAIN  # a fetch that succeeds sets it to tomorrow
                await self._ask(name, known, again=True)

    def _enrol(self, name: str, known: _Known, policy: StsPolicy) -> None:
        """To be fetched again tomorrow.  What demands nothing may expire (RFC 8461 8.3: that is how a policy is removed)."""
        self._roster.pop(name, None)
        self._roster[name] = known.fetched + (policy.max_age if policy.mode is Mode.NONE else DAY)
        if len(self._roster) > self._limit:
            del self._roster[next(iter(self._roster))]


class StsRefresh(Service):
    """Refreshes the policies in the background, and closes them at the stop."""

    name = "mta-sts"

    def __init__(self, policies: StsPolicies, clock: IReactorTime, every: float = 600.0) -> None:
        """every: seconds between two looks at what is due."""
        self._policies = policies
        self._every = every
        self._loop = LoopingCall(policies.refresh_due)
        self._loop.clock = clock

    def startService(self) -> None:
        """From now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._every, now=False)

    def stopService(self) -> Deferred[None]:
        """Fires when nothing is left running."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
        return self._policies.close()


def _policy_domain(domain: str) -> str | None:
    """The one spelling of a domain that can have a policy; None for address literals and whatever is no domain."""
    name = domain.lower().removesuffix(".")
    return name if name.isascii() and not domain_fault(name) else None
