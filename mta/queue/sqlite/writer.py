"""The writer: one thread that owns the one connection which writes.

    take what has arrived (up to 256 operations or 4 MiB; sleep when there is nothing)
    BEGIN IMMEDIATE; a handful of statements for all enqueues and settlements; COMMIT (one fdatasync)
    the same for the other changes; then what was asked to be read
    hand all results over at once; checkpoint when the log has passed 8 to 32 MiB

There is no artificial delay: what arrives during one commit is the next batch.  A batch that is refused is rolled back and
done again one operation at a time, unless a lock was in its way.  An error that makes the file doubtful (failure.py)
answers everything with 451, now and from then on, and is reported as fatal: the process must end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import apsw

from mta.queue.flights import Held
from mta.queue.sqlite import schema
from mta.queue.sqlite.claims import Claims
from mta.queue.sqlite.failure import is_fatal, is_full, refusal
from mta.queue.sqlite.operation import Ask, Change, Enqueue, Operation, Settle
from mta.queue.sqlite.owner import Owner, Result
from mta.queue.sqlite.poison import strike
from mta.queue.sqlite.stride import Stride
from mta.queue.sqlite.transaction import Transaction, is_stored
from mta.status import MailError, transient

__all__ = ["FAILED", "Writer"]

MAX_OPERATIONS = 256
MAX_BYTES = 4 << 20
CHECKPOINT = 2048  # pages of log: 8 MiB, or up to four times as much (stride.py)
LONG = 16_384  # pages, 64 MiB: short readers have been in the way again and again
READERS = 20  # ms that they are waited for then
HELD = 32_768  # pages of log that a reader keeps from the file, 128 MiB: looked after every second
FLUSH = 0.2  # seconds that a lazy completion may wait for its sync
AGAIN = 1.0  # seconds until what the disk or a reader did not let us do is tried again

FAILED = transient("4.3.0", "the queue has failed")  # whether it was stored is not known

Work = Callable[[Sequence[Operation]], tuple[list[Any], Callable[[], None]]]


class Writer:
    """The thread and what it owns."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], int],
        owner: Owner,
        struck: Sequence[int] = (),
        *,
        lazy: bool = False,
        vfs: str = "",
    ) -> None:
        self.claims = Claims()
        self.suspects: set[int] = set()  # of `struck`, who was in the air when the last process ended (poison.py)
        self.held: list[Held] = []
        self._struck = struck
        self._highest = 0  # id in the file at the start
        self.unrecovered = 0.0  # when there was no room to write that they wait again (time.monotonic)
        self.commits, self.commit_seconds = 0, 0.0  # how many there were, and what all of them took
        self.commit_mean = 0.0  # seconds, smoothed over the last ones
        self.committed = 0.0  # when the last one returned (time.monotonic)
        self.wal_pages = 0
        self.wal_moved = 0  # of them are in the file too
        self._path = path
        self._now = now
        self._owner = owner
        self._lazy = lazy
        self._vfs = vfs
        self._inbox: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._stopping = False
        self._large: list[int] = []  # messages whose files are to be removed, until that is durable (R4)
        self._unsynced = 0.0  # when the first commit was made that is not durable yet (lazy only)
        self._stride = Stride()
        self._checkpoint_at = CHECKPOINT
        self._checkpointed = 0.0  # when that was tried last (time.monotonic)
        self._thread = Thread(target=self._run, name=f"queue {path.name}", daemon=True)

    def start(self) -> None:
        """Open the file in the thread; `opened` tells how that went."""
        self._thread.start()

    def submit(self, operations: Sequence[Operation]) -> None:
        """To be done together, in several batches where they are very many; the answers come by `deliver`."""
        batch: list[Operation] = []
        size = 0
        for operation in operations:
            batch.append(operation)
            size += operation.size
            if len(batch) >= MAX_OPERATIONS or size >= MAX_BYTES:
                self._inbox.put(batch)
                batch, size = [], 0
        if batch:
            self._inbox.put(batch)

    def stop(self) -> None:
        """Do what was submitted, close, end the thread."""
        self._inbox.put(None)

    # -- the thread

    def _run(self) -> None:
        try:
            self._open()
        except Exception as error:
            self._owner.opened(0, error if isinstance(error, MailError) else schema.refused(self._path, str(error)))
            return
        try:
            while not self._stopping:
                self._turn()
            self._close()
        except BaseException as error:
            self._owner.failed(error)
            self._refuse_all()
        self._owner.closed()

    def _open(self) -> None:
        self.db = schema.open_writer(self._path, self._vfs)
        try:
            self.db.set_wal_hook(self._logged)
            self._strike()
            self._highest = schema.highest_id(self.db)
            self._recover()
        except BaseException:
            self.db.close()
            raise
        self._owner.opened(self._highest, None)

    def _strike(self) -> None:
        """Who was in the air when the process was killed.  On a full disk they are suspect, and no strike is counted."""
        try:
            self.suspects, self.held = strike(self.db, self._struck)
        except apsw.Error as error:
            if not is_full(error, self.db.system_errno):
                raise
            self.suspects = set(self._struck)

    def _recover(self) -> None:
        """What the last owner had taken waits again.  On a full disk we start without that, and do it when there is room."""
        try:
            schema.recover(self.db, self._highest)
        except apsw.Error as error:
            system_error = self.db.system_errno
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if is_fatal(error, system_error):
                raise
            self.checkpoint(1)  # room in the log is room
            self.unrecovered = time.monotonic()
            return
        self.unrecovered = 0.0
        self.claims.forget_cursors()
        self._owner.untaken()

    def _logged(self, _: object, __: object, pages: int) -> int:
        if pages < self.wal_pages:
            self._checkpoint_at, self.wal_moved = CHECKPOINT * self._stride.times, 0  # the log has begun anew
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def _turn(self) -> None:
        if batch := self._collect():
            self._work(batch)
        self.checkpoint()
        if self.unrecovered and time.monotonic() >= self.unrecovered + AGAIN:
            self._recover()

    def _work(self, batch: Sequence[Operation]) -> None:
        results: list[Result] = []
        try:
            self._do(batch, results)
        except BaseException:
            done = {result[0] for result in results}
            results += [(operation, None, FAILED) for operation in batch if operation not in done]
            raise
        finally:
            self.deliver(results)

    def deliver(self, results: list[Result]) -> None:
        """One wake-up of the reactor for all answers."""
        self._owner.deliver(results, self._removable())

    def _collect(self) -> Sequence[Operation]:
        """The next batch; an empty one when it is time for something else."""
        try:
            batch = self._inbox.get(timeout=self._patience())
        except Empty:
            self._flush()
            return ()
        self._stopping = batch is None
        return batch or ()

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nobody asks for anything; None: for ever."""
        moments = [self._unsynced + FLUSH] if self._unsynced else []
        if self.unrecovered:
            moments.append(self.unrecovered + AGAIN)
        if self.wal_pages - self.wal_moved >= HELD:
            moments.append(self._checkpointed + AGAIN)
        return max(min(moments) - time.monotonic(), 0.0) if moments else None

    def _do(self, batch: Sequence[Operation], results: list[Result]) -> None:
        begun = []
        for operation in batch:
            if operation.given_up():  # asked once: the answer may change under our eyes
                results.append((operation, None, transient("4.3.0", "given up")))
            else:
                begun.append(operation)
        for kinds, work in (((Enqueue, Settle), self._write), ((Change,), self._change)):
            if operations := [operation for operation in begun if isinstance(operation, kinds)]:
                self._transact(operations, work, results)
        for operation in begun:
            if isinstance(operation, Ask):
                results.append(self._ask(operation))

    def _ask(self, operation: Ask) -> Result:
        try:
            return operation, operation.work(self.db), None
        except Exception as error:
            if is_fatal(error, self.db.system_errno):
                raise
            return operation, None, refusal(error)

    # -- transactions

    def _write(self, operations: Sequence[Operation]) -> tuple[list[Any], Callable[[], None]]:
        transaction = Transaction(self.claims, self._now())
        outcome = transaction.run(self.db, operations)
        self._large += transaction.large
        return outcome, transaction.committed

    def _change(self, operations: Sequence[Operation]) -> tuple[list[Any], Callable[[], None]]:
        outcome = [operation.work(self.db, self._large) for operation in operations if isinstance(operation, Change)]
        return outcome, self.claims.forget_cursors

    def _transact(self, operations: Sequence[Operation], work: Work, results: list[Result]) -> None:
        large, removed = len(self._large), self.claims.removed.copy()
        try:
            synced = self._must_sync(operations)
            self._set_synchronous(synced)
            self.db.execute("BEGIN IMMEDIATE")
            outcome, committed = work(operations)
            self.commit()
            self._unsynced = 0.0 if synced else self._unsynced or time.monotonic()
        except Exception as error:
            del self._large[large:]
            self.claims.removed = removed  # a removal that was refused removes nothing later either
            self._roll_back(error, operations, work, results)
        else:
            committed()
            results += [(operation, result, None) for operation, result in zip(operations, outcome, strict=True)]

    def _set_synchronous(self, synced: bool) -> None:
        """Strict: always FULL, and never touched.  Lazy: FULL where it must be, which also syncs all before it."""
        if self._lazy:
            self.db.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")

    def _must_sync(self, operations: Sequence[Operation]) -> bool:
        late = self._unsynced and time.monotonic() >= self._unsynced + FLUSH
        return not self._lazy or bool(late) or any(operation.synced for operation in operations)

    def commit(self) -> None:
        """The moment of truth: when this returns, what was written is durable (if synchronous is FULL)."""
        began = time.monotonic()
        self.db.execute("COMMIT")
        self.committed = time.monotonic()
        self.commits += 1
        self.commit_seconds += self.committed - began
        self.commit_mean += (self.committed - began - self.commit_mean) / 8

    def _roll_back(self, error: Exception, operations: Sequence[Operation], work: Work, results: list[Result]) -> None:
        system_error = self.db.system_errno
        if is_fatal(error, system_error):
            raise error
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        if isinstance(error, apsw.BusyError):  # waited for already, and nobody's fault: not once more for each
            results += [(operation, None, refusal(error)) for operation in operations]
            return
        if len(operations) == 1:
            (operation,) = operations
            results.append(self._refused(operation, error, system_error))
            return
        if is_full(error, system_error):
            self.checkpoint(CHECKPOINT)  # what is in the file need not be in the log: makes room for settlements
        full = False
        for operation in sorted(operations, key=lambda operation: isinstance(operation, Enqueue)):  # settlements first
            if full and isinstance(operation, Enqueue):
                results.append((operation, None, refusal(error, system_error)))
                continue
            self._transact([operation], work, results)
            refused = results[-1][2]
            full = refused is not None and refused.reply.code == 452

    def _refused(self, operation: Operation, error: Exception, system_error: int) -> Result:
        if not isinstance(operation, Enqueue) or is_full(error, system_error):
            return operation, None, refusal(error, system_error)
        if len(operation.messages) > 1:
            return operation, None, self._one_by_one(operation)
        if isinstance(error, apsw.ConstraintError) and is_stored(self.db, operation.messages[0]):
            return operation, [], None
        return operation, None, refusal(error)

    def _one_by_one(self, operation: Enqueue) -> MailError | None:
        """The good messages of a call with a bad one are stored, waiting: the caller gets an error and so no claims."""
        failed: MailError | None = None
        for message in operation.messages:
            alone: list[Result] = []
            self._transact([Enqueue([message], [])], self._write, alone)
            ((_, _, error),) = alone
            if error is None:
                operation.stored.add(message.id)
            failed = failed or error
        return failed

    # -- between transactions

    def checkpoint(self, at: int = 0) -> None:
        """Move the log into the file when it is long: with the answers out, nobody waits for this but the next batch."""
        if self.wal_pages < (at or self._checkpoint_at) and not self._is_held():
            return
        self._checkpointed = time.monotonic()
        try:
            _, self.wal_moved = self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._stride.took(time.monotonic() - self._checkpointed, self.wal_moved >= self.wal_pages)
            if self.wal_pages >= LONG and self.wal_moved >= self.wal_pages:
                self._restart_log()
        except apsw.Error as error:
            if is_fatal(error, self.db.system_errno):
                raise
        self._checkpoint_at = self.wal_pages + CHECKPOINT  # if a reader holds the log, not again at every commit

    def _restart_log(self) -> None:
        """All of it is in the file: wait a moment for the readers that are still in it, then the next commit begins it anew."""
        self.db.set_busy_timeout(READERS)
        try:
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        finally:
            self.db.set_busy_timeout(schema.BUSY_TIMEOUT)

    def _is_held(self) -> bool:
        """So much is in the log only that new mail is refused soon: then no commit may come that would look after it."""
        return self.wal_pages - self.wal_moved >= HELD and time.monotonic() >= self._checkpointed + AGAIN

    def _flush(self) -> None:
        """Lazy completions become durable: a commit with FULL syncs all of the log.  Where there is no room for it: later."""
        if not self._unsynced:
            return
        try:
            self._set_synchronous(True)
            self.db.execute(f"PRAGMA user_version={schema.VERSION}")
        except apsw.Error as error:
            if is_fatal(error, self.db.system_errno):
                raise
            self._unsynced = time.monotonic()
            return
        self._unsynced = 0.0
        self.deliver([])

    def _removable(self) -> list[int]:
        """Messages whose files may go: their removal is durable (R4)."""
        if self._unsynced:
            return []
        large, self._large = self._large, []
        return large

    def _close(self) -> None:
        self._flush()
        self.db.close()

    def _refuse_all(self) -> None:
        """After a fatal error: no checkpoint over a doubtful log, and no caller left waiting, until the process ends."""
        try:
            self.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.db.close()
        except apsw.Error:
            pass  # it was doubtful before
        while not self._stopping and (batch := self._inbox.get()) is not None:
            self.deliver([(operation, None, FAILED) for operation in batch])
