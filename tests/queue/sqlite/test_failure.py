"""What an error of the database means; and q34: a disk that lies ends the process and loses nothing that was answered."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import patch

import apsw
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Kind, Want
from mta.queue.sqlite import writer
from mta.queue.sqlite.failure import is_fatal, is_full, refusal
from mta.status import MailError, transient
from tests.queue.harness import DEST, changed
from tests.queue.sqlite.case import SqliteCase


class MeaningTests(SynchronousTestCase):
    """One operation, or the whole process."""

    def test_full(self) -> None:
        """No room: 452, and we stay up.  A sync that fails for want of room is not that: what it synced is unknown."""
        sync = apsw.IOError("sync")
        sync.extendedresult = apsw.SQLITE_IOERR_FSYNC
        write = apsw.IOError("write")
        write.extendedresult = apsw.SQLITE_IOERR_WRITE
        self.assertTrue(is_full(apsw.FullError("full")) and is_full(write, errno.EDQUOT))
        self.assertFalse(is_full(sync, errno.ENOSPC) or is_full(write, errno.EIO))
        self.assertEqual((452, "4.3.1"), (refusal(apsw.FullError("x")).reply.code, refusal(apsw.FullError("x")).reply.enhanced))

    def test_what_ends_the_process(self) -> None:
        """Errors of the disk, the file or the program; not those of one message."""
        for error in (
            apsw.IOError("x"),
            apsw.CorruptError("x"),
            apsw.NotADBError("x"),
            apsw.SQLError("x"),
            MemoryError(),
            SystemExit(),
        ):
            self.assertTrue(is_fatal(error), repr(error))
        for error in (apsw.ConstraintError("x"), apsw.BusyError("x"), apsw.FullError("x"), ValueError("x"), TypeError("x")):
            self.assertFalse(is_fatal(error), repr(error))
            self.assertIn(refusal(error).reply.code, (451, 452))
        known = transient("4.3.2", "stops", code=421)
        self.assertIs(known, refusal(known), "what says itself what is to be told")


class FailingVFS(apsw.VFS):
    """A disk that can be told to fail: `fails` names a call, and a file by the end of its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.fails: tuple[str, str, apsw.Error] | None = None

    def xOpen(self, name, flags):
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    """One open file of it."""

    def __init__(self, vfs: FailingVFS, name, flags) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def _fail(self, call: str) -> None:
        if self._vfs.fails is not None and call == self._vfs.fails[0] and self._name.endswith(self._vfs.fails[1]):
            raise self._vfs.fails[2]

    def xWrite(self, data, offset):
        self._fail("write")
        super().xWrite(data, offset)

    def xSync(self, flags):
        self._fail("sync")
        super().xSync(flags)


def io_error(code: int) -> apsw.Error:
    """An error as SQLite's own layer reports it."""
    error = apsw.IOError("the disk")
    error.extendedresult = code
    return error


