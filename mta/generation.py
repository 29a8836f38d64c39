"""One generation of the configuration: everything that the settings decide, made ready before anything in use is touched.

A start makes the first generation, each reload the next one.  `Generation.of` does all of it that can go wrong (files,
certificates, lists) and changes nothing, so that a mistake leaves the running generation as it is.  What lives longer than
a generation, and what a new one takes over from the last, is `Lasting`; which keys are read at the start alone says
`config/at_start.py`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from random import Random

import attrs

from mta.config.check_hosts import host_lists
from mta.config.settings import Settings
from mta.interfaces import IEventLog, IHandover, IMailResolver, INextHops
from mta.relay.credentials import Credentials
from mta.relay.handover import HandoverPolicy
from mta.route.hosts import NextHops
from mta.route.service import Router
from mta.smtp.address import Path as MailPath
from mta.tls.client import ClientTls
from mta.tls.context import ServerTls
from mta.tls.policy import Level

__all__ = ["Generation", "Lasting", "next_hops_of"]


@attrs.frozen(slots=True)
class Lasting:
    """What all generations of one server share.

    random: unpredictable.  handover: an embedder's, None for the lists of `[handover]`.  addresses: (address, port) of our
    own ports; filled when they are open, and kept up to date by `receive`.
    """

    resolver: IMailResolver
    log: IEventLog
    random: Random
    handover: IHandover | None = None
    addresses: set[tuple[str, int]] = attrs.Factory(set)


@attrs.frozen(slots=True)
class Generation:
    """See the module.  number: from 1, one more with each reload."""

    number: int
    settings: Settings
    router: Router
    tls: ServerTls
    next_hops: INextHops
    client_tls: ClientTls
    handover: IHandover
    levels: Mapping[str, Level]  # of routes, by name
    credentials: Mapping[str, Credentials]  # of routes, by name

    @classmethod
    def of(cls, settings: Settings, lasting: Lasting, after: Generation | None = None) -> Generation:
        """Make everything ready.  MailError for a file that cannot be used, ValueError for a bad item in a host list.

        after: the one whose place it is to take.
        """
        router = Router(settings)
        return cls(
            number=after.number + 1 if after else 1,
            settings=settings,
            router=router,
            tls=ServerTls.load(settings.tls, lasting.log, after=after.tls if after else None),
            next_hops=next_hops_of(settings, router, lasting.resolver, lasting.random, lasting.addresses),
            client_tls=ClientTls(settings.tls_client),
            handover=lasting.handover or HandoverPolicy(settings.handover, host_lists(settings, _Addresses(lasting.addresses))),
            levels={name: Level(level) for name, level in router.levels.items()},
            credentials=_credentials(router),
        )


def next_hops_of(
    settings: Settings,
    router: Router,
    resolver: IMailResolver,
    random: Random,
    addresses: Collection[tuple[str, int]] = (),
) -> NextHops:
    """The hosts of next hops as `settings` have them.  addresses: (address, port) of our own ports, for who knows them."""
    return NextHops(
        resolver,
        random=random,
        own_names=(settings.hostname,),
        own_addresses=addresses,
        port=settings.relay.port,
        prefer=settings.relay.prefer,
        # A local domain as next hop: mail that waits from before it was one.  It is not the sender who can mend that.
        relays=router.relays | {MailPath("", domain).domain_key for domain in settings.local_domains},
    )


def _credentials(router: Router) -> dict[str, Credentials]:
    key = os.urandom(32)
    return {name: Credentials.load(known, key) for name, known in router.auth.items()}


class _Addresses(Collection[str]):
    """The addresses of ports without their numbers, as they are when asked for."""

    def __init__(self, ports: set[tuple[str, int]]) -> None:
        self._ports = ports

    def __contains__(self, address: object) -> bool:
        return any(address == mine for mine in self)

    def __iter__(self) -> Iterator[str]:
        return (address for address, _ in self._ports)

    def __len__(self) -> int:
        return len(self._ports)
