"""`[[tls_policy]]`: which entry holds for a next hop (docs/tls.md, "Which policy holds").

The next hop is compared as it was routed, never the MX host that DNS names for it: what an attacker can choose must not
choose the policy.  The most specific pattern wins, and its entry alone: nothing is inherited from a wider one.  Of entries
with the same pattern the first wins.  An entry whose `until` has come is as if it were not there.

Pure: today's date is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

import idna

if TYPE_CHECKING:
    from mta.config.settings import TlsPolicyEntry

__all__ = ["PolicyTable", "plain_name"]


class PolicyTable:
    """The entries by their patterns, so that a look-up costs a few dictionary reads."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[TlsPolicyEntry]) -> None:
        self._entries: dict[str, list[tuple[date, TlsPolicyEntry]]] = {}
        for entry in entries:
            end = date.fromisoformat(entry.until) if entry.until else date.max
            for pattern in entry.match:
                self._entries.setdefault(plain_name(pattern), []).append((end, entry))

    def entry(self, next_hop: str, today: date) -> TlsPolicyEntry | None:
        """What holds for "domain", "[host]", "[host]:port" or an address literal; None where nothing does."""
        if not self._entries:
            return None
        for pattern in _patterns(plain_name(next_hop)):
            for end, entry in self._entries.get(pattern, ()):
                if today < end:
                    return entry
        return None


def _patterns(next_hop: str) -> Iterator[str]:
    """The patterns that match, the most specific first."""
    yield next_hop
    if next_hop.startswith("["):
        yield next_hop.partition("]")[0] + "]"
        return
    rest = next_hop
    while rest := rest.partition(".")[2]:
        yield "." + rest


def plain_name(text: str) -> str:
    """Lower case, A-labels, no dot at the end, address literals without "IPv6:": one spelling for patterns and next hops."""
    text = text.lower().removesuffix(".").replace("[ipv6:", "[", 1)
    if text.isascii():
        return text
    labels = [label if label.isascii() else idna.encode(label, uts46=True).decode("ascii") for label in text.split(".")]
    return ".".join(labels)
