"""A queue file in the hands of a command: read as somebody else's, or owned while no service runs.  Blocks.

The same answers as the engine gives (`IQueue`), as far as mail is carried from queue to queue, but every Deferred that is
returned has fired: `at_once` runs what is written for Deferreds to its end.  There is one connection and no thread.  Bodies
and rows go in by the engine's own sink, spool and transaction, so its order rules hold: files durable before the rows that
name them (R1), files removed when the removal of their rows is durable (R4).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

from mta.durable import sync_directory
from mta.envelope import Stored
from mta.interfaces import IBodySink
from mta.queue.body import BodySink, Spool, unlink
from mta.queue.ids import id_text
from mta.queue.rerouting import KEY
from mta.queue.sqlite import alteration, schema, search
from mta.queue.sqlite import statements as sql
from mta.queue.sqlite.failure import is_fatal, refusal
from mta.queue.sqlite.files import queue_file, spool_folder
from mta.queue.sqlite.lock import owned
from mta.queue.sqlite.reads import BodyReader, Reads, load
from mta.queue.sqlite.transaction import remove_recipients
from mta.queue.state import Carried, DestState, Row, Selector
from mta.status import MailError, transient

__all__ = ["Outside", "Owned", "at_once", "make_folder", "opened", "owning"]

T = TypeVar("T")
CHECKPOINT = 2048  # pages of the log, 8 MiB, as the service does it


class Doubt(MailError):
    """Nobody knows whether the disk has what was written."""


def at_once(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """What the coroutine returns or raises; it waits for nothing."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    answer: T = result
    return answer


class _OneConnection(Reads):
    """Reads by a connection that is open, in this thread."""

    def __init__(self, db: apsw.Connection) -> None:
        super().__init__(Path(), execute)
        self._idle.append(db)


class Outside:
    """Looks, and takes messages with their bodies."""

    def __init__(self, db: apsw.Connection, spool: Path) -> None:
        self._reads = _OneConnection(db)
        self._spool = Spool(spool, execute)

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        """See IQueue."""
        return self._reads.run(_browse, selector, after, limit)

    def load(self, message: int) -> Deferred[Stored]:
        """See IQueue."""
        return self._reads.run(load, message)

    def open_body(self, message: int) -> BodyReader:
        """See IQueue."""
        return BodyReader(message, self._reads, self._spool)

    def destinations(self) -> list[DestState]:
        """Those that are not in their plain state."""
        return at_once(self._known())

    async def _known(self) -> list[DestState]:
        known: list[DestState] = await self._reads.run(alteration.all_dests)
        return known

    def count(self) -> int:
        """Messages."""
        return int(at_once(self._counted()))

    async def _counted(self) -> Any:
        return await self._reads.run(lambda db: db.execute("SELECT count(*) FROM message").get)


def _browse(db: apsw.Connection, selector: Selector, after: int, limit: int) -> list[Row]:
    found, after = search.page(db, selector, after, limit)
    while after and len(found) < limit:
        rows, after = search.page(db, selector, after, limit - len(found))
        found += rows
    return found


