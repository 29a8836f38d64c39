"""The settings: frozen values with their defaults, one class for each table of `mta.toml` (docs/configuration.md).

Every key of the file is a field here and every field a key; `config.loader` turns the file into these classes and
reports every mistake at once.  Durations are seconds, sizes bytes.  Paths are absolute after loading.

The types are read at every start (`schema.py`): without `from __future__ import annotations` none has to be compiled for it.
"""

from pathlib import Path

import attrs

from mta.config.receiving import Access, Auth, Limits, Listen
from mta.config.units import Network, Seconds, Size, seconds

__all__ = [
    "Access",
    "Auth",
    "Concurrency",
    "DestinationEntry",
    "Dns",
    "Dsn",
    "Handover",
    "HostListEntry",
    "Limits",
    "Listen",
    "Log",
    "Metrics",
    "Network",
    "Queue",
    "Relay",
    "Retry",
    "RouteAuth",
    "RouteEntry",
    "Seconds",
    "Service",
    "Settings",
    "SiteEntry",
    "Size",
    "Sni",
    "Timeouts",
    "Tls",
    "TlsClient",
    "TlsPolicyEntry",
    "Tlsrpt",
]


@attrs.frozen(slots=True)
class Sni:
    """[[tls.sni]]: another certificate, for clients that ask for one of these names (exact, or "*.domain" for one label)."""

    names: tuple[str, ...]
    certificate: Path
    key: Path


@attrs.frozen(slots=True)
class Tls:
    """[tls]: what we show to clients.  No certificate: STARTTLS is not offered."""

    certificate: Path | None = None
    key: Path | None = None
    min_version: str = "TLSv1.2"
    ciphers: str = ""  # OpenSSL's cipher string for TLS 1.2; "" for the library's
    error: str = "fatal"  # fatal | offer-nothing
    starttls_needs_ehlo: bool = True
    starttls_in_transaction: str = "reset"  # reset | refuse
    handshake_timeout: Seconds = seconds(60)
    handshakes_at_once: int = 20
    sni: tuple[Sni, ...] = ()
    sni_unknown: str = "default"  # default | reject
    sni_cached: int = 1000  # certificates of [[tls.sni]] in memory at once
    client_cert: str = "none"  # none | ask | require
    client_ca: tuple[Path, ...] = ()  # authorities whose client certificates are verified
    watch: Seconds = seconds(60)  # how often the files are looked at for a change; 0: on reload only


@attrs.frozen(slots=True)
class TlsClient:
    """[tls_client]: what we do as a client."""

    level: str = "dane"  # as "may" where the resolver does not validate
    starttls_timeout: Seconds = seconds(60)
    mandatory_5xx: str = "defer"  # defer | bounce
    fallback_delay: Seconds = seconds(60)  # 0: never in clear after a failed handshake
    broken_ttl: Seconds = seconds(6 * 3600)
    reprobe: Seconds = seconds(15 * 60)
    trust: tuple[Path, ...] = ()
    min_version: str = "TLSv1.2"
    ciphers: str = ""  # OpenSSL's cipher string for TLS 1.2; "" for ours
    dane_insecure_mx: str = "dane"  # dane | encrypt | may: TLSA records of hosts that an insecure MX answer names
    dane_nxdomain_proof: bool = False  # a secure NXDOMAIN for the address proves that no TLSA record exists either
    mta_sts: bool = True
    allow_tls_required_no: bool = True  # obey the header "TLS-Required: No" (RFC 8689 5)


@attrs.frozen(slots=True)
class TlsPolicyEntry:
    """[[tls_policy]]: what holds for a destination; the most specific match wins.  "" and () leave the usual."""

    match: tuple[str, ...]  # "domain", ".domain" (names below it), "[host]", "[host]:port"
    level: str = ""
    min: str = ""
    max: str = ""
    ciphers: str = ""
    sni: str = ""
    names: tuple[str, ...] = ()  # reference identifiers; also "nexthop", "dot-nexthop", "hostname" (Postfix's words)
    ca: tuple[Path, ...] = ()
    fingerprints: tuple[str, ...] = ()  # SHA-256 of certificate or public key, hex with or without colons
    certificate: Path | None = None
    key: Path | None = None
    dane: str = ""  # on | off
    sts: str = ""  # on | off
    until: str = ""  # a date, 2027-01-01: then the entry is as if it were not there


