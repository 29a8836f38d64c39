"""What must hold in settings beyond their structure: words, ranges, names, and what one key demands of another.

Each judge looks at the whole settings and yields a `Finding` for each thing that is wrong; all of them are asked.
Files are looked at in `files.py`.  Whether a directory can be written or a port bound is found out at start.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from mta.config.endpoint import endpoint_fault
from mta.config.mistake import Finding, KeyPath, choice, did_you_mean, shown
from mta.config.name import (
    domain_fault,
    host_list_fault,
    hostname_fault,
    is_address,
    next_hop_fault,
    pattern_fault,
    server_fault,
)
from mta.config.schema import leaves
from mta.config.settings import Seconds, Settings, Size
from mta.tls.policy import LEVELS

__all__ = ["check"]

_WORDS: dict[str, tuple[str, ...]] = {
    "listen.tls": ("none", "starttls", "implicit"),
    "tls.min_version": ("TLSv1.2", "TLSv1.3"),
    "tls.error": ("fatal", "offer-nothing"),
    "tls.starttls_in_transaction": ("reset", "refuse"),
    "tls_client.mandatory_5xx": ("defer", "bounce"),
    "handover.rset_test": ("always", "idle", "never"),
    "queue.completions": ("strict", "lazy"),
    "relay.prefer": ("any", "ipv4", "ipv6"),
    "log.format": ("text", "json"),
}
_MAY_BE_ZERO = frozenset(  # where nothing at all is a setting of its own
    {
        "tls_client.fallback_delay",
        "handover.reuse_count_limit",
        "handover.idle_limit",
        "handover.idle_max_total",
        "handover.idle_max_per_key",
        "limits.transactions_per_connection",
        "limits.recipients_per_connection",
        "limits.commands_per_connection",
        "limits.session_time",
        "limits.tls_sessions_per_minute",
        "tls.watch",
    }
)
_MOST = {"relay.port": 65535}
_MOST_WHOLE = 2**31 - 1
_MOST_BYTES = 2**40
_MOST_SECONDS = 3650 * 86400.0

_DELIVER = "maildir:"
_DELIVER_LATER = ("lmtp:", "command:")
_PLACEHOLDERS = ("domain", "user")
_BRACES = re.compile(r"\{([^{}]*)\}")
_ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # it is part of a destination's name: no ":" and no "/"


def check(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with settings whose structure is right."""
    yield from _each_key(settings)
    yield from _names(settings)
    yield from _listen(settings)
    yield from _tls(settings)
    yield from _routes(settings)
    yield from _handover(settings)
    yield from _outgoing(settings)
    yield from _orders(settings)


def _say(path: KeyPath, fault: str | None) -> Iterator[Finding]:
    if fault is not None:
        yield Finding(path, fault)


def _each_key(settings: Settings) -> Iterator[Finding]:
    """Choices of words and ranges of numbers."""
    for path, hint, value in leaves(settings):
        name = ".".join(step for step in path if isinstance(step, str))
        if name in _WORDS:
            yield from _say(path, choice(value, _WORDS[name]))
        elif hint in (int, Size, Seconds):
            yield from _say(path, _range_fault(name, hint, value))


def _range_fault(name: str, hint: Any, value: float) -> str | None:
    most = _MOST.get(name) or {Size: _MOST_BYTES, Seconds: _MOST_SECONDS}.get(hint, _MOST_WHOLE)
    if value > most:
        return "at most 3650d is wanted" if hint is Seconds else f"at most {most} is wanted, not {value}"
    if value <= 0 and not (value == 0 and name in _MAY_BE_ZERO):
        least = "0" if name in _MAY_BE_ZERO else "1"
        return "more than 0 is wanted" if hint is Seconds else f"at least {least} is wanted, not {value}"
    return None


def _names(settings: Settings) -> Iterator[Finding]:
    yield from _say(("hostname",), hostname_fault(settings.hostname))
    for index, domain in enumerate(settings.local_domains):
        yield from _say(("local_domains", index), domain_fault(domain))
    for index, domain in enumerate(settings.access.relay_domains):
        yield from _say(("access", "relay_domains", index), domain_fault(domain))
    if not settings.log.file:
        yield Finding(("log", "file"), "a path or '-' is wanted, not ''")


def _listen(settings: Settings) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, listen in enumerate(settings.listen):
        path: KeyPath = ("listen", index, "endpoint")
        fault = endpoint_fault(listen.endpoint)
        yield from _say(path, fault)
        first = seen.setdefault(listen.endpoint, index)
        if first != index and fault is None and not re.match(r"tcp:(?:port=)?0(?:$|:)", listen.endpoint):
            yield Finding(path, f"listen[{first}] has this endpoint already", (("listen", first),))
        if listen.tls == "implicit" and settings.tls.certificate is None:
            text = "implicit TLS needs the certificate and key of [tls]"
            yield Finding(("listen", index, "tls"), text, (("tls", "certificate"),))


def _tls(settings: Settings) -> Iterator[Finding]:
    certificate: KeyPath = ("tls", "certificate")
    key: KeyPath = ("tls", "key")
    if settings.tls.certificate and not settings.tls.key:
        yield Finding(key, "missing; a certificate needs its key", (certificate,))
    if settings.tls.key and not settings.tls.certificate:
        yield Finding(certificate, "missing; a key needs its certificate", (key,))
    yield from _say(("tls_client", "level"), _level_fault(settings.tls_client.level))


def _level_fault(level: str) -> str | None:
    return choice(level, LEVELS) if level not in LEVELS else None


def _routes(settings: Settings) -> Iterator[Finding]:
    uses = Counter(route.name for route in settings.route)
    for index, route in enumerate(settings.route):
        path: KeyPath = ("route", index)
        if not _ROUTE_NAME.fullmatch(route.name):
            yield Finding((*path, "name"), f"letters, digits, '.', '_' and '-' are wanted, not {shown(route.name)}")
        elif uses[route.name] > 1:
            yield Finding((*path, "name"), f"another route is called {route.name!r} too")
        if not route.match:
            yield Finding((*path, "match"), "at least one pattern is wanted")
        for at, pattern in enumerate(route.match):
            yield from _say((*path, "match", at), pattern_fault(pattern))
        if (route.relay is None) == (route.deliver is None):
            yield Finding(path, f"one of relay and deliver is wanted, not {'both' if route.relay is not None else 'none'}")
        if route.relay is not None:
            yield from _say((*path, "relay"), next_hop_fault(route.relay))
        if route.deliver is not None:
            yield from _say((*path, "deliver"), _deliver_fault(route.deliver))
        if route.tls:
            fault = "a delivery to a mailbox has no TLS" if route.deliver is not None else _level_fault(route.tls)
            yield from _say((*path, "tls"), fault)


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


def _handover(settings: Settings) -> Iterator[Finding]:
    for name in ("hosts_pass_tls", "hosts_nopass_tls"):
        for index, item in enumerate(getattr(settings.handover, name)):
            yield from _say(("handover", name, index), host_list_fault(item))


def _outgoing(settings: Settings) -> Iterator[Finding]:
    for index, server in enumerate(settings.dns.servers):
        yield from _say(("dns", "servers", index), server_fault(server))
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
