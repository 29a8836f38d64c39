"""What the attempts of one relay share, and what all jobs of one destination have in common.

A `Way` is read from the destination's name (`agent:route/next-hop`).  Its `Outlook` is what `INextHops` and `IDemands`
have said of it for messages with the same flags: the addresses to try, what is owed at each, and with which deliveries
a connection to it may be shared (the reuse key).  It is remembered for as long as it holds, so that a job
to a busy destination begins in the same turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from twisted.logger import Logger

from mta.config.settings import Handover
from mta.envelope import Flag, Target
from mta.interfaces import IEventLog, IHandover
from mta.relay.connection import Conduct, Owner
from mta.relay.credentials import Credentials
from mta.relay.destination import MAX_ADDRESSES, Candidate, Step
from mta.relay.handover import ReuseKey, Verdict, allowed
from mta.relay.session import Session
from mta.relay.site import Site
from mta.relay.takedown import Takedown
from mta.tls.policy import Achieved, Demand, Level, Required

__all__ = ["KEY_FLAGS", "Outlook", "Way", "Ways"]

_IN_TLS: Final = Achieved(version="TLS")
KEY_FLAGS: Final = int(Flag.REQUIRETLS | Flag.TLS_REQUIRED_NO)


@attrs.frozen(slots=True)
class Way:
    """What all jobs of one destination have in common.  level: None where the route demands none."""

    route: str
    next_hop: str
    level: Level | None
    credentials: Credentials | None = None

    @property
    def sasl(self) -> str:
        """Identity of the credentials, "" for none."""
        return self.credentials.identity if self.credentials else ""


@attrs.frozen(slots=True)
class Outlook:
    """Where a way leads, until a time of the reactor's clock.  refused: addresses to which nothing may be sent.  site: None
    where it has no limits."""

    way: Way
    candidates: Sequence[Candidate]
    refused: Sequence[Demand]
    until: float
    site: Site | None = None


class Ways:
    """What the attempts of one relay share."""

    _log = Logger()

    def __init__(
        self,
        conduct: Conduct,
        settings: Handover,
        sources: Mapping[int, str],
        handover: IHandover,
        log: IEventLog,
        generation: int = 1,
        eightbit: str = "convert",
    ) -> None:
        """sources: our own address for IPv4 (4) and IPv6 (6), where one is set.  generation: of the configuration.

        eightbit: what becomes of octets over 127 where a server does not offer 8BITMIME.
        """
        self.conduct = conduct
        self.settings = settings
        self.events = log
        self.eightbit = eightbit
        self._generation = generation
        self._sources = sources
        self._handover = handover

    def source(self, target: Target) -> str:
        """The address to connect from, "" for any."""
        return self._sources.get(6 if ":" in target.address else 4, "")

    def outlook(self, way: Way, demands: Sequence[Demand], flags: int, until: float, site: Site | None = None) -> Outlook:
        """What attempts need of these demands."""
        usable = [demand for demand in demands if demand.refusal is None][:MAX_ADDRESSES]
        candidates = tuple(
            [Candidate(demand.target, demand.required, self._key(way, demand, flags), way.credentials) for demand in usable]
        )
        return Outlook(way, candidates, tuple([demand for demand in demands if demand.refusal is not None]), until, site)

    def _key(self, way: Way, demand: Demand, flags: int) -> ReuseKey:
        required = demand.required
        return ReuseKey.of(
            required,
            route=f"{way.route}@{self._generation}",
            source=self.source(demand.target),
            hello=self.conduct.hello,
            flags=flags,
            certificate=self.conduct.tls.shown(required),
        )

    def session(self, step: Step, owner: Owner) -> Session:
        """A new connection.  MailError when our own side of TLS cannot be set up."""
        candidate, pool, settings = step.candidate, self.conduct.pool, self.settings
        # If the verdict may become CLEAR its TLS must be of another kind from the beginning.
        if step.tls and self._judged(candidate.required, _IN_TLS)[0] is Verdict.CLEAR and not pool.learned(candidate.key):
            return Takedown(self.conduct, step, owner, wait=settings.shutdown_wait, test=settings.preset != "exim2002")
        return Session(self.conduct, step, owner)

    def verdict(self, session: Session) -> tuple[Verdict, str]:
        """The policy's word on a connection, asked once for each requirement: it is pure.  An exception means QUIT."""
        if session.verdict is None:
            verdict, why = self._judged(session.required, session.achieved)
            if verdict is Verdict.CLEAR and not session.takes_down:
                why = self.conduct.pool.learned(session.key) or "changed"
                verdict, why = Verdict.QUIT, f"no-clear-{why}"
            session.verdict = verdict, why
        return session.verdict

    def _judged(self, required: Required, achieved: Achieved) -> tuple[Verdict, str]:
        try:
            verdict, why = self._handover.verdict(required, achieved)
            return allowed(verdict, why, required, achieved)
        except Exception:
            self._log.failure("the hand-over policy failed")
            return Verdict.QUIT, "policy-failed"
