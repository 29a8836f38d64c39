"""Put a copy of the queue (backup.py) back, into a queue that nobody owns or into a new one.

Everything comes back held: a copy is older than the queue it was made of, and what has been delivered since would be
delivered again.  An operator looks, and releases.  Ids are kept; a message whose id is in the queue already, or whose body
is not whole, is left out, and the report says so.  Bodies are durable before the rows that name them (queue law R1), the
rows come in bites of one transaction each, so that a restore that is cut short can be repeated: what is there is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import apsw

from mta.durable import sync_directory, sync_file
from mta.queue.body import storage_error
from mta.queue.ids import id_text
from mta.queue.sqlite import schema
from mta.queue.sqlite.backup import Progress, bring
from mta.queue.sqlite.check import chunks_of, spool_path
from mta.queue.sqlite.failure import refusal
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from mta.queue.sqlite.lock import owned
from mta.queue.state import CopyReport, State
from mta.status import transient

__all__ = ["restore"]

BITE = 100  # messages of one transaction
IN_FILE = -1
TABLES = ("message", "delivery", "body")


def restore(source: Path, data_dir: Path, progress: Progress) -> CopyReport:
    """Read a folder that `backup` made, or one of several workers' (a folder each), into a queue of a data directory; blocks.

    Of several workers' queues it is the first that gets it.

    MailError when that queue has an owner, when the folder is no backup, or when the disk is full: what was brought back
    until then is whole, and held.
    """
    spool = spool_folder(data_dir)
    files = sorted(source.glob("*.db")) or sorted(source.glob("*/*.db"))
    if not files:
        raise transient("4.3.0", "nothing to restore", reason=f"{source}: is no backup of a queue")
    with ExitStack() as held:
        queues = [_owned(data_dir, node, held) for node in (0, *filter(None, nodes_in(data_dir)))]
        report = CopyReport(0, 0, 0)
        for file in files:
            with closing(_opened(file)) as old:
                report = _Restore(old, file.parent / "spool", queues, spool).run(progress, report)
        return report


def _owned(data_dir: Path, node: int, held: ExitStack) -> apsw.Connection:
    path = queue_file(data_dir, node)
    held.enter_context(owned(path, spool_folder(data_dir, node)))
    return held.enter_context(closing(schema.open_writer(path)))


def _opened(file: Path) -> apsw.Connection:
    """The file of a backup, to read."""
    try:
        db = schema.open_reader(file)
        ours, version = db.pragma("application_id") == schema.APPLICATION_ID, db.pragma("user_version")
        trouble = db.execute("PRAGMA integrity_check(1)").get
    except apsw.Error as error:
        raise schema.refused(file, str(error)) from error
    if not ours or not 0 < version <= schema.VERSION:
        db.close()
        raise schema.refused(file, f"is no queue file that this program knows (version {version})")
    if trouble != "ok":
        db.close()
        raise schema.refused(file, f"is damaged: {trouble}")
    return db


class _Restore:
    """From one file.  queues: the one that gets it, and others that there are beside it."""

    def __init__(self, old: apsw.Connection, old_spool: Path, queues: Sequence[apsw.Connection], spool: Path) -> None:
        self._old = old
        self._old_spool = old_spool
        self._queues = queues
        self._db = db = queues[0]
        self._spool = spool
        self._texts = {table: _texts(old, db, table) for table in TABLES}
        self._refused: list[tuple[int, str]] = []
        self._recipients = self._messages = self._files = 0

    def run(self, progress: Progress, before: CopyReport) -> CopyReport:
        """All messages, added to what was brought back before."""
        total, done = self._old.execute("SELECT count(*) FROM message").get, 0
        for bite in self._bites():
            try:
                self._bring(bite)
            except OSError as error:
                raise storage_error(error) from error
            except apsw.Error as error:
                raise refusal(error, self._db.system_errno) from error
            done += len(bite)
            progress("messages", done, total)
        return CopyReport(
            before.messages + self._messages,
            before.recipients + self._recipients,
            before.files + self._files,
            (*before.refused, *self._refused),
        )

    def _bites(self) -> Iterator[Sequence[tuple[int, int, int, int, int]]]:
        text = "SELECT id,nrcpt,pending,size-length(prefix),body FROM message WHERE id>? ORDER BY id LIMIT ?"
        last: Any = -1
        while rows := self._old.execute(text, (last, BITE)).fetchall():
            last = rows[-1][0]
            yield cast("list[tuple[int, int, int, int, int]]", rows)

    def _bring(self, bite: Sequence[tuple[int, int, int, int, int]]) -> None:
        """One bite: the files, durable; then the rows, in one transaction."""
        good, folders, files = [], set(), 0
        for id, nrcpt, pending, size, body in bite:
            why = self._trouble(id, nrcpt, pending, size, body)
            if why:
                self._refused.append((id, why))
                continue
            good.append((id, nrcpt, body))
            if body == IN_FILE:
                folders.add(self._bring_file(id))
                files += 1
        for folder in folders:
            sync_directory(folder)
        if folders:
            sync_directory(self._spool)
        recipients = self._insert(good)
        self._messages += len(good)
        self._recipients += recipients
        self._files += files

    def _trouble(self, id: int, nrcpt: int, pending: int, size: int, body: int) -> str:
        """Why a message is left out, "" when it is not."""
        for table, count in (("message", nrcpt), ("delivery", nrcpt), ("body", 1)):
            text = f"SELECT 1 FROM {table} WHERE id>=? AND id<=? LIMIT 1"
            if any(db.execute(text, (id, id + count)).get is not None for db in self._queues):
                return "its id is in the queue already"
        if self._old.execute("SELECT count(*) FROM delivery WHERE id>? AND id<=?", (id, id + nrcpt)).get != pending:
            return "not all of its recipients are in the backup"
        if body == IN_FILE:
            path = spool_path(self._old_spool, id)
            return "" if path.is_file() and path.stat().st_size == size else f"{path} is not its body"
        chunks = self._old.execute("SELECT length(data) FROM body WHERE id IN (?,?) ORDER BY id", (id, id + 1))
        whole = [length for (length,) in chunks] == [length for length in chunks_of(size) if length]
        return "" if whole else "its body is not whole"

    def _bring_file(self, id: int) -> Path:
        """The body's file; its folder, to be synced.  One that has its name and no row is a crash's, and is replaced."""
        target = spool_path(self._spool, id)
        temporary = self._spool / f"{id_text(id)}.tmp"
        temporary.unlink(missing_ok=True)
        bring(spool_path(self._old_spool, id), temporary)
        sync_file(temporary)  # a backup may have come by another way than ours
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # two names of one file: rename did nothing (POSIX)
        return target.parent

    def _insert(self, good: Sequence[tuple[int, int, int]]) -> int:
        """The rows of messages, in one transaction; how many recipients."""
        recipients = 0
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for id, nrcpt, body in good:
                self._copy("message", id, id)
                recipients += self._copy("delivery", id + 1, id + nrcpt)
                if body != IN_FILE:
                    self._copy("body", id, id + 1)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return recipients

    def _copy(self, table: str, first: int, last: int) -> int:
        """Rows between two ids as they are, but recipients held; how many."""
        read, write = self._texts[table]
        rows = self._old.execute(read, (first, last)).fetchall()
        self._db.executemany(write, rows)
        return len(rows)


def _texts(old: apsw.Connection, db: apsw.Connection, table: str) -> tuple[str, str]:
    """To read rows of an older file, and to write them: it may have fewer columns."""
    known = _columns(db, table)
    columns = [column for column in _columns(old, table) if column in known]
    chosen = (str(int(State.HELD)) if column == "state" else column for column in columns)
    read = f"SELECT {','.join(chosen)} FROM {table} WHERE id>=? AND id<=?"
    return read, f"INSERT INTO {table}({','.join(columns)}) VALUES ({','.join('?' * len(columns))})"


def _columns(db: apsw.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
