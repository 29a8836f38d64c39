"""Mail in the queue files of workers that there are no more: it moves into the files of those that there are.

Worker k of n takes up every file m >= n with m % n == k, and a server that is alone all of them.  It is a move as by `mta queue
move` (`queue/sqlite/move.py`), into a queue that serves: a bite of messages is durable here before it is removed there, so a
kill loses nothing, and leaves one bite in both at worst.  `repeat` removes that from the old file before anything is
delivered from ours.  What follows goes on beside the service, in a thread; a file that is empty is removed.  One that cannot
be had now (a worker still has it, a full disk) is tried again in a minute; what cannot go stays where it is, and is told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mta.envelope import BodyRef, Stored
from mta.interfaces import IBodySink, IEventLog
from mta.queue.body import Spool, storage_error, unlink
from mta.queue.service import QueueService
from mta.queue.sqlite import schema
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from mta.queue.sqlite.lock import owned
from mta.queue.sqlite.still import at_once, owning
from mta.queue.state import Carried, CopyReport, Row, Selector
from mta.status import MailError, transient

__all__ = ["AGAIN", "Adoption"]

AGAIN: Final = 60.0  # seconds

T = TypeVar("T")


class Adoption:
    """node: ours, of so many.  service: it is told what to find, and which destinations are suspended."""

    _bugs = Logger()

    def __init__(self, data_dir: Path, node: int, count: int, service: QueueService, *, reactor: Any, log: IEventLog) -> None:
        self._data_dir = data_dir
        self._node = node
        self._count = count
        self._service = service
        self._reactor = reactor
        self._log = log
        self._pool: ThreadPool | None = None
        self._wanted = True
        self._left_over: list[int] = []
        self._owed: dict[int, Sequence[Row]] = {}  # by their files: is here, goes out from here, and was not removed there
        self._running: Deferred[None] = succeed(None)
        self._again: IDelayedCall | None = None

    # -- before the queue is opened

    def repeat(self) -> Deferred[None]:
        """Finish the last bite of an adoption that was cut short.  Never errbacks."""
        self._wanted = True
        try:
            self._left_over = [each for each in nodes_in(self._data_dir) if each >= self._count and self._is_ours(each)]
        except OSError:
            self._left_over = []  # the queue says what is wrong with the folder
        if self._left_over:
            self._running = self._in_thread(self._repeat_all)
        return self._running

    def _is_ours(self, node: int) -> bool:
        return node % self._count == self._node

    def _repeat_all(self) -> None:
        from mta.queue.sqlite.move import Moving  # here and below: there is hardly ever anything to take up

        for node in self._left_over:
            if not self._wanted:
                return
            try:
                with owning(self._data_dir, self._node) as target, owning(self._data_dir, node) as source:
                    at_once(Moving(source, target, lambda *_: None).repeat())
            except Exception as error:  # it is met again, and told, when the move itself begins
                self._bugs.debug("{node}.db: {error}", node=node, error=error)

    # -- beside the service

    def begin(self) -> None:
        """Take up what there is, one file after the other."""
        self._again = None
        if self._wanted and self._left_over:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: self._bugs.failure("mail of another worker was not taken up", failure))

    async def _run(self) -> None:
        later = []
        for node in self._left_over:
            if self._wanted and not await self._take_up(node):
                later.append(node)
        self._left_over = later
        if later and self._wanted:
            self._again = self._reactor.callLater(AGAIN, self.begin)

    async def _take_up(self, node: int) -> bool:
        """One file.  False: it is to be tried again."""
        name = queue_file(self._data_dir, node).name
        try:
            suspended = await self._in_thread(self._suspended, node)
            known = {state.name for state in await self._service.queue.destinations()}
            for dest, why in suspended:
                if dest not in known:
                    await self._service.suspend(dest, why)
            report: CopyReport = await self._in_thread(self._move, node)
            await self._service.adopted()  # it was filed by other routes, perhaps: kept in mind before its file is gone
            if not report.refused:
                await self._in_thread(self._remove, node)
        except Exception as error:
            if not isinstance(error, MailError):
                self._bugs.failure("{name} was not taken up", name=name)
            why = error.reason if isinstance(error, MailError) else repr(error)
            self._log.event("adopted", "", {"from": name, "status": "failed", "reason": why or str(error)})
            return not self._wanted
        if report.messages or report.skipped or report.refused:
            told = {"messages": report.messages, "recipients": report.recipients, "left": len(report.refused) or None}
            reason = report.refused[0][1] if report.refused else None
            self._log.event("adopted", "", {"from": name, "status": "done", **told, "reason": reason})
        return True

    def _suspended(self, node: int) -> list[tuple[str, str]]:
        with _storage(), owning(self._data_dir, node) as source:
            return [(state.name, state.blocked_why or "") for state in source.destinations() if state.suspended]

    def _move(self, node: int) -> CopyReport:
        """In the thread."""
        from mta.queue.sqlite.move import Moving

        with _storage(), owning(self._data_dir, node) as source:
            source.remember(source)  # which changes nothing and is written: a file that takes no write gives no mail
            source.remove(self._owed.get(node, ()))
            moving = Moving(source, _Serving(self._service.queue, self._reactor), self._go_on)
            try:
                return at_once(moving.run())
            finally:
                self._owed[node] = moving.owed

    def _go_on(self, *_: object) -> None:
        if not self._wanted:
            raise transient("4.3.2", "the service stops", reason="the service stops")

    def _remove(self, node: int) -> None:
        """The file, if nothing is in it, and its spool.  The lock stays: somebody may be about to ask for it.

        Bodies that lie there have no row: a kill came between the removal of that and theirs.  They go first, for nobody
        would look for them once the file is gone.
        """
        path, spool = queue_file(self._data_dir, node), spool_folder(self._data_dir, node)
        with _storage(), owned(path, spool):
            with closing(schema.open_writer(path)) as db:
                if db.execute("SELECT EXISTS(SELECT 1 FROM message)").get:
                    return
            unlink(_bodies(spool))
            if not schema.has_log(path):  # closing has moved the log into the file
                path.unlink()
                path.with_suffix(".flights").unlink(missing_ok=True)
        for folder in (*spool.glob("[0-9a-f][0-9a-f]"), spool):
            _remove_empty(folder)

    # -- the end

    def stop(self) -> Deferred[None]:
        """Fires when nothing of it runs; a bite that was begun is finished."""
        self._wanted = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        return self._running.addCallback(lambda _: self._stop_pool())

    def _stop_pool(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool = None

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        if self._pool is None:
            self._pool = ThreadPool(0, 1, "adoption")
            self._pool.start()
        done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, *arguments)
        return done


class _Serving:
    """The queue that serves, as the thread sees it: what is asked of it is done on the reactor's, and waited for."""

    def __init__(self, queue: Any, reactor: Any) -> None:
        self._queue = queue
        self._reactor = reactor

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return execute(blockingCallFromThread, self._reactor, call, *arguments)

    def body_of(self, id: int, recipients: int) -> Deferred[IBodySink | None]:
        """See IQueue."""
        opened = self._asked(self._queue.body_of, id, recipients)
        return opened.addCallback(lambda sink: None if sink is None else _Sink(sink, self._asked))

    def adopt(self, messages: Sequence[Carried]) -> Deferred[None]:
        """See IQueue."""
        return self._asked(self._queue.adopt, messages)

    def browse(self, selector: Selector, after: int = 0, limit: int = 100) -> Deferred[list[Row]]:
        """See IQueue."""
        return self._asked(self._queue.browse, selector, after, limit)

    def load(self, message: int) -> Deferred[Stored]:
        """See IQueue."""
        return self._asked(self._queue.load, message)


