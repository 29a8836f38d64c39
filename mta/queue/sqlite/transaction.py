"""One transaction of the writer: all enqueues and settlements that arrived, in a handful of statements.

It is filled operation by operation, written, and when COMMIT has returned `committed` makes its consequences true for the
claims.  A settlement counts only for a claim that is taken now, and once; a report and the removal of what it reports are
in the same transaction (queue law R5), because everything here is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

import apsw

from mta.envelope import BOUNCE, BodyRef, Claim, Kind, Message, NewMessage, Outcome
from mta.queue.body import INLINE_LIMIT
from mta.queue.ids import MAX_BLOCK
from mta.queue.retry import GATHER
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.claims import Claims
from mta.queue.sqlite.operation import Enqueue, Operation, Settle
from mta.queue.state import Carried, State, cut_reply

__all__ = ["Transaction", "is_stored", "remove_recipients"]

CHUNK = 65536  # bytes of a body in one row
IN_FILE = -1
WAITING, TAKEN, HELD = int(State.WAITING), int(State.TAKEN), int(State.HELD)


class Transaction:
    """large: messages whose files may be removed once this is durable."""

    def __init__(self, claims: Claims, now: int) -> None:
        self.large: list[int] = []
        self._claims = claims
        self._now = now
        self._messages: list[Any] = []
        self._bodies: list[Any] = []
        self._deliveries: list[Any] = []
        self._histories: list[Any] = []
        self._put_back: list[Any] = []
        self._gone: list[int] = []
        self._gone_whole: list[int] = []  # messages of which nothing is left, known without asking
        self._gone_of: Counter[int] = Counter()  # messages that must be counted down
        self._settled: set[int] = set()
        self._taken: dict[int, int] = {}
        self._waiting: list[tuple[str, int, int, int]] = []  # dest, lane, due, id

    def run(self, db: apsw.Connection, operations: Sequence[Operation]) -> list[Any]:
        """Write all of them; their results, each in its place."""
        results: list[Any] = []
        for operation in operations:
            if isinstance(operation, Enqueue):
                for message in operation.messages:
                    self._store(message, operation.admitted)
                results.append(operation.claims)
            elif isinstance(operation, Settle):
                results.append([self._settle(outcome) for outcome in operation.outcomes])
                for message in operation.spawn:
                    self._store(message, ())
        self._write(db)
        return results

    def adopt(self, db: apsw.Connection, messages: Sequence[Carried]) -> None:
        """Write messages of another queue as they were there."""
        for each in messages:
            self._keep(each.message, each.body, each.message.nrcpt, len(each.recipients))
            for row in each.recipients:
                state = WAITING if row.state is State.TAKEN else int(row.state)  # nobody here delivers it
                self._deliveries += (row.id, each.id, row.dest, row.lane, row.due, state)
                self._deliveries += (row.address, row.orcpt, row.notify, row.last_code, row.last_reply)
                self._histories += (row.id, row.attempts, row.last_try, row.last_host, row.failed_dest)
        self._write(db)

    def committed(self) -> None:
        """What was written is true: tell the claims."""
        self._claims.taken.update(self._taken)
        if self._settled:
            self._claims.settled(self._settled)
        for place in self._waiting:
            self._claims.appeared(*place)

    # -- filling

    def _store(self, message: NewMessage, admitted: Container[int]) -> None:
        id, count = message.id, len(message.recipients)
        in_memory = message.body.data is not None
        self._keep(message, message.body, count, count)
        for number, to in enumerate(message.recipients, id + 1):
            state = WAITING
            if number in admitted:
                state = TAKEN
                self._taken[number] = count if in_memory else 0
            elif message.hold:
                state = HELD
            else:
                self._waiting.append((to.dest, to.lane, to.due, number))
            code, reply = (None, None) if to.refused is None else (to.refused.code, cut_reply(to.refused))
            self._deliveries += (number, id, to.dest, to.lane, to.due, state, to.address, to.orcpt, to.notify, code, reply)

    def _keep(self, message: NewMessage | Message, body: BodyRef, accepted: int, left: int) -> None:
        """The message and its body, without its recipients."""
        id, data = message.id, body.data
        if not 0 < accepted < MAX_BLOCK:
            raise ValueError(f"a message has 1 to {MAX_BLOCK - 1} recipients, not {accepted}")
        if data is not None:
            if len(data) > INLINE_LIMIT:
                raise ValueError(f"{len(data)} bytes are no inline body: its chunks would have its neighbours' ids")
            for number, start in enumerate(range(0, len(data), CHUNK)):
                self._bodies += (id + number, data if len(data) <= CHUNK else data[start : start + CHUNK])
        place = IN_FILE if data is None else id
        self._messages += (id, message.created, message.expires, message.sender, message.source, message.account)
        self._messages += (len(message.prefix) + body.size, int(message.flags), message.envid, accepted, left, place)
        self._messages += (message.prefix, message.trace, message.priority, message.deliver_by)

    def _settle(self, outcome: Outcome) -> bool:
        claim = outcome.claim
        id = claim.id
        recipients = self._claims.taken.get(id)
        if recipients is None or id in self._settled:
            return False
        self._settled.add(id)
        if outcome.kind is Kind.DELIVERED or id in self._claims.removed:
            self._gone.append(id)
            if recipients == 1:
                self._gone_whole.append(claim.message)
            else:
                self._gone_of[claim.message] += 1
        else:
            self._back(claim, outcome)
        return True

    def _back(self, claim: Claim, outcome: Outcome) -> None:
        dest, due, code, reply, tried, host = None, outcome.due, None, None, None, None
        if outcome.kind is not Kind.GIVEN_BACK:
            tried = self._now
            if claim.dest != BOUNCE:  # there, why the mail failed is kept for the report: not why that has to wait
                code, reply, host = outcome.reply.code, cut_reply(outcome.reply), outcome.host
        if outcome.kind is Kind.FAILED or outcome.kind is Kind.CONFIRMED:
            dest, due = BOUNCE, self._now + GATHER if due is None else due
        self._put_back += (claim.id, due, dest, code, reply, tried, host)
        self._waiting.append((dest or claim.dest, claim.lane, claim.due if due is None else due, claim.id))

    # -- writing

    def _write(self, db: apsw.Connection) -> None:
        sql.INSERT_MESSAGE.run(db, self._messages)
        sql.INSERT_BODY.run(db, self._bodies)
        sql.INSERT_DELIVERY.run(db, self._deliveries)
        sql.HISTORY.run(db, self._histories)
        sql.PUT_BACK.run(db, self._put_back)
        sql.DELETE_DELIVERY.run(db, self._gone)
        remove_messages(db, self._gone_whole, self._gone_of, self.large)


def is_stored(db: apsw.Connection, new: NewMessage) -> bool:
    """A repeat: the same message is there already, as far as it is not delivered."""
    count = len(new.recipients)
    values = (new.id, new.created, new.sender, len(new.prefix) + new.body.size, count, new.prefix)
    if db.execute(sql.SAME_MESSAGE, values).get is None:
        return False
    left = db.execute(sql.ADDRESSES, (new.id, new.id + count))
    return all(new.recipients[id - new.id - 1].address == address for id, address in left)


def remove_messages(db: apsw.Connection, gone: list[int], gone_of: Counter[int], large: list[int]) -> None:
    """Remove messages of which nothing is left: those of `gone`, inline all, and of those that lost so many recipients.

    `large` gets the messages whose bodies are files.
    """
    inline = list(gone)
    in_file: list[int] = []
    for id, pending, body in sql.COUNT_DOWN.run(db, [value for pair in gone_of.items() for value in pair]):
        if pending <= 0:
            (in_file if body == IN_FILE else inline).append(id)
    sql.DELETE_BODY.run(db, [chunk for id in inline for chunk in (id, id + 1)])
    sql.DELETE_MESSAGE.run(db, inline + in_file)
    large += in_file


def remove_recipients(db: apsw.Connection, rows: Sequence[tuple[int, int]], large: list[int]) -> None:
    """Delete recipients, given as (id, message), and the messages that have no other."""
    sql.DELETE_DELIVERY.run(db, [id for id, _ in rows])
    remove_messages(db, [], Counter(message for _, message in rows), large)
