"""What all sessions of one receiving service have in common: settings made ready, seams, limits.

Built by the service and only read by the sessions; what changes in it (the counts, the roster, the handshake slots)
has its own rules.  A reload builds another one for the connections to come (`renewed`), which counts on where this one
was: who was counted in by the one may be counted out by the other.  Nothing here is global: two services on one
reactor know nothing of each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from mta.config.settings import Settings
from mta.interfaces import IAccept, IEventLog, IPolicy, IRouter
from mta.receive.access import AccessRules
from mta.receive.auth.accounts import Accounts
from mta.receive.auth.workers import Workers
from mta.receive.court import Court, Outside
from mta.receive.inquiry import Inquiries
from mta.receive.judges import Judges
from mta.receive.limits.connections import Connections
from mta.receive.limits.counts import Counts
from mta.receive.limits.handshakes import HandshakeSlots
from mta.receive.limits.notices import Notices
from mta.receive.roster import Roster
from mta.receive.tally import Tally
from mta.tls.context import ServerTls

__all__ = ["Common"]


@attrs.frozen(slots=True, eq=False)
class Common:
    """The seams (accept, router, policy, log, clock, tls, portal, random) and what the settings say.

    judges: who is asked at each stage, policy among them; inquiries: None where nothing is asked of the DNS.
    portal: an embedder's, None where logins are checked by `[auth] passwords`; accounts: whichever it is, None for neither.
    """

    settings: Settings
    accept: IAccept
    router: IRouter
    log: IEventLog
    clock: IReactorTime
    random: Callable[[int], bytes]
    policy: IPolicy | None
    portal: Portal | None
    tls: ServerTls
    access: AccessRules
    outside: Outside
    judges: Judges
    inquiries: Inquiries | None
    accounts: Accounts | None
    workers: Workers
    connections: Connections
    counts: Counts
    notices: Notices
    slots: HandshakeSlots
    roster: Roster
    tally: Tally
    lifetime: int  # of a message in the queue, in ms

    @classmethod
    def of(
        cls,
        settings: Settings,
        accept: IAccept,
        router: IRouter,
        log: IEventLog,
        clock: IReactorTime,
        policy: IPolicy | None = None,
        tls: ServerTls | None = None,
        portal: Portal | None = None,
        random: Callable[[int], bytes] = os.urandom,
        outside: Outside | None = None,
    ) -> Common:
        """Make the settings ready.  random: that many unforeseeable bytes.  MailError when `[auth] passwords` cannot be read."""
        limits = settings.limits
        outside = outside or Outside()
        court = Court.of(settings, policy, outside, clock, log)
        workers = Workers(clock, settings.auth.threads)
        return cls(
            settings=settings,
            accept=accept,
            router=router,
            log=log,
            clock=clock,
            random=random,
            policy=policy,
            portal=portal,
            tls=tls or ServerTls(),
            access=AccessRules.of(settings),
            outside=outside,
            judges=court.judges,
            inquiries=court.inquiries,
            accounts=Accounts.of(settings, portal, workers, clock, random),
            workers=workers,
            connections=Connections(limits.connections, limits.connections_per_client, limits.reserve),
            counts=Counts(limits),
            notices=Notices(),
            slots=HandshakeSlots(settings.tls.handshakes_at_once),
            roster=Roster(clock),
            tally=Tally(),
            lifetime=_lifetime(settings),
        )

    def renewed(self, settings: Settings, router: IRouter, tls: ServerTls) -> Common:
        """For the connections to come; changes nothing here.  MailError as above."""
        court = Court.of(settings, self.policy, self.outside, self.clock, self.log)
        return attrs.evolve(
            self,
            settings=settings,
            router=router,
            tls=tls,
            access=AccessRules.of(settings),
            judges=court.judges,
            inquiries=court.inquiries,
            accounts=Accounts.of(settings, self.portal, self.workers, self.clock, self.random, self.accounts),
            lifetime=_lifetime(settings),
        )

    def limit(self) -> None:
        """Let the counts obey the limits of these settings from now on."""
        limits = self.settings.limits
        self.connections.obey(limits.connections, limits.connections_per_client, limits.reserve)
        self.counts.obey(limits)
        self.slots.resize(self.settings.tls.handshakes_at_once)
        self.workers.resize(self.settings.auth.threads)

    def challenge(self) -> bytes:
        """A new one for CRAM-MD5: like a message id, and unforeseeable (RFC 2195 2)."""
        name = self.settings.auth.cram_realm or self.settings.hostname
        return f"<{self.random(16).hex()}.{int(self.clock.seconds())}@{name}>".encode()


def _lifetime(settings: Settings) -> int:
    return int(settings.retry.queue_lifetime * 1000)
