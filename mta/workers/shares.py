"""What one of several workers may have of what the whole server may have (pure).

`share` gives the settings of one worker.  A limit of all connections, of a client, a login, a destination or a site is divided
by the number of workers and rounded up: together they never allow less, and at most one more for each worker than was
written.  A limit of one connection, one message or one process (memory, threads, handshakes at once) stays as it is, and so
does 0, "no limit".  docs/operators.md, "Workers", has the list; every key of these tables stands in one of the tables
below or is asserted not to (tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from mta.config.check_limits import RATES
from mta.config.settings import DestinationEntry, Service, Settings, SiteEntry
from mta.rate import Rate, parse_rate

__all__ = ["DIVIDED", "RATED", "share"]

DIVIDED: Final[Mapping[str, tuple[str, ...]]] = {  # numbers
    "concurrency": ("per_destination", "initial", "total"),
    "handover": ("idle_max_total", "idle_max_per_key"),
    "queue": ("active_limit",),
    "dsn": ("per_sender_hour",),
    "limits": ("connections", "reserve", "connections_per_client", "tls_sessions_per_minute"),
}
RATED: Final[Mapping[str, tuple[str, ...]]] = {  # lists of rates
    "limits": RATES
}
_DAY: Final = 86_400  # seconds
_MOST: Final = 10**9  # a rate has at most 9 digits


def share(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many workers, which is a server that is alone, as far as it knows."""
    tables = {table: _table(table, getattr(settings, table), workers) for table in DIVIDED.keys() | RATED.keys()}
    return attrs.evolve(
        settings,
        **tables,
        destination=tuple(_destination(entry, workers) for entry in settings.destination),
        site=tuple(_site(entry, workers) for entry in settings.site),
        service=Service(),
    )


def _table(name: str, given: Any, workers: int) -> Any:
    numbers = {key: _part(getattr(given, key), workers) for key in DIVIDED.get(name, ())}
    rates = {key: tuple(_burst(rate, workers) for rate in getattr(given, key)) for key in RATED.get(name, ())}
    return attrs.evolve(given, **numbers, **rates)


def _destination(entry: DestinationEntry, workers: int) -> DestinationEntry:
    return attrs.evolve(entry, concurrency=_part(entry.concurrency, workers), rate=_even(entry.rate, workers))


def _site(entry: SiteEntry, workers: int) -> SiteEntry:
    return attrs.evolve(entry, connections=_part(entry.connections, workers), rate=_even(entry.rate, workers))


def _part(number: int, workers: int) -> int:
    return -(-number // workers)


def _burst(text: str, workers: int) -> str:
    """Of a rate whose number may come at once (`receive/limits/rates.py`): the span stays."""
    if not text:
        return text
    rate = parse_rate(text)
    return f"{_part(rate.count, workers)}{_span(rate)}"


def _even(text: str, workers: int) -> str:
    """Of a rate that is spread evenly (`mta/rate.py`): said of a day, where "1/s" of four workers would be no less."""
    if not text:
        return text
    rate = parse_rate(text)
    daily = _part(rate.count * (_DAY // rate.seconds), workers)
    return f"{daily}/d" if daily < _MOST else _burst(text, workers)


def _span(rate: Rate) -> str:
    return {1: "/s", 60: "/min", 3600: "/h", _DAY: "/d"}[rate.seconds]
