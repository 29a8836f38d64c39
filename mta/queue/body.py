"""Bodies on their way in: in memory while small, else in a file of the spool that has no name until it is durable.

A body of up to 128 KiB is handed to the engine whole.  A larger one is written to an O_TMPFILE in `spool/` (a named
temporary file where that is missing); at its end the file is synced, linked as `spool/ab/<id>` and its directory is
synced, and only then may a row name it (queue law R1).  Syncing and linking happen in the threads of a pool; several at
once share one journal commit of the file system.  A file may exist without a row, never a row without its file (R6): the
sweep removes files older than an hour that no row names.  A full disk is a MailError 452 4.3.1, other errors are 451.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mta.durable import sync_directory
from mta.envelope import BodyRef
from mta.interfaces import IBodySink
from mta.queue.ids import id_text, parse_id
from mta.status import MailError, transient

__all__ = ["INLINE_LIMIT", "BodySink", "InThread", "Spool", "put_in_place", "storage_error", "unlink"]

INLINE_LIMIT = 128 * 1024  # bytes; above, the two syncs of a file cost less than writing the body twice (docs/queue.md)
ORPHAN_AGE = 3_600_000  # ms
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)  # by file systems and kernels without O_TMPFILE

T = TypeVar("T")
InThread = Callable[..., Deferred[Any]]  # calls a function in a thread: the result, or the failure


def storage_error(error: OSError) -> MailError:
    """What the client is told when the disk fails us: 452 when it is full, else 451 (RFC 3463: 4.3.1, 4.3.0)."""
    if error.errno in FULL:
        return transient("4.3.1", "insufficient system storage", code=452, reason=str(error))
    return transient("4.3.0", "cannot store the message now", reason=str(error))


@implementer(IBodySink)
class BodySink:
    """A body being received."""

    __slots__ = ("_error", "_file", "_finished", "_pieces", "_spool", "id", "name", "size")

    def __init__(self, id: int, spool: Spool) -> None:
        self.id = id
        self.name = id_text(id)
        self.size = 0
        self._spool = spool
        self._pieces: list[bytes] = []
        self._file: SpoolFile | None = None
        self._finished = False
        self._error: MailError | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take bytes; None always means "go on".  The first failure is told here, and again by `finish`."""
        if self._error is not None:
            return None
        self.size += len(data)
        if self._file is None:
            self._pieces.append(data)
            if self.size <= INLINE_LIMIT:
                return None
            data = b"".join(self._pieces)
            self._pieces.clear()
        try:
            self._file = self._file or self._spool.create(self.id)
            self._file.write(data)
        except OSError as error:
            self.abort()
            self._error = storage_error(error)
            return fail(self._error)
        return None

    def finish(self) -> Deferred[BodyRef]:
        """The body at rest: at once when it is small, else after the syncs of its file and directory."""
        if self._error is not None:
            return fail(self._error)
        self._finished = True
        file, self._file = self._file, None
        if file is None:
            data = b"".join(self._pieces)
            self._pieces.clear()
            return succeed(BodyRef(self.size, data))
        return self._spool.keep(file, self.size)

    def abort(self) -> None:
        """Forget it.  After `finish` this removes the file, unless the queue has been given the message."""
        self._pieces.clear()
        if self._file is not None:
            self._file.discard()
            self._file = None
        if self._finished:
            self._spool.forget(self.id)
        if self._error is None:
            self._error = transient("4.3.0", "the message was given up")


