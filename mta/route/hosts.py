"""The addresses of a next hop: MX, A and AAAA asked, put in order, our own left out.

RFC 5321 5.1.  Addresses of all hosts are asked for side by side; a host without any is passed over, and so is one whose
lookup failed while others remain.  When nothing remains, a single failed lookup makes the whole transient: the host that
nobody could find may be the one that takes the mail.

A next hop that the operator wrote (a smarthost) is never a reason to bounce: that it does not exist, or leads back to us,
is a mistake in our configuration (4.3.5), and the mail waits until it is mended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.dns.answer import Answer
from mta.envelope import Target
from mta.interfaces import IMailResolver, INextHops
from mta.route.mx import Host, NextHop, arrange, exchangers, lookup_failed, looping
from mta.status import MailError, Scope, permanent, transient

__all__ = ["NextHops"]


@implementer(INextHops)
class NextHops:
    """See INextHops.

    own_names: host names of ours, in lower case.  own_addresses: (address, port) that we listen on; the collection is
    read at each call, so it may be filled when the ports are known.  port: of hosts without one.  prefer: as in
    [relay].  relays: next hops that the operator wrote, in lower case, beside those in brackets, which nobody else writes.
    """

    def __init__(
        self,
        resolver: IMailResolver,
        *,
        random: Random,
        own_names: Collection[str] = (),
        own_addresses: Collection[tuple[str, int]] = (),
        port: int = 25,
        prefer: str = "any",
        relays: Collection[str] = (),
    ) -> None:
        self._resolver = resolver
        self._random = random
        self._own_names = frozenset(name.lower().removesuffix(".") for name in own_names)
        self._own_addresses = own_addresses
        self._port = port
        self._prefer = prefer
        self._relays = relays

    def hosts(self, next_hop: str) -> Deferred[list[Target]]:
        """See INextHops."""
        return Deferred.fromCoroutine(self._hosts(next_hop))

    async def _hosts(self, next_hop: str) -> list[Target]:
        hop = NextHop.of(next_hop, self._port)
        try:
            return await self._targets(hop)
        except MailError as error:
            if error.reply.is_permanent and self._is_ours(next_hop, hop):
                raise transient("4.3.5", f"the next hop {next_hop}: {error.reply.text}", scope=Scope.SITE) from error
            raise

    def _is_ours(self, next_hop: str, hop: NextHop) -> bool:
        """Did the operator write it?  A recipient's domain may be an address literal, but not a host in brackets."""
        return next_hop.lower() in self._relays or not (hop.with_mx or hop.address)

    async def _targets(self, hop: NextHop) -> list[Target]:
        if hop.address:
            return self._arranged(hop, [Target(hop.name, hop.address, hop.port)], [])
        secure, domain = True, ""
        hosts = [Host(hop.name, 0)]
        if hop.with_mx:
            answer = await self._resolver.query(hop.name, "MX")
            hosts, secure = exchangers(hop.name, answer, self._own_names, self._random.shuffle), answer.secure
            domain = answer.canonical
        asked = [self._resolver.query(host.name, rdtype) for host in hosts for rdtype in ("AAAA", "A")]
        answers = await _all(asked)
        targets: list[Target] = []
        for at, host in enumerate(hosts):
            for answer in answers[2 * at : 2 * at + 2]:
                targets += self._of_host(hop, host, answer, secure, domain)
        return self._arranged(hop, targets, [answer for answer in answers if answer.failed])

    def _of_host(self, hop: NextHop, host: Host, answer: Answer, secure: bool, domain: str) -> list[Target]:
        addresses = list(answer.records) if answer.found else []
        self._random.shuffle(addresses)  # a cached answer comes in the same order each time
        return [
            Target(host.name, address, hop.port, host.preference, secure, answer.secure, answer.canonical, domain)
            for address in addresses
        ]

    def _arranged(self, hop: NextHop, targets: Sequence[Target], failed: Sequence[Answer]) -> list[Target]:
        arranged = arrange(targets, self._prefer, self._own_addresses)
        if arranged:
            return arranged
        if failed:
            raise lookup_failed(failed[0])
        if targets:
            raise looping(hop.name)
        raise permanent("5.4.4", f"no host of {hop.name} has an address", scope=Scope.SITE)


async def _all(asked: Sequence[Deferred[Answer]]) -> list[Answer]:
    """The answers.  Whoever is cancelled lets go of all questions."""
    try:
        return [await question for question in asked]
    except Exception:
        for question in asked:
            question.addErrback(lambda _: None)  # nobody is left to hear of it
            question.cancel()
        raise
