"""The lock of a queue file: its one owner has it, a service or a command that works while none runs (docs/queue.md).

An flock on `<node>.lock` beside the file: the kernel lets it go with its process, however that ends.  Who cannot have it
gets a MailError that says so.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mta.durable import sync_directory
from mta.queue.sqlite.schema import refused

__all__ = ["is_owned", "own", "owned"]


def own(path: Path, spool: Path) -> int:
    """Be the owner of a queue file: the descriptor that has the lock.  Folders are made, their names durable.  OSError."""
    for folder in (path.parent, spool):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # other workers begin at the same time
            sync_directory(folder.parent)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise refused(path, "is in use by another process") from None
    return lock


@contextmanager
def owned(path: Path, spool: Path) -> Iterator[None]:
    """Be the owner for a while.  MailError, also for what the disk says."""
    try:
        lock = own(path, spool)
    except OSError as error:
        raise refused(path, f"cannot be owned: {error}") from error
    try:
        yield
    finally:
        os.close(lock)


def is_owned(path: Path) -> bool:
    """A process has the queue file.  Asked by trying its lock for a moment."""
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
