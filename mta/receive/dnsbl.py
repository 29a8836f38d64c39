"""Lists of clients in the DNS, and what their scores lead to.

RFC 5782: a client 192.0.2.9 is looked up as 9.2.0.192.ZONE, an IPv6 client nibble by nibble (2.1, 2.4); an A record in
127.0.0.0/8 means "listed".  127.0.0.1 is never one (5: a list must not have it), 127.255.255.0/24 says that the list does
not want to serve us, and whatever lies outside of 127.0.0.0/8 comes from who bought the dead list's name.  The judge is
asked at RCPT, so that the log says who wanted to write to whom; clients in relay_from, logins and the postmaster
(RFC 5321 4.5.1) are not judged.  A good list that does not answer might have taken off enough: what would be refused
for good is put off then.  Who is refused hears what the list says of him (its TXT record, 2.1), which is a stranger's text:
one line of printable ASCII, cut.  Pure; the asking is `inquiry.py`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any, Final

from zope.interface import implementer

from mta.config.receiving import DNSBL_PLACES, Access, Dnsbl
from mta.interfaces import IPolicy
from mta.receive.access import Address
from mta.status import MailError, Reply

__all__ = ["MAX_TEXT", "DnsblJudge", "clean_name", "clean_text", "hits", "is_exempt", "listed_as", "refuses_us"]

ALWAYS_CLEAN: Final = IPv4Address("127.0.0.1")
_LISTED: Final = IPv4Network("127.0.0.0/8")
_REFUSES: Final = IPv4Network("127.255.255.0/24")

MAX_TEXT: Final = 200  # characters of what a list says; a line of a reply has 510 (RFC 5321 4.5.3.1.5)

_BLANKS: Final = re.compile(r"[\x00-\x20\x7f]+")
_PLACE: Final = re.compile("|".join(map(re.escape, DNSBL_PLACES)))


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


def clean_text(record: bytes) -> str:
    """A TXT record as it may stand in a reply and in the log; "" where nothing of it may."""
    text = record.decode("ascii", "replace").replace("\ufffd", "?")
    return _BLANKS.sub(" ", text).strip()[:MAX_TEXT].rstrip()


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
        self._lists = sorted(access.dnsbl, key=lambda dnsbl: -dnsbl.score)  # the heaviest first

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Coroutine[Any, Any, MailError] | None:
        """See IPolicy."""
        lists: Mapping[str, int] = facts["dnsbl"]
        if not lists or is_exempt(facts):
            return None
        score = sum(lists.values())
        if self._reject and score >= self._reject:
            sure = score + sum(min(0, points) for points in facts["dnsbl_silent"].values()) >= self._reject
        elif self._defer and score >= self._defer:
            sure = False
        else:
            return None
        return self._no(facts, lists, sure)

    async def _no(self, facts: Mapping[str, Any], lists: Mapping[str, int], sure: bool) -> MailError:
        bad = ", ".join(zone for zone, points in lists.items() if points > 0)
        dnsbl = next(dnsbl for dnsbl in self._lists if dnsbl.zone in lists)
        text = await _text(dnsbl, str(facts["address"]), bad, facts["dnsbl_text"])
        reply = Reply(550, "5.7.1", text) if sure else Reply(450, "4.7.1", text)
        return MailError(reply, f"dnsbl score {sum(lists.values())}: {bad}")


async def _text(dnsbl: Dnsbl, client: str, bad: str, said: Callable[[str], Awaitable[str]]) -> str:
    """The operator's text, else what the list says, behind what we say."""
    txt = "" if dnsbl.text and "{txt}" not in dnsbl.text else await said(dnsbl.zone)
    if not dnsbl.text:
        plain = f"Client host [{client}] is listed by {bad}"
        return f"{plain}: {txt}" if txt else plain
    places = dict(zip(DNSBL_PLACES, (client, dnsbl.zone, txt or f"listed by {dnsbl.zone}"), strict=True))
    return _PLACE.sub(lambda match: places[match[0]], dnsbl.text)
