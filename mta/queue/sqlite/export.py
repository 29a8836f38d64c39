"""`mta queue export` and `import`: the queue of a data directory into one file, and such a file into a queue.

An export reads beside the service or without it.  The file has its name when all of it is on the disk: what was cut short
is FILE.part, and is not taken for one.  An import wants the service down.  Everything comes held, unless its `release` is
asked for: since the file was made the mail may have been delivered, and would be delivered again.  Both block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from twisted.internet.defer import Deferred, succeed

from mta.durable import sync_directory
from mta.interfaces import IBodySink
from mta.queue.body import storage_error
from mta.queue.carry import passage
from mta.queue.carry.archive import Packing, Unpacking
from mta.queue.sqlite.backup import Progress
from mta.queue.sqlite.files import nodes_in
from mta.queue.sqlite.still import Owned, at_once, opened, owning
from mta.queue.state import CopyReport, Selector

__all__ = ["export", "import_"]


def export(data_dir: Path, selector: Selector, file: Path, now: int, progress: Progress) -> CopyReport:
    """Write what is selected into a new file.  now: ms.  MailError, and there is no file."""
    with ExitStack() as held:
        sources = [held.enter_context(opened(data_dir, node)) for node in nodes_in(data_dir) or (0,)]
        total = sum(source.count() for source in sources) if selector == Selector() else 0
        with _new(file) as out:
            packing = Packing(out, now)
            done = partial(progress, "messages")
            report = at_once(passage.export(sources, selector, packing, lambda number: done(number, total)))
            for source in sources:
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
    """Take in what an export has written; of several workers' queues it is the first that gets it.

    MailError: what was imported before stands, and it can be repeated.
    """
    try:
        with open(file, "rb", 1 << 18) as given:
            total = os.fstat(given.fileno()).st_size
            unpacking = Unpacking(given)
            with ExitStack() as stack:
                others = [stack.enter_context(owning(data_dir, node)) for node in nodes_in(data_dir) if node]
                target = _Beside(stack.enter_context(owning(data_dir)), others)
                return at_once(passage.unpacked(target, unpacking, held, lambda done: progress("bytes", done, total)))
    except OSError as error:
        raise storage_error(error) from error


class _Beside:
    """A queue beside others: what one of them has is there already."""

    def __init__(self, target: Owned, others: Sequence[Owned]) -> None:
        self._others = others
        self._target = target
        self.adopt = target.adopt

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]:
        """See IQueue."""
        if any(other.has(id, recipients) for other in self._others):
            return succeed(None)
        return self._target.body_of(id, recipients)
