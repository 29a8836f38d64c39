"""The limits of single destinations and sites: [[destination]], [[site]], and who is told in [dsn].

docs/configuration.md.  An entry that would never do anything is a mistake: its author believes that he has a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.config.mistake import Finding, KeyPath, did_you_mean, said, shown
from mta.config.name import address_fault, domain_fault, is_address, next_hop_fault
from mta.config.settings import DestinationEntry, Settings, SiteEntry
from mta.rate import parse_rate

__all__ = ["check_destinations", "rate_fault"]

ROUTE = "route:"
MX_DELIVERY = "_mx"  # what stands below the last [[route]]


def check_destinations(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with them, entry by entry."""
    routes = [route.name for route in settings.route] + [MX_DELIVERY]
    for index, entry in enumerate(settings.destination):
        yield from _destination(("destination", index), entry, routes, settings)
    for index, site in enumerate(settings.site):
        yield from _site(("site", index), site)
    if settings.dsn.postmaster:
        yield from said(("dsn", "postmaster"), address_fault(settings.dsn.postmaster))


def _destination(path: KeyPath, entry: DestinationEntry, routes: list[str], settings: Settings) -> Iterator[Finding]:
    if not entry.match:
        yield Finding((*path, "match"), "at least one pattern is wanted")
    for at, pattern in enumerate(entry.match):
        yield from said((*path, "match", at), _match_fault(pattern, routes))
    yield from said((*path, "rate"), rate_fault(entry.rate))
    if entry.concurrency > settings.concurrency.total:
        text = f"concurrency ({entry.concurrency}) is more than total ({settings.concurrency.total})"
        yield Finding((*path, "concurrency"), text, (("concurrency", "total"),))
    for at, wait in enumerate(entry.retry):
        if wait <= 0:
            yield Finding((*path, "retry", at), "more than 0 is wanted")
    if not (entry.concurrency or entry.recipients or entry.rate or entry.retry or entry.lifetime):
        yield Finding(path, "it sets nothing; one of concurrency, recipients, rate, retry and lifetime is wanted")


def _site(path: KeyPath, entry: SiteEntry) -> Iterator[Finding]:
    if not entry.mx:
        yield Finding((*path, "mx"), "at least one pattern is wanted")
    for at, pattern in enumerate(entry.mx):
        if pattern != "*" and domain_fault(pattern.removeprefix("*.")):
            yield Finding((*path, "mx", at), f"a host name, '*.domain' or '*' is wanted, not {shown(pattern)}")
    yield from said((*path, "rate"), rate_fault(entry.rate))
    if not (entry.connections or entry.rate):
        yield Finding(path, "it sets nothing; one of connections and rate is wanted")


def _match_fault(text: str, routes: list[str]) -> str | None:
    """A next hop, or the name of a route."""
    if text.startswith(ROUTE):
        name = text.removeprefix(ROUTE)
        return None if name in routes else f"no route is called {name!r}{did_you_mean(name, routes)}"
    if text == "*":
        return None
    if text.startswith("[") or is_address(text):
        return next_hop_fault(text)
    if domain_fault(text.removeprefix("*.")):
        return f"a domain, '*.domain', '[host]', '[host]:port', 'route:NAME' or '*' is wanted, not {shown(text)}"
    return None


def rate_fault(text: str) -> str | None:
    """What is wrong with a rate; "" is none."""
    if not text:
        return None
    try:
        parse_rate(text)
    except ValueError as error:
        return str(error)
    return None
