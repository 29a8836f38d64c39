"""Is the queue on disk what it ought to be?  Reads only, beside a service that runs or without one.

Each question is one statement, so that its answer is of one moment; what lies in the spool is looked at after it, and what
does not fit is looked up once more, for a service may have settled it meanwhile.  What a crash may leave and the next
start or the sweep puts right (docs/queue.md, the crash table) is told too, but is not grave: after kill -9 at any moment
no grave finding is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw
import attrs

from mta.queue.body import ORPHAN_AGE, listed
from mta.queue.ids import id_text, parse_id
from mta.queue.sqlite import schema
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.lock import is_owned
from mta.queue.sqlite.transaction import CHUNK
from mta.queue.state import State

__all__ = ["IN_FILES", "Finding", "check", "spool_path"]

MOST = 100  # findings of one kind: more say nothing new
STATES: Final = ",".join(str(int(state)) for state in State)

# Full scans, for this is what a check is; each row asks its neighbours by primary key.
COUNTED = (
    "SELECT id,pending,(SELECT count(*) FROM delivery d WHERE d.id>m.id AND d.id<=m.id+m.nrcpt) AS there FROM message m"
    " WHERE pending<>there OR pending<=0"
)
HOMELESS = (
    "SELECT id,message FROM delivery d WHERE NOT EXISTS"
    " (SELECT 1 FROM message m WHERE m.id=d.message AND d.id>m.id AND d.id<=m.id+m.nrcpt)"
)
ILL_FILED = f"SELECT id,dest,state FROM delivery WHERE dest='' OR state NOT IN ({STATES})"
# an inline body of n bytes has its chunks at message.id and, above one chunk's size, at message.id+1
INLINE = (
    "SELECT id,size-length(prefix),coalesce((SELECT length(data) FROM body b WHERE b.id=m.body),0),"
    "coalesce((SELECT length(data) FROM body b WHERE b.id=m.body+1 AND m.size-length(m.prefix)>:chunk),0)"
    " FROM message m WHERE body>=0"
)
STRAY = (
    "SELECT id FROM body b WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id=b.id AND m.body=m.id)"
    " AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id=b.id-1 AND m.body=m.id AND m.size-length(m.prefix)>:chunk)"
)
IN_FILES = "SELECT id,size-length(prefix) FROM message WHERE body<0 ORDER BY id"
TAKEN = "SELECT count(*) FROM delivery WHERE state=1"


@attrs.frozen(slots=True)
class Finding:
    """Something that is not as it ought to be.  grave: neither the next start nor the sweep puts it right.

    what: file | pending | recipient | body | spool | orphan | taken.  id: of the message or the row, 0 for none.
    """

    what: str
    text: str
    id: int = 0
    grave: bool = True

    def __str__(self) -> str:
        name = f"{id_text(self.id)}: " if self.id else ""
        return f"{self.what}: {name}{self.text}{'' if self.grave else ' (harmless)'}"


def check(path: Path, spool: Path) -> list[Finding]:
    """What is wrong with a queue file and the spool of its large bodies; [] when nothing is.

    Blocks as long as it takes to read both.  MailError when the file cannot be opened at all.
    """
    try:
        db = schema.open_outside(path)
    except apsw.Error as error:
        raise schema.refused(path, str(error)) from error
    try:
        found = list(_whole(db))
        if not found:
            found += [*_rows(db), *_bodies(db), *_files(db, spool), *_orphans(db, spool), *_taken(db, path)]
    except apsw.Error as error:
        found = [Finding("file", f"cannot be read: {error}")]
    finally:
        db.close()
    return found


def _whole(db: apsw.Connection) -> Iterator[Finding]:
    """Ours, and whole in itself: pages, indexes, constraints."""
    version = db.pragma("user_version")
    if db.pragma("application_id") != schema.APPLICATION_ID:
        yield Finding("file", "is not a queue file of mta")
    elif not 0 < version <= schema.VERSION:
        yield Finding("file", f"its tables are of version {version}, this program knows version {schema.VERSION}")
    else:
        for (text,) in db.execute(f"PRAGMA integrity_check({MOST})"):
            if text != "ok":
                yield Finding("file", text)


def _rows(db: apsw.Connection) -> Iterator[Finding]:
    for id, pending, there in islice(db.execute(COUNTED), MOST):
        yield Finding("pending", f"says {pending} recipients are left, {there} are there", id)
    for id, message in islice(db.execute(HOMELESS), MOST):
        yield Finding("recipient", f"message {message} is not there, or never had it", id)
    for id, dest, state in islice(db.execute(ILL_FILED), MOST):
        yield Finding("recipient", f"is filed under {dest!r} in state {state}", id)


def _bodies(db: apsw.Connection) -> Iterator[Finding]:
    wrong = (row for row in db.execute(INLINE, {"chunk": CHUNK}) if (row[2], row[3]) != chunks_of(row[1]))
    for id, size, first, second in islice(wrong, MOST):
        yield Finding("body", f"has {first} + {second} bytes, ought to have {size}", id)
    for (id,) in islice(db.execute(STRAY, {"chunk": CHUNK}), MOST):
        yield Finding("body", "a chunk of no message", id)


def chunks_of(size: int) -> tuple[int, int]:
    """The lengths of the two chunks of an inline body."""
    return min(size, CHUNK), max(size - CHUNK, 0)


def _files(db: apsw.Connection, spool: Path) -> Iterator[Finding]:
    """A row never stands without its file (queue law R6)."""
    rows: list[Any] = db.execute(IN_FILES).fetchall()
    trouble = ((id, why) for id, size in rows if (why := _unlike(spool, id, size)))
    for id, why in islice(trouble, MOST):
        if db.execute(sql.EXISTS, (id,)).get is not None:  # or it was delivered meanwhile
            yield Finding("spool", why, id)


def _unlike(spool: Path, id: int, size: int) -> str:
    """Why a file is not the body, "" when it is."""
    path = spool_path(spool, id)
    try:
        there = path.stat().st_size
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "" if there == size else f"{path} has {there} bytes, ought to have {size}"


def spool_path(spool: Path, id: int) -> Path:
    """Where the large body of a message is."""
    return spool / f"{id >> 22 & 255:02x}" / id_text(id)


def _orphans(db: apsw.Connection, spool: Path) -> Iterator[Finding]:
    """Files that no row names, and that are too old to be on their way to one."""
    old = time.time() - ORPHAN_AGE / 1000
    for file in _spooled(spool):
        try:
            id = parse_id(file.name.removesuffix(".tmp"))
            young = file.stat().st_mtime > old
        except (ValueError, OSError):
            continue  # not ours, or gone meanwhile
        if not young and (file.suffix or db.execute(sql.EXISTS, (id,)).get is None):
            yield Finding("orphan", f"{file} belongs to no message, the sweep removes it", id, False)


def _spooled(spool: Path) -> Iterator[Path]:
    yield from (path for path in listed(spool) if path.suffix == ".tmp")
    for number in range(256):
        yield from listed(spool / f"{number:02x}")


def _taken(db: apsw.Connection, path: Path) -> Sequence[Finding]:
    """What is taken, somebody has taken."""
    taken = db.execute(TAKEN).get
    if not taken or is_owned(path):
        return ()
    return (Finding("taken", f"{taken} recipients are taken and nobody runs: the next start makes them waiting", grave=False),)
