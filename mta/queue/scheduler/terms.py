"""What holds for a destination: the usual limits, or those of the `[[destination]]` entry that matches it (pure).

docs/configuration.md.  The first entry of the file that matches wins, for all its keys; a key that it leaves out is the usual
one.  Next hops are compared as A-labels in lower case.  What has no next hop (a mailbox, a bounce that is owed) is meant by
the name of its route alone, and a bounce by nothing.  With no entries there is one `Terms` for all, and no look-up.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import idna

from mta.config.settings import Concurrency, DestinationEntry, Retry, Seconds
from mta.envelope import BOUNCE, split_dest
from mta.rate import Rate, parse_rate

__all__ = ["Terms", "TermsTable"]

ROUTE = "route:"


@attrs.frozen(slots=True)
class Terms:
    """Limits and waits of a destination.

    waits: seconds after the first failure, the second ...; (): the doubling of `retry`.  lifetime: seconds, 0: whatever the
    message says.
    """

    initial: int
    limit: int
    recipients: int
    retry: Retry
    rate: Rate | None = None
    waits: tuple[Seconds, ...] = ()
    lifetime: float = 0.0


class TermsTable:
    """The entries, indexed: a look-up costs one dictionary access for each label, however many entries there are."""

    def __init__(self, concurrency: Concurrency, retry: Retry, entries: Sequence[DestinationEntry] = ()) -> None:
        """ValueError for a rate that is none (the configuration's check has none)."""
        self.usual = Terms(
            min(concurrency.initial, concurrency.per_destination), concurrency.per_destination, concurrency.recipients, retry
        )
        self._terms = [_terms(self.usual, entry) for entry in entries]
        self.mortal = any(terms.lifetime for terms in self._terms)  # some have a lifetime of their own
        self._first: dict[str, int] = {}
        for number, entry in enumerate(entries):
            for pattern in entry.match:
                self._first.setdefault(_key(pattern), number)

    def of(self, dest: str) -> Terms:
        """The terms of a destination ("agent:route/next-hop")."""
        if not self._first or dest == BOUNCE:
            return self.usual
        _, route, next_hop = split_dest(dest)
        keys = [ROUTE + route.partition("+")[0]]
        if next_hop:
            keys += [next_hop, "*"]
            labels = [] if next_hop.startswith("[") else next_hop.split(".")
            keys += [".".join(("*", *labels[at:])) for at in range(1, len(labels))]
        numbers = [number for key in keys if (number := self._first.get(key)) is not None]
        return self._terms[min(numbers)] if numbers else self.usual


def _terms(usual: Terms, entry: DestinationEntry) -> Terms:
    limit = entry.concurrency or usual.limit
    lifetime = entry.lifetime or usual.retry.queue_lifetime
    return Terms(
        min(usual.initial, limit),
        limit,
        entry.recipients or usual.recipients,
        attrs.evolve(usual.retry, queue_lifetime=Seconds(lifetime)),
        parse_rate(entry.rate) if entry.rate else None,
        entry.retry,
        entry.lifetime,
    )


def _key(pattern: str) -> str:
    """A pattern as next hops are written; route names keep their case."""
    if pattern.startswith(ROUTE) or pattern == "*":
        return pattern
    star, name = ("*.", pattern[2:]) if pattern.startswith("*.") else ("", pattern)
    return star + (name.lower() if name.isascii() else idna.encode(name, uts46=True).decode("ascii"))
