"""What an operator does to recipients: hold, release, retry, remove, file elsewhere; and the state of destinations.

Functions of the writer's connection, run inside its transactions.  Each alters a bounded number of rows, found by index,
so that accepting is never held up for long.  A recipient in flight (taken) that is held keeps its claim and stays held if
it is not delivered.  One that is removed is held too, so that a crash does not send it after all, and marked: when it is
settled it goes, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apsw

from mta.envelope import BOUNCE, NewMessage
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.claims import Claims, dests, lanes_of
from mta.queue.sqlite.operation import Enqueue
from mta.queue.sqlite.transaction import Transaction, remove_recipients
from mta.queue.state import Alteration, Carried, DestState, Move, Row, Selector, State, code_of, cut_reply, is_plain, marked

__all__ = ["MOST_MOVES", "adopt", "all_dests", "alter", "alter_found", "is_used", "mark", "put", "refile", "suitable", "warn"]

MOST_MOVES = 500  # in one transaction
LONG_AGO = -(1 << 63)
FROM = {
    Alteration.HOLD: (State.WAITING, State.TAKEN),
    Alteration.RELEASE: (State.HELD,),
    Alteration.RETRY: (State.WAITING,),
    Alteration.REMOVE: (State.WAITING, State.TAKEN, State.HELD),
}
Found = list[tuple[int, int]]  # (recipient, message)


def alter(
    db: apsw.Connection, large: list[int], claims: Claims, selector: Selector, action: Alteration, now: int, limit: int
) -> tuple[int, int]:
    """One bite: how many recipients were altered, and 1 when there are more, which are found without a place to go on from."""
    states = [state for state in FROM[action] if selector.state in (None, state)]
    later_than = now if action is Alteration.RETRY else LONG_AGO
    passed = claims.removed if action in (Alteration.REMOVE, Alteration.RELEASE) else ()  # removed already
    found: Found = []
    for state in states:
        if len(found) <= limit:
            found += _select(db, selector, state, later_than, limit + 1 - len(found) + len(passed))
    found = [row for row in found if row[0] not in passed]
    _apply(db, large, claims, found[:limit], action, now)
    return min(len(found), limit), int(len(found) > limit)


def suitable(rows: Sequence[Row], action: Alteration, now: int) -> list[int]:
    """The ids of those that would be altered, as they were when they were found."""
    return [row.id for row in rows if row.state in FROM[action] and (action is not Alteration.RETRY or row.due > now)]


def alter_found(
    db: apsw.Connection, large: list[int], claims: Claims, ids: Sequence[int], dest: str | None, action: Alteration, now: int
) -> int:
    """Alter recipients that were found beside the writer, if they are still what they were: how many."""
    passed = claims.removed if action in (Alteration.REMOVE, Alteration.RELEASE) else ()
    rows = [
        (id, message)
        for id, message, at, state, due in sql.PLACES.run(db, ids)
        if State(state) in FROM[action]
        and dest in (None, at)
        and id not in passed
        and (action is not Alteration.RETRY or due > now)
    ]
    _apply(db, large, claims, rows, action, now)
    return len(rows)


def _apply(db: apsw.Connection, large: list[int], claims: Claims, rows: Found, action: Alteration, now: int) -> None:
    ids = [id for id, _ in rows]
    if action is Alteration.HOLD:
        sql.HOLD.run(db, ids)
    elif action is Alteration.REMOVE:
        _remove(db, large, claims, rows)
    else:
        again = sql.RELEASE if action is Alteration.RELEASE else sql.RETRY
        again.run(db, [value for id in ids for value in (id, now)])


def _select(db: apsw.Connection, selector: Selector, state: State, later_than: int, limit: int) -> Found:
    """At most `limit` recipients in that state and due later than that moment."""
    values = {"state": int(state), "due": later_than, "limit": limit, "dest": selector.dest, "message": selector.message}
    if selector.message is not None:
        text = sql.OF_MESSAGE if selector.dest is None else sql.OF_MESSAGE_DEST
    elif state is State.WAITING:
        return _waiting(db, selector.dest, later_than, limit)
    elif state is State.TAKEN:
        text = sql.FRESH if selector.dest is None else sql.FRESH_DEST
    else:
        text = sql.HELD if selector.dest is None else sql.HELD_DEST
    return list(db.execute(text, values))


def _waiting(db: apsw.Connection, dest: str | None, later_than: int, limit: int) -> Found:
    found: Found = []
    for name, lane in _places(db, dest):
        values = {"dest": name, "lane": lane, "due": later_than, "limit": limit - len(found)}
        found += db.execute(sql.WAITING_LANE, values)
        if len(found) >= limit:
            break
    return found


def _places(db: apsw.Connection, dest: str | None) -> Iterator[tuple[str, int]]:
    for name in dests(db) if dest is None else (dest,):
        for lane in lanes_of(db, name):
            yield name, lane


def _remove(db: apsw.Connection, large: list[int], claims: Claims, rows: Found) -> None:
    in_flight = [id for id, _ in rows if id in claims.taken]
    sql.HOLD.run(db, in_flight)
    claims.removed.update(in_flight)
    remove_recipients(db, [row for row in rows if row[0] not in claims.taken], large)


def refile(db: apsw.Connection, claims: Claims, moves: Sequence[Move], now: int) -> int:
    """Move recipients that nobody has to other destinations: how many."""
    wanted = {move.id: move for move in moves}
    values: list[object] = []
    for id, _, dest, state, _ in sql.PLACES.run(db, list(wanted)):
        move = wanted[id]
        if id in claims.taken or state == State.TAKEN or dest in (BOUNCE, move.dest):
            continue
        reply = None if move.reply is None else cut_reply(move.reply)
        values += (id, move.dest, max(now, move.due), None if reply is None else code_of(reply), reply)
    sql.REFILE.run(db, values)
    return len(values) // sql.REFILE.width


def warn(db: apsw.Connection, claims: Claims, message: int, spawn: Sequence[NewMessage], now: int) -> bool:
    """The flag and the warning, in one transaction.  False: gone or warned already, nothing was written."""
    db.execute(sql.WARNED, (message,))
    if not db.changes():
        return False
    Transaction(claims, now).run(db, [Enqueue(spawn, [])])  # waiting: every change drops the cursors
    return True


def is_used(db: apsw.Connection, id: int, recipients: int) -> bool:
    """One of the ids of such a message is in the file.  Inline bodies have two, whatever the number of recipients."""
    return bool(db.execute(sql.IN_USE, {"id": id, "last": id + recipients}).get)


def adopt(db: apsw.Connection, messages: Sequence[Carried]) -> None:
    """Messages of another queue, in one transaction."""
    Transaction(Claims(), 0).adopt(db, messages)  # nothing is claimed or settled


def all_dests(db: apsw.Connection) -> list[DestState]:
    """The destinations that are not plain."""
    return [_dest(row) for row in db.execute(sql.ALL_DESTS)]


def mark(
    db: apsw.Connection,
    now: int,
    dest: str,
    blocked_until: int | None,
    why: str | None,
    suspended: bool | None,
    clear: bool,
) -> DestState:
    """Change a destination's state: one row is written, or deleted."""
    row = db.execute(sql.ONE_DEST, (dest,)).fetchone()
    state = marked(DestState(dest) if row is None else _dest(row), now, blocked_until, why, suspended, clear)
    if not is_plain(state):
        put(db, state)
    elif row is not None:
        db.execute(sql.DROP_DEST, (dest,))
    return state


def put(db: apsw.Connection, state: DestState) -> None:
    """Write the state of a destination that is not plain."""
    values = (state.name, state.blocked_until, state.blocked_why, state.fails, state.first_fail, int(state.suspended))
    db.execute(sql.PUT_DEST, (*values, state.changed))


def _dest(row: tuple[str, int, str | None, int, int | None, int, int]) -> DestState:
    name, blocked_until, why, fails, first_fail, suspended, changed = row
    return DestState(name, blocked_until, why, fails, first_fail, bool(suspended), changed)
