"""The queue in memory: the same seam as the SQLite one, for tests and for embedders who keep nothing.

It promises everything `IQueue` says but durability: the mail lives as long as the object does.  `stop` and `start` again is
its crash: claims are forgotten, taken rows wait.  All Deferreds have fired when they are returned.  Rows that wait are in
one heap for each lane of each destination; an entry counts only while its row is waiting there with that due time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.envelope import BOUNCE, Claim, Flag, Kind, NewMessage, NewRecipient, Outcome, Stored, Want
from mta.interfaces import IBodySink, IQueue
from mta.queue.body import INLINE_LIMIT
from mta.queue.flights import Flights
from mta.queue.ids import Generator, id_at
from mta.queue.memory_body import MemoryReader, MemorySink, missing
from mta.queue.memory_rows import (
    Kept,
    Recipient,
    carried,
    has_time,
    is_alterable,
    kept,
    late,
    matching,
    recipient,
    shown,
    summaries,
    will_be_told,
)
from mta.queue.retry import GATHER, NEVER_TRIED
from mta.queue.state import (
    Alteration,
    Carried,
    CopyReport,
    DestState,
    DestSummary,
    Lane,
    Move,
    Overdue,
    Place,
    Row,
    Selector,
    State,
    SweepReport,
    code_of,
    cut_reply,
    is_plain,
    marked,
)
from mta.status import permanent, transient

__all__ = ["MemoryQueue"]

BITE = 500  # rows expired by one sweep, or moved at once


@implementer(IQueue)
class MemoryQueue:
    """now: ms since the epoch."""

    def __init__(self, now: Callable[[], int], node: int = 0) -> None:
        self._now = now
        self._ids = Generator(now, node)
        self._messages: dict[int, Kept] = {}
        self._rows: dict[int, Recipient] = {}
        self._waiting: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._marks: dict[str, DestState] = {}
        self._notes: dict[str, str] = {}
        self.flights = Flights()
        self.recovered: Deferred[None] = succeed(None)

    pressure = 0.0

    def room(self) -> None:
        return None

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
        self,
        messages: Sequence[NewMessage],
        admit: Callable[[NewRecipient], bool] | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> Deferred[list[Claim]]:
        admitted = [
            [admit is not None and not message.hold and admit(recipient) for recipient in message.recipients]
            for message in messages
        ]
        if wanted is not None and not wanted():
            return fail(transient("4.3.0", "given up"))
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
        known = self._messages.get(new.id)
        return not all(to.dest for to in new.recipients) or (
            known is not None and (known.new.sender, _addresses(known.new)) != (new.sender, _addresses(new))
        )

    def _keep(self, new: NewMessage, mine: Sequence[bool]) -> list[Claim]:
        """Store a message unless it is stored already; the claims of the recipients that are `mine`."""
        if new.id in self._messages:
            return []
        self._messages[new.id] = kept(new)
        claims = []
        for number, to in enumerate(new.recipients):
            row = self._rows[new.id + 1 + number] = recipient(new.id, new.id + 1 + number, to)
            if mine[number]:
                row.state = State.TAKEN
                claims.append(self._claim(row))
            elif new.hold:
                row.state = State.HELD
            else:
                self._file(row)
        return claims

    def _file(self, row: Recipient) -> None:
        """The row waits: it can be found."""
        heappush(self._waiting.setdefault((row.dest, row.lane), []), (row.due, row.id))

    def _first(self, place: tuple[str, int]) -> Recipient | None:
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

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]:
        block = range(id, id + recipients + 1)
        used = any(known in block for known in self._messages) or any(known in block for known in self._rows)
        return succeed(None if used else MemorySink(id))

    def adopt(self, messages: Sequence[Carried]) -> Deferred[None]:
        if any(self._messages.keys() & {each.id} or self._rows.keys() & {row.id for row in each.recipients} for each in messages):
            return fail(transient("4.3.0", "cannot store the message now", reason="an id is in use"))
        for each in messages:
            envelope = each.message
            to = tuple(NewRecipient(row.address, row.orcpt, row.notify, row.dest, row.lane, row.due) for row in each.recipients)
            new = NewMessage(each.id, envelope.sender, to, each.body, envelope.prefix, envelope.created, envelope.expires)
            self._messages[each.id] = Kept(new, envelope, len(to))
            for row in map(carried, each.recipients):
                self._rows[row.id] = row
                if row.state is State.WAITING:
                    self._file(row)
        return succeed(None)

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

    def _claim(self, row: Recipient) -> Claim:
        row.claim = row.claimed()
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
            row.last_try = self._now()
            if row.dest != BOUNCE:  # there, why the mail failed is kept for the report: not why that has to wait
                row.last_code, row.last_reply = outcome.reply.code, cut_reply(outcome.reply)
                row.last_host = outcome.host
        if outcome.kind is Kind.FAILED or outcome.kind is Kind.CONFIRMED:
            row.owe(self._now() + GATHER)
        row.due = row.due if outcome.due is None else outcome.due
        if row.state is not State.HELD:
            row.state = State.WAITING
            self._file(row)
        return True

    def _remove(self, row: Recipient) -> None:
        del self._rows[row.id]
        message = self._messages[row.message]
        message.pending -= 1
        if not message.pending:
            del self._messages[row.message]

    def load(self, message: int) -> Deferred[Stored]:
        found = self._messages.get(message)
        if found is None:
            return fail(missing())
        return succeed(Stored(found.message, found.body if len(found.body) <= INLINE_LIMIT else None))

    def open_body(self, message: int) -> MemoryReader:
        found = self._messages.get(message)
        return MemoryReader(found.body if found is not None else None)

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

    def alter(
        self, selector: Selector, action: Alteration, now: int, limit: int = 500, after: int = 0
    ) -> Deferred[tuple[int, int]]:
        rows = [row for row in self._selected(selector, after) if is_alterable(row, action, now)]
        for row in rows[:limit]:
            self._alter(row, action, now)
        return succeed((min(len(rows), limit), rows[limit - 1].id if len(rows) > limit else 0))

    def _alter(self, row: Recipient, action: Alteration, now: int) -> None:
        if action is Alteration.HOLD:
            row.state = State.HELD
        elif action is Alteration.REMOVE and row.claim is not None:
            row.removed = True
        elif action is Alteration.REMOVE:
            self._remove(row)
        else:
            is_put_off = row.attempts == 0 and self._messages[row.message].message.flags & Flag.PUT_OFF
            later = row.due if is_put_off and action is Alteration.RELEASE else 0  # not before its release (RFC 4865)
            row.state, row.due = State.WAITING, max(now, later)
            if row.claim is None:
                self._file(row)

    def _selected(self, selector: Selector, after: int) -> list[Recipient]:
        is_selected = matching(selector, self._messages)
        return [row for id, row in sorted(self._rows.items()) if id > after and is_selected(row)]

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        rows = self._selected(selector, after)[:limit]
        return succeed([shown(row, self._messages[row.message].message) for row in rows])

    def summary(self, now: int, limit: int = 20) -> Deferred[list[DestSummary]]:
        return succeed(summaries(self._rows.values(), now, limit))

    def refile(self, moves: Sequence[Move], now: int) -> Deferred[int]:
        if len(moves) > BITE:
            return fail(ValueError(f"at most {BITE} recipients are moved at once, not {len(moves)}"))
        return succeed(sum(self._move(move, now) for move in {move.id: move for move in moves}.values()))

    def _move(self, move: Move, now: int) -> bool:
        row = self._rows.get(move.id)
        if row is None or row.claim is not None or row.dest in (BOUNCE, move.dest):
            return False
        if move.dest == BOUNCE:
            row.owe(now)
        else:
            row.dest, row.due, row.failed_dest = move.dest, max(now, move.due), None
        if move.reply is not None:
            row.last_reply, row.last_host = cut_reply(move.reply), None
            row.last_code = code_of(row.last_reply) or row.last_code
        if row.state is State.WAITING:
            self._file(row)
        return True

    def overdue(self, before: int, after: int = 0, limit: int = 100) -> Deferred[list[Overdue]]:
        old = sorted(id for id, kept in self._messages.items() if after < id < id_at(before) and not will_be_told(kept.message))
        found = (late(self._messages[id], self._rows) for id in old)
        return succeed(list(islice((overdue for overdue in found if overdue is not None), limit)))

    def overdue_by(self, now: int, after: Place = (0, 0), limit: int = 100) -> Deferred[list[Overdue]]:
        old = [kept for kept in self._messages.values() if has_time(kept.message) and kept.message.deliver_by <= now]
        found = [overdue for kept in old if (overdue := late(kept, self._rows)) is not None]
        return succeed(sorted((overdue for overdue in found if overdue.place > after), key=lambda overdue: overdue.place)[:limit])

    def warn(self, message: int, spawn: Sequence[NewMessage]) -> Deferred[bool]:
        found = self._messages.get(message)
        if found is None or found.message.flags & Flag.DELAY_WARNED:
            return succeed(False)
        if any(map(self._unsound, spawn)):
            return fail(transient("4.3.0", "a message that was made cannot be stored"))
        found.message = attrs.evolve(found.message, flags=found.message.flags | Flag.DELAY_WARNED)
        for new in spawn:
            self._keep(new, [False] * len(new.recipients))
        return succeed(True)

    def noted(self, key: str) -> Deferred[str]:
        return succeed(self._notes.get(key, ""))

    def note(self, key: str, value: str) -> Deferred[None]:
        self._notes[key] = value
        return succeed(None)

    def backup(self, dest: Path, progress: Callable[[str, int, int], None]) -> Deferred[CopyReport]:
        """See IQueue: nothing is kept here that could be copied."""
        return fail(permanent("4.3.0", "no backup", reason="this queue is in memory only"))

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
            why = blocked.blocked_why if blocked and not blocked.suspended else None  # an operator's words are not for senders
            row.last_reply = row.last_reply or why or NEVER_TRIED
            row.owe(now)
            self._file(row)
        return succeed(SweepReport(expired=min(len(old), BITE), more=len(old) > BITE))


def _addresses(new: NewMessage) -> list[str]:
    return [recipient.address for recipient in new.recipients]
