"""The settings of the receiving side: ports, logins, who may send what, and how much (docs/configuration.md).

As in `settings.py`, which has the whole: every key of these tables is a field here and every field a key.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import attrs

from mta.config.units import Client, Network, Seconds, Size, seconds

__all__ = ["DNSBL_PLACES", "Access", "AccessRule", "Auth", "Dnsbl", "Greylist", "Limits", "Listen", "RecipientTable"]


@attrs.frozen(slots=True)
class Listen:
    """[[listen]]: one port.  endpoint is any Twisted server endpoint string."""

    endpoint: str
    tls: str = "starttls"  # none | starttls | implicit
    submission: bool = False  # mail programs hand in mail here (RFC 6409): logins, and headers are completed
    check_from: bool = False  # there the From header must be the login's too
    avoid_tls_for: tuple[Network, ...] = ()  # clients that are not offered STARTTLS
    mail_requires: str = attrs.field()  # none | tls | auth | tls-or-auth | tls+auth
    i_know: bool = False  # mail_requires = "tls" on port 25 is against RFC 3207 4, and wanted
    proxy_from: tuple[Network, ...] = ()  # peers that must send a PROXY header first, and are believed
    auth_clear: tuple[str, ...] = ()  # mechanisms offered in clear text (docs/configuration.md)
    auth_tls: tuple[str, ...] = attrs.field()  # and in TLS; both empty: no AUTH
    vrfy: str = "252"  # 252 | off | local: clients in relay_from and those who have logged in hear who is here
    withhold: tuple[str, ...] = ()  # keywords of EHLO that are not offered, and what belongs to them is not known
    name: str = ""  # by which rules and the log speak of it

    @mail_requires.default
    def _mail_requires(self) -> str:
        return "tls+auth" if self.submission else "none"

    @auth_tls.default
    def _auth_tls(self) -> tuple[str, ...]:
        return ("PLAIN", "LOGIN") if self.submission and self.tls != "none" else ()


@attrs.frozen(slots=True)
class Auth:
    """[auth]: who may log in, and as whom he may send."""

    passwords: Path | None = None  # lines "user:password" or "user:hash"; readable by the service alone
    dovecot: str = ""  # Dovecot's auth socket: a path, or a Twisted client endpoint string; instead of passwords
    certificates: Path | None = None  # EXTERNAL: lines "fingerprint login"; none: the mail address in the certificate
    threads: int = 2  # that check hashes
    cache: Seconds = seconds(300)  # how long a right password is remembered (as a keyed digest); 0: not at all
    senders: str = "any"  # any | bound
    sender_map: Path | None = None  # bound: lines "login: address, @domain", beside its own address
    cram_realm: str = ""  # name in CRAM-MD5 challenges, "" is the hostname


@attrs.frozen(slots=True)
class AccessRule:
    """[[access.rule]]: all conditions that are given must hold, each by one of its values; the first that matches decides."""

    name: str
    action: str  # accept | reject | defer | hold | discard | warn (says so in the log, nothing else)
    at: str = ""  # connect | helo | auth | mail | rcpt; "": as soon as all that it asks about is known
    client: tuple[Client, ...] = ()  # networks, "+name" for those of a [[hostlist]]
    client_name: tuple[str, ...] = ()  # by forward-confirmed reverse DNS: domain, "*.domain", "unknown"
    helo: tuple[str, ...] = ()  # name, "*.domain", address literal
    tls: tuple[str, ...] = ()  # none | any | the lowest version
    tls_name: tuple[str, ...] = ()  # DNS names in a verified client certificate: name, "*.domain"
    sender: tuple[str, ...] = ()  # user@domain, domain, "*.domain", "<>"
    recipient: tuple[str, ...] = ()  # user@domain, domain, "*.domain"
    account: tuple[str, ...] = ()  # of a login; "*" any
    listen: tuple[str, ...] = ()  # names or endpoints of [[listen]]
    reply: str = ""  # "550 5.7.1 text", of reject and defer


DNSBL_PLACES: Final = ("{client}", "{zone}", "{txt}")  # in [[access.dnsbl]] text


@attrs.frozen(slots=True)
class Dnsbl:
    """[[access.dnsbl]]: a list of clients in the DNS (RFC 5782)."""

    zone: str
    score: int = 1  # below 0: a list of good ones
    answers: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"),)  # those that count; never 127.0.0.1 and 127.255.255.0/24
    timeout: Seconds = seconds(5)  # then it scores nothing
    text: str = ""  # said to who is refused, with {client}, {zone} and {txt}, what the list says; "": that, or a plain one


@attrs.frozen(slots=True)
class Greylist:
    """[access.greylist]: a client network that is new to a sender and recipient is asked to come again."""

    enabled: bool = True
    delay: Seconds = seconds(300)  # until a repeat is taken
    retry_window: Seconds = seconds(2 * 86400)  # for that repeat
    keep: Seconds = seconds(36 * 86400)  # that who has passed is known, from the last time on
    v4_prefix: int = 24
    v6_prefix: int = 64
    pass_after: int = 5  # senders or recipients for which a network has passed: then it is known for all; 0: never
    networks: tuple[Network, ...] = ()  # exempt
    names: tuple[str, ...] = ()  # exempt, by forward-confirmed reverse DNS: domain, "*.domain"
    recipients: tuple[str, ...] = ()  # exempt: user@domain, domain, "*.domain"


@attrs.frozen(slots=True)
class RecipientTable:
    """[[access.recipients]]: whoever is not in the file does not exist."""

    domains: tuple[str, ...]
    file: Path  # an address a line


@attrs.frozen(slots=True)
class Access:
    """[access]: who may send what, and where to."""

    relay_from: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    relay_domains: tuple[str, ...] = ()
    xclient_from: tuple[Network, ...] = ()  # clients that may say whom they speak for (XCLIENT)
    xforward_from: tuple[Network, ...] = ()  # clients that may say what the log should name (XFORWARD)
    reverse_dns: bool = False  # look up the name of every client for Received, not only where a rule asks for it
    dnsbl_reject: int = 1  # the score from which RCPT is refused, 0: never
    dnsbl_defer: int = 0  # and put off, 0: never
    rule: tuple[AccessRule, ...] = ()
    dnsbl: tuple[Dnsbl, ...] = ()
    recipients: tuple[RecipientTable, ...] = ()
    greylist: Greylist | None = None


@attrs.frozen(slots=True)
class Limits:
    """[limits]: all survive STARTTLS."""

    message_size: Size = Size(52_428_800)
    recipients_per_message: int = 1000
    connections: int = 10_000
    reserve: int = 100  # of these, kept for reserve_for; never more than half
    reserve_for: tuple[Network, ...] = ()  # empty: relay_from
    connections_per_client: int = 100  # at once, per IPv4 /32 or IPv6 /64; clients in relay_from are exempt
    connection_rate: tuple[str, ...] = ("6000/min",)  # of one client; here and below (): no limit, relay_from is exempt
    message_rate: tuple[str, ...] = ()  # of one client
    recipient_rate: tuple[str, ...] = ()  # accepted, of one client
    rejected_rate: tuple[str, ...] = ("1000/hour",)  # recipients refused for good, of one client
    auth_failure_rate: tuple[str, ...] = ("100/hour",)  # of one client
    login_failure_rate: tuple[str, ...] = ("20/hour",)  # of one login at one client
    login_messages: tuple[str, ...] = ()  # of one login; in relay_from too, here and in the next
    login_recipients: tuple[str, ...] = ()
    header_size: Size = Size(262_144)  # of a message's header; 0: no limit
    errors: int = 20  # refused commands in one connection
    received_hops: int = 50  # Received header lines: more is a loop
    auth_failures: int = 3  # in one connection
    transactions_per_connection: int = 1000  # 0: no limit; clients in relay_from are exempt
    recipients_per_connection: int = 0  # accepted; 0: no limit; clients in relay_from are exempt
    commands_per_connection: int = 0  # 0: no limit; clients in relay_from are exempt
    rejected_per_connection: int = 100  # recipients refused for good; 0: no limit; clients in relay_from are exempt
    bytes_per_connection: Size = Size(0)  # of bodies; 0: no limit; clients in relay_from are exempt
    tarpit: Seconds = seconds(5)  # the most that a reply is delayed; 0: never; clients in relay_from are exempt
    tarpit_errors: int = 10  # in one connection that cost nothing
    session_time: Seconds = seconds(0)  # of one connection, 0: no limit; a running transaction may end within ten minutes more
    tls_sessions_per_minute: int = 120  # new ones of one client; clients in relay_from are exempt; 0: no limit
