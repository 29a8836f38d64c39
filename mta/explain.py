"""What would become of mail to an address, and why: the body of `mta explain`.

It asks what the service asks (router, MX and addresses, TLSA, MTA-STS, what TLS is owed, the hand-over policy), with the same
settings and in the same order, but makes no connection to a mail server and needs no running service.  The answer
is plain data, for JSON and for `cli/explain.py`, which turns it into text; docs/operators.md lists the keys.
What cannot be found out is part of the answer: nothing here fails for what DNS, web or files say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mta.config.check_hosts import host_lists
from mta.config.settings import Settings
from mta.dns.answer import Answer
from mta.envelope import Refusal, Route, Target
from mta.generation import next_hops_of
from mta.hints import LIMITS, MemoryHints
from mta.interfaces import IEventLog, IHints, IMailResolver
from mta.relay.destination import MAX_ADDRESSES, StrikeMemory, struck_as, where
from mta.relay.handover import HandoverPolicy, allowed
from mta.relay.pool import Pool
from mta.route.mx import NextHop
from mta.route.service import Router
from mta.status import MailError, Reply
from mta.tls.demand import Demands
from mta.tls.mtasts_cache import StsPolicies
from mta.tls.policy import Achieved, Demand, Level, Required
from mta.tls.tlsa import TlsaLookup

__all__ = ["Explanation", "read_hints"]

Facts = dict[str, Any]

# What a good server would show us.  The verdict may look at the version; that the certificate is right is assumed.
_TLS: Final = Achieved(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256, names_ok=True)


class Explanation:
    """Explains addresses.

    fetch: the text of a domain's MTA-STS policy.  hints: what the service remembers of hosts; it is not written to.
    random: only shuffles hosts of equal preference.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: IReactorTime,
        resolver: IMailResolver,
        fetch: Callable[[str], Deferred[bytes]],
        hints: IHints,
        random: Random,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._hints = hints
        self._notes = _Notes()
        self._router = Router(settings)
        self._next_hops = next_hops_of(settings, self._router, resolver, random)  # only the service knows its ports
        self._sts = StsPolicies(resolver, fetch, hints, clock, self._notes)
        self._demands = Demands(settings, resolver, self._sts, clock=clock, log=self._notes)
        self._tlsa = TlsaLookup(resolver, settings.tls_client.dane_nxdomain_proof)
        self._strikes = StrikeMemory(hints, settings.tls_client)
        self._handover = HandoverPolicy(settings.handover, host_lists(settings))

    async def of(self, address: str) -> Facts:
        """All about one address.  `outcome` is deliver, defer or bounce; `why` says so where it is not deliver."""
        facts: Facts = {"address": address, "outcome": "deliver", "why": "", "route": None}
        route = self._router.route(address)
        if isinstance(route, Refusal):
            return {**facts, **_failed(route.reply)}
        facts["route"] = {"name": route.name, "agent": route.agent, "next_hop": route.next_hop, "tls": route.tls}
        if route.agent != "smtp":
            return {**facts, **self._local(address)}
        return {**facts, **await self._remote(route), "limits": self._limits(), "retry": self._retry()}

    def _local(self, address: str) -> Facts:
        """Delivery to a mailbox of ours."""
        try:
            return {"mailbox": self._router.mailbox(address)}
        except MailError as error:
            return _failed(error.reply)

    async def _remote(self, route: Route) -> Facts:
        """Delivery to other servers."""
        facts: Facts = {"mx": None, "dane": None, "mta_sts": None, "hosts": []}
        hop = route.next_hop
        try:
            if NextHop.of(hop, self._settings.relay.port).with_mx:
                facts["mx"] = _mx(await self._resolver.query(hop, "MX"))
                facts["mta_sts"] = await self._policy(hop)
            targets = await self._next_hops.hosts(hop)
            await self._demands.start()
            sasl = auth.user if (auth := self._router.auth.get(route.name)) else ""
            demands = await self._demands.of(hop, Level(route.tls) if route.tls else None, targets, 0, sasl)
        except MailError as error:
            return {**facts, **_failed(error.reply)}
        facts["dane"] = {"validates": self._demands.validates, "off": self._notes.dane_off}
        facts["hosts"] = [await self._host(demand) for demand in demands]
        refusals = [demand.refusal.reply for demand in demands if demand.refusal is not None]
        return {**facts, **_failed(refusals[-1])} if len(refusals) == len(demands) else facts

    async def _policy(self, domain: str) -> Facts:
        """The domain's MTA-STS policy, whether it is used here or not."""
        policy = await self._sts.policy(domain)
        failure = self._sts.failure(domain)
        facts = {"used": self._settings.tls_client.mta_sts, "policy": None, "failure": str(failure) if failure else ""}
        return facts if policy is None else {**facts, "policy": policy.as_hint()}

    async def _host(self, demand: Demand) -> Facts:
        """One address: what DNS says of it, what it is owed, and what would become of the connection."""
        target, required, refusal = demand.target, demand.required, demand.refusal
        facts: Facts = {
            "host": target.name,
            "address": target.address,
            "port": target.port,
            "preference": target.preference,
            "mx_secure": target.mx_secure,
            "address_secure": target.address_secure,
            "tlsa": await self._records(target) if self._demands.validates else None,
            "level": required.level.value,
            "origin": required.origin,
            "names": list(required.names),
            "sni": required.sni,
            "evidence": required.evidence,
            "may_go_clear": required.may_go_clear,
            "refusal": str(refusal.reply) if refusal is not None else "",
            "handover": None,
            "memory": self._memory(target, required),
        }
        if refusal is None:
            achieved = Achieved() if required.level is Level.NONE else _TLS
            verdict, why = allowed(*self._handover.verdict(required, achieved), required, achieved)
            facts["handover"] = {"verdict": verdict.value, "why": why}
        return facts

    async def _records(self, target: Target) -> Facts:
        """TLSA records, usable or not."""
        found = await self._tlsa.find(target)
        records = [f"{each.usage} {each.selector} {each.mtype} {each.data.hex()}" for each in found.records]
        return {"records": records, "base_domain": found.base_domain, "error": found.error}

    def _memory(self, target: Target, required: Required) -> Facts:
        """What the service remembers of a host.  strike, failed: seconds since the epoch, None for never."""
        name = struck_as(target, required)
        strike, failed = self._hints.get(StrikeMemory.KIND, name) or (None, None)
        tries_tls = not required.may_go_clear or self._strikes.tries_tls(name, self._clock.seconds())
        suspended = self._hints.get(Pool.KIND, where(target)) is not None
        return {"strike": strike, "failed": failed, "tries_tls": tries_tls, "keep_suspended": suspended}

    def _limits(self) -> Facts:
        """What holds for each destination."""
        settings = self._settings
        return {
            "transactions": settings.concurrency.per_destination,
            "transactions_at_first": settings.concurrency.initial,
            "transactions_in_all": settings.concurrency.total,
            "recipients": settings.concurrency.recipients,
            "addresses": MAX_ADDRESSES,
            "reuse_time": settings.handover.reuse_time_limit,
            "reuse_count": settings.handover.reuse_count_limit,
            "idle": settings.handover.idle_limit,
        }

    def _retry(self) -> Facts:
        """When mail is tried again (seconds)."""
        settings = self._settings
        return {
            "first": settings.retry.minimal_backoff,
            "last": settings.retry.maximal_backoff,
            "lifetime": settings.retry.queue_lifetime,
            "after_handshake": settings.tls_client.fallback_delay,
        }


