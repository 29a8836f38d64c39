"""Limits of sites: all domains that share their mail servers, known by the set of their MX hosts (pure; `[[site]]`).

Asked before a message goes (`wait`: the rate) and before a connection is made for it (`delay`: connections at once).  The
answer is how long to stay away; who has to gets his turn: of the rate a time that is his alone, of the connections a place in
a line, so that a domain with much mail does not keep those with little from the servers they share.  Nothing here waits: the
mail is given back to the queue.  Connections that say QUIT do not count any more.  Times are seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, Protocol

from mta.config.settings import SiteEntry
from mta.rate import Bucket, parse_rate

__all__ = ["Site", "Sites", "site_of"]

GRACE: Final = 10.0  # seconds for which a turn is kept for whoever does not come
MOST_AWAY: Final = 30.0  # seconds that one stays away for a connection
UNUSED: Final = 1_000  # sites that are remembered without need


class Open(Protocol):
    """What a site must know of a connection."""

    idle_since: float

    @property
    def leaving(self) -> bool:
        """Nothing more will be asked of it."""

    @property
    def idling(self) -> bool:
        """It waits for the next delivery."""

    def give_way(self) -> None:
        """Its place is wanted: QUIT."""


def site_of(names: Iterable[str]) -> str:
    """The name of the site that consists of these hosts."""
    return " ".join(sorted(set(names)))


class Site:
    """One site: its limits and what is in use of them."""

    __slots__ = ("_bucket", "_connections", "_entry", "_line", "_open", "_turns")

    def __init__(self, entry: SiteEntry) -> None:
        self._open: list[Open] = []
        self._line: dict[str, float] = {}  # who waits for a connection, and until when his place is kept
        self._turns: dict[str, float] = {}  # whose message may go when, in the order of these times
        self._bucket: Bucket | None = None
        self._entry = SiteEntry(())
        self.renew(entry)

    def renew(self, entry: SiteEntry) -> None:
        """Other limits from now on; what is in use stays counted."""
        if entry.rate != self._entry.rate:
            self._bucket = Bucket(parse_rate(entry.rate)) if entry.rate else None
            self._turns.clear()
        self._connections = entry.connections
        self._entry = entry

    @property
    def unused(self) -> bool:
        """Nothing would be lost with it."""
        return not (self._turns or self._line or any(not session.leaving for session in self._open))

    def wait(self, who: str, now: float) -> float:
        """Seconds until a message of this destination may go; 0: now, and that is counted."""
        bucket = self._bucket
        if bucket is None:
            return 0.0
        turn = self._turns.get(who)
        if turn is not None:
            if turn > now:
                return turn - now
            del self._turns[who]
            return 0.0
        last = next(reversed(self._turns.values()), now)
        then = max(now, last)
        turn = max(bucket.next(then * 1000) / 1000, then)
        bucket.take(turn * 1000)
        if turn <= now:
            return 0.0
        while self._turns and next(iter(self._turns.values())) + GRACE < now:  # they do not come any more
            del self._turns[next(iter(self._turns))]
        self._turns[who] = turn
        return turn - now

    def delay(self, who: str, now: float) -> float:
        """Seconds to stay away when a connection is wanted; 0: make it, and tell `joined`.  May end an idle one for it."""
        if not self._connections:
            return 0.0
        held = self._open = [session for session in self._open if not session.leaving]
        idle = [session for session in held if session.idling]
        free = self._connections - len(held)
        line = self._line
        while line and next(iter(line.values())) < now:
            del line[next(iter(line))]
        room = max(free, 0) + len(idle)
        if len(line) < room or who in islice(line, max(room, 0)):
            line.pop(who, None)
            if free <= 0:
                min(idle, key=lambda session: session.idle_since).give_way()
            return 0.0
        away = min(1.0 + len(line) / self._connections, MOST_AWAY)
        line[who] = now + away + GRACE  # whoever stands in it keeps his place
        return away

    def joined(self, session: Open) -> None:
        """A connection is being made."""
        if self._connections:
            self._open.append(session)


class Sites:
    """All sites that have been met and have limits."""

    def __init__(self, entries: Sequence[SiteEntry] = ()) -> None:
        self._known: dict[str, Site] = {}
        self.reconfigure(entries)

    def reconfigure(self, entries: Sequence[SiteEntry]) -> None:
        """Other limits from now on; what is in use of a site stays counted."""
        self._entries = [(entry, _matcher(entry)) for entry in entries]
        for name, site in list(self._known.items()):
            entry = self._entry(name)
            if entry is None:
                del self._known[name]
            else:
                site.renew(entry)

    def of(self, names: Iterable[str]) -> Site | None:
        """The site of these hosts, None where it has no limits."""
        if not self._entries:
            return None
        name = site_of(names)
        site = self._known.get(name)
        if site is None and (entry := self._entry(name)) is not None:
            if len(self._known) >= UNUSED:
                self._known = {name: site for name, site in self._known.items() if not site.unused}
            site = self._known[name] = Site(entry)
        return site

    def _entry(self, name: str) -> SiteEntry | None:
        hosts = name.split()
        return next((entry for entry, matches in self._entries if hosts and all(map(matches, hosts))), None)


def _matcher(entry: SiteEntry) -> Callable[[str], bool]:
    """Does a host match one of the patterns?  Names are compared in lower case."""
    names = {pattern.lower() for pattern in entry.mx}
    parents = tuple(name[1:] for name in names if name.startswith("*."))

    def matches(host: str) -> bool:
        return "*" in names or host in names or host.endswith(parents)

    return matches
