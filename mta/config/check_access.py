"""What must hold in [access] beyond words and ranges: rules, lists in the DNS, greylisting, tables of recipients.

docs/configuration.md.  A rule that could never match, an answer that says the opposite of its action, a listener that is
not there: a rule with a slip in it is a door that stands open unseen, so each is a mistake of the configuration.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

from mta.config.check_hosts import host_lists
from mta.config.mistake import Finding, KeyPath, did_you_mean, said, shown
from mta.config.name import address_fault, domain_fault, is_address
from mta.config.receiving import DNSBL_PLACES, AccessRule, Dnsbl, Greylist
from mta.config.rule import clients, conditions, first_stage, may_be_at, read_reply
from mta.config.settings import Settings
from mta.config.units import Client
from mta.hostlist import HostLists
from mta.smtp.address import Path

__all__ = ["check_access"]

UNKNOWN = "unknown"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # as of a route: it is looked for in the log
_PLACE = re.compile(r"\{[^{}]*\}")
MAX_TEXT = 200  # characters of a reply, before its places are filled
_CLASSES = {"reject": 5, "defer": 4}
_LISTED = IPv4Network("127.0.0.0/8")


def check_access(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with who may send what."""
    access = settings.access
    uses = Counter(rule.name for rule in access.rule)
    for index, rule in enumerate(access.rule):
        path: KeyPath = ("access", "rule", index)
        if not _NAME.fullmatch(rule.name):
            yield Finding((*path, "name"), f"letters, digits, '.', '_' and '-' are wanted, not {shown(rule.name)}")
        elif uses[rule.name] > 1:
            yield Finding((*path, "name"), f"another rule is called {rule.name!r} too")
        yield from _values(path, rule, settings)
        yield from _stage(path, rule)
        yield from _answer(path, rule)
    for index, dnsbl in enumerate(access.dnsbl):
        yield from _dnsbl(("access", "dnsbl", index), dnsbl)
    yield from _recipients(settings)
    if access.greylist is not None:
        yield from _greylist(access.greylist)


def _values(path: KeyPath, rule: AccessRule, settings: Settings) -> Iterator[Finding]:
    lists = host_lists(settings)
    judges: dict[str, Callable[[Any], str | None]] = {
        "client": lambda given: _client_fault(given, lists),
        "client_name": lambda text: None if text == UNKNOWN else _name_fault(text),
        "helo": lambda text: None if _is_literal(text) else _name_fault(text),
        "tls_name": _name_fault,
        "sender": lambda text: None if text == "<>" else _address_fault(text),
        "recipient": _address_fault,
        "listen": lambda text: _listen_fault(text, settings),
    }
    for key, fault in judges.items():
        for at, text in enumerate(getattr(rule, key)):
            yield from said((*path, key, at), fault(text))


def _stage(path: KeyPath, rule: AccessRule) -> Iterator[Finding]:
    if rule.at in ("connect", "helo", "auth", "mail", "rcpt") and not may_be_at(rule, rule.at):
        text = f"what it asks about is not known at {rule.at!r} yet, or there is no message to {rule.action}"
        yield Finding((*path, "at"), f"{text}; {first_stage(rule)!r} is the first that can be")
    if not conditions(rule) and not rule.at:
        yield Finding(path, "it has no condition; if everybody is meant, say at which stage (at)")


def _answer(path: KeyPath, rule: AccessRule) -> Iterator[Finding]:
    if not rule.reply:
        return
    wanted = _CLASSES.get(rule.action)
    reply = read_reply(rule.reply)
    where: KeyPath = (*path, "reply")
    if wanted is None:
        yield Finding(where, f"{rule.action!r} has no reply of its own", ((*path, "action"),))
    elif reply is None:
        text = f"a code, an enhanced code and a text in ASCII are wanted, like '{wanted}50 {wanted}.7.1 Not you'"
        yield Finding(where, text)
    elif reply.code // 100 != wanted:
        yield Finding(where, f"{rule.action!r} is answered {wanted}xx, not {reply.code}", ((*path, "action"),))
    elif reply.code == 421:
        yield Finding(where, "421 ends the connection, and a rule does not; 450 or 451 is wanted")