@implementer(IBodySink)
class _Sink:
    """Bytes are written in the thread; beginning and end are the spool's, on the reactor's."""

    def __init__(self, sink: Any, asked: Callable[..., Deferred[Any]]) -> None:
        self._sink = sink
        self._asked = asked
        self.id: int = sink.id
        self.name: str = sink.name

    @property
    def size(self) -> int:
        """See IBodySink."""
        return int(self._sink.size)

    def write(self, data: bytes) -> Deferred[None] | None:
        """See IBodySink."""
        waiting: Deferred[None] | None = self._sink.write(data)
        return waiting

    def finish(self) -> Deferred[BodyRef]:
        """See IBodySink."""
        return self._asked(self._sink.finish)

    def abort(self) -> None:
        """See IBodySink."""
        at_once(_awaited(self._asked(self._sink.abort)))


async def _awaited(done: Deferred[T]) -> T:
    return await done


@contextmanager
def _storage() -> Iterator[None]:
    """What the disk says is a MailError."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def _bodies(spool: Path) -> Iterator[Path]:
    """All that lies there, whole or begun."""
    files = Spool(spool, execute)
    for folder in range(256):
        ids, begun = files.old_files(folder, sys.maxsize)
        yield from (*map(files.path, ids), *begun)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty: something lies there that is not ours to remove
        folder.rmdir()
