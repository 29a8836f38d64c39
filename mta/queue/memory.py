"""The queue in memory: the same seam as the SQLite one, for tests and for embedders who keep nothing.

It promises everything `IQueue` says but durability: the mail lives as long as the object does.  `stop` and `start` again is
its crash: claims are forgotten, taken rows wait.  All Deferreds have fired when they are returned.  Rows that wait are in
one heap for each lane of each destination; an entry counts only while its row is waiting there with that due time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.envelope import BOUNCE, Claim, Kind, Message, NewMessage, NewRecipient, Outcome, Stored, Want
from mta.interfaces import IQueue
from mta.queue.body import INLINE_LIMIT
from mta.queue.ids import Generator
from mta.queue.memory_body import MemoryReader, MemorySink, missing
from mta.queue.retry import GATHER, NEVER_TRIED
from mta.queue.state import Alteration, DestState, Lane, Row, Selector, State, SweepReport, cut_reply, is_plain, marked
from mta.status import permanent, transient

__all__ = ["MemoryQueue"]

BITE = 500  # rows expired by one sweep


@attrs.define(slots=True)
class _Row:
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
    last_code: int | None = None
    last_reply: str | None = None
    claim: Claim | None = None
    removed: bool = False  # by an operator, while it was on its way


@attrs.define(slots=True)
class _Kept:
    """A message as it was accepted and as it is read, and how many of its recipients are left."""

    new: NewMessage
    message: Message
    pending: int

    @property
    def body(self) -> bytes:
        return self.new.body.data or b""


@implementer(IQueue)
class MemoryQueue:
    """now: ms since the epoch."""

    def __init__(self, now: Callable[[], int], node: int = 0) -> None:
        self._now = now
        self._ids = Generator(now, node)
        self._messages: dict[int, _Kept] = {}
        self._rows: dict[int, _Row] = {}
        self._waiting: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._marks: dict[str, DestState] = {}

    def start(self) -> Deferred[None]:
        for row in self._rows.values():
            if row.claim is not None or row.state is State.TAKEN:
                row.claim = None
                if row.state is State.TAKEN:
                    row.state = State.WAITING
                self._file(row)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    # Accepting

    def create_body(self, recipients: int) -> MemorySink:
        return MemorySink(self._ids.block(recipients + 1))

    def enqueue(
        self, messages: Sequence[NewMessage], admit: Callable[[NewRecipient], bool] | None = None
    ) -> Deferred[list[Claim]]:
        admitted = [[admit is not None and admit(recipient) for recipient in message.recipients] for message in messages]
        bad = [message for message in messages if self._unsound(message)]
        claims = [
            claim
            for message, mine in zip(messages, admitted, strict=True)
            if message not in bad
            for claim in self._keep(message, mine if not bad else [False] * len(mine))  # nobody would hear of the claims
        ]
        return fail(permanent("5.6.0", "the message cannot be stored", code=554)) if bad else succeed(claims)

    def _unsound(self, new: NewMessage) -> bool:
        """Somebody else's id, or a recipient without a destination."""
        kept = self._messages.get(new.id)
        return not all(to.dest for to in new.recipients) or (
            kept is not None and (kept.new.sender, _addresses(kept.new)) != (new.sender, _addresses(new))
        )

    def _keep(self, new: NewMessage, mine: Sequence[bool]) -> list[Claim]:
        """Store a message unless it is stored already; the claims of the recipients that are `mine`."""
        if new.id in self._messages:
            return []
        self._messages[new.id] = _Kept(new, _message(new), len(new.recipients))
        claims = []
        for number, recipient in enumerate(new.recipients):
            row = self._rows[new.id + 1 + number] = _row(new.id, new.id + 1 + number, recipient)
            if mine[number]:
                row.state = State.TAKEN
                claims.append(self._claim(row))
            else:
                self._file(row)
        return claims

    def _file(self, row: _Row) -> None:
        """The row waits: it can be found."""
        heappush(self._waiting.setdefault((row.dest, row.lane), []), (row.due, row.id))

    def _first(self, place: tuple[str, int]) -> _Row | None:
        """The row of that lane that is due first."""
        heap = self._waiting.get(place, [])
        while heap:
            due, id = heap[0]
            row = self._rows.get(id)
            if (
                row is not None
                and row.due == due
                and row.claim is None
                and row.state is State.WAITING
                and (row.dest, row.lane) == place
            ):
                return row
            heappop(heap)
        self._waiting.pop(place, None)
        return None

    # Delivering

    def claim(self, wants: Sequence[Want], now: int) -> Deferred[list[Claim]]:
        claims = []
        for want in wants:
            place = (want.dest, want.lane)
            for _ in range(want.quota):
                row = self._first(place)
                if row is None or row.due > now:
                    break
                heappop(self._waiting[place])
                claims.append(self._claim(row))
        return succeed(claims)

    def _claim(self, row: _Row) -> Claim:
        # fmt: off
        row.claim = Claim(
            row.id, row.message, row.dest, row.lane, row.due, row.attempts, row.address, row.orcpt, row.notify, row.last_reply
        )
        # fmt: on
        return row.claim

    def settle(self, outcomes: Sequence[Outcome], spawn: Sequence[NewMessage] = ()) -> Deferred[list[bool]]:
        if any(map(self._unsound, spawn)):
            return fail(transient("4.3.0", "a message that was made cannot be stored"))
        results = [self._settle(outcome) for outcome in outcomes]
        for message in spawn:
            self._keep(message, [False] * len(message.recipients))
        return succeed(results)

    def _settle(self, outcome: Outcome) -> bool:
        row = self._rows.get(outcome.claim.id)
        if row is None or row.claim != outcome.claim:
            return False
        row.claim = None
        if outcome.kind is Kind.DELIVERED or row.removed:
            self._remove(row)
            return True
        if outcome.kind is not Kind.GIVEN_BACK:
            row.attempts += 1
            if row.dest != BOUNCE:  # there, why the mail failed is kept for the report: not why that has to wait
                row.last_code, row.last_reply = outcome.reply.code, cut_reply(outcome.reply)
        if outcome.kind is Kind.FAILED:
            row.dest, row.attempts, row.due = BOUNCE, 0, self._now() + GATHER
        row.due = row.due if outcome.due is None else outcome.due
        if row.state is not State.HELD:
            row.state = State.WAITING
            self._file(row)
        return True

    def _remove(self, row: _Row) -> None:
        del self._rows[row.id]
        kept = self._messages[row.message]
        kept.pending -= 1
        if not kept.pending:
            del self._messages[row.message]

    def load(self, message: int) -> Deferred[Stored]:
        kept = self._messages.get(message)
        if kept is None:
            return fail(missing())
        return succeed(Stored(kept.message, kept.body if len(kept.body) <= INLINE_LIMIT else None))

    def open_body(self, message: int) -> MemoryReader:
        kept = self._messages.get(message)
        return MemoryReader(kept.body if kept is not None else None)

    # Looking and altering

    def lanes(self, dest: str | None = None, after: str = "", limit: int = 1000) -> Deferred[list[Lane]]:
        found: list[Lane] = []
        for place in sorted(place for place in self._waiting if (place[0] > after if dest is None else place[0] == dest)):
            if len(found) >= limit and found[-1].dest != place[0]:  # a destination is never cut
                break
            row = self._first(place)
            if row is not None:
                found.append(Lane(place[0], place[1], row.due))
        return succeed(found)

    def mark(
        self,
        dest: str,
        blocked_until: int | None = None,
        why: str | None = None,
        suspended: bool | None = None,
        clear: bool = False,
    ) -> Deferred[DestState]:
        known = self._marks.pop(dest, None) or DestState(dest)
        state = marked(known, self._now(), blocked_until, why, suspended, clear)
        if not is_plain(state):
            self._marks[dest] = state
        return succeed(state)

    def destinations(self) -> Deferred[list[DestState]]:
        return succeed(sorted(self._marks.values(), key=lambda state: state.name))

    def alter(self, selector: Selector, action: Alteration, now: int, limit: int = 500) -> Deferred[tuple[int, bool]]:
        rows = [row for row in self._selected(selector) if _alterable(row, action, now)]
        for row in rows[:limit]:
            self._alter(row, action, now)
        return succeed((min(len(rows), limit), len(rows) > limit))

    def _alter(self, row: _Row, action: Alteration, now: int) -> None:
        if action is Alteration.HOLD:
            row.state = State.HELD
        elif action is Alteration.REMOVE and row.claim is not None:
            row.removed = True
        elif action is Alteration.REMOVE:
            self._remove(row)
        else:
            row.state, row.due = State.WAITING, now
            if row.claim is None:
                self._file(row)

    def _selected(self, selector: Selector) -> Iterable[_Row]:
        return (
            row
            for _, row in sorted(self._rows.items())
            if (selector.message is None or row.message == selector.message)
            and (selector.dest is None or row.dest == selector.dest)
            and (selector.state is None or row.state is selector.state)
        )

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        rows = [self._shown(row) for row in self._selected(selector) if row.id > after]
        return succeed(rows[:limit])

    def _shown(self, row: _Row) -> Row:
        message = self._messages[row.message].message
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
        )

    def sweep(self, now: int) -> Deferred[SweepReport]:
        old = [
            row
            for row in self._rows.values()
            if row.claim is None
            and row.state is State.WAITING
            and row.dest != BOUNCE
            and self._messages[row.message].message.expires <= now
        ]
        for row in old[:BITE]:
            blocked = self._marks.get(row.dest)
            row.last_code = row.last_code or 451
            row.last_reply = row.last_reply or (blocked.blocked_why if blocked else None) or NEVER_TRIED
            row.dest, row.due, row.attempts = BOUNCE, now, 0
            self._file(row)
        return succeed(SweepReport(expired=min(len(old), BITE), more=len(old) > BITE))


def _row(message: int, id: int, new: NewRecipient) -> _Row:
    refused = new.refused
    return _Row(
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


def _message(new: NewMessage) -> Message:
    return Message(
        new.id,
        new.sender,
        new.created,
        new.expires,
        len(new.prefix) + new.body.size,
        new.flags,
        len(new.recipients),
        new.prefix,
        new.source,
        new.account,
        new.envid,
        new.trace,
    )


def _addresses(new: NewMessage) -> list[str]:
    return [recipient.address for recipient in new.recipients]


def _alterable(row: _Row, action: Alteration, now: int) -> bool:
    """Would this change the row?"""
    if action is Alteration.RETRY:
        return row.state is State.WAITING and row.claim is None and row.due > now
    if action is Alteration.REMOVE:
        return not row.removed
    return (row.state is State.HELD) is (action is Alteration.RELEASE)
