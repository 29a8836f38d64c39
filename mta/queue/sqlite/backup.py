"""A copy of the queue, taken while it works: DEST/<node>.db and DEST/spool, whole in themselves and durable.

The pages are copied by SQLite's backup, a few at a time, on the writer's thread between its commits: no answer waits
longer than one slice, and what is written meanwhile goes into the copy too.  The files of large bodies are hard links
where the file system allows it (a stored body never changes), copies elsewhere; none is removed from the spool until the
copy has its own.  DEST appears under its name when all of it is on the disk, so a copy that was cut short is not taken
for one.  To put one back: restore.py, which holds all of it, for an old queue would send old mail again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
from twisted.internet.defer import Deferred

from mta.durable import sync_directory, sync_file
from mta.queue.body import Spool, put_in_place, storage_error
from mta.queue.sqlite import schema
from mta.queue.sqlite.check import IN_FILES, spool_path
from mta.queue.sqlite.failure import is_full
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from mta.queue.sqlite.lock import owned
from mta.queue.state import CopyReport, total
from mta.status import MailError, transient

__all__ = ["Progress", "backup", "bring", "save"]

PAGES = 16  # of 4 KiB, between two looks at the clock
SLICE = 0.001  # seconds of the writer's time at once
SYNC = 4096  # pages after which what was copied is synced: a gigabyte at once would hold up every commit beside it
FILES = 16  # linked in one go
AGAIN = 4  # times as many pages as there are may be copied: a transaction that is rolled back makes it begin anew

Progress = Callable[[str, int, int], None]  # "pages", "files" or "messages"; how many are done, of how many
Ask = Callable[[Callable[[apsw.Connection], Any]], Deferred[Any]]


class Copy:
    """The pages of a queue file on their way into another.  Used by one thread at a time, as its source is."""

    def __init__(self, target: Path) -> None:
        self.done, self.total = 0, 0  # pages
        self._target = target
        self._db: Any = None  # a connection, while it is open; and its backup
        self._steps: Any = None
        self._copied = 0

    def step(self, source: apsw.Connection) -> bool:
        """A slice; True: that was the last one, and the copy is closed.  MailError."""
        try:
            return self._step(source)
        except apsw.Error as error:
            self.close()
            raise _trouble(error) from error
        except BaseException:
            self.close()
            raise

    def _step(self, source: apsw.Connection) -> bool:
        if self._steps is None:
            self._db = apsw.Connection(str(self._target))
            self._db.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").fetchall()  # synced when it is whole
            self._steps = self._db.backup("main", source, "main")
        until = time.monotonic() + SLICE
        while not (ended := self._steps.step(PAGES)) and time.monotonic() < until:
            self._copied += PAGES
        self._copied += PAGES
        self.total = self._steps.page_count
        self.done = self.total - self._steps.remaining
        if ended:
            self._steps.finish()
            self._db.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, which can be read where nothing can be written
            self.close()
        elif self._copied > AGAIN * self.total + 1000:
            raise transient("4.3.0", "cannot copy the queue now", reason="it begins anew again and again: is the disk full?")
        return bool(ended)

    def close(self, _: object = None) -> None:
        """Whatever has become of it."""
        if self._steps is not None:
            with suppress(apsw.Error):  # told by the step that failed
                self._steps.close(True)
        if self._db is not None:
            self._db.close(True)
        self._steps = self._db = None


async def backup(ask: Ask, spool: Spool, name: str, dest: Path, progress: Progress, wanted: Callable[[], bool]) -> CopyReport:
    """Copy a queue that works.  ask: runs a function of the writer's connection, between its commits.

    name: of the file in DEST.  wanted: False gives it up, soon.  MailError, and nothing is left, also when DEST is there
    already, or cannot be written.
    """
    with spool.kept():
        part = await spool.run(_begin, dest)
        copy, files = Copy(part / name), Files(part / name, spool.directory, part / "spool")
        try:
            synced = 0
            while not await ask(copy.step):
                progress("pages", copy.done, copy.total)
                if copy.done - synced >= SYNC:
                    await spool.run(_settle, part / name)
                    synced = copy.done
                _go_on(wanted)
            while await spool.run(files.bite):
                progress("files", files.done, files.total)
                _go_on(wanted)
            return await spool.run(_end, part, dest, name, files)
        except BaseException:
            with suppress(MailError):  # the writer has failed, and closed it
                await ask(copy.close)
            await spool.run(shutil.rmtree, part, True)
            raise


def _settle(path: Path) -> None:
    """What was written so far is on the disk.  MailError."""
    try:
        sync_file(path)
    except OSError as error:
        raise _trouble(error) from error


def _go_on(wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise transient("4.3.2", "the copy of the queue was given up", reason="the service stops")


def save(data_dir: Path, dest: Path, progress: Progress) -> CopyReport:
    """The same of a queue that nobody owns; blocks.  Of several workers' each gets a folder in DEST.

    MailError, also when somebody does.
    """
    nodes = nodes_in(data_dir) or [0]
    if len(nodes) == 1:
        return _save(data_dir, dest, progress, nodes[0])
    part = _begin(dest)
    try:
        (part / "spool").rmdir()
        reports = [_save(data_dir, part / str(node), progress, node) for node in nodes]
        put_in_place(part, dest)
    except BaseException:
        shutil.rmtree(part, True)
        raise
    return total(reports)


def _save(data_dir: Path, dest: Path, progress: Progress, node: int) -> CopyReport:
    path, spool = queue_file(data_dir, node), spool_folder(data_dir, node)
    if not path.exists():
        raise schema.refused(path, "there is no queue")
    with owned(path, spool), closing(_reader(path)) as db:
        part = _begin(dest)
        try:
            copy = Copy(part / path.name)
            while not copy.step(db):
                progress("pages", copy.done, copy.total)
            files = Files(part / path.name, spool, part / "spool")
            while files.bite():
                progress("files", files.done, files.total)
            return _end(part, dest, path.name, files)
        except BaseException:
            shutil.rmtree(part, True)
            raise


def _reader(path: Path) -> apsw.Connection:
    try:
        return schema.open_reader(path)
    except apsw.Error as error:
        raise schema.refused(path, str(error)) from error


def _begin(dest: Path) -> Path:
    """The folder that will be DEST."""
    part = dest.with_name(f"{dest.name}.part")
    try:
        if dest.exists():
            raise FileExistsError(f"{dest} is there already")
        part.mkdir(mode=0o700)
        (part / "spool").mkdir(mode=0o700)
    except OSError as error:
        raise _trouble(error) from error
    return part


class Files:
    """The files that the rows of a copy name, brought to it bite by bite.  missing: (message, why)."""

    def __init__(self, path: Path, spool: Path, target: Path) -> None:
        self.done, self.total = 0, 0
        self.missing: list[tuple[int, str]] = []
        self._path = path
        self._spool = spool
        self._target = target
        self._left: Iterator[int] | None = None

    def bite(self) -> bool:
        """Some more; False: all are there.  MailError."""
        try:
            if self._left is None:
                ids = self._wanted()
                self.total, self._left = len(ids), iter(ids)
            bite = list(islice(self._left, FILES))
            for id in bite:
                self._bring(id)
        except (OSError, apsw.Error) as error:
            raise _trouble(error) from error
        self.done += len(bite)
        return bool(bite)

    def _wanted(self) -> Sequence[int]:
        with closing(apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            return [id for id, _ in db.execute(IN_FILES)]

    def _bring(self, id: int) -> None:
        try:
            bring(spool_path(self._spool, id), spool_path(self._target, id))
        except FileNotFoundError as error:
            self.missing.append((id, f"{error.filename} is not there"))


def bring(source: Path, target: Path) -> None:
    """A file under a second name: a link, or a durable copy where links do not reach.  OSError.

    The folder is made; its names are not durable until it is synced.
    """
    if not source.exists():
        raise FileNotFoundError(2, "missing", str(source))
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, one without links, or too many of them
        shutil.copyfile(source, target)
        target.chmod(0o600)
        sync_file(target)


def _end(part: Path, dest: Path, name: str, files: Files) -> CopyReport:
    """All of it to the disk, then its name."""
    try:
        with closing(apsw.Connection(str(part / name), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            messages, recipients = (db.execute(f"SELECT count(*) FROM {table}").get for table in ("message", "delivery"))
        sync_file(part / name)
        for folder in (*(part / "spool").iterdir(), part / "spool"):
            sync_directory(folder)
    except (OSError, apsw.Error) as error:
        raise _trouble(error) from error
    put_in_place(part, dest)
    return CopyReport(messages, recipients, files.done - len(files.missing), tuple(files.missing))


def _trouble(error: Exception) -> MailError:
    if isinstance(error, OSError):
        return storage_error(error)
    code = 452 if is_full(error) else 451
    return transient("4.3.1" if code == 452 else "4.3.0", "cannot copy the queue now", code=code, reason=str(error))
