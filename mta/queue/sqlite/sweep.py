"""The sweep: recipients that are too old go to the bounce, files that no row names are removed.  One bounded bite each time.

The order of ids is the order of age, so expiry walks the oldest messages by primary key and needs no index: messages
younger than the shortest lifetime seen cannot have expired.  A time that the sender has named (RFC 2852) is no lifetime, else
one message for a minute would have the whole queue walked through for ever: an index leads to those.  Held recipients and
those in flight are left alone, they are met again by a later round.  Orphans (queue law R6) are looked for once an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw
from twisted.internet.defer import Deferred

from mta.queue.body import Spool, unlink
from mta.queue.ids import id_at, ms_of
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.claims import Claims
from mta.queue.sqlite.reads import Reads
from mta.queue.state import SweepReport

__all__ = ["Sweep", "expire"]

WALK = 5000  # messages looked at in one bite
BITE = 500  # recipients
FREE = 16_384  # pages, 64 MiB: a file with more unused ones than this, and than a quarter, gives some back
FOLDERS = 64  # of the 256 of the spool, looked through in one bite
HOUR = 3_600_000  # ms

Old = list[tuple[int, int]]  # (message, recipients) of expired messages
Expired = tuple[int, int | None]
Change = Callable[[Callable[[apsw.Connection, list[int]], Any]], Deferred[Any]]


class Sweep:
    """change: gives a function to the writer."""

    def __init__(self, reads: Reads, spool: Spool, claims: Claims, change: Change) -> None:
        self._reads = reads
        self._spool = spool
        self._claims = claims
        self._change = change
        self._after = 0
        self._given_back = (0, 0)  # up to where that was looked at: its time, the message
        self._shortest: int | None = None  # ms of life: of all stored messages; None until a round has seen them all
        self._seen: int | None = None  # of those that were stored meanwhile and those that the round has seen
        self._folder = 0
        self._round_began: int | None = None

    def stored(self, id: int, expires: int) -> None:
        """A message was stored that ends by its lifetime."""
        self._see(expires - ms_of(id))

    def _see(self, lifetime: int) -> None:
        if self._seen is None or lifetime < self._seen:
            self._seen = lifetime
            if self._shortest is not None:
                self._shortest = min(self._shortest, lifetime)

    async def bite(self, now: int) -> SweepReport:
        """One bite of each."""
        returned, more_to_return = await self._give_back(now)
        expired, more = await self._expire(now)
        more = more or more_to_return
        orphans, more_files = await self._remove_orphans(now)
        if not more:
            await self._change(shrink)
        return SweepReport(returned + expired, orphans, more or more_files)

    # -- expiry

    async def _expire(self, now: int) -> tuple[int, bool]:
        before = id_at(now - (self._shortest or 0) + 1)
        old, shortest, last = await self._reads.run(walk, self._after, before, now)
        if shortest is not None:
            self._see(shortest)
        count = 0
        if old:
            count, stopped = await self._change(lambda db, _: expire(db, self._claims, old, now))
            last = stopped or last
        if last is None:
            self._after = 0
            self._shortest = self._seen if self._shortest is None else self._shortest
            return count, False
        self._after = last
        return count, True

    async def _give_back(self, now: int) -> tuple[int, bool]:
        """What is not to be delivered any more, as its sender wants it."""
        old, last = await self._reads.run(outdated, self._given_back, now)
        count, stopped = await self._change(lambda db, _: expire(db, self._claims, old, now)) if old else (0, None)
        if stopped is None:  # else the same again: what was expired is not met twice
            self._given_back = last or (0, 0)
        return count, stopped is not None or last is not None

    # -- orphans

    async def _remove_orphans(self, now: int) -> tuple[int, bool]:
        if self._folder == 0:
            if self._round_began is not None and 0 <= now - self._round_began < HOUR:
                return 0, False
            self._round_began = now
        folders = range(self._folder, self._folder + FOLDERS)
        orphans = await self._reads.run(find_orphans, self._spool, folders, now)
        await self._spool.remove(orphans)
        self._folder = folders.stop % 256
        return len(orphans), self._folder != 0


def walk(db: apsw.Connection, after: int, before: int, now: int) -> tuple[Old, int | None, int | None]:
    """In a thread: the expired messages among the next, their shortest lifetime (ms), and the last id, None at the end."""
    rows = list(db.execute(sql.OLD_MESSAGES, (after, before, WALK)))
    old = [(id, nrcpt) for id, nrcpt, expires, _ in rows if expires <= now]
    shortest = min((expires - ms_of(id) for id, _, expires, by in rows if not by), default=None)
    return old, shortest, rows[-1][0] if len(rows) == WALK else None


def outdated(db: apsw.Connection, after: tuple[int, int], now: int) -> tuple[Old, tuple[int, int] | None]:
    """In a thread: the messages whose time has passed (RFC 2852, mode R), and where to go on, None at the end."""
    rows = list(db.execute(sql.GIVEN_BACK, {"now": now, "by": after[0], "after": after[1], "limit": WALK}))
    last = (rows[-1][2], rows[-1][0]) if len(rows) == WALK else None
    return [(id, nrcpt) for id, nrcpt, _ in rows], last


def expire(db: apsw.Connection, claims: Claims, old: Old, now: int) -> Expired:
    """Move recipients of expired messages to the bounce: how many, and the message before the one where the bite ended."""
    ids: list[int] = []
    for message, nrcpt in old:
        ids += [id for (id,) in db.execute(sql.EXPIRABLE, (message, message + nrcpt)) if id not in claims.taken]
        if len(ids) > BITE:
            break
    else:
        message = 0
    ids = ids[:BITE]
    sql.EXPIRE.run(db, [value for id in ids for value in (id, now)])
    return len(ids), message - 1 if message else None


def find_orphans(db: apsw.Connection, spool: Spool, folders: Sequence[int], now: int) -> list[int]:
    """In a thread: messages that have a file and no row.  Temporary files left over are removed at once."""
    orphans: list[int] = []
    for folder in folders:
        ids, temporary = spool.old_files(folder, now)
        unlink(temporary)
        orphans += [id for id in ids if db.execute(sql.EXISTS, (id,)).get is None]
    return orphans


def shrink(db: apsw.Connection, _: object) -> None:
    """Give unused pages back to the disk, a bite each time, when there are many."""
    unused = db.pragma("freelist_count")
    if unused > FREE and unused * 4 > db.pragma("page_count"):
        db.execute("PRAGMA incremental_vacuum(1000)").fetchall()
