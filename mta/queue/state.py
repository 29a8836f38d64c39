"""The states of a recipient in the queue, and the values in which the queue speaks of its rows.

    state    means                          how it is left
    WAITING  due at `due`, nobody has it    claim (memory only): delivered, deferred, failed, given back; hold
    TAKEN    inserted by the process that   the same; after a crash all TAKEN rows become WAITING at start
             delivers it at once
    HELD     an operator's hold, or a rule  release
             held it when it came

A recipient that has failed is not a state but a place: it WAITS at the destination BOUNCE ("a bounce is owed").
The numbers are on disk; never change them.  docs/queue.md has the crash table.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum

import attrs

from mta.envelope import BodyRef, Claim, Message
from mta.status import Reply

__all__ = [
    "AGES",
    "Alteration",
    "Carried",
    "CopyReport",
    "DestState",
    "DestSummary",
    "Lane",
    "Move",
    "Overdue",
    "Place",
    "Row",
    "Selector",
    "State",
    "SweepReport",
    "code_of",
    "cut_reply",
    "is_plain",
    "marked",
    "total",
]

REPLY_LIMIT = 400  # bytes of a stored reply: the beginning tells why, the rest would fill the queue


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
    """Which recipients: all given conditions together; none given means every recipient.

    to, sender: patterns as in a shell (`*@example.org`), whatever the case.  before: the message was begun earlier (ms).
    """

    message: int | None = None
    dest: str | None = None
    state: State | None = None
    to: str | None = None
    sender: str | None = None
    before: int | None = None
    account: str | None = None


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
    last_try: int | None = None
    failed_dest: str | None = None
    lane: int = 0
    account: str | None = None
    expires: int = 0
    flags: int = 0
    orcpt: str | None = None
    notify: int = 0
    last_host: str | None = None


@attrs.frozen(slots=True)
class Carried:
    """A message that comes from another queue, with the recipients that go with it."""

    message: Message
    recipients: tuple[Row, ...]
    body: BodyRef

    @property
    def id(self) -> int:
        """Of the message."""
        return self.message.id

    @property
    def expires(self) -> int:
        """Of the message."""
        return self.message.expires

    @property
    def return_by(self) -> int:
        """Of the message."""
        return self.message.return_by


AGES = (300_000, 3_600_000, 86_400_000)  # ms: the columns of a summary, then "older"


@attrs.frozen(slots=True)
class DestSummary:
    """What waits, is held or on its way at one destination.

    ages: every recipient in one column: younger than AGES[0], than AGES[1], than AGES[2], older.
    """

    name: str
    waiting: int
    due: int
    held: int
    taken: int
    oldest: int  # when the oldest message was begun (ms)
    ages: tuple[int, int, int, int]


@attrs.frozen(slots=True)
class Move:
    """A recipient that is filed anew: the routes have changed.  Due now, or at `due` (ms) where that is later."""

    id: int
    dest: str
    reply: str | None = None  # why, where dest is BOUNCE
    due: int = 0


Place = tuple[int, int]  # when a message should have been delivered (ms), its id


@attrs.frozen(slots=True)
class Overdue:
    """A message whose sender is to hear that it is late, and its recipients that still wait."""

    message: Message
    claims: tuple[Claim, ...]

    @property
    def place(self) -> Place:
        """In the order of the times by which messages should have been delivered."""
        return self.message.deliver_by, self.message.id


@attrs.frozen(slots=True)
class SweepReport:
    """What one sweep did; more: call again soon."""

    expired: int = 0
    orphans: int = 0
    more: bool = False


@attrs.frozen(slots=True)
class CopyReport:
    """What a backup, a restore, an export, an import or a move has done.

    refused: messages that were left out, each with the reason.  skipped: messages that were there already.
    """

    messages: int
    recipients: int
    files: int
    refused: tuple[tuple[int, str], ...] = ()
    skipped: int = 0


def total(reports: Iterable[CopyReport]) -> CopyReport:
    """What several have done together."""
    done = CopyReport(0, 0, 0)
    for each in reports:
        done = CopyReport(
            done.messages + each.messages,
            done.recipients + each.recipients,
            done.files + each.files,
            done.refused + each.refused,
            done.skipped + each.skipped,
        )
    return done


def cut_reply(reply: Reply | str) -> str:
    """A reply as it is stored (column `last_reply`): one line of clean text, at most 400 bytes of UTF-8."""
    text = str(reply).replace("\0", "?").encode("utf-8", "replace")
    return text[:REPLY_LIMIT].decode("utf-8", "ignore")


def code_of(reply: str) -> int | None:
    """The code of a reply that is text, None when it does not begin with one."""
    return int(reply[:3]) if reply[:3].isdecimal() and reply[:3].isascii() and len(reply) > 2 else None


def marked(
    state: DestState,
    now: int,
    blocked_until: int | None = None,
    why: str | None = None,
    suspended: bool | None = None,
    clear: bool = False,
) -> DestState:
    """What `IQueue.mark` makes of a destination's state.

    A block counts one failure and never ends earlier than the one before; clear forgets blocks and failures, but an
    operator's suspension stays until `suspended=False`.
    """
    if clear:
        state = DestState(state.name, blocked_why=state.blocked_why if state.suspended else None, suspended=state.suspended)
    if blocked_until is not None:
        first = now if state.first_fail is None else state.first_fail
        until = max(state.blocked_until, blocked_until)
        state = attrs.evolve(state, blocked_until=until, fails=state.fails + 1, first_fail=first)
    if suspended is not None:
        state = attrs.evolve(state, suspended=suspended)
    return attrs.evolve(state, changed=now, blocked_why=state.blocked_why if why is None else why)


def is_plain(state: DestState) -> bool:
    """Nothing to remember: such a destination has no row."""
    return not (state.blocked_until or state.fails or state.suspended)
