"""The durable queue as the reactor sees it: `IQueue` over one SQLite file, its writer's thread and a few reading threads.

    <data_dir>/queue/<node>.db     the rows         <data_dir>/queue/<node>.lock   held by the one owner
    <data_dir>/spool/ab/<id>       bodies above 128 KiB; of node 1 in spool.1, and so on (files.py)

Nothing is opened before `start()`: twistd forks after the service was made.  Everything that writes, and every claim, goes
through the writer in the order of the calls; answers come back by one wake-up of the reactor for each commit.  A failure
that makes the disk doubtful is told to `on_fatal`, once: the process must end, and everything is answered with 451 till
then.  docs/queue.md has the states, the order rules and the crash table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mta.envelope import Claim, Kind, Measure, NewMessage, NewRecipient, Outcome, Stored, Want
from mta.interfaces import IMeasured, IQueue
from mta.queue.body import BodySink, Spool
from mta.queue.flights import Flights
from mta.queue.ids import MAX_BLOCK, Generator
from mta.queue.sqlite.cache import Cache
from mta.queue.sqlite.calls import Reactor
from mta.queue.sqlite.files import queue_file, spool_folder
from mta.queue.sqlite.lock import own
from mta.queue.sqlite.operation import Enqueue, Operation, Settle, Take
from mta.queue.sqlite.owner import Result
from mta.queue.sqlite.poison import FORGET, open_recorder
from mta.queue.sqlite.reads import BodyReader, Reads, load
from mta.queue.sqlite.schema import refused
from mta.queue.sqlite.search import counts
from mta.queue.sqlite.sweep import Sweep
from mta.queue.sqlite.upkeep import Upkeep
from mta.queue.sqlite.writer import Writer
from mta.queue.state import Lane, State
from mta.status import MailError, Reply, transient

__all__ = ["SqliteQueue"]

CACHE_LIMIT = 64 << 20  # bytes
BODIES, READS = 0, 1  # the pools
THREADS = 4  # of each pool: concurrent syncs share one journal commit of the file system
PAGE = 4096  # bytes
WAL_LIMIT = 65_536  # pages, 256 MiB: a reader holds the log
RECENT = 5.0  # seconds for which a slow commit counts: with no mail accepted there may be no other
COUNTING = 2.0  # seconds: who asks for metrics gets those without the file that are at hand
GIVEN_UP = Reply(451, "4.3.0", "the caller did not wait for the claim")


@implementer(IQueue, IMeasured)
class SqliteQueue(Upkeep):
    """directory: the data directory.  completions: "strict", or "lazy" for settlements that a power cut may undo.

    now: ms since the epoch, by default the reactor's clock.  on_fatal: called once, on the reactor's thread, when the
    process must end.
    vfs: SQLite's name of the file system layer (tests).
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        reactor: Reactor,
        *,
        now: Callable[[], int] | None = None,
        node: int = 0,
        completions: str = "strict",
        on_fatal: Callable[[BaseException], None] | None = None,
        vfs: str = "",
    ) -> None:
        super().__init__(reactor, now or (lambda: int(reactor.seconds() * 1000)))
        self._directory = directory
        self._node = node
        self._lazy = completions == "lazy"
        self._on_fatal = on_fatal
        self._vfs = vfs
        self._done = 0  # operations
        self._counting: list[Deferred[dict[State, int]]] = []  # who waits for the count that is under way
        self._path, self._spooled = queue_file(directory, node), spool_folder(directory, node)
        self._lock: int | None = None
        self._stopped: Deferred[None] | None = None
        self._unwanted: list[Claim] = []  # claims that nobody has waited for, and that could not be given back yet
        self.flights = Flights()
        self.recovered: Deferred[None] = Deferred()

    # -- start and stop

    def start(self) -> Deferred[None]:
        """Open, recover, be the only owner.  Errbacks with a MailError that says what is wrong."""
        self._closing = False
        try:
            self._lock = own(self._path, self._spooled)
        except MailError:
            return fail()
        except OSError as error:
            return fail(refused(self._path, f"cannot write in {self._directory}: {error.strerror}"))
        self._pools = [ThreadPool(0, THREADS, name) for name in ("queue bodies", "queue reads")]
        for pool in self._pools:
            pool.start()
        bodies, reads = [partial(deferToThreadPool, self._reactor, pool) for pool in self._pools]
        self._spool = Spool(self._spooled, bodies)
        self._reads = Reads(self._path, reads, self._vfs)
        self._cache = Cache(CACHE_LIMIT)
        self._recorder, struck = self._open_recorder()
        self.writer = Writer(self._path, self._now, self, struck, lazy=self._lazy, vfs=self._vfs)
        self._sweep = Sweep(self._reads, self._spool, self.writer.claims, self._change)
        self._unwanted.clear()
        self._started: Deferred[None] = Deferred()
        self.recovered = Deferred()
        self.writer.start()
        return self._started

    def _open_recorder(self) -> tuple[Any, list[int]]:
        try:
            return open_recorder(self._path.with_suffix(".flights"))
        except OSError as error:
            self.log.warn("jobs are not recorded, a message that kills us may do so again: {error}", error=error)
            return None, []

    def stop(self) -> Deferred[None]:
        """Finish what was asked, then close.  Claims that were not settled are waiting again at the next start."""
        if self._ids is None:
            return succeed(None)
        if self._copying is not None:
            self._closing = True
            return self._copying.addCallback(lambda _: self.stop())
        self._ids = None
        self._stopped = Deferred()
        if self._launch is not None:
            self._launch.cancel()
        self._write()
        self._pools[READS].stop()
        self._reads.close()
        self.writer.stop()  # the last to close the file: then the log is moved into it, and removed
        return self._stopped

    def _disown(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- what the writer calls, on its thread

    def opened(self, highest: int, error: MailError | None) -> None:
        """See Owner."""
        self._reactor.callFromThread(self._opened, highest, error)

    def untaken(self) -> None:
        """See Owner."""
        self._reactor.callFromThread(self.recovered.callback, None)

    def deliver(self, results: list[Result], removable: list[int]) -> None:
        """See Owner."""
        self._reactor.callFromThread(self._answer, results, removable)

    def failed(self, error: BaseException) -> None:
        """See Owner."""
        self._reactor.callFromThread(self._failed, error)

    def closed(self) -> None:
        """See Owner."""
        self._reactor.callFromThread(self._closed)

    # -- and what then happens on the reactor's

    def _opened(self, highest: int, error: MailError | None) -> None:
        if error is None:
            self._ids = Generator(self._now, self._node, highest)
            self.flights = Flights(self._recorder, self.writer.suspects, self._acquit, self.writer.held)
            self._started.callback(None)
            return
        for pool in self._pools:
            pool.stop()
        self._disown()
        self._started.errback(error)

    def _answer(self, results: list[Result], removable: list[int]) -> None:
        if removable:
            self._spool.remove(removable)
        self._done += len(results)
        try:
            for operation, result, error in results:
                self._conclude(operation, result, error)
            if self._unwanted and any(error is None for _, _, error in results):
                claims, self._unwanted = self._unwanted, []
                self._give_back(claims)
        finally:
            self._writing -= len(results)
            if self._gathered and not self._writing and self._launch is None:  # it is not, where only a sync is told of
                self._go_on()

    def _conclude(self, operation: Operation, result: Any, error: MailError | None) -> None:
        if isinstance(operation, Enqueue):
            self._enqueued(operation, result, error)
        elif isinstance(operation, Settle):
            self._settled(operation, result, error)
        if operation.cancelled and error is None and isinstance(operation, Enqueue | Take):
            self._give_back(result)
        operation.answer(result, error)

    def _give_back(self, claims: list[Claim]) -> None:
        """Too late to undo it, nobody is there to deliver.  What cannot be recorded is tried again when something could be."""
        if claims:
            given_back = self.settle([Outcome(claim, Kind.GIVEN_BACK, GIVEN_UP) for claim in claims])
            given_back.addErrback(lambda _: self._unwanted.extend(claims))

    def _acquit(self, recipient: int) -> None:
        """It landed: its strikes are forgotten.  If not, they are met again at the next start."""
        self._change(lambda db, _: db.execute(FORGET, (recipient,)) and None).addErrback(lambda _: None)

    def _failed(self, error: BaseException) -> None:
        self.log.critical("the queue has failed, the process must end: {error}", error=error)
        self.flights.close()  # the disk's fault, no message's
        if self._on_fatal is not None:
            self._on_fatal(error)

    def _closed(self) -> None:
        self.flights.close()
        self._pools[BODIES].stop()
        self._disown()
        if self._stopped is not None:
            self._stopped.callback(None)

    # -- accept

    @property
    def pressure(self) -> float:
        """0 idle ... 1 full: how long commits take (1 s), and how much of the log a reader keeps from the file (256 MiB)."""
        if self._ids is None:
            return 1.0
        writer = self.writer
        held = (writer.wal_pages - writer.wal_moved) / WAL_LIMIT
        return max(writer.commit_mean, held) if time.monotonic() - writer.committed < RECENT else held

    def measures(self) -> Deferred[Iterable[Measure]]:
        """See IMeasured.  The rows are counted beside the writer, once for all who ask meanwhile: deliveries want the threads."""
        if self._ids is None:
            return succeed([])
        writer = self.writer
        known: Iterable[Measure] = (
            ("mta_queue_commits_total", (), writer.commits),
            ("mta_queue_commit_seconds_total", (), writer.commit_seconds),
            ("mta_queue_operations_total", (), self._done),
            ("mta_queue_log_bytes", (), writer.wal_pages * PAGE),
        )

        def with_rows(found: dict[State, int]) -> Iterable[Measure]:
            return [*known, *(("mta_queue_recipients", (state.name.lower(),), count) for state, count in found.items())]

        counted: Deferred[dict[State, int]] = Deferred()
        self._counting.append(counted)
        if len(self._counting) == 1:
            self._reads.run(counts).addBoth(self._counted)
        return counted.addTimeout(COUNTING, self._reactor).addCallbacks(with_rows, lambda _: known)

    def _counted(self, found: dict[State, int] | Failure) -> None:
        counting, self._counting = self._counting, []
        for counted in counting:
            counted.callback(found)  # a failure is none the less one

    def room(self) -> int | None:
        """See IQueue: what the file system gives to an ordinary user."""
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def create_body(self, recipients: int) -> BodySink:
        """See IQueue."""
        if self._ids is None:
            raise transient("4.3.2", "the queue is not running")
        if recipients >= MAX_BLOCK:
            raise transient("4.5.3", "too many recipients", code=452)
        return BodySink(self._ids.block(max(recipients + 1, 2)), self._spool)

    def enqueue(
        self,
        messages: Sequence[NewMessage],
        admit: Callable[[NewRecipient], bool] | None = None,
        wanted: Callable[[], bool] | None = None,
    ) -> Deferred[list[Claim]]:
        """See IQueue."""
        missing = self._give(messages)
        if missing is not None:
            return fail(missing)
        claims = []
        if admit is not None:
            for message in messages:
                if message.hold:
                    continue
                for id, to in enumerate(message.recipients, message.id + 1):
                    if admit(to):
                        reply = None if to.refused is None else str(to.refused)
                        claims.append(Claim(id, message.id, to.dest, to.lane, to.due, 0, to.address, to.orcpt, to.notify, reply))
        return self._submit(Enqueue(messages, claims, wanted))

    def _enqueued(self, operation: Enqueue, claims: list[Claim] | None, error: MailError | None) -> None:
        self._stored(operation.messages, error, operation.stored)
        if not claims or operation.cancelled:
            return
        for message in operation.messages:
            last = message.id + len(message.recipients)
            taken = len(claims) if len(operation.messages) == 1 else sum(message.id < claim.id <= last for claim in claims)
            if taken:
                self._cache.keep(message, taken)

    # -- deliver

    def claim(self, wants: Sequence[Want], now: int) -> Deferred[list[Claim]]:
        """See IQueue."""
        return self._submit(Take(lambda db: self.writer.claims.claim(db, wants, now, self._damaged)))

    def _damaged(self, want: Want, error: UnicodeDecodeError) -> None:
        """On the writer's thread."""
        message = "a recipient in lane {lane} of {dest} cannot be read, nothing behind it is delivered: {error}"
        self._reactor.callFromThread(self.log.error, message, lane=want.lane, dest=want.dest, error=error)

    def settle(self, outcomes: Sequence[Outcome], spawn: Sequence[NewMessage] = ()) -> Deferred[list[bool]]:
        """See IQueue."""
        if any(outcome.kind is Kind.DEFERRED and outcome.due is None for outcome in outcomes):
            return fail(ValueError("a deferred outcome needs its due"))
        missing = self._give(spawn)
        if missing is not None:
            return fail(missing)
        return self._submit(Settle(outcomes, spawn))

    def _settled(self, operation: Settle, results: list[bool] | None, error: MailError | None) -> None:
        self._stored(operation.spawn, error)
        for outcome, settled in zip(operation.outcomes, results or (), strict=False):
            if settled:
                self._cache.settled(outcome.claim.message)

    def lanes(self, dest: str | None = None, after: str = "", limit: int = 1000) -> Deferred[list[Lane]]:
        """See IQueue.  At least `limit` lanes if there are; the lanes of a destination are never cut in two."""
        return self._ask(lambda db: self.writer.claims.lanes(db, dest, after, limit))

    def load(self, message: int) -> Deferred[Stored]:
        """See IQueue."""
        if self._ids is None:
            return self._not_running()
        kept = self._cache.get(message)
        return succeed(kept) if kept is not None else self._reads.run(load, message)

    def open_body(self, message: int) -> BodyReader:
        """See IQueue."""
        return BodyReader(message, self._reads, self._spool)
