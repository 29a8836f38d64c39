"""A copy put back: all of it held, nothing twice, nothing over what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest.mock import patch

import apsw

from mta.envelope import Kind
from mta.queue.sqlite import restore as module
from mta.queue.sqlite.check import check, spool_path
from mta.queue.sqlite.restore import restore
from mta.queue.state import Alteration, CopyReport, Selector, State
from mta.status import MailError
from tests.queue.sqlite.test_backup import LARGE, BackupCase


class RestoreTests(BackupCase):
    """Into a folder of its own, and back into the old one."""

    async def copy(self, count: int = 25) -> dict[int, bytes]:
        bodies = await self.filled(count)
        await self.defer(*(await self.claim(4)))
        await self.backup()
        return bodies

    def restored(self, directory: Path) -> CopyReport:
        report = restore(self.dest, directory, self.progress)
        self.assertEqual([], check(directory / "queue" / "0.db", directory / "spool"))
        return report

    async def moved(self) -> Path:
        """Another data directory, and the engine of the first is stopped."""
        await self.queue.stop()
        self.directory = Path(self.mktemp())
        return self.directory

    async def started(self) -> None:
        self.queue = self.make_engine()
        await self.queue.start()

    async def test_into_a_new_queue(self) -> None:
        """Same ids, attempts, replies, bodies; all held; released, it goes out."""
        bodies = await self.copy()
        before = [(row.id, row.address, row.attempts, row.last_reply, row.due) for row in await self.rows()]
        self.assertEqual(CopyReport(25, 50, 3), self.restored(await self.moved()))
        self.assertEqual(("messages", 25, 25), self.seen[-1])
        await self.started()
        self.assertEqual(before, [(row.id, row.address, row.attempts, row.last_reply, row.due) for row in await self.rows()])
        self.assertEqual({State.HELD}, {row.state for row in await self.rows()})
        self.now += 10**9
        self.assertEqual([], await self.claim())
        self.assertEqual(bodies, {id: await self.read(id) for id in bodies})
        await self.queue.alter(Selector(), Alteration.RELEASE, self.now)
        self.assertTrue(all(await self.settle(await self.claim(), Kind.DELIVERED)))
        await self.removals()
        self.assertEqual([], self.spool_files())
        self.assertEqual(bodies, self.copied(), "the backup is as it was")

    async def test_into_the_queue_it_was_made_of(self) -> None:
        """What is there still is left out, each with the reason; what was delivered since comes back, held."""
        bodies = await self.copy()
        self.now += 10**9
        chosen = list(bodies)[8:11]  # the last of them is large
        gone = [claim for claim in await self.claim() if claim.message in chosen]
        await self.settle(gone, Kind.DELIVERED)
        await self.removals()
        await self.queue.stop()
        assert self.directory is not None
        report = self.restored(self.directory)
        missing = {claim.message for claim in gone}
        self.assertEqual((3, 6, 1), (report.messages, report.recipients, report.files))
        self.assertEqual(bodies.keys() - missing, {id for id, _ in report.refused})
        self.assertEqual({"its id is in the queue already"}, {why for _, why in report.refused})
        await self.started()
        self.assertEqual(missing, {row.message for row in await self.rows(state=State.HELD)})
        self.assertGreater((await self.accept())[0], max(bodies))

    async def test_twice(self) -> None:
        """Repeating it changes nothing."""
        await self.copy()
        directory = await self.moved()
        self.restored(directory)
        self.assertEqual((0, 25), ((again := self.restored(directory)).messages, len(again.refused)))
        await self.started()

    async def test_service_runs(self) -> None:
        """Its queue is not touched."""
        await self.copy(3)
        assert self.directory is not None
        self.assertIn("in use", str(self.assertRaises(MailError, restore, self.dest, self.directory, self.progress)))

    async def test_damaged(self) -> None:
        """Bodies that are not whole and recipients that are missing leave out their message; a torn file is refused whole."""
        ids = list(await self.copy())
        directory = await self.moved()
        spool_path(self.dest / "spool", ids[0]).unlink()
        os.truncate(spool_path(self.dest / "spool", ids[10]), 3)
        db = apsw.Connection(str(self.dest / "0.db"))
        db.execute(f"DELETE FROM body WHERE id={ids[1]}; DELETE FROM delivery WHERE id={ids[2] + 1}")
        db.close()
        report = self.restored(directory)
        self.assertEqual(({ids[0], ids[1], ids[2], ids[10]}, 21), ({id for id, _ in report.refused}, report.messages))
        (self.dest / "0.db").write_bytes((self.dest / "0.db").read_bytes()[:100_000])
        self.assertRaises(MailError, restore, self.dest, directory, self.progress)
        await self.started()

    async def test_no_backup(self) -> None:
        """An empty folder, another program's file: said, and no queue is made of it."""
        self.dest.mkdir()
        other = Path(self.mktemp())
        self.assertIn("no backup", str(self.assertRaises(MailError, restore, self.dest, other, self.progress).reason))
        self.assertFalse(other.exists())
        apsw.Connection(str(self.dest / "0.db")).execute("CREATE TABLE t(x)")
        self.assertRaises(MailError, restore, self.dest, other, self.progress)

    async def test_older_tables(self) -> None:
        """A backup of an older version has fewer columns: what it has comes back."""
        await self.copy(5)
        db = apsw.Connection(str(self.dest / "0.db"))
        db.execute("ALTER TABLE delivery DROP COLUMN last_host; DROP TABLE meta; PRAGMA user_version=1")
        db.close()
        self.assertEqual(5, self.restored(await self.moved()).messages)
        await self.started()

    async def test_cut_short(self) -> None:
        """A full disk: 452, what came before is whole; repeated with room it is all there; a file without a row is replaced."""
        bodies = await self.copy()
        directory = await self.moved()
        with patch.object(module, "BITE", 5):
            insert, calls = module._Restore._insert, []

            def full(this, good):
                calls.append(good)
                if len(calls) == 3:
                    raise apsw.FullError("full")
                return insert(this, good)

            with patch.object(module._Restore, "_insert", full):
                error = self.assertRaises(MailError, restore, self.dest, directory, self.progress)
        self.assertEqual(452, error.reply.code)
        self.assertEqual([], check(directory / "queue" / "0.db", directory / "spool"))
        report = self.restored(directory)
        self.assertEqual((15, 10), (report.messages, len(report.refused)))
        await self.started()
        self.assertEqual(bodies, {id: await self.read(id) for id in bodies})

    async def test_r1_files_first(self) -> None:
        """The body and its names are durable before the rows."""
        await self.accept(data=b"x" * LARGE)
        await self.backup()
        shutil.copytree(self.dest / "spool", self.dest / "other")  # as tar would: not synced
        shutil.rmtree(self.dest / "spool")
        (self.dest / "other").rename(self.dest / "spool")
        order: list[str] = []
        fsync, insert = os.fsync, module._Restore._insert

        def syncing(descriptor: int) -> None:
            order.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
            fsync(descriptor)

        directory = await self.moved()
        (directory / "spool").mkdir(parents=True)
        (directory / "queue").mkdir()
        with (
            patch("os.fsync", syncing),
            patch.object(module._Restore, "_insert", lambda this, good: order.append("rows") or insert(this, good)),
        ):
            self.restored(directory)
        self.assertEqual(["file", "directory", "directory", "rows"], order)
        await self.started()
