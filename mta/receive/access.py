"""Who may send where: the rule that keeps this server from being an open relay (RFC 5321 3.6.2, 7.9).

A client in [access] relay_from may send to anybody.  Everybody else may send to the local_domains and the
relay_domains, and to `<postmaster>` without a domain (RFC 5321 4.5.1).  Nothing else opens the door: no [[route]], no
source route (the parser drops it), no percent sign (the domain behind the last "@" decides).  Domains are compared
as A-labels in lower case.  Pure: the answer is a reply or None.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import attrs

from mta.config.settings import Network, Settings
from mta.smtp.address import Path
from mta.status import Reply

__all__ = ["AccessRules", "Address", "client_address", "is_in"]

Address = IPv4Address | IPv6Address

RELAYING_DENIED: Final = Reply(550, "5.7.1", "Relaying denied")


@attrs.frozen(slots=True)
class AccessRules:
    """The rule with its lists."""

    relay_from: tuple[Network, ...]
    domains: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> AccessRules:
        """The rule of a configuration."""
        names = (*settings.local_domains, *settings.access.relay_domains)
        return cls(settings.access.relay_from, frozenset(Path("", name.rstrip(".")).domain_key for name in names))

    def trusts(self, client: Address | None) -> bool:
        """May this client relay?  Asked once a connection.  None: no address is known, so no."""
        return is_in(client, self.relay_from)

    def refusal(self, trusted: bool, recipient: Path) -> Reply | None:
        """Why the recipient is not taken from this client, None when it is."""
        if trusted or not recipient.domain or recipient.domain_key in self.domains:
            return None
        return RELAYING_DENIED


def is_in(client: Address | None, networks: Iterable[Network]) -> bool:
    """Is that address in one of them?  None, which is no address, is in none."""
    return client is not None and any(client in network for network in networks)


def client_address(host: str) -> Address | None:
    """The address of a client, as lists and limits see it: without zone, IPv4 in IPv6 unwrapped (RFC 4291 2.5.5.2)."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
