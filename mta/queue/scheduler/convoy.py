"""A convoy: the destinations that a two-stage run brings to the same mail servers, over as few connections as will do (pure).

Exim's `-qq`: first it is found out where everything goes, then all that goes to one place goes together.  The destinations of
a convoy share its room: one transaction at a time, so that each goes over the connection that the one before has left, and
one more for each `LENGTH` that were begun, for a backlog that does not end needs more than one connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.queue.scheduler.destination import Destination

__all__ = ["LENGTH", "Convoy"]

LENGTH = 50  # transactions begun, for each of which the room grows by one


class Convoy:
    """See above.  waiting: destinations with something ready that found no room."""

    __slots__ = ("begun", "busy", "waiting")

    def __init__(self) -> None:
        self.begun = 0
        self.busy = 0
        self.waiting: dict[str, Destination] = {}  # by name, in the order in which they came

    @property
    def full(self) -> bool:
        """No further transaction may begin now."""
        return self.busy > self.begun // LENGTH

    def begin(self) -> None:
        """A transaction begins."""
        self.begun += 1
        self.busy += 1

    def take_in(self, dest: Destination) -> None:
        """It belongs to this convoy, and to no other any more; what of it runs is counted here from now on."""
        if dest.convoy is not None:
            dest.convoy.busy -= dest.busy
            dest.convoy.waiting.pop(dest.name, None)
        self.busy += dest.busy
        dest.convoy = self

    def next(self) -> Destination | None:
        """The destination whose turn it is, when there is room: out of `waiting`."""
        while self.waiting and not self.full:
            dest = self.waiting.pop(next(iter(self.waiting)))
            if dest.ring and not dest.closed:
                return dest
        return None