class Owned(Outside):
    """Takes messages in, and lets them go.  The calls that write are MailErrors when the disk is full."""

    def __init__(self, db: apsw.Connection, spool: Path) -> None:
        super().__init__(db, spool)
        self._db = db

    def has(self, id: int, recipients: int) -> bool:
        """One of the ids of such a message is in use."""
        return alteration.is_used(self._db, id, recipients)

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]:
        """See IQueue."""
        return execute(self._body_of, id, recipients)

    def _body_of(self, id: int, recipients: int) -> IBodySink | None:
        if alteration.is_used(self._db, id, recipients):
            return None
        unlink(self._spool.remains(id))
        return BodySink(id, self._spool)

    def adopt(self, messages: Sequence[Carried]) -> Deferred[None]:
        """See IQueue.  They were routed by other routes, perhaps: the next service looks."""
        return execute(self._adopt, messages)

    def _adopt(self, messages: Sequence[Carried]) -> None:
        large = [each.id for each in messages if each.body.data is None]
        missing = [id for id in large if not self._spool.give(id)]
        if missing:
            raise transient("4.3.0", "the body is not there", reason=f"message {id_text(missing[0])}")  # R6
        try:
            with self._writing() as db:
                alteration.adopt(db, messages)
                db.execute(sql.NOTE, (KEY, ""))
        except Doubt:  # the rows may be there: their files stay
            raise
        except MailError:
            for id in large:
                self._spool.stored(id, False)
            raise
        for id in large:
            self._spool.stored(id, True)

    def remove(self, rows: Sequence[Row]) -> None:
        """Recipients, and the messages that have no other: their files when that is durable."""
        large: list[int] = []
        with self._writing() as db:
            remove_recipients(db, [(row.id, row.message) for row in rows], large)
        self._spool.remove(large)

    def remember(self, other: Owned) -> None:
        """What that queue knows of destinations of which nothing is known here: suspended, blocked.

        Something is written in any case, and its sync is that of all that is in the log: also of what a process that was
        killed in its commit has left there, and that is removed elsewhere because it is here.
        """
        with self._writing() as db:
            db.execute(sql.NOTE, (KEY, ""))
            for state in alteration.all_dests(other._db):
                if db.execute(sql.ONE_DEST, (state.name,)).get is None:
                    alteration.put(db, state)

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        """A transaction, durable at its end."""
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except apsw.Error as error:
            refused = refusal(error, db.system_errno)
            raise Doubt(refused.reply, refused.reason) if is_fatal(error, db.system_errno) else refused from error


class _Opened(Outside):
    """Of a file that has an owner, perhaps."""

    def __init__(self, db: apsw.Connection, spool: Path, path: Path, before: tuple[bool, int, int]) -> None:
        super().__init__(db, spool)
        self._path = path
        self._before = before

    def unchanged(self) -> None:
        """MailError when a service has begun to write in what was read as a file that nobody has."""
        has_log, *_ = self._before
        if not has_log and _look_of(self._path) != self._before:
            reason = f"{self._path}: a service has started meanwhile; do it once more"
            raise transient("4.3.0", "the queue has changed", reason=reason)


def _look_of(path: Path) -> tuple[bool, int, int]:
    look = path.stat()
    return schema.has_log(path), look.st_mtime_ns, look.st_size


@contextmanager
def opened(data_dir: Path, node: int = 0) -> Iterator[_Opened]:
    """The queue of a data directory, read beside a service or without one; no trace is left.  MailError."""
    path = queue_file(data_dir, node)
    if not path.exists():
        raise schema.refused(path, "there is no queue")
    before = _look_of(path)
    try:
        db = schema.open_outside(path)
    except apsw.Error as error:
        raise schema.refused(path, str(error)) from error
    with closing(db):
        _known(db, path)
        yield _Opened(db, spool_folder(data_dir, node), path, before)


def _known(db: apsw.Connection, path: Path) -> None:
    try:
        found = db.pragma("application_id"), db.pragma("user_version")
    except apsw.Error as error:
        raise schema.refused(path, str(error)) from error
    if found != (schema.APPLICATION_ID, schema.VERSION):
        raise schema.refused(path, "is not a queue of this version of mta (the service brings old ones up)")


@contextmanager
def owning(data_dir: Path, node: int = 0) -> Iterator[Owned]:
    """The queue of a data directory, made if it is not there.  MailError when a service has it, OSError of the folder."""
    path, spool = queue_file(data_dir, node), spool_folder(data_dir, node)
    make_folder(data_dir.absolute())
    with owned(path, spool), closing(schema.open_writer(path)) as db:
        db.pragma("wal_autocheckpoint", CHECKPOINT)
        try:
            yield Owned(db, spool)
        except apsw.Error as error:
            raise schema.refused(path, str(error)) from error


def make_folder(folder: Path) -> None:
    """A folder whose name is durable: mail that is moved into it is removed elsewhere.  OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700)
        sync_directory(folder.parent)