@implementer(IEventLog)
class _Notes:
    """Hears why DANE is off."""

    dane_off = ""

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""
        if name == "dane_off":
            self.dane_off = str(fields.get("reason") or "")


def _failed(reply: Reply) -> Facts:
    return {"outcome": "bounce" if reply.is_permanent else "defer", "why": str(reply)}


def _mx(answer: Answer) -> Facts:
    """The MX answer as it came: the order in which hosts are tried is that of `hosts`."""
    records: Sequence[Any] = answer.records if answer.found else ()
    hosts = [{"preference": each.preference, "host": each.host} for each in sorted(records, key=lambda each: each.preference)]
    return {"answer": answer.rcode, "reason": answer.reason, "secure": answer.secure, "hosts": hosts}


def read_hints(path: Path, clock: IReactorTime) -> MemoryHints:
    """What a file of hints has, read beside the service that writes it.  Raises apsw.Error or OSError.

    Leaves nothing behind: without a log beside it the file is whole and taken as it is, for SQLite would make a log of its
    own, and who asks is often root, whose files the service could not open.
    """
    path.stat()  # a file that is not there is said in the system's words
    way = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    hints = MemoryHints(clock)
    db = apsw.Connection(f"{path.resolve().as_uri()}?{way}", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        db.set_busy_timeout(1000)
        many = json.dumps([kind for kind in LIMITS if kind])  # greylisting's: nothing about hosts that we send to
        query = "SELECT kind, key, expires, value FROM hint WHERE kind NOT IN (SELECT value FROM json_each(?))"
        for kind, key, expires, value in db.execute(query, (many,)):
            with suppress(TypeError, ValueError, RecursionError):
                hints.put(str(kind), str(key), json.loads(value), float(expires))
    finally:
        db.close()
    return hints
