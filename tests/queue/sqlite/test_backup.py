"""The copy of a queue: whole whatever happens to the queue meanwhile, or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import apsw
from twisted.internet.defer import Deferred, gatherResults

from mta.envelope import Kind
from mta.queue.sqlite import backup as module
from mta.queue.sqlite.backup import bring, save
from mta.queue.sqlite.check import check, spool_path
from mta.queue.state import CopyReport
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase

LARGE = 200_000


class BackupCase(SqliteCase):
    """dest: the folder of the copy."""

    async def setUp(self) -> None:
        await super().setUp()
        self.dest = Path(self.mktemp()).absolute()
        self.seen: list[tuple[str, int, int]] = []

    def progress(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))

    def backup(self) -> Deferred[CopyReport]:
        return self.queue.backup(self.dest, self.progress)

    async def filled(self, count: int = 60) -> dict[int, bytes]:
        """Messages, every tenth of them large, and their bodies."""
        bodies = {}
        for number in range(count):
            data = os.urandom(LARGE if number % 10 == 0 else 30_000)
            bodies[(await self.accept("a@example.org", "b@example.org", data=data))[0]] = data
        return bodies

    def copied(self) -> dict[int, bytes]:
        """The messages of the copy, which is sound, and their bodies."""
        self.assertEqual([], [finding for finding in check(self.dest / "0.db", self.dest / "spool") if finding.grave])
        db = apsw.Connection(str(self.dest / "0.db"), flags=apsw.SQLITE_OPEN_READONLY)
        self.addCleanup(db.close)
        found = {}
        for id, place in db.execute("SELECT id,body FROM message").fetchall():
            chunks = db.execute("SELECT data FROM body WHERE id IN (?,?) ORDER BY id", (id, id + 1))
            found[id] = b"".join(data for (data,) in chunks) if place >= 0 else spool_path(self.dest / "spool", id).read_bytes()
        return found

    async def refused(self, waiting: Deferred[CopyReport]) -> MailError:
        """Why there is no copy; and there is none, nor anything else of it."""
        error: MailError = await self.assertFailure(waiting, MailError)
        self.assertEqual([], [path.name for path in self.dest.parent.glob(f"{self.dest.name}*")])
        return error


class OnlineTests(BackupCase):
    """Of a queue that works."""

    async def test_whole(self) -> None:
        """Every message with its body; nothing but the file and the spool, readable by us only; what was done is told."""
        bodies = await self.filled()
        report = await self.backup()
        self.assertEqual(CopyReport(60, 120, 6), report)
        self.assertEqual(bodies, self.copied())
        self.assertEqual({"0.db", "spool"}, {path.name for path in self.dest.iterdir()})
        self.assertEqual(0o700, self.dest.stat().st_mode & 0o777)
        done = [done for what, done, _ in self.seen if what == "pages"]
        self.assertEqual((sorted(done), ("files", 6, 6)), (done, self.seen[-1]))

    async def test_mail_goes_on(self) -> None:
        """Accepted, delivered, refused (rolled back) and checkpointed meanwhile: the copy is of one moment, and sound."""
        await self.filled()
        working: list[Deferred[int]] = []
        progress = self.progress

        def busy(what: str, done: int, total: int) -> None:
            progress(what, done, total)
            if what == "pages" and len(working) < 20:
                working.append(Deferred.fromCoroutine(self.work(len(working))))

        self.progress = busy  # type: ignore[method-assign]
        with patch.object(module, "SLICE", 0):
            report = await self.backup()
        accepted = await gatherResults(working)
        found = self.copied()
        self.assertEqual((20, report.messages, ()), (len(accepted), len(found), report.refused))
        self.assertTrue(found.keys() & set(accepted), "what came meanwhile is in it")
        await self.removals()
        await self.check_sound()

    async def work(self, number: int) -> int:
        """Accept a message, deliver two others, be refused one; the log is moved."""
        message = (await self.accept(data=os.urandom(LARGE if number % 5 == 4 else 9000)))[0]
        self.writer._checkpoint_at = 1
        await self.settle(await self.claim(2), Kind.DELIVERED)
        if number % 7 == 0:
            await self.assertFailure(self.queue.enqueue([await self.new(sender=None)]), MailError)
        return message

    async def test_settled_before_the_files_are_linked(self) -> None:
        """A large message that is delivered while the copy is made keeps its file until the copy has it."""
        message = (await self.accept(data=b"x" * LARGE))[0]
        wanted = module.Files._wanted

        def settled(files: module.Files) -> object:
            ids = wanted(files)
            self.gone.append(self.queue._spool.path(message).exists())
            return ids

        self.gone: list[bool] = []
        with patch.object(module.Files, "_wanted", settled):
            copying = self.backup()
            claims = await self.claim()
            while not self.seen:
                await self.sql("SELECT 1")
            await self.settle(claims, Kind.DELIVERED)
            await copying
        await self.removals()
        self.assertEqual([], self.spool_files(), "and goes afterwards")
        self.assertEqual([True], self.gone)
        self.assertIn(self.copied(), ({}, {message: b"x" * LARGE}))

    async def test_synced_on_the_way(self) -> None:
        """Bite by bite: a gigabyte at the end would hold up every commit beside it."""
        await self.filled()
        sizes: list[int] = []
        really = module.sync_file
        self.patch(module, "SYNC", 100)
        self.patch(module, "SLICE", 0)
        self.patch(module, "sync_file", lambda path: (sizes.append(path.stat().st_size), really(path)))
        await self.backup()
        self.assertGreater(len(sizes), 3)  # SQLite keeps pages of so small a file until its end
        self.assertEqual(60, len(self.copied()))

    async def test_sync_on_the_way_fails(self) -> None:
        """There is no copy."""
        await self.filled()
        self.patch(module, "SYNC", 100)
        with patch.object(module, "sync_file", side_effect=OSError(errno.EIO, "broken")):
            await self.refused(self.backup())

    async def test_there_already(self) -> None:
        """DEST is never written into; nor are the remains of another copy."""
        for name in (self.dest, self.dest.with_name(f"{self.dest.name}.part")):
            name.mkdir()
            error = await self.assertFailure(self.backup(), MailError)
            self.assertIn(name.name, str(error.reason))
            self.assertEqual([], list(name.iterdir()))
            name.rmdir()

    async def test_one_at_a_time(self) -> None:
        """A second one is refused, the first is not disturbed, and then the next may come."""
        await self.filled(10)
        first = self.backup()
        await self.assertFailure(self.queue.backup(self.dest.with_name("other"), self.progress), MailError)
        await first
        shutil.rmtree(self.dest)
        await self.backup()

    async def test_disk_of_the_copy_fails(self) -> None:
        """452 when it is full, 451 otherwise; the service is not concerned, and nothing is left."""
        await self.filled(20)
        for error, code in ((apsw.FullError("full"), 452), (apsw.IOError("broken"), 451)):
            with patch.object(module.Copy, "_step", side_effect=error):
                self.assertEqual(code, (await self.refused(self.backup())).reply.code, error)
        for call, number, code in (("os.fsync", errno.EIO, 451), ("os.link", errno.ENOENT, 451), ("os.mkdir", errno.ENOSPC, 452)):
            with patch(call, side_effect=OSError(number, "no")), patch("shutil.copyfile", side_effect=OSError(number, "no")):
                failing = self.backup()
                if call == "os.link":
                    self.assertEqual(2, len((await failing).refused), "told, and left out")
                    shutil.rmtree(self.dest)
                else:
                    self.assertEqual(code, (await self.refused(failing)).reply.code, call)
        await self.accept()
        await self.check_sound()

    async def test_begun_anew_for_ever(self) -> None:
        """A copy that never comes to its end is given up."""
        await self.filled(5)
        with patch.object(module, "AGAIN", -1000), patch.object(module, "SLICE", 0):
            self.assertIn("again and again", str((await self.refused(self.backup())).reason))

    async def test_stop_meanwhile(self) -> None:
        """The copy is given up, the stop waits for that, and nothing is left."""
        await self.filled()
        with patch.object(module, "SLICE", 0):
            copying = self.refused(self.backup())
            waiting = Deferred.fromCoroutine(copying)
            while not self.seen:
                await self.sql("SELECT 1")
            await self.queue.stop()
        self.assertEqual("4.3.2", (await waiting).reply.enhanced)
        await self.queue.start()
        await self.backup()

    async def test_no_long_slices(self) -> None:
        """Answers wait for no more than a slice of the copy (B6): each is some pages between two looks at the clock."""
        await self.filled(120)
        steps = []
        step = module.Copy.step

        def counted(copy: module.Copy, source: apsw.Connection) -> bool:
            before = copy._copied
            ended = step(copy, source)
            steps.append(copy._copied - before)
            return ended

        with patch.object(module, "SLICE", 0), patch.object(module.Copy, "step", counted):
            await gatherResults([self.backup(), self.wrapped()])
        self.assertEqual({module.PAGES}, set(steps))
        self.assertGreater(len(steps), 40)

    def wrapped(self) -> Deferred[object]:
        return Deferred.fromCoroutine(self.accept())


class OfflineTests(BackupCase):
    """Of a queue that nobody owns."""

    async def test_of_a_killed_service(self) -> None:
        """With a log that was not moved into the file."""
        bodies = await self.filled()
        assert self.directory is not None
        killed = Path(self.mktemp())
        shutil.copytree(self.directory, killed)
        report = save(killed, self.dest, self.progress)
        self.assertEqual((60, 120, 6), (report.messages, report.recipients, report.files))
        self.assertEqual(bodies, self.copied())

    async def test_owned(self) -> None:
        """While the service runs: refused, it is asked instead."""
        assert self.directory is not None
        error = self.assertRaises(MailError, save, self.directory, self.dest, self.progress)
        self.assertIn("in use", str(error))
        self.assertFalse(self.dest.exists())

    async def test_no_queue(self) -> None:
        """Nothing to copy, and no queue is made."""
        empty = Path(self.mktemp())
        empty.mkdir()
        self.assertIn("no queue", str(self.assertRaises(MailError, save, empty, self.dest, self.progress)))
        self.assertEqual([], list(empty.iterdir()))

    async def test_another_file_system(self) -> None:
        """Where links do not reach, files are copied and synced; a name that is there is never replaced."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "a").write_bytes(b"body")
        synced = []
        with patch("os.link", side_effect=OSError(errno.EXDEV, "far")), patch.object(module, "sync_file", synced.append):
            bring(folder / "a", folder / "ab" / "b")
        self.assertEqual(b"body", (folder / "ab" / "b").read_bytes())
        self.assertEqual([folder / "ab" / "b"], synced)
        self.assertRaises(FileExistsError, bring, folder / "a", folder / "ab" / "b")
        self.assertRaises(FileNotFoundError, bring, folder / "none", folder / "c")
