"""Memory about hosts that may be lost at any time: TLS strikes, MTA-STS policies, counts for TLSRPT.

`MemoryHints` provides IHints in this process's memory, `HintsFile` also keeps it in `hints.db` (SQLite) over a restart.
Reads always come from memory.  It is bounded for each kind (`LIMITS`): when one is full its entry put longest ago goes,
which costs a host that was known to be broken one more try, and no kind can push out another.

What changes is collected and written every few seconds in a thread, in one transaction; the reactor never waits for the
disk, and a kill -9 loses these seconds.  The file may be deleted at any time.  One that is damaged, or not ours, is
set aside as `hints.db.bad` and begun anew.  A disk that is full or broken is reported once, and memory goes on.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from mta.interfaces import IEventLog, IHints

__all__ = ["LIMITS", "HintsFile", "MemoryHints"]

VERSION = 1  # goes up when a kind's values change their form: the file is then begun anew
APPLICATION_ID = 0x6D746168  # "mtah"
TABLE = "CREATE TABLE hint(kind TEXT, key TEXT, expires REAL, value TEXT, PRIMARY KEY(kind, key)) STRICT, WITHOUT ROWID"
SIDES = ("", "-wal", "-shm", "-journal")  # the files that SQLite may have beside the one named
LIMITS: Mapping[str, int] = MappingProxyType(
    {  # entries of each kind, "" of those that are not named; an entry is some 300 bytes in memory and 100 in the file
        "": 10_000,
        "greylist-new": 200_000,  # a spam run must not push out within the delay who is to come again
        "greylist-passed": 100_000,
        "greylist-known": 50_000,
    }
)
KINDS = 100  # that are read at most, each up to its limit: no file, whoever made it, fills the memory
MARKED = 100_000  # changes that wait to be written
BUSY_TIMEOUT = 1000  # ms; only an operator's shell can hold a lock

Entries = OrderedDict[str, tuple[float, Any]]  # key -> expires, value
Mark = tuple[str, str]  # kind, key
Row = tuple[str, str, float, str | None]  # value as JSON; None: forget it


NOTHING: Mapping[str, tuple[float, Any]] = MappingProxyType({})


@implementer(IHints)
class MemoryHints:
    """Hints in dictionaries, the oldest first.  clock: whose seconds `expires` means.  limits: as LIMITS."""

    def __init__(self, clock: IReactorTime, limits: Mapping[str, int] = LIMITS) -> None:
        self._clock = clock
        self._limits = limits
        self._kinds: dict[str, Entries] = {}

    def get(self, kind: str, key: str) -> Any | None:
        """What was put, unless it has expired."""
        entries = self._kinds.get(kind)
        entry = entries.get(key) if entries is not None else None
        if entry is None:
            return None
        expires, value = entry
        if self._clock.seconds() >= expires:
            self._drop(kind, key)
            return None
        return value

    def put(self, kind: str, key: str, value: Any, expires: float) -> None:
        """Remember until `expires`; a value of None forgets at once."""
        self._drop(kind, key)
        if value is None:
            return
        entries = self._kinds.get(kind)
        if entries is None:
            entries = self._kinds[kind] = OrderedDict()
        entries[key] = (expires, value)
        self._changed(kind, key)
        self._trim(kind, entries)

    def keys(self, kind: str) -> list[str]:
        """Of all that has not expired, the one put longest ago first."""
        now = self._clock.seconds()
        return [key for key, (expires, _) in self._kinds.get(kind, NOTHING).items() if now < expires]

    def most(self, kind: str) -> int:
        """Entries that a kind may have."""
        return self._limits.get(kind, self._limits[""])

    def _trim(self, kind: str, entries: Entries) -> None:
        while len(entries) > self.most(kind):
            self._changed(kind, entries.popitem(last=False)[0])

    def _drop(self, kind: str, key: str) -> None:
        entries = self._kinds.get(kind)
        if entries is None or entries.pop(key, None) is None:
            return
        if not entries:
            del self._kinds[kind]
        self._changed(kind, key)

    def _changed(self, kind: str, key: str) -> None:
        """Called after each change; memory alone has nothing to do."""


class HintsFile(MemoryHints):
    """Hints that are still there after a restart.  reactor: its time and its threads.

    Values are what JSON can say; a tuple comes back as a list.  A value that was put belongs to the hints or is put
    again when it changes: it is encoded when it is written.
    """

    DELAY = 5.0  # seconds from a change to its write
    PATIENCE = 60.0  # seconds from a write that failed to the next
    BATCH = 500  # entries encoded and written at once

    _log = Logger()

    def __init__(self, path: Path, reactor: Any, log: IEventLog, limits: Mapping[str, int] = LIMITS) -> None:
        super().__init__(reactor, limits)
        self._reactor = reactor
        self._events = log
        self._file = _File(path)
        self._path = path
        self._marks: OrderedDict[Mark, None] = OrderedDict()  # what changed since it was written
        self._open = False
        self._failing = False
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Read what the file has.  Fires when that is done, and never fails: without the file, memory serves."""
        self._open = True
        return Deferred.fromCoroutine(self._load())

    def stop(self) -> Deferred[None]:
        """Write what is left, close.  Fires when no thread of ours is left running; may be called when not started."""
        if not self._open:
            return succeed(None)
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return Deferred.fromCoroutine(self._close())

    # ---- on the reactor's thread

    def _changed(self, kind: str, key: str) -> None:
        """To be written.  Bounded: while the disk is full, the file may keep what memory has forgotten."""
        self._marks[kind, key] = None
        if len(self._marks) > MARKED:
            self._marks.popitem(last=False)
        self._arm(self.DELAY)

    def _arm(self, delay: float) -> None:
        if self._open and self._timer is None and self._writing is None and self._marks:
            self._timer = self._reactor.callLater(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        writing = self._writing = Deferred.fromCoroutine(self._write())
        writing.addErrback(lambda failure: self._log.failure("writing of hints", failure))
        if writing.called:
            self._writing = None

    async def _write(self) -> None:
        delay = self.PATIENCE
        try:
            if await self._write_batch():
                delay = 0.0 if len(self._marks) >= self.BATCH else self.DELAY
        finally:
            self._writing = None
            self._arm(delay)

    async def _write_batch(self) -> bool:
        """One transaction.  False when it failed: then its entries are still to be written."""
        batch = [self._marks.popitem(last=False)[0] for _ in range(min(self.BATCH, len(self._marks)))]
        try:
            why = await self._in_thread(self._file.write, [row for mark in batch if (row := self._row(mark)) is not None])
        except (apsw.Error, OSError) as error:
            self._marks.update(dict.fromkeys(batch))
            self._report(error)
            return False
        self._failing = False
        if why:
            self._anew(why)
        return True

    def _row(self, mark: Mark) -> Row | None:
        """An entry as it is now."""
        kind, key = mark
        expires, value = self._kinds.get(kind, NOTHING).get(key, (0.0, None))
        try:
            return kind, key, expires, None if value is None else json.dumps(value, check_circular=False)
        except (TypeError, ValueError, RecursionError):  # a bug of who put it, not a reason to keep nothing at all
            self._log.failure("hint {kind} {key} cannot be written", kind=kind, key=key)
            return None

    def _anew(self, why: str) -> None:
        """The file has nothing, or less than it should: write everything."""
        self._events.event("hints_anew", "", {"file": str(self._path), "reason": why})
        self._marks.update({(kind, key): None for kind, entries in self._kinds.items() for key in entries})

    def _report(self, error: BaseException) -> None:
        """Once, until a write succeeds again."""
        if not self._failing:
            self._failing = True
            self._events.event("hints_error", "", {"file": str(self._path), "reason": f"{type(error).__name__}: {error}"})

    async def _load(self) -> None:
        try:
            kinds, why = await self._in_thread(self._file.load, self._clock.seconds(), self.most)
        except (apsw.Error, OSError) as error:
            self._report(error)
            return
        if why:
            self._anew(why)
        for kind, entries in kinds.items():
            for key, entry in self._kinds.get(kind, NOTHING).items():  # what was put meanwhile is newer
                entries.pop(key, None)
                entries[key] = entry
            self._kinds[kind] = entries
            self._trim(kind, entries)
        self._arm(self.DELAY)

    async def _close(self) -> None:
        if self._writing is not None:
            await self._writing
        while self._marks and await self._write_batch():
            pass
        await self._in_thread(self._file.close)

    def _in_thread(self, work: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)


class _Foreign(Exception):
    """Not a file of ours, or of another version."""


BROKEN = (apsw.NotADBError, apsw.CorruptError, apsw.SQLError, _Foreign)  # what another file would mend


class _File:
    """`hints.db`.  Used from threads, never from two at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: apsw.Connection | None = None
        self._inode = 0

    def load(self, now: float, most: Callable[[str], int]) -> tuple[dict[str, Entries], str]:
        """All that has not expired, what lasts longest last; and why the file had to be begun anew, "" when it had not.

        most: entries of a kind; what there is beyond them is forgotten.  Raises apsw.Error or OSError.
        """
        try:
            db = self._connect()
            kinds = [kind for (kind,) in db.execute("SELECT DISTINCT kind FROM hint LIMIT ?", (KINDS,))]
            return {kind: entries for kind in kinds if (entries := self._read(db, kind, now, most(kind)))}, ""
        except BROKEN as error:
            return {}, self._begin_anew(error)

    def _read(self, db: apsw.Connection, kind: str, now: float, most: int) -> Entries:
        query = "SELECT key, expires, value FROM hint WHERE kind = ? AND expires > ? ORDER BY expires DESC LIMIT ?"
        rows = db.execute(query, (kind, now, most)).fetchall()
        over = rows[-1][1] if len(rows) == most else now
        with suppress(apsw.FullError, apsw.ReadOnlyError, apsw.BusyError):
            db.execute("DELETE FROM hint WHERE kind = ? AND (expires <= ? OR expires < ?)", (kind, now, over))
        try:
            return OrderedDict((key, (expires, json.loads(value))) for key, expires, value in reversed(rows))
        except (TypeError, ValueError, RecursionError) as error:
            raise _Foreign(f"a value cannot be read: {error}") from None

    def write(self, rows: Sequence[Row]) -> str:
        """Put and forget, all or nothing.  The answer says why the file was begun anew, "" when it was not: then all must be
        written again.  Raises apsw.Error or OSError."""
        why = ""
        db = self._db
        try:
            if db is None or not self._is_there():
                self.close()
                why = "it was deleted, or could not be written before"
                db = self._connect()
            self._put(db, rows)
        except BROKEN as error:
            why = self._begin_anew(error)
        except BaseException:
            self.close()  # what it has now is not known: the next write opens it again, and says why
            raise
        return why

    def _put(self, db: apsw.Connection, rows: Sequence[Row]) -> None:
        db.execute("BEGIN IMMEDIATE")  # undone by `close` where it fails: a full disk ends some transactions by itself
        db.executemany("DELETE FROM hint WHERE kind = ? AND key = ?", [row[:2] for row in rows if row[3] is None])
        db.executemany("INSERT OR REPLACE INTO hint VALUES(?, ?, ?, ?)", [row for row in rows if row[3] is not None])
        db.execute("COMMIT")

    def _is_there(self) -> bool:
        """The file that is open still has its name."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _begin_anew(self, error: BaseException) -> str:
        """Set the file aside and make another."""
        self.close()
        self._set_aside()
        self._connect()
        return f"{type(error).__name__.lstrip('_')}: {error}; kept as {self._path.name}.bad"

    def _set_aside(self) -> None:
        for side in SIDES:
            source = self._path.with_name(self._path.name + side)
            if source.exists():
                source.replace(self._path.with_name(f"{self._path.name}.bad{side}"))

    def _connect(self) -> apsw.Connection:
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(mode=0o700, parents=True)
        if not self._path.exists():
            self._set_aside()  # a log without its file: SQLite would play it into the new one
        db = apsw.Connection(str(self._path))
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        self._inode = self._path.stat().st_ino
        return db

    def close(self) -> None:
        """May be called twice."""
        db, self._db = self._db, None
        if db is not None:
            db.close()


def _prepare(db: apsw.Connection) -> None:
    """Recognise the file, or make it where it is empty."""
    db.set_busy_timeout(BUSY_TIMEOUT)
    if db.pragma("user_version") == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").get:
        # with a log and NORMAL a commit waits for no disk, and a power cut leaves an older state, not a broken one
        db.pragma("journal_mode", "WAL")
        db.execute(f"BEGIN; {TABLE}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT")
    elif (db.pragma("application_id"), db.pragma("user_version")) != (APPLICATION_ID, VERSION):
        raise _Foreign("this is not a hints file of this version of mta")
    db.pragma("synchronous", "NORMAL")
    db.pragma("journal_size_limit", 1 << 20)
