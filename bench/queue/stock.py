"""What stands in a queue before it is measured: any number of deferred recipients, written fast.

The rows are written by the engine's own statements and transaction, only in large batches and without syncs: the file is
the one that the engine would have written.  Each message has one recipient and a small body; the recipients spread over
destinations and lanes as those of many senders do, and have a reply of their last attempt.  Not for a file that is in use.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import attrs

from bench.day.ours import ByDomain
from mta.envelope import BodyRef, Claim, NewMessage, NewRecipient, split_dest
from mta.queue.ids import Generator
from mta.queue.rerouting import KEY as ROUTES
from mta.queue.sqlite import schema
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.claims import Claims
from mta.queue.sqlite.operation import Enqueue
from mta.queue.sqlite.transaction import Transaction
from mta.status import Reply

__all__ = ["DEST", "Backlog", "fill"]

DEST = "smtp:default/site{}.test"
BATCH = 4_096  # messages of a transaction
LANES = 64
DAY = 86_400_000  # ms
LATER = Reply(451, "4.4.1", "connection timed out after 30 seconds, all hosts of the destination tried")
PREFIX = b"Received: from client.test ([192.0.2.1])\r\n\tby mx.test with ESMTP id 0123456789ABC\r\n"


@attrs.frozen
class Backlog:
    """rows: recipients.  destinations: how many of them, named by `dest`.  due: seconds from now until the first is due.

    domain: of the recipients; "" is the destination's next hop, which is where the routes send it too.  spread: seconds
    over which they fall due.  lanes: of each destination.  taken: as if they were in flight at a kill -9.
    """

    rows: int
    destinations: int = 1_000
    dest: str = DEST
    domain: str = ""
    due: int = 6 * 3600
    spread: int = 3600
    lanes: int = 8
    body: int = 512
    taken: bool = False


def fill(data_dir: Path, *backlogs: Backlog) -> float:
    """Write them into the queue of a data directory, which is made where it is missing.  Returns the seconds it took."""
    began, now = time.monotonic(), int(time.time() * 1000)
    for folder in ("queue", "spool"):
        (data_dir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / "queue" / "0.db"
    db = schema.open_writer(path)
    try:
        db.execute("PRAGMA synchronous=OFF")
        if db.execute(sql.NOTED, (ROUTES,)).get is None:
            db.execute(sql.NOTE, (ROUTES, ByDomain.digest))  # or all of it would be routed anew while it is measured
        ids = Generator(lambda: now - DAY, highest=schema.highest_id(db))
        for backlog in backlogs:
            for start in range(0, backlog.rows, BATCH):
                numbers = range(start, min(start + BATCH, backlog.rows))
                messages = [_message(ids.block(2), number, backlog, now) for number in numbers]
                claims = [_claim(message) for message in messages] if backlog.taken else []
                db.execute("BEGIN IMMEDIATE")
                Transaction(Claims(), now).run(db, [Enqueue(messages, claims)])
                db.execute("COMMIT")
            db.wal_checkpoint()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.close()
    _sync(path)
    return time.monotonic() - began


def _message(id: int, number: int, backlog: Backlog, now: int) -> NewMessage:
    place, turn = number % backlog.destinations, number // backlog.destinations
    due = now + (backlog.due + number * backlog.spread // max(backlog.rows, 1)) * 1000
    dest = backlog.dest.format(place)
    address = f"user{number}@{backlog.domain or split_dest(dest)[2]}"
    lane = (place + turn % backlog.lanes * 7) % LANES
    to = NewRecipient(address, dest=dest, lane=lane, due=due, refused=LATER)
    body = BodyRef(backlog.body, b"x" * backlog.body)
    return NewMessage(id, f"sender{lane}@example.com", (to,), body, PREFIX, now - DAY, now + 4 * DAY)


def _claim(message: NewMessage) -> Claim:
    (to,) = message.recipients
    return Claim(message.id + 1, message.id, to.dest, to.lane, to.due, 0, to.address)


def _sync(path: Path) -> None:
    """What was written without syncs is on the disk before anything is measured."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
