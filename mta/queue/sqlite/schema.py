"""The queue file: its tables, its settings, and how it is opened.

Version 3 of the tables (PRAGMA user_version).  An older file is brought up to date at start, one transaction for each
version; a version that is not known is refused, plainly.  One connection writes and checkpoints; every other is
read-only: that keeps clear of the WAL-reset bug of SQLite before 3.51.3 and of lock errors (docs/queue.md).
`synchronous=FULL` is what makes an answered message survive a power cut.  All settings are read back, because a build or
a file may override them in silence.  Failures are MailErrors that say what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import apsw

from mta.status import MailError, transient

__all__ = ["VERSION", "has_log", "highest_id", "open_outside", "open_reader", "open_writer", "recover", "refused"]

VERSION = 3
APPLICATION_ID = 0x6D746171  # "mtaq"
STATEMENTS = 512  # prepared statements that are kept: all of statements.py in all their sizes
BUSY_TIMEOUT = 10_000  # ms; only an operator's shell can hold a lock that we have to wait for

META = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;  -- what is remembered about the file
CREATE TABLE strike(id INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;  -- recipients in the air when the process was killed
"""
BY_TIME = """
CREATE INDEX message_return ON message(deliver_by, id) WHERE flags&256<>0;  -- given back at that time (RFC 2852)
CREATE INDEX message_tell ON message(deliver_by, id) WHERE deliver_by>0 AND flags&272=0;  -- its sender is told, and was not yet
"""
MIGRATIONS = {1: META, 2: BY_TIME}  # from that version to the next one

TABLES = (
    """
CREATE TABLE message(
  id INTEGER PRIMARY KEY,
  created INTEGER NOT NULL, expires INTEGER NOT NULL,  -- ms since the epoch
  sender TEXT NOT NULL,                                -- '' is the null reverse-path
  source TEXT NOT NULL,                                -- smtp | submission | dsn | cli
  account TEXT, size INTEGER NOT NULL,                 -- prefix and body, bytes
  flags INTEGER NOT NULL, envid TEXT,
  nrcpt INTEGER NOT NULL, pending INTEGER NOT NULL,    -- accepted / left; the row goes at 0
  body INTEGER NOT NULL,                               -- id of chunk 0, or -1: in a file of the spool
  prefix BLOB NOT NULL, trace TEXT,
  priority INTEGER NOT NULL DEFAULT 0, deliver_by INTEGER) STRICT;
CREATE TABLE body(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;  -- message.id + chunk number
CREATE TABLE delivery(
  id INTEGER PRIMARY KEY, message INTEGER NOT NULL,    -- message.id + 1 ... message.id + nrcpt
  dest TEXT NOT NULL CHECK(dest <> ''), lane INTEGER NOT NULL,
  due INTEGER NOT NULL, state INTEGER NOT NULL,        -- 0 waiting, 1 taken at insert, 2 held
  attempts INTEGER NOT NULL DEFAULT 0,
  address TEXT NOT NULL, orcpt TEXT, notify INTEGER NOT NULL,
  last_try INTEGER, last_code INTEGER, last_reply TEXT, last_host TEXT,
  failed_dest TEXT) STRICT;                            -- where it was going when it failed
CREATE INDEX delivery_ready ON delivery(dest, lane, due, id) WHERE state = 0;  -- what may be claimed
CREATE INDEX delivery_fresh ON delivery(id) WHERE state = 1;                   -- what a crash leaves taken
CREATE INDEX delivery_held ON delivery(dest, id) WHERE state = 2;              -- what an operator looks for
CREATE TABLE dest(                                     -- only destinations that are not in their plain state
  name TEXT PRIMARY KEY,
  blocked_until INTEGER NOT NULL, blocked_why TEXT, fails INTEGER NOT NULL, first_fail INTEGER,
  suspended INTEGER NOT NULL, changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
    + META
    + BY_TIME
)

# name, value to set, value read back (docs/queue.md)
SETTINGS = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("secure_delete", "OFF", 0),  # on, it writes 21 times more for every removed body
    ("wal_autocheckpoint", 0, 0),  # the writer does it, after the answers are out
    ("journal_size_limit", 67_108_864, 67_108_864),
    ("cache_size", -24_576, -24_576),  # KiB; a walk through a million rows fills whatever there is
    ("temp_store", "MEMORY", 2),
    ("trusted_schema", "OFF", 0),
    ("fullfsync", "ON", 1),  # macOS: fsync alone does not reach the platter
    ("checkpoint_fullfsync", "ON", 1),
)


def open_writer(path: Path, vfs: str = "") -> apsw.Connection:
    """The one connection that writes: tables made or recognised, settings made and read back."""
    try:
        db = apsw.Connection(str(path), vfs=vfs or None, statementcachesize=STATEMENTS)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    except apsw.Error as error:
        raise refused(path, str(error)) from error
    return db


def open_reader(path: Path, vfs: str = "") -> apsw.Connection:
    """A connection that cannot write."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs or None)
    db.set_busy_timeout(BUSY_TIMEOUT)
    db.execute("PRAGMA query_only=ON")
    return db


def has_log(path: Path) -> bool:
    """A log lies beside the file: somebody has it open, or was killed with it."""
    return path.with_name(f"{path.name}-wal").exists()


def open_outside(path: Path) -> apsw.Connection:
    """A reader that leaves no trace, for whoever is not the owner.

    Without a log nobody has the file open, and it is read as one that does not change: a plain reader would begin a log.
    """
    if has_log(path):
        return open_reader(path)
    name = f"file:{quote(str(path.absolute()))}?immutable=1"
    return apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def recover(db: apsw.Connection, highest: int = (1 << 63) - 1) -> None:
    """What the last owner had taken and not settled, up to an id, is waiting again."""
    db.execute("BEGIN IMMEDIATE; UPDATE delivery SET state=0 WHERE state=1 AND id<=?; COMMIT", (highest,))


def highest_id(db: apsw.Connection) -> int:
    """The highest id in the file, 0 when it is empty."""
    return max(int(db.execute(f"SELECT coalesce(max(id),0) FROM {table}").get) for table in ("message", "delivery"))


def refused(path: Path, why: str) -> MailError:
    """The queue cannot be opened; shown to the operator who started us."""
    return transient("4.3.0", f"queue {path}: {why}")


def _prepare(db: apsw.Connection, path: Path) -> None:
    db.set_busy_timeout(BUSY_TIMEOUT)
    version = db.pragma("user_version")
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").get:
        # page size and vacuum mode can be set in an empty file only
        db.execute("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").fetchall()
        db.execute(f"BEGIN IMMEDIATE; {TABLES}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; COMMIT")
        version = VERSION
    elif db.pragma("application_id") != APPLICATION_ID:
        raise refused(path, "this is not a queue file of mta")
    elif version not in MIGRATIONS and version != VERSION:
        raise refused(path, f"its tables are of version {version}, this program knows version {VERSION}")
    for name, value, wanted in SETTINGS:
        db.pragma(name, value)
        if (found := db.pragma(name)) != wanted:
            raise refused(path, f"PRAGMA {name} is {found!r}, {wanted!r} is needed")
    while version < VERSION:  # after the settings: the migration is durable too
        db.execute(f"BEGIN IMMEDIATE; {MIGRATIONS[version]}; PRAGMA user_version={version + 1}; COMMIT")
        version += 1
