"""What must hold in settings beyond their structure: words, ranges, names, and what one key demands of another.

Each judge looks at the whole settings and yields a `Finding` for each thing that is wrong; all of them are asked.
TLS is judged in `check_tls.py`, AUTH in `check_auth.py`, host lists in `check_hosts.py`, limits of destinations and
sites in `check_destinations.py`, the files in `files.py`.  Whether a directory can be written or a port bound is found out at
start.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from mta.config.check_access import check_access
from mta.config.check_auth import check_auth
from mta.config.check_destinations import check_destinations
from mta.config.check_hosts import check_hosts
from mta.config.check_limits import check_limits
from mta.config.check_origin import check_origin
from mta.config.check_submission import check_submission
from mta.config.check_tls import check_tls
from mta.config.endpoint import endpoint_fault
from mta.config.mistake import Finding, KeyPath, choice, did_you_mean, said, shown
from mta.config.name import (
    address_fault,
    domain_fault,
    hostname_fault,
    is_address,
    next_hop_fault,
    pattern_fault,
    server_fault,
)
from mta.config.schema import leaves, name_of
from mta.config.settings import Seconds, Settings, Size
from mta.smtp.extension import KEYWORDS
from mta.smtp.sasl import CLIENT, MECHANISMS
from mta.tls.policy import LEVELS

__all__ = ["check"]

_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_WORDS: dict[str, tuple[str, ...]] = {  # a list of words too
    "listen.tls": ("none", "starttls", "implicit"),
    "listen.mail_requires": ("none", "tls", "auth", "tls-or-auth", "tls+auth"),
    "listen.vrfy": ("252", "off", "local"),
    "listen.withhold": KEYWORDS,
    "listen.auth_clear": MECHANISMS,
    "listen.auth_tls": MECHANISMS,
    "auth.senders": ("any", "bound"),
    "access.rule.action": ("accept", "reject", "defer", "hold", "discard", "warn"),
    "access.rule.at": ("connect", "helo", "auth", "mail", "rcpt"),
    "access.rule.tls": ("none", "any", *_VERSIONS),
    "tls.min_version": _VERSIONS[2:],  # RFC 8996
    "tls.error": ("fatal", "offer-nothing"),
    "tls.starttls_in_transaction": ("reset", "refuse"),
    "tls.sni_unknown": ("default", "reject"),
    "tls.client_cert": ("none", "ask", "require"),
    "tls_client.level": LEVELS,
    "tls_client.mandatory_5xx": ("defer", "bounce"),
    "tls_client.min_version": _VERSIONS[2:],
    "tls_client.dane_insecure_mx": ("dane", "encrypt", "may"),
    "route.tls": LEVELS,
    "route.auth.mechanisms": tuple(CLIENT),
    "tls_policy.level": LEVELS,
    "tls_policy.min": _VERSIONS,
    "tls_policy.max": _VERSIONS,
    "tls_policy.dane": ("on", "off"),
    "tls_policy.sts": ("on", "off"),
    "handover.preset": ("keep", "exim2002-rset", "nopass-default", "pass-unset", "never"),  # exim2002: in tests only
    "handover.rset_test": ("always", "idle", "never"),
    "queue.completions": ("strict", "lazy"),
    "queue.mode": ("deliver", "spool"),
    "relay.prefer": ("any", "ipv4", "ipv6"),
    "relay.eightbit": ("convert", "bounce", "send"),
    "log.format": ("text", "json"),
}
_MAY_BE_EMPTY = frozenset(
    {"access.rule.at", "route.tls", "tls_policy.level", "tls_policy.min", "tls_policy.max", "tls_policy.dane", "tls_policy.sts"}
)
_MAY_BE_ZERO = frozenset(  # where nothing at all is a setting of its own
    {
        "access.dnsbl_reject",
        "access.dnsbl_defer",
        "access.greylist.pass_after",
        "tls_client.fallback_delay",
        "handover.reuse_count_limit",
        "handover.idle_limit",
        "handover.idle_max_total",
        "handover.idle_max_per_key",
        "limits.transactions_per_connection",
        "limits.recipients_per_connection",
        "limits.reserve",
        "limits.commands_per_connection",
        "limits.rejected_per_connection",
        "limits.bytes_per_connection",
        "limits.tarpit",
        "limits.tarpit_errors",
        "limits.header_size",
        "limits.session_time",
        "auth.cache",
        "limits.tls_sessions_per_minute",
        "tls.watch",
        "dsn.delay_warning",
        "dsn.return_size",
        "dsn.per_sender_hour",
        "destination.concurrency",
        "destination.recipients",
        "destination.lifetime",
        "site.connections",
        "queue.spool_above_load",
        "queue.run_every",
        "queue.free_space",
    }
)
_MAY_BE_LESS = frozenset({"access.dnsbl.score"})
_MOST = {"relay.port": 65535, "service.workers": 64}
_MOST_WHOLE = 2**31 - 1
_MOST_BYTES = 2**40
_MOST_SECONDS = 3650 * 86400.0

_DELIVER = "maildir:"
_DELIVER_LATER = ("lmtp:", "command:")
_PLACEHOLDERS = ("domain", "user")
_BRACES = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of a route, of a listener; part of a destination: no ":" and no "/"


def check(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with settings whose structure is right."""
    yield from _each_key(settings)
    yield from _names(settings)
    yield from _listen(settings)
    yield from check_tls(settings)
    yield from check_auth(settings)
    yield from check_submission(settings)
    yield from check_access(settings)
    yield from _routes(settings)
    yield from check_hosts(settings)
    yield from check_origin(settings)
    yield from check_destinations(settings)
    yield from check_limits(settings)
    yield from _outgoing(settings)
    yield from _orders(settings)


