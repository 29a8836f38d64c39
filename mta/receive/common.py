"""What all sessions of one receiving service have in common: settings made ready, seams, limits.

Built once by the service and only read by the sessions; what changes in it (the counts, the roster, the handshake
slots) has its own rules.  Nothing here is global: two services on one reactor know nothing of each other.
"""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime

from mta.config.settings import Settings
from mta.interfaces import IAccept, IEventLog, IPolicy, IRouter
from mta.receive.access import AccessRules
from mta.receive.limits import Connections, HandshakeSlots
from mta.receive.roster import Roster
from mta.smtp.server import ReceiverOptions
from mta.tls.context import ServerTls

__all__ = ["Common"]


@attrs.frozen(slots=True, eq=False)
class Common:
    """The seams (accept, router, policy, log, clock, tls) and what the settings say."""

    settings: Settings
    accept: IAccept
    router: IRouter
    log: IEventLog
    clock: IReactorTime
    policy: IPolicy | None
    tls: ServerTls
    access: AccessRules
    connections: Connections
    slots: HandshakeSlots
    roster: Roster
    lifetime: int  # of a message in the queue, in ms
    plain: ReceiverOptions  # STARTTLS is not offered
    starttls: ReceiverOptions  # it is

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
    ) -> Common:
        """Make the settings ready."""
        limits = settings.limits
        plain = ReceiverOptions(
            hostname=settings.hostname,
            max_size=limits.message_size,
            max_recipients=limits.recipients_per_message,
            starttls=False,
            starttls_needs_ehlo=settings.tls.starttls_needs_ehlo,
            starttls_in_transaction=settings.tls.starttls_in_transaction,
            max_errors=limits.errors,
        )
        return cls(
            settings=settings,
            accept=accept,
            router=router,
            log=log,
            clock=clock,
            policy=policy,
            tls=tls or ServerTls(),
            access=AccessRules.of(settings),
            connections=Connections(limits.connections, limits.connections_per_client),
            slots=HandshakeSlots(settings.tls.handshakes_at_once),
            roster=Roster(clock),
            lifetime=int(settings.retry.queue_lifetime * 1000),
            plain=plain,
            starttls=attrs.evolve(plain, starttls=True),
        )