@attrs.frozen(slots=True)
class Tlsrpt:
    """[tlsrpt]: daily reports on the TLS of our deliveries (RFC 8460)."""

    enabled: bool = True
    organization: str = ""  # "" is the hostname
    contact: str = ""  # "" is postmaster@hostname


@attrs.frozen(slots=True)
class Timeouts:
    """[timeouts]: RFC 5321 4.5.3.2, as server and as client."""

    command: Seconds = seconds(300)  # server: until the next command
    data_block: Seconds = seconds(180)  # between two pieces of a body, both roles
    connect: Seconds = seconds(30)
    greeting: Seconds = seconds(300)
    hello: Seconds = seconds(300)
    mail: Seconds = seconds(300)
    rcpt: Seconds = seconds(300)
    data: Seconds = seconds(120)
    end_of_data: Seconds = seconds(600)
    rset: Seconds = seconds(20)
    quit: Seconds = seconds(1)


@attrs.frozen(slots=True)
class RouteAuth:
    """auth = {...} of a route: who we are there.  A password is shown to a verified server only, unless clear is true."""

    user: str
    password_file: Path
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5")  # those we may use, the first that is offered
    clear: bool = False  # PLAIN and LOGIN also without verified TLS


@attrs.frozen(slots=True)
class RouteEntry:
    """[[route]]: first match wins.  Exactly one of relay and deliver."""

    match: tuple[str, ...]  # "local", domains, "*.domain", "*", user@domain
    relay: str | None = None  # "[host]:port", or a domain whose MX are used
    deliver: str | None = None  # "maildir:/path/{domain}/{user}"
    tls: str = ""
    auth: RouteAuth | None = None
    name: str = ""  # "" becomes "route1", "route2" ... in the file's order


@attrs.frozen(slots=True)
class Handover:
    """[handover]: lists as in docs/tls.md."""

    preset: str = "keep"  # keep | exim2002-rset | nopass-default | pass-unset | never (exim2002: tests only)
    rset_test: str = "always"  # always | idle | never
    shutdown_wait: Seconds = seconds(2)  # for the peer's close_notify (verdict CLEAR)
    hosts_pass_tls: tuple[str, ...] = ("*",)
    hosts_nopass_tls: tuple[str, ...] = ()
    hosts_clear_tls: tuple[str, ...] = ()
    reuse_time_limit: Seconds = seconds(300)
    reuse_count_limit: int = 500  # 0: no limit
    idle_limit: Seconds = seconds(5)
    idle_max_total: int = 200
    idle_max_per_key: int = 2


@attrs.frozen(slots=True)
class HostListEntry:
    """[[hostlist]]: hosts with a name; the lists of [handover] speak of them as "+name"."""

    name: str
    hosts: tuple[str, ...]  # items as in docs/tls.md


@attrs.frozen(slots=True)
class Retry:
    """[retry]: the ladder: minimal, doubling, up to maximal, each up to 10 % longer."""

    minimal_backoff: Seconds = seconds(300)
    maximal_backoff: Seconds = seconds(4000)
    queue_lifetime: Seconds = seconds(5 * 86400)


@attrs.frozen(slots=True)
class Dsn:
    """[dsn]: what senders are told (RFC 3461, RFC 3464)."""

    delay_warning: Seconds = seconds(0)  # a message that waits for so long: its sender is told, once; 0: never
    return_size: Size = Size(65_536)  # bytes of the original returned with RET=FULL; more is returned as headers
    per_sender_hour: int = 1000  # reports to one address in an hour, 0: no limit; more are dropped with a log line
    postmaster: str = ""  # an address that gets a copy (headers only) of every failure report and each double bounce


