"""What TLS is owed at each address of a next hop: asks DNS for TLSA records and MTA-STS for a policy, side by side.

RFC 7672, RFC 8461, RFC 8689; the decision itself is `owed.py`.  DANE needs a resolver that validates: `start` asks the
servers for a name that must come back validated (`[dns] dnssec_probe`) and for one that must not (`dnssec_bogus_probe`: who
vouches for it sets AD blindly).  Where one of them speaks against the servers DANE is off and the log says so: level "dane"
acts as "may" and "dane-only" sends nothing.  The probe is repeated, when its answer has expired, for as long as mail wants
DANE.  Only an answer switches DANE off: who can make the probe fail gains nothing by it.

A failed lookup is never an answer: the host gets a refusal, and no connection is made to it.  That is what whoever forges
answers can do to mail, and what a broken name server does: a domain that gets nothing for four hours is told to the log,
once a day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.config.settings import Settings
from mta.envelope import Target
from mta.interfaces import IDemands, IEventLog, IMailResolver
from mta.status import Scope, permanent
from mta.tls.owed import Rule, name_is_unknown, owed, rule_for
from mta.tls.policy import Demand, Level
from mta.tls.policy_table import PolicyTable
from mta.tls.tlsa import Found, TlsaLookup

if TYPE_CHECKING:
    from mta.dns.answer import Answer
    from mta.tls.mtasts import StsPolicy
    from mta.tls.mtasts_cache import StsPolicies

__all__ = ["HOLDS", "Demands"]

HOLDS: Final = 300.0  # seconds until policies are looked at anew, whatever TTL their records have
_PROBE_AGAIN: Final = 5.0  # seconds, at least
_ALARM_AFTER: Final = 4 * 3600.0  # seconds without TLSA answers
_ALARM_AGAIN: Final = 86400.0
_MOST_BLOCKED: Final = 1000  # next hops that are watched
_Key = tuple[str, str, int, bool]  # what a TLSA lookup depends on
T = TypeVar("T")
_DANE: Final = frozenset({Level.DANE.value, Level.DANE_ONLY.value})


@implementer(IDemands)
class Demands:
    """See IDemands.

    sts: None for no MTA-STS at all.  clock: the reactor, for its seconds.  wall: seconds since the epoch, for the dates of
    `[[tls_policy]] until`.  settings: that hold now.  validates: the resolver's verdicts on DNSSEC are believed.
    """

    def __init__(
        self,
        settings: Settings,
        resolver: IMailResolver,
        sts: StsPolicies | None,
        *,
        clock: Any,
        log: IEventLog,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.validates = settings.dns.trusted
        self._proven = False
        self._doubts: dict[str, str] = {}  # name of a probe -> what its last answer says against the servers, "" for nothing
        self._resolver = resolver
        self._sts = sts
        self._clock = clock
        self._log = log
        self._wall = wall
        self._probe_again = 0.0
        self._waiting: list[Deferred[None]] | None = None  # for the probe of the start, while it is out
        self._told = ""
        self._blocked: dict[str, tuple[float, float]] = {}  # next hop -> since when, when the log was told
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Other settings from now on; `[dns]` holds for as long as we run."""
        self.settings = settings
        self._table = PolicyTable(settings.tls_policy)
        self._lookup = TlsaLookup(self._resolver, settings.tls_client.dane_nxdomain_proof)

    def start(self) -> Deferred[None]:
        """Find out whether the resolver validates; mail that wants DANE waits.  Fires when that is known; never errbacks."""
        if self._waiting is None:
            self._waiting = []
            Deferred.fromCoroutine(self._probe()).addBoth(self._probed)
        return self._begun()

    def _begun(self) -> Deferred[None]:
        """Fires when the probe of the start is not out.  One for each who waits: some of them are cancelled."""
        begun: Deferred[None] = Deferred()
        if self._waiting is None:
            begun.callback(None)
        else:
            self._waiting.append(begun)
        return begun

    def _probed(self, result: T) -> T:
        """One after the other: from lock to lock thousands would be a recursion."""
        waiting, self._waiting = self._waiting or [], None
        for begun in waiting:
            begun.callback(None)
        return result

    def of(self, next_hop: str, level: Level | None, targets: Sequence[Target], flags: int, sasl: str) -> Deferred[list[Demand]]:
        """See IDemands."""
        asked = Deferred.fromCoroutine(self._of(next_hop, level, targets, flags, sasl))
        return asked.addCallback(self._watched, next_hop)

    def until(self, demands: Sequence[Demand]) -> float:
        """See IDemands."""
        return min((demand.until for demand in demands), default=0.0)

    async def _of(self, next_hop: str, level: Level | None, targets: Sequence[Target], flags: int, sasl: str) -> list[Demand]:
        entry = self._table.entry(next_hop, datetime.fromtimestamp(self._wall(), UTC).date())
        rule = rule_for(self.settings.tls_client, entry, next_hop, level, flags, sasl)
        if rule.dane or rule.requiretls:
            await self._begun()
            probe = Deferred.fromCoroutine(self._probe())
            if not self.validates:  # else mail would only wait for what it is believed to know
                await probe
        if not self.validates and not next_hop.startswith("["):  # nobody vouches for an MX
            targets = [attrs.evolve(target, mx_secure=False) if target.mx_secure else target for target in targets]
        sts = self._sts.policy(rule.host) if self._sts is not None and rule.sts else None
        lookups = self._look_up(rule, targets)  # all are on their way before the first is awaited
        found = {key: await lookup for key, lookup in lookups.items()}
        policy = None if sts is None else await sts
        demands = self._owed(rule, targets, found, policy)
        if self._sts is not None and sts is not None and _nobody_is_known(demands):
            policy = await self._sts.refetch(rule.host)  # RFC 8461 5.1: before mail fails for good
            demands = self._owed(rule, targets, found, policy)
            if self._sts.in_doubt(rule.host):
                return demands
        if _nobody_is_known(demands):
            raise permanent("5.7.10", f"REQUIRETLS, and no host of {next_hop} is known securely", scope=Scope.MESSAGE)
        return demands

    def _watched(self, demands: list[Demand], next_hop: str) -> list[Demand]:
        """The demands, and an alarm where the lookups have failed for hours at every host (docs/tls.md)."""
        refusals = [demand.refusal for demand in demands if demand.refusal is not None]
        if len(refusals) < len(demands) or any(refusal.reason != "dnssec-invalid" for refusal in refusals):
            self._blocked.pop(next_hop, None)
            return demands
        now = self._clock.seconds()
        since, told = self._blocked.pop(next_hop, (now, -inf))
        if now - since >= _ALARM_AFTER and now - told >= _ALARM_AGAIN:
            told = now
            fields = {"next_hop": next_hop, "hours": round((now - since) / 3600, 1), "reason": refusals[0].reply.text}
            self._log.event("dane_blocked", "", fields)
        self._blocked[next_hop] = since, told
        if len(self._blocked) > _MOST_BLOCKED:
            del self._blocked[next(iter(self._blocked))]
        return demands

    def _look_up(self, rule: Rule, targets: Sequence[Target]) -> dict[_Key, Deferred[Found]]:
        """One TLSA lookup for each host."""
        lookups: dict[_Key, Deferred[Found]] = {}
        for target in targets:
            if self.validates and rule.asks_dane(target) and _key(target) not in lookups:
                lookups[_key(target)] = Deferred.fromCoroutine(self._lookup.find(target))
        return lookups

    def _owed(self, rule: Rule, targets: Sequence[Target], found: Mapping[_Key, Found], policy: StsPolicy | None) -> list[Demand]:
        until = self._clock.seconds() + HOLDS
        if rule.sts and self._sts is not None:
            until = min(until, self._sts.until(rule.host))
        known = [(target, found.get(_key(target))) for target in targets]
        return [owed(rule, target, each, policy, min(until, each.expires) if each else until) for target, each in known]

    async def _probe(self) -> None:
        """Does the resolver validate?  Once both names have shown that it does, that is believed until the restart."""
        now = self._clock.seconds()
        if self._proven or now < self._probe_again:
            return
        self._probe_again = now + _PROBE_AGAIN
        dns = self.settings.dns
        if not dns.trusted:
            self._tell("[dns] trusted is false")
            return
        wanted = ((dns.dnssec_probe, _not_validated), (dns.dnssec_bogus_probe, _believed_blindly))
        asked = [(name, against, self._resolver.query(name, "A")) for name, against in wanted if name]
        doubted, unknown = [], []  # until when
        for name, against, answering in asked:  # both are on their way
            answer = await answering
            said = against(name, answer)
            if said is None:  # it stays as it was
                unknown.append(answer.expires)
                continue
            self._doubts[name] = said
            if said:
                doubted.append(answer.expires)
        self._probe_again = max(self._probe_again, max(doubted, default=min(unknown, default=0.0)))
        why = next(filter(None, self._doubts.values()), "")
        self._proven = not (why or unknown)
        self.validates = not why
        self._tell(why)

    def _tell(self, why: str) -> None:
        """One line when it has changed, where it makes a difference."""
        if why != self._told and self._is_wanted:
            self._log.event("dane_off" if why else "dane_on", "", {"reason": why or None})
            self._told = why

    @property
    def _is_wanted(self) -> bool:
        """Does the operator want DANE anywhere?"""
        settings = self.settings
        levels = {
            settings.tls_client.level,
            *[route.tls for route in settings.route],
            *[each.level for each in settings.tls_policy],
        }
        return not levels.isdisjoint(_DANE) or any(entry.dane == "on" for entry in settings.tls_policy)


def _not_validated(name: str, answer: Answer) -> str | None:
    """What the answer for a name that is signed says against the servers, "" for nothing; None: nobody knows.

    The AD bit of a resolver that does not validate is never set, or always.
    """
    if answer.failed:
        return None
    return "" if answer.secure else f"the name servers did not validate {name!r} ({answer.rcode})"


def _believed_blindly(name: str, answer: Answer) -> str | None:
    """The same for a name whose signatures are broken, which RFC 4035 5.5 answers with SERVFAIL.

    Without AD somebody lets it pass (a negative trust anchor, RFC 7646), and does not vouch for it.  That a name does not
    exist may well be proven, and says nothing of signatures below it.
    """
    if answer.rcode not in ("NOERROR", "SERVFAIL"):
        return None
    if not answer.secure:
        return ""
    return f"the name servers vouch for {name!r}, whose signatures are broken: they set AD and do not validate"


def _key(target: Target) -> _Key:
    return target.name, target.canonical, target.port, target.address_secure


def _nobody_is_known(demands: Sequence[Demand]) -> bool:
    return bool(demands) and all(name_is_unknown(demand.refusal) for demand in demands)