def _each_key(settings: Settings) -> Iterator[Finding]:
    """Choices of words and ranges of numbers."""
    for path, hint, value in leaves(settings):
        name = name_of(path)
        if name in _WORDS:
            yield from _word(path, value, _WORDS[name], name in _MAY_BE_EMPTY)
        elif hint in (int, float, Size, Seconds):
            yield from said(path, _range_fault(name, hint, value))


def _word(path: KeyPath, value: str | tuple[str, ...], known: tuple[str, ...], may_be_empty: bool) -> Iterator[Finding]:
    if isinstance(value, tuple):
        for index, word in enumerate(value):
            yield from said((*path, index), choice(word, known))
    elif value or not may_be_empty:
        yield from said(path, choice(value, known))


def _range_fault(name: str, hint: Any, value: float) -> str | None:
    most = _MOST.get(name) or {Size: _MOST_BYTES, Seconds: _MOST_SECONDS}.get(hint, _MOST_WHOLE)
    if value > most:
        return "at most 3650d is wanted" if hint is Seconds else f"at most {most} is wanted, not {value}"
    if value <= 0 and name not in _MAY_BE_LESS and not (value == 0 and name in _MAY_BE_ZERO):
        least = "0" if name in _MAY_BE_ZERO else "1"
        return "more than 0 is wanted" if hint is Seconds else f"at least {least} is wanted, not {value}"
    return None


def _names(settings: Settings) -> Iterator[Finding]:
    yield from said(("hostname",), hostname_fault(settings.hostname))
    for index, domain in enumerate(settings.local_domains):
        yield from said(("local_domains", index), domain_fault(domain))
    for index, domain in enumerate(settings.access.relay_domains):
        yield from said(("access", "relay_domains", index), domain_fault(domain))
    if settings.tlsrpt.contact:
        yield from said(("tlsrpt", "contact"), address_fault(settings.tlsrpt.contact))
    if settings.auth.cram_realm:
        yield from said(("auth", "cram_realm"), domain_fault(settings.auth.cram_realm))
    if not settings.log.file:
        yield Finding(("log", "file"), "a path or '-' is wanted, not ''")


def _listen(settings: Settings) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, listen in enumerate(settings.listen):
        path: KeyPath = ("listen", index, "endpoint")
        fault = endpoint_fault(listen.endpoint)
        yield from said(path, fault)
        first = seen.setdefault(listen.endpoint, index)
        if first != index and fault is None and not re.match(r"tcp:(?:port=)?0(?:$|:)", listen.endpoint):
            yield Finding(path, f"listen[{first}] has this endpoint already", (("listen", first),))
        yield from _listen_name(index, settings)
    if settings.metrics.listen:
        yield from said(("metrics", "listen"), endpoint_fault(settings.metrics.listen))