@attrs.frozen(slots=True)
class DestinationEntry:
    """[[destination]]: how mail is brought to some destinations; the first match wins.  "" and () leave the usual."""

    match: tuple[str, ...]  # patterns of next hops as in [[route]] match; or the name of a route, "route:NAME"
    concurrency: int = 0  # transactions at once, 0: the usual
    recipients: int = 0  # in one transaction, 0: the usual
    rate: str = ""  # messages, "100/min", "5/s", "1000/h"
    retry: tuple[Seconds, ...] = ()  # the waits one by one; the last one is repeated
    lifetime: Seconds = seconds(0)  # 0: the usual queue_lifetime


@attrs.frozen(slots=True)
class SiteEntry:
    """[[site]]: limits for all domains that share their mail servers (the set of MX names)."""

    mx: tuple[str, ...]  # patterns of MX host names, "*.google.com"
    connections: int = 0  # at once, 0: no limit
    rate: str = ""  # messages, as above


@attrs.frozen(slots=True)
class Queue:
    """[queue]"""

    active_limit: int = 20_000
    completions: str = "strict"  # strict | lazy
    accept_deadline: Seconds = seconds(60)  # a commit that takes longer is answered 451
    mode: str = "deliver"  # deliver | spool: new mail is only stored, a run delivers it
    spool_above_load: float = 0.0  # 1-minute load average above which mail is only stored until it has fallen; 0: never
    run_every: Seconds = seconds(0)  # what is due is delivered so often, grouped by host; 0: by `mta queue run` alone
    free_space: Size = Size(104_857_600)  # bytes free in data_dir below which mail is refused (452); slowed down below twice that


@attrs.frozen(slots=True)
class Concurrency:
    """[concurrency]: transactions at once."""

    per_destination: int = 20
    initial: int = 5
    total: int = 200
    recipients: int = 50  # in one transaction


@attrs.frozen(slots=True)
class Dns:
    """[dns]"""

    servers: tuple[str, ...] = ()  # "127.0.0.1:53"; empty: /etc/resolv.conf
    timeout: Seconds = seconds(5)  # of one question to one server
    attempts: int = 3
    trusted: bool = False  # true: the AD bit of these servers is believed
    dnssec_probe: str = "."  # must come back validated at start, else DANE is off; "": no probe
    dnssec_bogus_probe: str = "dnssec-failed.org"  # must not come back validated, else DANE is off; "": no probe


@attrs.frozen(slots=True)
class Relay:
    """[relay]"""

    port: int = 25
    prefer: str = "any"  # any | ipv4 | ipv6
    source_address: tuple[str, ...] = ()  # at most one of each family
    eightbit: str = "convert"  # convert | bounce | send: octets over 127 where a server does not offer 8BITMIME


@attrs.frozen(slots=True)
class Log:
    """[log]"""

    format: str = "text"  # text | json
    file: str = "-"


@attrs.frozen(slots=True)
class Metrics:
    """[metrics]"""

    listen: str = ""  # an endpoint, as in [[listen]]: http://.../metrics is answered there; "": nowhere


@attrs.frozen(slots=True)
class Service:
    """[service]"""

    workers: int = 1  # processes, each a whole server with a queue file of its own; 1: no other process than this


@attrs.frozen(slots=True)
class Settings:
    """The whole of mta.toml."""

    hostname: str
    data_dir: Path
    listen: tuple[Listen, ...] = ()
    local_domains: tuple[str, ...] = ()
    tls: Tls = Tls()
    tls_client: TlsClient = TlsClient()
    access: Access = Access()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    route: tuple[RouteEntry, ...] = ()
    tls_policy: tuple[TlsPolicyEntry, ...] = ()
    tlsrpt: Tlsrpt = Tlsrpt()
    auth: Auth = Auth()
    handover: Handover = Handover()
    hostlist: tuple[HostListEntry, ...] = ()
    retry: Retry = Retry()
    queue: Queue = Queue()
    dsn: Dsn = Dsn()
    destination: tuple[DestinationEntry, ...] = ()
    site: tuple[SiteEntry, ...] = ()
    concurrency: Concurrency = Concurrency()
    dns: Dns = Dns()
    relay: Relay = Relay()
    log: Log = Log()
    metrics: Metrics = Metrics()
    service: Service = Service()
