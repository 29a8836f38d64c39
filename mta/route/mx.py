"""From DNS answers to the order in which hosts are tried.

RFC 5321 5.1 (MX, implicit MX, our own place in the list), RFC 7505 (null MX), RFC 3463 (codes).  What is *known* to be
undeliverable is permanent; what nobody knows (a lookup that failed) is transient.  Hosts of equal preference are shuffled,
which is the whole load balancing of mail; their families alternate, IPv6 first, so that a site whose IPv6 is broken costs
one connection timeout and not one for each address.

Pure: the answers come from outside, and so does the shuffling.  Every failure is a MailError of `Scope.SITE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import groupby, zip_longest
from typing import Any

import attrs

from mta.dns.answer import NXDOMAIN, Answer
from mta.envelope import Target
from mta.status import MailError, Scope, permanent, transient

__all__ = ["ADDRESS_LIMIT", "HOST_LIMIT", "Host", "NextHop", "arrange", "exchangers", "is_own", "lookup_failed", "looping"]

HOST_LIMIT = 20  # a hostile zone may list thousands
ADDRESS_LIMIT = 20

Shuffle = Callable[[list[Any]], None]  # in place, as random.shuffle

_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]+)\](?::(?P<port>[0-9]{1,5}))?")


@attrs.frozen(slots=True)
class Host:
    """A host that takes mail, and its preference: the smaller, the sooner."""

    name: str
    preference: int


@attrs.frozen(slots=True)
class NextHop:
    """A next hop's text, understood.  address: of an address literal, else "".  with_mx: ask for its MX."""

    name: str
    port: int
    with_mx: bool
    address: str = ""

    @classmethod
    def of(cls, text: str, port: int) -> NextHop:
        """ "domain", "[host]", "[host]:port", "[192.0.2.1]", "[IPv6:2001:db8::1]".  MailError for anything else."""
        if not text.startswith("["):
            return cls(text.lower().removesuffix("."), port, with_mx=True)
        match = _BRACKETED.fullmatch(text)
        if match is None or not 0 < int(match["port"] or port) < 65536:
            raise transient("4.3.5", f"not a next hop: {text}", scope=Scope.SITE)
        host = match["host"].lower()
        address = _literal(host.removeprefix("ipv6:"))
        return cls(address or host.removesuffix("."), int(match["port"] or port), with_mx=False, address=address)


def _literal(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def exchangers(domain: str, answer: Answer, own_names: Collection[str], shuffle: Shuffle) -> list[Host]:
    """The hosts of an MX answer in the order to try them, those of equal preference shuffled."""
    if answer.failed:
        raise lookup_failed(answer)
    if answer.rcode == NXDOMAIN:  # RFC 5321 5.1: a non-existent domain is an error, no implicit MX
        raise permanent("5.1.2", f"the domain {domain} does not exist", scope=Scope.SITE)
    if not answer.records:
        hosts = [Host(domain, 0)]  # RFC 5321 5.1: the implicit MX
    elif [record.host for record in answer.records] == ["."]:
        raise permanent("5.1.10", f"the domain {domain} takes no mail (null MX)", code=556, scope=Scope.SITE)
    else:
        # RFC 7505 3: a null MX among others is a mistake; it names no host.
        hosts = _ordered({Host(record.host, record.preference) for record in answer.records if record.host != "."}, shuffle)
    return _before_us(domain, hosts, own_names)[:HOST_LIMIT]


def _ordered(hosts: Iterable[Host], shuffle: Shuffle) -> list[Host]:
    mixed = sorted(hosts, key=lambda host: host.name)  # a set's order is nobody's: the shuffling alone decides
    shuffle(mixed)
    return sorted(mixed, key=lambda host: host.preference)


def _before_us(domain: str, hosts: Sequence[Host], own_names: Collection[str]) -> list[Host]:
    """RFC 5321 5.1: where we are in the list, only hosts that are preferred to us are tried, or mail would circle."""
    limit = min((host.preference for host in hosts if host.name in own_names), default=None)
    before = [host for host in hosts if limit is None or host.preference < limit]
    if not before:
        raise looping(domain)
    return before


def arrange(targets: Iterable[Target], prefer: str, own_addresses: Collection[tuple[str, int]]) -> list[Target]:
    """The targets, already in the order of their hosts, in the order to try them; empty where only we would be left.

    prefer: "any" (families alternate within a preference, IPv6 first), "ipv4" or "ipv6" (that family first within a
    preference: preference is the domain's word and comes first).  own_addresses: (address, port) that we listen on.
    """
    ordered = sorted(targets, key=lambda target: target.preference)
    limit = min((each.preference for each in ordered if is_own(each.address, each.port, own_addresses)), default=None)
    if limit is not None:
        ordered = [target for target in ordered if target.preference < limit]
    arranged: list[Target] = []
    for _, group in groupby(ordered, key=lambda target: target.preference):
        arranged += _by_family(list(group), prefer)
    return arranged[:ADDRESS_LIMIT]


def _by_family(targets: Sequence[Target], prefer: str) -> list[Target]:
    six = [target for target in targets if ":" in target.address]
    four = [target for target in targets if ":" not in target.address]
    if prefer == "ipv4":
        return four + six
    if prefer == "ipv6":
        return six + four
    return [target for pair in zip_longest(six, four) for target in pair if target is not None]


def is_own(address: str, port: int, own: Collection[tuple[str, int]]) -> bool:
    """Would a connection there end at one of our listeners?  "0.0.0.0" and "::" among them stand for any loopback address."""
    listening = [_plain(host) for host, listener in own if listener == port]
    if not listening:
        return False
    ip = _plain(address)
    # Connecting to the unspecified address reaches this machine, as the loopback does.
    return ip in listening or ip.is_unspecified or (ip.is_loopback and any(mine.is_unspecified for mine in listening))


def _plain(address: str) -> IPv4Address | IPv6Address:
    """::ffff:192.0.2.1 is 192.0.2.1 (RFC 4291 2.5.5.2)."""
    ip = ip_address(address)
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def lookup_failed(answer: Answer) -> MailError:
    """Nobody knows: the mail waits."""
    return transient("4.4.3", f"DNS lookup failed: {answer}", scope=Scope.SITE)


def looping(name: str) -> MailError:
    """RFC 5321 5.1, RFC 3463 5.4.6: the mail is where it should go, and nothing here delivers it."""
    return permanent("5.4.6", f"mail for {name} loops back to myself", code=554, scope=Scope.SITE)
