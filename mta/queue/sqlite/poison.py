"""A message that kills the process must not kill it for ever: strikes, and the file of the flight recorder.

`<node>.flights` beside the queue file is mapped into memory and never synced: it survives kill -9, and after a power cut
whatever it says is only a strike.  At the start each recipient that is found in it gets one (table `strike`), at STRIKES
its message is held at that destination, and says why.  A job that ends, however, has its strikes forgotten.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from mta.queue.flights import SIZE, Held, read
from mta.queue.state import State

__all__ = ["FORGET", "STRIKES", "open_recorder", "strike"]

STRIKES = 3
REPLY = "451 4.3.0 held: the service was killed {} times while this was being delivered"

FORGET = "DELETE FROM strike WHERE id=?"
FORGET_GONE = "DELETE FROM strike WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.id=strike.id)"
STRIKE = "INSERT INTO strike(id,count) SELECT id,1 FROM delivery WHERE id=? ON CONFLICT(id) DO UPDATE SET count=strike.count+1"
OUT = "SELECT s.id,s.count,d.message,d.dest FROM strike s CROSS JOIN delivery d ON d.id=s.id WHERE s.count>=?"
HOLD = (  # what is owed a report keeps what is to be reported
    "UPDATE delivery SET state=?,last_code=CASE dest WHEN 'bounce:' THEN last_code ELSE 451 END,"
    "last_reply=CASE dest WHEN 'bounce:' THEN last_reply ELSE ? END WHERE id>?"
    " AND id<=(SELECT id+nrcpt FROM message WHERE id=?) AND +dest=? AND +state<>?"
)


def open_recorder(path: Path) -> tuple[Any, list[int]]:
    """The buffer, empty, and who was in the air when the last process ended.  Blocks; OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)  # a hole on a full disk would kill us (SIGBUS)
        buffer = mmap.mmap(descriptor, SIZE)
    finally:
        os.close(descriptor)
    found = read(buffer[:])
    buffer[:] = bytes(SIZE)
    return buffer, found


def strike(db: apsw.Connection, recipients: Sequence[int]) -> tuple[set[int], list[Held]]:
    """A strike for each: who is suspect now, and what was held.  Nothing is changed when that cannot be written."""
    if not recipients and db.execute("SELECT 1 FROM strike LIMIT 1").get is None:
        return set(), []
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(FORGET_GONE)
        db.executemany(STRIKE, [(recipient,) for recipient in set(recipients)])
        held = [_hold(db, *row) for row in db.execute(OUT, (STRIKES,)).fetchall()]
        db.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):  # a full disk may have ended it
            db.execute("ROLLBACK")
        raise
    suspects: Any = db.execute("SELECT id FROM strike").fetchall()
    return {id for (id,) in suspects}, held


def _hold(db: apsw.Connection, id: Any, strikes: Any, message: Any, dest: Any) -> Held:
    """Its recipients at that destination go together, and are held together; released, they begin anew."""
    held = int(State.HELD)
    db.execute(HOLD, (held, REPLY.format(strikes), message, message, dest, held))
    recipients = db.changes()
    db.execute(FORGET, (id,))
    return Held(message, dest, recipients, strikes)
