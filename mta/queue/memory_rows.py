"""What the queue in memory keeps, and how it is looked at: rows, messages, searches, sums.

The same answers as the tables of the SQLite queue give (sqlite/search.py).  Everything is walked through: this queue is
for tests and for embedders who keep little.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import apsw
import attrs

from mta.envelope import BOUNCE, Claim, Flag, Message, NewMessage, NewRecipient, Notify
from mta.queue.ids import id_at, ms_of
from mta.queue.pattern import as_glob, folded
from mta.queue.state import AGES, Alteration, DestSummary, Overdue, Row, Selector, State, cut_reply

__all__ = [
    "Kept",
    "Recipient",
    "carried",
    "has_time",
    "is_alterable",
    "kept",
    "late",
    "matching",
    "recipient",
    "shown",
    "summaries",
    "will_be_told",
]


@attrs.define(slots=True)
class Recipient:
    """One recipient."""

    id: int
    message: int
    dest: str
    lane: int
    due: int
    state: State
    address: str
    orcpt: str | None
    notify: int
    attempts: int = 0
    last_try: int | None = None
    last_code: int | None = None
    last_reply: str | None = None
    failed_dest: str | None = None
    last_host: str | None = None
    claim: Claim | None = None
    removed: bool = False  # by an operator, while it was on its way

    def claimed(self) -> Claim:
        """The claim of it as it is now."""
        return Claim(
            self.id,
            self.message,
            self.dest,
            self.lane,
            self.due,
            self.attempts,
            self.address,
            self.orcpt,
            self.notify,
            self.last_reply,
            self.failed_dest,
            self.last_host,
        )

    def owe(self, due: int) -> None:
        """A report is owed, from that moment on."""
        if self.dest != BOUNCE:
            self.failed_dest = self.dest
        self.dest, self.due, self.attempts = BOUNCE, due, 0


@attrs.define(slots=True)
class Kept:
    """A message as it was accepted and as it is read, and how many of its recipients are left."""

    new: NewMessage
    message: Message
    pending: int

    @property
    def body(self) -> bytes:
        return self.new.body.data or b""


Messages = Mapping[int, Kept]


def recipient(message: int, id: int, new: NewRecipient) -> Recipient:
    """A new row."""
    refused = new.refused
    return Recipient(
        id,
        message,
        new.dest,
        new.lane,
        new.due,
        State.WAITING,
        new.address,
        new.orcpt,
        new.notify,
        last_code=refused.code if refused else None,
        last_reply=cut_reply(refused) if refused else None,
    )


def kept(new: NewMessage) -> Kept:
    """A new message."""
    return Kept(new, new.stored(), len(new.recipients))


def is_alterable(row: Recipient, action: Alteration, now: int) -> bool:
    """Would this change the row?"""
    if action is Alteration.RETRY:
        return row.state is State.WAITING and row.claim is None and row.due > now
    if action is Alteration.REMOVE:
        return not row.removed
    return (row.state is State.HELD) is (action is Alteration.RELEASE)


def matching(selector: Selector, messages: Messages) -> Callable[[Recipient], bool]:
    """Is a row selected?"""
    to = None if selector.to is None else as_glob(selector.to)
    sender = None if selector.sender is None else as_glob(selector.sender)

    def is_selected(row: Recipient) -> bool:
        message = messages[row.message].message
        return (
            (selector.message is None or row.message == selector.message)
            and (selector.dest is None or row.dest == selector.dest)
            and (selector.state is None or row.state is selector.state)
            and (to is None or _matches(to, row.address))
            and (sender is None or _matches(sender, message.sender))
            and (selector.before is None or message.created < selector.before)
            and (selector.account is None or message.account == selector.account)
        )

    return is_selected


def _matches(glob: str, text: str) -> bool:
    return apsw.strglob(glob, folded(text)) == 0


def shown(row: Recipient, message: Message) -> Row:
    """The row as people see it."""
    return Row(
        row.id,
        row.message,
        message.sender,
        row.address,
        row.dest,
        row.state,
        row.due,
        row.attempts,
        message.created,
        message.size,
        row.last_code,
        row.last_reply,
        row.last_try,
        row.failed_dest,
        row.lane,
        message.account,
        message.expires,
        message.flags,
        row.orcpt,
        row.notify,
        row.last_host,
    )


def carried(row: Row) -> Recipient:
    """A recipient from another queue."""
    return Recipient(
        row.id,
        row.message,
        row.dest,
        row.lane,
        row.due,
        State.WAITING if row.state is State.TAKEN else row.state,
        row.address,
        row.orcpt,
        row.notify,
        row.attempts,
        row.last_try,
        row.last_code,
        row.last_reply,
        row.failed_dest,
        row.last_host,
    )


def summaries(rows: Iterable[Recipient], now: int, limit: int) -> list[DestSummary]:
    """The destinations with the most recipients."""
    places: dict[str, list[Recipient]] = defaultdict(list)
    for row in rows:
        places[row.dest].append(row)
    largest = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_summary(name, found, now) for name, found in largest[:limit]]


def _summary(name: str, rows: list[Recipient], now: int) -> DestSummary:
    states = [row.state for row in rows]
    younger = [sum(row.id >= id_at(now - age + 1) for row in rows) for age in AGES]
    return DestSummary(
        name,
        waiting=states.count(State.WAITING),
        due=sum(row.state is State.WAITING and row.due <= now for row in rows),
        held=states.count(State.HELD),
        taken=states.count(State.TAKEN),
        oldest=ms_of(min(row.id for row in rows)),
        ages=(younger[0], younger[1] - younger[0], younger[2] - younger[1], len(rows) - younger[2]),
    )


def has_time(message: Message) -> bool:
    """Its sender has said when he wants to be told (RFC 2852, mode N)."""
    return message.deliver_by > 0 and not message.flags & Flag.BY_RETURN


def will_be_told(message: Message) -> bool:
    """And that moment comes before the message is given up."""
    return has_time(message) and message.deliver_by < message.expires


def late(kept: Kept, rows: Mapping[int, Recipient]) -> Overdue | None:
    """The message, when its sender is to hear that it is late."""
    message = kept.message
    if not message.sender or message.flags & Flag.DELAY_WARNED:
        return None
    found = [rows[id] for id in range(message.id + 1, message.id + 1 + message.nrcpt) if id in rows]
    waiting = [row for row in found if row.state is State.WAITING and not row.removed and row.dest != BOUNCE]
    waiting = [row for row in waiting if _hears_of_delay(row.notify)]
    return Overdue(message, tuple(row.claimed() for row in waiting)) if waiting else None


def _hears_of_delay(notify: int) -> bool:
    """RFC 3461 4.1: where nothing was said it is as we please; NEVER stands alone."""
    return notify == 0 or notify & (Notify.NEVER | Notify.DELAY) == Notify.DELAY