class DiskTests(SqliteCase):
    """A real engine on it."""

    async def setUp(self) -> None:
        self.vfs = FailingVFS(f"failing-{id(self)}")
        self.addCleanup(self.vfs.unregister)
        self.fatal: Deferred[BaseException] = Deferred()
        self.settings = {"vfs": self.vfs.name, "on_fatal": lambda error: self.fatal.callback(error)}
        await super().setUp()

    async def test_q34_sync_fails(self) -> None:
        """All that waits gets 451, the process is told to end, what was answered before is in the file."""
        answered, _ = await self.accept()
        sink = self.queue.create_body(1)
        sink.write(b"x" * 200_000)
        large = changed(await self.new(), id=sink.id, body=await sink.finish())
        self.vfs.fails = ("sync", "-wal", io_error(apsw.SQLITE_IOERR_FSYNC))
        messages = [large] + [await self.new() for _ in range(10)]
        waiting = [self.assertFailure(self.queue.enqueue([message]), MailError) for message in messages]
        claims = self.assertFailure(self.wrapped(self.claim()), MailError)
        self.assertIsInstance(await self.fatal, apsw.IOError)
        self.assertEqual({451}, {error.reply.code for error in await gatherResults(waiting)})
        await claims
        self.vfs.fails = None
        sink.abort()  # its row may be there, or not: its file must stay (R6)
        late = await self.assertFailure(self.wrapped(self.accept()), MailError)
        self.assertEqual(451, late.reply.code, "nothing is accepted any more, though the disk seems well")
        await self.restarted()
        found = {row.message for row in await self.rows()}
        self.assertTrue(found in ({answered}, {answered} | {message.id for message in messages}) or found > {answered}, found)
        await self.check_sound()

    async def test_q34_sync_fails_with_batches_behind(self) -> None:
        """What one turn of the reactor has brought is more than a batch: none of it stays without an answer, nor does a stop."""
        self.vfs.fails = ("sync", "-wal", io_error(apsw.SQLITE_IOERR_FSYNC))
        messages = [await self.new() for _ in range(17)]
        with patch.object(writer, "MAX_OPERATIONS", 5):
            waiting = [self.assertFailure(self.queue.enqueue([message]), MailError) for message in messages]
            stopped = self.queue.stop()
            self.assertEqual({451}, {error.reply.code for error in await gatherResults(waiting)})
        await stopped
        self.assertIsInstance(self.successResultOf(self.fatal), apsw.IOError)
        self.vfs.fails = None
        await self.queue.start()

    async def test_q34_checkpoint_fails(self) -> None:
        """The log stays: nothing is lost, and the process ends."""
        answered, _ = await self.accept()
        self.vfs.fails = ("write", "0.db", io_error(apsw.SQLITE_IOERR_WRITE))
        commit = self.writer.commit

        def long_log() -> None:
            commit()
            self.writer._checkpoint_at = 1

        self.writer.commit = long_log
        second, _ = await self.accept()
        await self.fatal
        self.vfs.fails = None
        await self.restarted()
        self.assertEqual([answered, second], [row.message for row in await self.rows()])

    async def test_a_damaged_row(self) -> None:
        """Nobody checks what a text is made of until it is read: one that is none is told of, and other mail goes."""
        bad, _ = await self.accept(self.to(lane=1))
        good, _ = await self.accept(self.to(lane=2))
        await self.sql("UPDATE delivery SET address=CAST(x'ff' AS TEXT) WHERE message=?", bad)
        wants = [Want(DEST, lane, 5) for lane in (1, 2)]
        with capturedLogs() as logged:
            claims = await self.queue.claim(wants, self.now)
        self.assertEqual([good], [claim.message for claim in claims])
        (event,) = [event for event in logged if "cannot be read" in (event["log_format"] or "")]
        self.assertEqual(LogLevel.error, event["log_level"])
        self.assertNoResult(self.fatal)

    async def test_q26_log_cannot_grow(self) -> None:
        """ENOSPC while the log is written: 452, no harm, and on we go."""
        answered, _ = await self.accept()
        self.vfs.fails = ("write", "-wal", apsw.FullError("no room"))
        for _ in range(3):
            error = await self.assertFailure(self.wrapped(self.accept()), MailError)
            self.assertEqual(452, error.reply.code)
        self.vfs.fails = None
        second, _ = await self.accept()
        await self.crash()
        self.assertEqual([answered, second], [row.message for row in await self.rows()])
        self.assertNoResult(self.fatal)

    async def test_q26_checkpoint_without_room(self) -> None:
        """The file cannot grow: the log keeps what it has, mail goes on."""
        self.vfs.fails = ("write", "0.db", apsw.FullError("no room"))
        for _ in range(5):
            self.writer._checkpoint_at = 1
            await self.accept(data=b"x" * 10_000)
        self.vfs.fails = None
        self.assertEqual(5, len(await self.rows()))
        self.assertNoResult(self.fatal)

    async def test_q26_lazy_completions(self) -> None:
        """No room, or a lock, where completions are to be synced: we stay up, and do it when that is over."""
        self.settings["completions"] = "lazy"
        await self.restarted()
        assert self.directory is not None
        shell = apsw.Connection(str(self.directory / "queue" / "0.db"))
        self.addCleanup(shell.close)
        for again in ("", "BEGIN IMMEDIATE"):
            with patch.object(writer, "FLUSH", 60):
                (claim,) = await self.taken(data=b"x" * 200_000)
                await self.settle([claim], Kind.DELIVERED)
            with patch.object(writer, "FLUSH", 0.001):
                self.writer.db.set_busy_timeout(1)
                if again:
                    shell.execute(again)
                else:
                    self.vfs.fails = ("write", "-wal", apsw.FullError("no room"))
                unsynced = self.writer._unsynced
                while self.writer._unsynced == unsynced:
                    await self.sql("SELECT 1")
                self.assertEqual(1, len(self.spool_files()), "its removal is not durable (R4)")
                self.vfs.fails = None
                if again:
                    shell.execute("ROLLBACK")
                while self.spool_files():
                    await self.sql("SELECT 1")
                self.assertFalse(self.writer._unsynced)
        self.assertNoResult(self.fatal)

    async def test_q26_lazy_completions_at_the_end(self) -> None:
        """No room at the stop either: it ends in good order."""
        self.settings["completions"] = "lazy"
        await self.restarted()
        with patch.object(writer, "FLUSH", 60):
            (claim,) = await self.taken()
            await self.settle([claim], Kind.DELIVERED)
            self.vfs.fails = ("write", "-wal", apsw.FullError("no room"))
            await self.queue.stop()
        self.assertNoResult(self.fatal)

    async def test_locked(self) -> None:
        """A shell with a write lock: a batch waits for it once, not once for each of its operations; then all goes on."""
        claims = [claim for _ in range(20) for claim in await self.taken()]
        assert self.directory is not None
        shell = apsw.Connection(str(self.directory / "queue" / "0.db"))
        self.addCleanup(shell.close)
        shell.execute("BEGIN IMMEDIATE")
        self.writer.db.set_busy_timeout(1)
        tried: list[int] = []
        transact = self.writer._transact
        self.writer._transact = lambda batch, *more: (tried.append(len(batch)), transact(batch, *more))
        messages = [await self.new() for _ in range(20)]
        calls = [self.queue.enqueue([message]) for message in messages] + [self.queue.enqueue([*messages])]
        calls += [self.wrapped(self.settle([claim], Kind.DELIVERED)) for claim in claims]
        errors = await gatherResults([self.assertFailure(call, MailError) for call in calls])
        self.assertEqual({451}, {error.reply.code for error in errors})
        self.assertEqual([41], tried)
        self.assertEqual(20, len(await self.rows()))
        shell.execute("ROLLBACK")
        self.assertEqual([True] * 20, await self.settle(claims, Kind.DELIVERED))
        await gatherResults([self.queue.enqueue([message]) for message in messages])
        self.assertEqual([message.id for message in messages], [row.message for row in await self.rows()])
        self.assertNoResult(self.fatal)

    async def restarted(self) -> None:
        """The supervisor starts the process again."""
        await self.queue.stop()
        self.fatal = Deferred()
        self.queue = self.make_engine()
        await self.queue.start()

    def wrapped(self, coroutine):
        return Deferred.fromCoroutine(coroutine)
