"""Lists of clients in the DNS, and what their scores lead to.

RFC 5782: a client 192.0.2.9 is looked up as 9.2.0.192.ZONE, an IPv6 client nibble by nibble (2.1, 2.4); an A record in
127.0.0.0/8 means "listed".  127.0.0.1 is never one (5: a list must not have it), 127.255.255.0/24 says that the list does
not want to serve us, and whatever lies outside of 127.0.0.0/8 comes from who bought the dead list's name.  The judge is
asked at RCPT, so that the log says who wanted to write to whom; clients in relay_from, logins and the postmaster
(RFC 5321 4.5.1) are not judged.  Pure; the asking is `inquiry.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final

from zope.interface import implementer

from mta.config.receiving import Access, Dnsbl
from mta.interfaces import IPolicy
from mta.receive.access import Address
from mta.status import MailError, Reply

__all__ = ["DnsblJudge", "clean_name", "hits", "is_exempt", "listed_as", "refuses_us"]

ALWAYS_CLEAN: Final = IPv4Address("127.0.0.1")
_LISTED: Final = IPv4Network("127.0.0.0/8")
_REFUSES: Final = IPv4Network("127.255.255.0/24")


def listed_as(client: Address, zone: str) -> str:
    """The name under which the client would be in the list."""
    reverse = client.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
    return f"{reverse}.{zone}"


def clean_name(zone: str) -> str:
    """What no list that works has (RFC 5782 5)."""
    return listed_as(ALWAYS_CLEAN, zone)


def hits(records: Iterable[str], dnsbl: Dnsbl) -> bool:
    """One of the addresses that the list answered means that the client is listed."""
    return any(_counts(ip_address(record), dnsbl) for record in records)


def refuses_us(records: Iterable[str]) -> bool:
    """The list says that it will not serve us (too many questions, a public resolver, a wrong name)."""
    return any(ip_address(record) in _REFUSES for record in records)


def _counts(record: Address, dnsbl: Dnsbl) -> bool:
    if record not in _LISTED or record in _REFUSES or record == ALWAYS_CLEAN:
        return False
    return any(record in network for network in dnsbl.answers)


def is_exempt(facts: Mapping[str, Any]) -> bool:
    """Who may relay, and mail for the postmaster, must get through whatever others say of the client."""
    return bool(facts["trusted"] or facts["account"]) or facts["recipient"].partition("@")[0].lower() == "postmaster"


@implementer(IPolicy)
class DnsblJudge:
    """[access] dnsbl_reject and dnsbl_defer."""

    stages = frozenset({"rcpt"})

    def __init__(self, access: Access) -> None:
        self._reject = access.dnsbl_reject
        self._defer = access.dnsbl_defer

    def judge(self, stage: str, facts: Mapping[str, Any]) -> MailError | None:
        """See IPolicy."""
        lists: Mapping[str, int] = facts["dnsbl"]
        if not lists or is_exempt(facts):
            return None
        score = sum(lists.values())
        if self._reject and score >= self._reject:
            code, enhanced = 550, "5.7.1"
        elif self._defer and score >= self._defer:
            code, enhanced = 450, "4.7.1"
        else:
            return None
        bad = ", ".join(zone for zone, points in lists.items() if points > 0)
        text = f"Client host [{facts['address']}] is listed by {bad}"
        return MailError(Reply(code, enhanced, text), f"dnsbl score {score}: {bad}")