def _dnsbl(path: KeyPath, dnsbl: Dnsbl) -> Iterator[Finding]:
    yield from said((*path, "zone"), domain_fault(dnsbl.zone))
    if dnsbl.score == 0:
        yield Finding((*path, "score"), "0 would do nothing; more, or less for a list of good ones, is wanted")
    yield from said((*path, "text"), _text_fault(dnsbl.text))
    if not dnsbl.answers:
        yield Finding((*path, "answers"), "at least one address is wanted")
    for at, network in enumerate(dnsbl.answers):
        if not (isinstance(network, IPv4Network) and network.subnet_of(_LISTED)):
            yield Finding((*path, "answers", at), f"lists answer out of 127.0.0.0/8 (RFC 5782), not {network}")


def _recipients(settings: Settings) -> Iterator[Finding]:
    ours = {_key(name) for name in (*settings.local_domains, *settings.access.relay_domains)}
    for index, table in enumerate(settings.access.recipients):
        path: KeyPath = ("access", "recipients", index, "domains")
        if not table.domains:
            yield Finding(path, "at least one domain is wanted")
        for at, domain in enumerate(table.domains):
            fault = domain_fault(domain)
            if fault is None and _key(domain) not in ours:
                fault = f"{domain!r} is in neither local_domains nor relay_domains: no mail for it is taken"
            yield from said((*path, at), fault)


def _greylist(greylist: Greylist) -> Iterator[Finding]:
    path: KeyPath = ("access", "greylist")
    for key, most in (("v4_prefix", 32), ("v6_prefix", 128)):
        if getattr(greylist, key) > most:
            yield Finding((*path, key), f"at most {most} is wanted, not {getattr(greylist, key)}")
    if greylist.delay >= greylist.retry_window:
        text = f"delay ({greylist.delay:g}) is not less than retry_window ({greylist.retry_window:g}): nobody would ever pass"
        yield Finding((*path, "delay"), text, ((*path, "retry_window"),))
    for at, name in enumerate(greylist.names):
        yield from said((*path, "names", at), _name_fault(name))
    for at, recipient in enumerate(greylist.recipients):
        yield from said((*path, "recipients", at), _address_fault(recipient))


def _text_fault(text: str) -> str | None:
    if not (text.isascii() and (not text or text.isprintable()) and len(text) <= MAX_TEXT):
        return f"one line of at most {MAX_TEXT} characters in ASCII is wanted"
    unknown = [place for place in _PLACE.findall(text) if place not in DNSBL_PLACES]
    return f"{unknown[0]} stands for nothing; {', '.join(DNSBL_PLACES)} do" if unknown else None


def _key(domain: str) -> str:
    return domain.rstrip(".").lower() if domain_fault(domain) else Path("", domain.rstrip(".")).domain_key


def _name_fault(text: str) -> str | None:
    return f"a name or '*.domain' is wanted, not {shown(text)}" if domain_fault(text.removeprefix("*.")) else None


def _address_fault(text: str) -> str | None:
    fault = address_fault(text) if "@" in text else domain_fault(text.removeprefix("*."))
    return f"user@domain, a domain or '*.domain' is wanted, not {shown(text)}" if fault else None


def _is_literal(text: str) -> bool:
    """[192.0.2.1] or [IPv6:2001:db8::1] (RFC 5321 4.1.3)."""
    inner = text[1:-1]
    return text == f"[{inner}]" and is_address(inner[5:] if inner[:5].lower() == "ipv6:" else inner)


def _listen_fault(text: str, settings: Settings) -> str | None:
    known = [word for listen in settings.listen for word in (listen.name, listen.endpoint) if word]
    return None if text in known else f"no [[listen]] has this name or endpoint{did_you_mean(text, known)}"


def _client_fault(given: Client, lists: HostLists) -> str | None:
    try:
        clients([given], lists)
    except ValueError as error:
        return str(error)
    return None
