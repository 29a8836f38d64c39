"""Which server this is, of those that share a data directory and its ports: `[service] workers` (docs/operators.md, "Workers").

A server that is alone is number 0 of 1, opens its own ports, and has the files that it always had.
"""

from __future__ import annotations

import attrs

from mta.ports import Listen

__all__ = ["ALONE", "Node"]


@attrs.frozen(slots=True)
class Node:
    """number: from 0, also in the queue ids.  count: of them all.  listen: gives the ports, None: they are opened."""

    number: int = 0
    count: int = 1
    listen: Listen | None = None

    def file(self, name: str) -> str:
        """The name of a file that each has for itself: "hints.db" of number 0 is "hints.1.db" of number 1."""
        stem, _, end = name.rpartition(".")
        return f"{stem}.{self.number}.{end}" if self.number else name


ALONE = Node()
