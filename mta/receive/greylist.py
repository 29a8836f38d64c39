"""Greylisting: who is new is asked to come again, and a mail server does (RFC 6647).

docs/configuration.md, [access.greylist].  What is remembered is client network, sender and recipient: RFC 6647 5 advises
the network because large senders repeat from another address.  A repeat within the window passes and is known from then
on; a network that has passed for several senders or recipients is known for everybody.  The memory is `IHints`: bounded,
kept over a restart, and when it is lost the only harm is a delay.  Clients in relay_from, logins, the networks, names and
recipients that are exempt, and the postmaster are never asked to come again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, Final

from zope.interface import implementer

from mta.config.receiving import Greylist
from mta.interfaces import IHints, IPolicy
from mta.receive.access import Address
from mta.receive.dnsbl import is_exempt
from mta.receive.rules import Names, Networks
from mta.status import MailError, Reply

__all__ = ["GreylistJudge", "prefix_of", "seconds_left"]

# Kinds of hints, each with a bound of its own: a flood of new ones pushes out no one who has passed.
NEW: Final = "greylist-new"  # network, sender, recipient -> when it came first
PASSED: Final = "greylist-passed"  # network, sender, recipient -> true
KNOWN: Final = "greylist-known"  # network -> for how many it has passed

RENEW: Final = 0.1  # of `keep`: so long ago an entry must have been renewed that it is worth another write


def seconds_left(first: float, now: float, delay: float) -> float:
    """Until a repeat is taken; 0 or less: now.  A clock that was set back lets nobody wait for longer than the delay."""
    return min(delay, first + delay - now)


def prefix_of(client: Address, v4_prefix: int, v6_prefix: int) -> str:
    """The network of a client, as a word."""
    length = v4_prefix if client.version == 4 else v6_prefix
    return f"{client.version}/{length}/{int(client) >> (client.max_prefixlen - length):x}"


@implementer(IPolicy)
class GreylistJudge:
    """Asked behind all others: who is refused anyhow costs no memory.

    home: the domain that a bare <postmaster> means.  seconds: the reactor's clock.
    """

    stages = frozenset({"rcpt"})

    def __init__(self, settings: Greylist, home: str, hints: IHints, seconds: Callable[[], float]) -> None:
        self._settings = settings
        self._home = home
        self._hints = hints
        self._seconds = seconds
        self._networks = Networks(settings.networks)
        self._names = Names(settings.names)
        self._recipients = Names(settings.recipients)

    def judge(self, stage: str, facts: Mapping[str, Any]) -> MailError | None:
        """See IPolicy."""
        client: Address | None = facts["address"]
        if client is None or self._is_exempt(client, facts):
            return None
        settings, now = self._settings, self._seconds()
        network = prefix_of(client, settings.v4_prefix, settings.v6_prefix)
        if self._is_known(network, now):
            return None
        key = _key(network, facts["sender"], facts["recipient"])
        if self._has_passed(key, now):
            return None
        first = self._hints.get(NEW, key)
        if first is None or first > now:  # the clock was set back: else he would wait until it has caught up
            first = now
            self._hints.put(NEW, key, now, now + settings.retry_window)
        left = seconds_left(first, now, settings.delay)
        if left > 0:
            text = f"Greylisted, please try again in {ceil(left)} seconds"
            return MailError(Reply(450, "4.7.1", text), "greylisted")
        self._pass(network, key, now)
        return None

    def _is_exempt(self, client: Address, facts: Mapping[str, Any]) -> bool:
        return (
            is_exempt(facts)
            or client in self._networks
            or self._names.has_name(facts["client_name"])
            or self._recipients.has_address(facts["recipient"], self._home)
        )

    def _is_known(self, network: str, now: float) -> bool:
        """Enough have passed from there."""
        wanted = self._settings.pass_after
        known = self._hints.get(KNOWN, network) if wanted else None
        if known is None or known[0] < wanted:
            return False
        self._renew(KNOWN, network, known, now)
        return True

    def _has_passed(self, key: str, now: float) -> bool:
        passed = self._hints.get(PASSED, key)
        if passed is None:
            return False
        self._renew(PASSED, key, passed, now)
        return True

    def _renew(self, kind: str, key: str, value: list[Any], now: float) -> None:
        """Known from the last time on; not every mail is worth a write."""
        if now - value[1] > self._settings.keep * RENEW:
            self._hints.put(kind, key, [value[0], now], now + self._settings.keep)

    def _pass(self, network: str, key: str, now: float) -> None:
        keep = now + self._settings.keep
        self._hints.put(NEW, key, None, 0.0)
        self._hints.put(PASSED, key, [1, now], keep)
        if self._settings.pass_after:
            known = self._hints.get(KNOWN, network)
            self._hints.put(KNOWN, network, [(known[0] if known else 0) + 1, now], keep)


def _key(network: str, sender: str, recipient: str) -> str:
    """Short, whatever they are.  Letters count for nothing: some servers repeat with others."""
    text = "\0".join((network, sender.lower(), recipient.lower()))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=15).hexdigest()