class SpoolFile:
    """A file without a name (or with a temporary one) that will be `path`.  durable: folders whose names are on the disk."""

    __slots__ = ("_descriptor", "_durable", "_temporary", "id", "path")

    def __init__(self, id: int, path: Path, descriptor: int, temporary: Path | None, durable: set[str]) -> None:
        self.id = id
        self.path = path
        self._descriptor = descriptor
        self._durable = durable
        self._temporary = temporary

    def write(self, data: bytes) -> None:
        """Append to the page cache."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def link(self) -> None:
        """Make it durable and give it its name (R1); in a thread.  The file is closed, also when this fails."""
        try:
            os.fsync(self._descriptor)
            self._directory()
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                source = self._temporary or f"/proc/self/fd/{self._descriptor}"
                os.link(source, self.path.name, dst_dir_fd=directory)  # without dst_dir_fd Python calls link(): EXDEV
                self._sync_name(directory)
            finally:
                os.close(directory)
        finally:
            self.discard()

    def _sync_name(self, directory: int) -> None:
        try:
            os.fsync(directory)
        except OSError:
            os.unlink(self.path.name, dir_fd=directory)  # ours: a name that was there before made link fail
            raise

    def _directory(self) -> None:
        """The folder, durable: one that is there may be of another thread, or of a killed process, that has not synced it."""
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if folder.name in self._durable:
                return
        sync_directory(folder.parent)
        self._durable.add(folder.name)

    def discard(self) -> None:
        """Close it; what has no name is gone with that."""
        os.close(self._descriptor)
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


class Spool:
    """The folder of the large bodies.  in_thread: calls a function in a thread of the engine's pool."""

    def __init__(self, directory: Path, in_thread: InThread) -> None:
        self.directory = directory
        self.tmpfile = getattr(os, "O_TMPFILE", 0)
        self._in_thread = in_thread
        self._durable: set[str] = set()  # of the 256 folders those whose names are on the disk
        self._fresh: set[int] = set()  # linked or about to be, the queue has not been given the message
        self._storing: set[int] = set()  # the queue has it, the commit is not known
        self._refused: set[int] = set()  # the queue did not want it
        self._removing: set[int] = set()  # a thread is about to unlink it
        self._later: list[int] | None = None  # what is to be removed when a copy of the queue is made

    def path(self, id: int) -> Path:
        """Where the body of a message is, if it is large: 256 folders by the milliseconds of its making."""
        return self.directory / f"{id >> 22 & 255:02x}" / id_text(id)

    def remains(self, id: int) -> tuple[Path, Path]:
        """Where a crash may have left a body of a message that no row names."""
        return self.path(id), self._temporary(id)

    def _temporary(self, id: int) -> Path:
        return self.directory / f"{id_text(id)}.tmp"

    def create(self, id: int) -> SpoolFile:
        """A new file for a body.  OSError when the disk does not want it."""
        if self.tmpfile:
            try:
                descriptor = os.open(self.directory, self.tmpfile | os.O_WRONLY | os.O_CLOEXEC, 0o600)
                return SpoolFile(id, self.path(id), descriptor, None, self._durable)
            except OSError as error:
                if error.errno not in NO_TMPFILE:
                    raise
                self.tmpfile = 0
        temporary = self._temporary(id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return SpoolFile(id, self.path(id), os.open(temporary, flags, 0o600), temporary, self._durable)

    def keep(self, file: SpoolFile, size: int) -> Deferred[BodyRef]:
        """Sync and link a written file."""
        self._fresh.add(file.id)
        linked = self._in_thread(file.link)
        linked.addCallbacks(self._linked, self._not_linked, callbackArgs=(file, size), errbackArgs=(file,))
        return linked

    def _linked(self, _: object, file: SpoolFile, size: int) -> BodyRef:
        if file.id not in self._fresh:  # aborted meanwhile
            self.remove([file.id])
            raise transient("4.3.0", "the message was given up")
        return BodyRef(size, path=str(file.path))

    def _not_linked(self, failure: Any, file: SpoolFile) -> BodyRef:
        self._fresh.discard(file.id)
        failure.trap(OSError)
        raise storage_error(failure.value)

    def forget(self, id: int) -> None:
        """Remove a file that the queue was not given, or refused; nothing to do for any other."""
        if id in self._fresh or id in self._refused:
            self._fresh.discard(id)
            self.remove([id])

    def give(self, id: int) -> bool:
        """The queue is given the message.  False: its file is not there (given up before), no row may name it."""
        if id in self._removing or not self.path(id).exists():
            return False
        self._fresh.discard(id)
        self._refused.discard(id)
        self._storing.add(id)
        return True

    def stored(self, id: int, kept: bool) -> None:
        """The queue's answer: kept in a row, or refused, which leaves the file to the sink's abort or to the sweep."""
        self._storing.discard(id)
        if not kept:
            self._refused.add(id)
            with suppress(OSError):
                os.utime(self.path(id))  # its hour begins anew: a report is offered again until it is stored

    def remove(self, ids: Iterable[int]) -> Deferred[None]:
        """Unlink the files of messages that have no row (R4); the sweep finds what a crash or an error leaves."""
        gone = [id for id in ids if id not in self._fresh and id not in self._storing]
        self._refused.difference_update(gone)
        self._removing.update(gone)
        if self._later is not None:
            self._later += gone
            return succeed(None)
        return self._unlink(gone)

    def _unlink(self, gone: list[int]) -> Deferred[None]:
        removed = self._in_thread(unlink, [self.path(id) for id in gone])
        removed.addErrback(lambda _: None)
        return removed.addCallback(lambda _: self._removing.difference_update(gone))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing is removed meanwhile: a copy of the queue is made, one at a time."""
        self._later = []
        try:
            yield
        finally:
            later, self._later = self._later, None
            self._unlink(later)

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call a function in one of the threads that write bodies."""
        return self._in_thread(function, *arguments)

    def old_files(self, folder: int, now: int) -> tuple[list[int], list[Path]]:
        """In a thread: what lies in one of the 256 folders (and, with the first, in the spool itself) for over an hour.

        Ids that no message on its way holds; temporary files.
        """
        ids, temporary = [], []
        for path in [*listed(self.directory / f"{folder:02x}"), *(listed(self.directory) if folder == 0 else ())]:
            try:
                id = parse_id(path.name.removesuffix(".tmp"))
                old = path.stat().st_mtime * 1000 <= now - ORPHAN_AGE
            except (ValueError, OSError):
                continue  # not ours, or gone meanwhile
            if not old or id in self._fresh or id in self._storing:
                continue
            if path.suffix:
                temporary.append(path)
            else:
                ids.append(id)
        return ids, temporary


def listed(directory: Path) -> list[Path]:
    """The files of a folder that may not exist."""
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def unlink(paths: Iterable[Path]) -> None:
    """Remove files that may be gone already."""
    for path in paths:
        path.unlink(missing_ok=True)


def put_in_place(part: Path, dest: Path) -> None:
    """A folder that is whole gets its name; when this returns the name is durable.  MailError."""
    try:
        sync_directory(part)
        part.rename(dest)
        sync_directory(dest.absolute().parent)
    except OSError as error:
        raise storage_error(error) from error
