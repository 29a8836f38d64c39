"""What a start finds: twenty thousand recipients that a killed process had taken, a disk without room, readers that stay."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from unittest.mock import patch

import apsw

from mta.envelope import Kind
from mta.queue.sqlite import engine as engine_module
from mta.queue.sqlite import schema, stride
from mta.queue.sqlite import writer as module
from mta.queue.sqlite.schema import open_reader
from mta.queue.state import State
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase
from tests.queue.sqlite.test_failure import FailingVFS, io_error

MANY = 20_000


class TakenTests(SqliteCase):
    """After kill -9 under load."""

    async def test_q50_twenty_thousand(self) -> None:
        """All of them are due at once, the start takes less than a second for it, and nobody is claimed twice."""
        for _ in range(MANY // 1000):
            await self.taken(*[f"u{n}@example.org" for n in range(1000)])
        assert self.directory is not None
        copy = Path(self.mktemp())
        shutil.copytree(self.directory, copy)
        await self.queue.stop()
        self.directory = copy
        self.queue = self.make_engine()
        began = time.process_time()
        await self.queue.start()
        took = time.process_time() - began
        (lane,) = await self.queue.lanes()
        self.assertLessEqual(lane.due, self.now)
        first = await self.claim(MANY // 2)
        second = await self.claim(MANY)
        self.assertEqual(MANY, len({claim.id for claim in [*first, *second]}))
        self.assertEqual((MANY, []), (len(first) + len(second), await self.claim(MANY)))
        self.assertLess(took, 1.0)


class FullTests(SqliteCase):
    """q26: the start on a disk that is full."""

    async def setUp(self) -> None:
        self.vfs = FailingVFS(f"full-{id(self)}")
        self.addCleanup(self.vfs.unregister)
        self.settings = {"vfs": self.vfs.name}
        await super().setUp()

    async def killed(self, error: apsw.Error) -> None:
        """The process is killed; the next one finds a log that cannot be written."""
        assert self.directory is not None
        copy = Path(self.mktemp())
        shutil.copytree(self.directory, copy)
        await self.queue.stop()
        self.directory = copy
        self.queue = self.make_engine()
        self.vfs.fails = ("write", "-wal", error)

    async def test_q26_start_on_a_full_disk(self) -> None:
        """It starts, refuses mail with 452, delivers what waits; what was taken waits again as soon as there is room."""
        waiting = (await self.accept())[0]
        (claim,) = await self.taken()
        self.queue.flights.began(claim.id)
        await self.killed(apsw.FullError("no room"))
        await self.queue.start()
        self.assertEqual([waiting], [claim.message for claim in await self.claim()])
        for _ in range(2):
            error = await self.assertFailure(self.wrapped(self.accept()), MailError)
            self.assertEqual(452, error.reply.code)
            self.writer.unrecovered = 1.0  # long ago: it is tried again, in vain
        self.assertGreaterEqual(self.queue.flights.began(claim.id), 0)
        self.assertLess(self.queue.flights.began(claim.id), 0, "it is suspect, though no strike could be written")
        self.assertNoResult(self.queue.recovered)
        await self.sql("SELECT 1")  # by now that try is over
        self.writer.unrecovered = time.monotonic() + 60  # not while this process takes mail of its own
        self.vfs.fails = None
        (new,) = await self.taken()
        self.writer.unrecovered = 1.0
        await self.sql("SELECT 1")
        await self.queue.recovered
        found = await self.claim()
        self.assertIn(claim.id, [claim.id for claim in found])
        self.assertEqual(State.TAKEN, (await self.row(new.id)).state, "what this process has taken is its own")
        self.assertEqual([True] * (len(found) + 1), await self.settle([*found, new], Kind.DELIVERED))
        await self.check_sound()

    async def test_q26_recovers_unasked(self) -> None:
        """There is room again and nobody asks for anything: what was taken waits, and that is told."""
        (claim,) = await self.taken()
        await self.killed(apsw.FullError("no room"))
        with patch.object(module, "AGAIN", 0.01):
            await self.queue.start()
            self.assertNoResult(self.queue.recovered)
            self.vfs.fails = None
            await self.queue.recovered
        self.assertEqual([claim.id], [claim.id for claim in await self.claim()])

    async def test_q26_stopped_on_a_full_disk(self) -> None:
        """A stop before there was room: it ends, nothing is told, the next start has it all."""
        (claim,) = await self.taken()
        await self.killed(apsw.FullError("no room"))
        await self.queue.start()
        recovered = self.queue.recovered
        await self.queue.stop()
        self.vfs.fails = None
        await self.queue.start()
        self.assertNoResult(recovered)
        self.assertEqual([claim.id], [claim.id for claim in await self.claim()])

    async def test_q26_locked_when_there_is_room(self) -> None:
        """A shell has locked the file when it is tried again: later, then.  The process goes on."""
        ended: list[BaseException] = []
        self.settings["on_fatal"] = ended.append
        (claim,) = await self.taken()
        await self.killed(apsw.FullError("no room"))
        with patch.object(module, "AGAIN", 0.01), patch.object(schema, "BUSY_TIMEOUT", 1):
            await self.queue.start()
            assert self.directory is not None
            shell = apsw.Connection(str(self.directory / "queue" / "0.db"))
            self.addCleanup(shell.close)
            shell.execute("BEGIN IMMEDIATE")
            self.vfs.fails = None
            for _ in range(3):
                tried = self.writer.unrecovered
                while self.writer.unrecovered == tried and not ended:
                    await self.sql("SELECT 1")
            self.assertEqual([], ended)
            self.assertNoResult(self.queue.recovered)
            shell.execute("ROLLBACK")
            await self.queue.recovered
        self.assertEqual([claim.id], [claim.id for claim in await self.claim()])

    async def test_q34_start_on_a_broken_disk(self) -> None:
        """That is no want of room: no start."""
        await self.taken()
        await self.killed(io_error(apsw.SQLITE_IOERR_WRITE))
        await self.assertFailure(self.queue.start(), MailError)
        self.vfs.fails = None
        await self.queue.start()
        self.assertEqual(1, len(await self.claim()))

    def wrapped(self, coroutine):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)


class ReaderTests(SqliteCase):
    """q25: who reads beside the writer."""

    def shell(self) -> apsw.Connection:
        assert self.directory is not None
        shell = open_reader(self.directory / "queue" / "0.db")
        self.addCleanup(shell.close)
        return shell

    async def test_q25_reader_that_stays(self) -> None:
        """An open transaction in a shell holds the log: we press for less mail before it has grown past its bound; it ends."""
        await self.accept()
        shell = self.shell()
        shell.execute("BEGIN")
        shell.execute("SELECT count(*) FROM message").fetchall()
        with (
            patch.object(engine_module, "WAL_LIMIT", 400),
            patch.object(module, "HELD", 200),
            patch.object(module, "CHECKPOINT", 50),
            patch.object(stride, "TIMES", 1),
        ):
            self.writer._checkpoint_at = 50
            accepted = 0
            while self.queue.pressure <= 1 and accepted < 200:  # above 1 the service says 452
                await self.accept(data=b"x" * 30_000)
                accepted += 1
            self.assertTrue(20 < accepted < 60, accepted)
            self.assertLess(self.writer.wal_pages, 450)
            shell.execute("COMMIT")
            self.writer._checkpointed = 0.0  # a second is over
            await self.queue.mark("any", 1)
            await self.sql("SELECT 1")  # the log is moved when the answer is out: by now it has been
            self.assertLess(self.queue.pressure, 1, "no mail was needed to see that it has ended")

    async def test_q25_short_readers(self) -> None:
        """One after the other, never none: at 64 MiB a moment is waited for them, and the log begins anew."""
        await self.accept()
        shell, waited = self.shell(), []
        restart = self.writer._restart_log

        def counted() -> None:
            waited.append(self.writer.wal_pages)
            restart()

        self.writer._restart_log = counted
        with patch.multiple(module, CHECKPOINT=20, LONG=100, READERS=1), patch.object(stride, "TIMES", 1):
            self.writer._checkpoint_at = 20
            for _ in range(12):
                shell.execute("BEGIN")
                shell.execute("SELECT count(*) FROM message").fetchall()
                await self.accept(data=b"x" * 60_000)
                shell.execute("COMMIT")
            self.assertGreater(self.writer.wal_pages, 100)
            for _ in range(3):
                await self.accept(data=b"x" * 60_000)
            self.assertTrue(waited and min(waited) >= 100, waited)
            self.assertLess(self.writer.wal_pages, 100)
