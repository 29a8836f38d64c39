"""As whom an account may send: `[auth] senders` and the map in `[auth] sender_map`.

Bound, an account may send as its own address (its name, or its name at a local domain where it has no "@"), and as what
the map gives it: lines "login: address, @domain".  Domains are compared as A-labels in lower case, local parts exactly
(RFC 5321 2.4) but for an account's own name.  The null reverse-path is everybody's: notifications have it (RFC 3464 2).
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from mta.smtp.address import Path

if TYPE_CHECKING:
    from mta.interfaces import IAccount

__all__ = ["ANYBODY", "Senders", "may_send", "senders_in"]


def may_send(account: IAccount, sender: str) -> bool:
    """May it send as this address?  sender: as in the envelope, "" for the null reverse-path."""
    ask = getattr(account, "may_send", None)
    return True if ask is None else bool(ask(sender))


@attrs.frozen(slots=True)
class Senders:
    """The rule.  bound: else everybody may send as anybody.  domains: the local ones, as Path.domain_key has them."""

    bound: bool = False
    domains: frozenset[str] = frozenset()
    listed: Mapping[str, frozenset[str]] = attrs.field(factory=dict)

    def allow(self, account: str, sender: str) -> bool:
        """May the account of this name send as this address?"""
        if not self.bound or not sender:
            return True
        address = _key(sender)
        listed = self.listed.get(account, frozenset())
        return address in listed or address[address.rfind("@") :] in listed or self._is_own(account, address)

    def _is_own(self, account: str, address: str) -> bool:
        local, _, domain = address.rpartition("@")
        if "@" in account:
            own, _, own_domain = _key(account).rpartition("@")
            return (local.lower(), domain) == (own.lower(), own_domain)
        return local.lower() == account.lower() and domain in self.domains


ANYBODY: Final = Senders()


def senders_in(text: str) -> dict[str, frozenset[str]]:
    """The lines of a map; "#" begins a comment.  ValueError with the number of the line."""
    listed: dict[str, frozenset[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        login, colon, addresses = (part.strip() for part in line.rpartition(":"))
        names = [_key(name.strip()) for name in addresses.split(",") if name.strip()]
        if not (login and colon and names) or not all("@" in name[:-1] and not name.endswith("@") for name in names):
            raise ValueError(f"line {number}: login: address, @domain is wanted")
        listed[login] = listed.get(login, frozenset()) | frozenset(names)
    return listed


def _key(address: str) -> str:
    """For comparing: the local part as it is, the domain as Path.domain_key has it."""
    local, at, domain = address.rpartition("@")
    try:
        return f"{local}{at}{Path('', domain).domain_key}"
    except ValueError:  # no name that IDNA knows
        return f"{local}{at}{domain.lower()}"
