"""The settings of the receiving side: ports, logins, who may send what, and how much (docs/configuration.md).

As in `settings.py`, which has the whole: every key of these tables is a field here and every field a key.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs

from mta.config.units import Network, Seconds, Size, seconds

__all__ = ["Access", "Auth", "Limits", "Listen"]


@attrs.frozen(slots=True)
class Listen:
    """[[listen]]: one port.  endpoint is any Twisted server endpoint string."""

    endpoint: str
    tls: str = "starttls"  # none | starttls | implicit
    avoid_tls_for: tuple[Network, ...] = ()  # clients that are not offered STARTTLS
    mail_requires: str = "none"  # none | tls | auth | tls-or-auth | tls+auth
    i_know: bool = False  # mail_requires = "tls" on port 25 is against RFC 3207 4, and wanted
    auth_clear: tuple[str, ...] = ()  # mechanisms offered in clear text: PLAIN | LOGIN | CRAM-MD5
    auth_tls: tuple[str, ...] = ()  # and in TLS; both empty: no AUTH


@attrs.frozen(slots=True)
class Auth:
    """[auth]: who may log in, where an embedder brings no portal."""

    passwords: Path | None = None  # lines "user:password"; readable by the service alone
    cram_realm: str = ""  # name in CRAM-MD5 challenges, "" is the hostname


@attrs.frozen(slots=True)
class Access:
    """[access]: who may relay."""

    relay_from: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    relay_domains: tuple[str, ...] = ()


@attrs.frozen(slots=True)
class Limits:
    """[limits]: all survive STARTTLS."""

    message_size: Size = Size(52_428_800)
    recipients_per_message: int = 1000
    connections: int = 10_000
    connections_per_client: int = 100  # per IPv4 /32 or IPv6 /64; clients in relay_from are exempt
    errors: int = 20  # refused commands in one connection
    received_hops: int = 50  # Received header lines: more is a loop
    auth_failures: int = 3  # in one connection
    transactions_per_connection: int = 1000  # 0: no limit; clients in relay_from are exempt
    recipients_per_connection: int = 0  # accepted; 0: no limit; clients in relay_from are exempt
    commands_per_connection: int = 0  # 0: no limit; clients in relay_from are exempt
    session_time: Seconds = seconds(0)  # of one connection, 0: no limit; a running transaction may end within ten minutes more
    tls_sessions_per_minute: int = 120  # new ones of one client; clients in relay_from are exempt; 0: no limit
