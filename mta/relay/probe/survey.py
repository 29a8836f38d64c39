"""What is known of a next hop before anybody connects: hosts, TLSA records, MTA-STS policy, and what is owed there.

RFC 7672, RFC 8461, RFC 8460.  The questions are those that a delivery asks, through the same `Demands`; in addition what is
owed is found out for every level, so that a probe can say what each would come to.  What DNS does not know is part of the
result; `MailError` of Scope.SITE where a delivery would fail as a whole: no hosts, a failed MX lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mta.config.settings import Settings, TlsPolicyEntry
from mta.dns.answer import Answer
from mta.envelope import Target
from mta.interfaces import IEventLog, IHints, IMailResolver, INextHops
from mta.tls.demand import Demands
from mta.tls.mtasts import StsError, StsPolicy
from mta.tls.mtasts_cache import StsPolicies
from mta.tls.policy import Demand, Level
from mta.tls.policy_table import PolicyTable
from mta.tls.tlsa import Found, TlsaLookup
from mta.tls.tlsrpt import policy_domain, report_addresses

__all__ = ["Survey", "Surveyor"]


@attrs.frozen(slots=True)
class Survey:
    """mx: the MX answer, None for a host in brackets.  demands: what is owed at each address, levels: at other levels.

    dane_off: why DNSSEC, and so DANE, is not believed, "" when it is.  tlsa: what DNS says of each (host, port), empty where
    DANE is off.  sts_fault: why the last fetch of the MTA-STS policy failed.  reports: where the domain wants its TLSRPT
    reports.
    """

    next_hop: str
    mx: Answer | None
    demands: Sequence[Demand]
    levels: Mapping[Level, Sequence[Demand]]
    dane_off: str
    tlsa: Mapping[tuple[str, int], Found]
    sts: StsPolicy | None
    sts_fault: StsError | None
    reports: Sequence[str]


@implementer(IEventLog)
class _Notes:
    """Takes the events of a service that does not run, and remembers why DANE is off."""

    dane_off = ""

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""
        if name == "dane_off":
            self.dane_off = str(fields["reason"])


class Surveyor:
    """Asks.  fetch: the text of a domain's MTA-STS policy.  given: keys of [[tls_policy]] that hold for the probed next hop,
    over what the settings have for it today."""

    def __init__(
        self,
        settings: Settings,
        resolver: IMailResolver,
        hops: INextHops,
        fetch: Callable[[str], Deferred[bytes]],
        hints: IHints,
        *,
        clock: IReactorTime,
        today: date,
        given: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._hops = hops
        self._notes = _Notes()
        self._sts = StsPolicies(resolver, fetch, hints, clock, self._notes)
        self._clock = clock
        self._today = today
        self._given = given

    async def survey(self, next_hop: str) -> Survey:
        """Ask everything.  MailError when there is no host to be asked about."""
        entry = self._entry(next_hop)
        domain = policy_domain(next_hop)
        mx = None if next_hop.startswith("[") else await self._resolver.query(domain, "MX")
        targets = await self._hops.hosts(next_hop)
        demands = await self._demands(next_hop, entry, targets)
        wanted = [level for level in Level if level is not Level.FINGERPRINT or entry.fingerprints]
        asked = [self._demands(next_hop, attrs.evolve(entry, level=level.value), targets) for level in wanted]
        found = await gatherResults([Deferred.fromCoroutine(each) for each in asked], consumeErrors=True)
        return Survey(
            next_hop,
            mx,
            demands,
            dict(zip(wanted, found, strict=True)),
            self._notes.dane_off,
            {} if self._notes.dane_off else await self._tlsa(targets),
            await self._sts.policy(domain) if mx is not None else None,
            self._sts.failure(domain),
            report_addresses((await self._resolver.query(f"_smtp._tls.{domain}", "TXT")).records) if domain else (),
        )

    def _entry(self, next_hop: str) -> TlsPolicyEntry:
        """What [[tls_policy]] has for it today, with what was given."""
        entry = PolicyTable(self._settings.tls_policy).entry(next_hop, self._today)
        return attrs.evolve(entry or TlsPolicyEntry(match=()), match=(next_hop,), until="", **self._given)

    async def _demands(self, next_hop: str, entry: TlsPolicyEntry, targets: Sequence[Target]) -> list[Demand]:
        """What is owed under this entry."""
        settings = attrs.evolve(self._settings, tls_policy=(entry,))
        demands = Demands(settings, self._resolver, self._sts, clock=self._clock, log=self._notes)
        await demands.start()
        return await demands.of(next_hop, None, targets, 0, "")

    async def _tlsa(self, targets: Sequence[Target]) -> dict[tuple[str, int], Found]:
        lookup = TlsaLookup(self._resolver, self._settings.tls_client.dane_nxdomain_proof)
        hosts = {(target.name, target.port): target for target in targets}
        return {host: await lookup.find(target) for host, target in hosts.items()}