def _listen_name(index: int, settings: Settings) -> Iterator[Finding]:
    name = settings.listen[index].name
    path: KeyPath = ("listen", index, "name")
    if name and not _NAME.fullmatch(name):
        yield Finding(path, f"letters, digits, '.', '_' and '-' are wanted, not {shown(name)}")
    first = next(at for at, listen in enumerate(settings.listen) if listen.name == name)
    if name and first != index:
        yield Finding(path, f"listen[{first}] is called {name!r} too", (("listen", first, "name"),))


def _routes(settings: Settings) -> Iterator[Finding]:
    uses = Counter(route.name for route in settings.route)
    for index, route in enumerate(settings.route):
        path: KeyPath = ("route", index)
        if not _NAME.fullmatch(route.name):
            yield Finding((*path, "name"), f"letters, digits, '.', '_' and '-' are wanted, not {shown(route.name)}")
        elif uses[route.name] > 1:
            yield Finding((*path, "name"), f"another route is called {route.name!r} too")
        if not route.match:
            yield Finding((*path, "match"), "at least one pattern is wanted")
        for at, pattern in enumerate(route.match):
            yield from said((*path, "match", at), pattern_fault(pattern))
        if (route.relay is None) == (route.deliver is None):
            yield Finding(path, f"one of relay and deliver is wanted, not {'both' if route.relay is not None else 'none'}")
        if route.relay is not None:
            yield from said((*path, "relay"), next_hop_fault(route.relay))
        if route.deliver is not None:
            yield from said((*path, "deliver"), _deliver_fault(route.deliver))
        if route.deliver is not None and route.tls:
            yield Finding((*path, "tls"), "a delivery to a mailbox has no TLS")


def _deliver_fault(text: str) -> str | None:
    if text.startswith(_DELIVER_LATER):
        return f"{text.partition(':')[0]}: is not built yet; use {_DELIVER}"
    if not text.startswith(_DELIVER) or text == _DELIVER:
        return f"'{_DELIVER}/path' is wanted, not {shown(text)}"
    for name in _BRACES.findall(text):
        if name not in _PLACEHOLDERS:
            return f"{{domain}} and {{user}} are the placeholders, not {{{name}}}{did_you_mean(name, _PLACEHOLDERS)}"
    if set("{}") & set(_BRACES.sub("", text)):
        return f"a placeholder is {{domain}} or {{user}}; a single brace has no meaning in {shown(text)}"
    return None


def _outgoing(settings: Settings) -> Iterator[Finding]:
    for index, server in enumerate(settings.dns.servers):
        yield from said(("dns", "servers", index), server_fault(server))
    for key in ("dnssec_probe", "dnssec_bogus_probe"):
        if probe := getattr(settings.dns, key).removesuffix("."):
            yield from said(("dns", key), domain_fault(probe))
    families: set[int] = set()
    for index, address in enumerate(settings.relay.source_address):
        path: KeyPath = ("relay", "source_address", index)
        if not is_address(address):
            yield Finding(path, f"an address is wanted, not {shown(address)}")
        elif (version := ip_address(address).version) in families:
            yield Finding(path, f"there is an IPv{version} address already; one of each family is wanted")
        else:
            families.add(version)


def _orders(settings: Settings) -> Iterator[Finding]:
    """Keys that must not be larger than another."""
    for table, small, large in (
        ("retry", "minimal_backoff", "maximal_backoff"),
        ("retry", "maximal_backoff", "queue_lifetime"),
        ("concurrency", "initial", "per_destination"),
        ("concurrency", "per_destination", "total"),
    ):
        values = getattr(settings, table)
        if getattr(values, small) > getattr(values, large):
            text = f"{small} ({getattr(values, small):g}) is more than {large} ({getattr(values, large):g})"
            yield Finding((table, small), text, ((table, large),))
