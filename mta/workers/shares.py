"""What one of several workers may have of what the whole server may have (pure).

`share` gives the settings of one worker.  A limit of all connections, of a client, a login, a destination or a site is divided
by the number of workers, and what is left over goes to the first ones: together they allow what was written, neither less
nor more.  But nobody has nothing: where it is less than the workers are many it is 1 for each.  A limit of one connection,
one message or one process (memory, threads, handshakes at once) stays as it is, and so does 0, "no limit".
docs/operators.md, "Workers", has the list; every key of these tables stands in one of the tables below or is asserted not
to (tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from mta.config.check_limits import RATES
from mta.config.settings import DestinationEntry, Metrics, Service, Settings, SiteEntry
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


@attrs.frozen(slots=True)
class _Share:
    """That of worker `number` of so many."""

    number: int
    workers: int

    def of(self, limit: int) -> int:
        """Its part; 0, no limit, is 0 for all."""
        each, left = divmod(limit, self.workers)
        return max(each + (self.number < left), min(limit, 1))


def share(settings: Settings, number: int, workers: int) -> Settings:
    """The settings of worker `number` of so many, which is a server that is alone, as far as it knows."""
    part = _Share(number, workers)
    tables = {table: _table(table, getattr(settings, table), part) for table in DIVIDED.keys() | RATED.keys()}
    return attrs.evolve(
        settings,
        **tables,
        destination=tuple(_destination(entry, part) for entry in settings.destination),
        site=tuple(_site(entry, part) for entry in settings.site),
        metrics=Metrics(),  # the supervisor answers for all
        service=Service(),
    )


def _table(name: str, given: Any, part: _Share) -> Any:
    numbers = {key: part.of(getattr(given, key)) for key in DIVIDED.get(name, ())}
    rates = {key: tuple(_burst(rate, part) for rate in getattr(given, key)) for key in RATED.get(name, ())}
    return attrs.evolve(given, **numbers, **rates)


def _destination(entry: DestinationEntry, part: _Share) -> DestinationEntry:
    return attrs.evolve(entry, concurrency=part.of(entry.concurrency), rate=_even(entry.rate, part))


def _site(entry: SiteEntry, part: _Share) -> SiteEntry:
    return attrs.evolve(entry, connections=part.of(entry.connections), rate=_even(entry.rate, part))


def _burst(text: str, part: _Share) -> str:
    """Of a rate whose number may come at once (`receive/limits/rates.py`): the span stays."""
    if not text:
        return text
    rate = parse_rate(text)
    return f"{part.of(rate.count)}{_span(rate)}"


def _even(text: str, part: _Share) -> str:
    """Of a rate that is spread evenly (`mta/rate.py`): said of a day, where "1/s" of four workers would be no less."""
    if not text:
        return text
    rate = parse_rate(text)
    daily = part.of(rate.count * (_DAY // rate.seconds))
    return f"{daily}/d" if daily < _MOST else _burst(text, part)


def _span(rate: Rate) -> str:
    return {1: "/s", 60: "/min", 3600: "/h", _DAY: "/d"}[rate.seconds]
