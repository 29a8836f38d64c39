"""`mta queue export` and `import`: the queue of a data directory into one file, and such a file into a queue.

An export reads beside the service or without it.  The file has its name when all of it is on the disk: what was cut short
is FILE.part, and is not taken for one.  An import wants the service down.  Everything comes held, unless its `release` is
asked for: since the file was made the mail may have been delivered, and would be delivered again.  Both block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mta.queue.body import storage_error, sync_directory
from mta.queue.carry import passage
from mta.queue.carry.archive import Packing, Unpacking
from mta.queue.sqlite.backup import Progress
from mta.queue.sqlite.still import at_once, opened, owning
from mta.queue.state import CopyReport, Selector

__all__ = ["export", "import_"]


def export(data_dir: Path, selector: Selector, file: Path, now: int, progress: Progress) -> CopyReport:
    """Write what is selected into a new file.  now: ms.  MailError, and there is no file."""
    with opened(data_dir) as source:
        total = source.count() if selector == Selector() else 0
        with _new(file) as out:
            packing = Packing(out, now)
            report = at_once(passage.export(source, selector, packing, lambda done: progress("messages", done, total)))
            source.unchanged()
    return report


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole and durable.  MailError for what the disk says."""
    part = file.with_name(f"{file.name}.part")
    try:
        if file.exists():
            raise FileExistsError(f"{file} is there already")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w+b", 1 << 18) as out:
                yield out
                out.flush()
                os.fsync(descriptor)
            part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_directory(file.absolute().parent)
    except OSError as error:
        raise storage_error(error) from error


def import_(file: Path, data_dir: Path, held: bool, progress: Progress) -> CopyReport:
    """Take in what an export has written.  MailError: what was imported before stands, and it can be repeated."""
    try:
        with open(file, "rb", 1 << 18) as given:
            total = os.fstat(given.fileno()).st_size
            unpacking = Unpacking(given)
            with owning(data_dir) as target:
                return at_once(passage.unpacked(target, unpacking, held, lambda done: progress("bytes", done, total)))
    except OSError as error:
        raise storage_error(error) from error
