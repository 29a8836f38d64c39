"""The states of a recipient in the queue, and the values in which the queue speaks of its rows.

    state    means                          how it is left
    WAITING  due at `due`, nobody has it    claim (memory only): delivered, deferred, failed, given back; hold
    TAKEN    inserted by the process that   the same; after a crash all TAKEN rows become WAITING at start
             delivers it at once
    HELD     an operator's hold             release

A recipient that has failed is not a state but a place: it WAITS at the destination BOUNCE ("a bounce is owed").
The numbers are on disk; never change them.  docs/queue.md has the crash table.
"""

from __future__ import annotations

from enum import Enum, IntEnum

import attrs

__all__ = ["Alteration", "DestState", "Lane", "Row", "Selector", "State", "SweepReport"]


class State(IntEnum):
    """Column `state` of a delivery row."""

    WAITING = 0
    TAKEN = 1
    HELD = 2


class Alteration(Enum):
    """What an operator may do to recipients."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    REMOVE = "remove"


@attrs.frozen(slots=True)
class Lane:
    """A lane of a destination with waiting rows, and when its first is due (ms)."""

    dest: str
    lane: int
    due: int


@attrs.frozen(slots=True)
class DestState:
    """A destination that is not plain: blocked until a time (ms), failing since, or suspended by an operator."""

    name: str
    blocked_until: int = 0
    blocked_why: str | None = None
    fails: int = 0
    first_fail: int | None = None
    suspended: bool = False
    changed: int = 0


@attrs.frozen(slots=True)
class Selector:
    """Which recipients: all given conditions together; none given means every recipient."""

    message: int | None = None
    dest: str | None = None
    state: State | None = None


@attrs.frozen(slots=True)
class Row:
    """One recipient as people see it."""

    id: int
    message: int
    sender: str
    address: str
    dest: str
    state: State
    due: int
    attempts: int
    created: int
    size: int
    last_code: int | None = None
    last_reply: str | None = None


@attrs.frozen(slots=True)
class SweepReport:
    """What one sweep did; more: call again soon."""

    expired: int = 0
    orphans: int = 0
    more: bool = False
