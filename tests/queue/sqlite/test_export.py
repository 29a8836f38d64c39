"""The file of an export: whole or not there, also while mail goes on; and back into a queue, held."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path
from unittest.mock import patch

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from mta.envelope import Kind
from mta.queue.carry import passage
from mta.queue.carry.archive import Packing, Unpacking
from mta.queue.sqlite import export as module
from mta.queue.sqlite.check import check, spool_path
from mta.queue.sqlite.export import export, import_
from mta.queue.state import CopyReport, Row, Selector, State
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase

LARGE = 200_000


class ExportCase(SqliteCase):
    """file: of the export; other: a data directory that is not there yet."""

    async def setUp(self) -> None:
        await super().setUp()
        self.file, self.other = Path(self.mktemp()), Path(self.mktemp())
        self.seen: list[tuple[str, int, int]] = []

    def progress(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))

    def exported(self, selector: Selector = Selector()) -> CopyReport:
        assert self.directory is not None
        return export(self.directory, selector, self.file, self.now, self.progress)

    def imported(self, held: bool = True) -> CopyReport:
        report = import_(self.file, self.other, held, self.progress)
        self.assertEqual([], check(self.other / "queue" / "0.db", self.other / "spool"))
        return report

    async def filled(self, count: int = 25) -> list[Row]:
        """Every tenth of them large; some were tried."""
        for number in range(count):
            await self.accept("a@example.org", "b@example.org", data=os.urandom(LARGE if number % 10 == 0 else 3000))
        await self.defer(*(await self.claim(4)))
        return await self.rows()

    async def inside(self) -> tuple[list[Row], dict[int, bytes]]:
        """What the other queue has, seen by an engine: rows and bodies."""
        await self.queue.stop()
        mine, self.directory = self.directory, self.other
        self.queue = self.make_engine()
        await self.queue.start()
        rows = await self.rows()
        bodies = {row.message: await self.read(row.message) for row in rows}
        await self.queue.stop()
        self.directory = mine
        self.queue = self.make_engine()
        await self.queue.start()
        return rows, bodies


class ExportTests(ExportCase):
    """Out."""

    async def test_beside_a_running_service(self) -> None:
        """All of it, with its progress; readable by its owner only; the queue is as it was."""
        rows = await self.filled()
        bodies = {row.message: await self.read(row.message) for row in rows}
        self.assertEqual(CopyReport(25, 50, 3), self.exported())
        self.assertEqual([("messages", 25, 25)], self.seen)
        self.assertEqual((0o600, rows), (self.file.stat().st_mode & 0o777, await self.rows()))
        self.assertFalse(self.file.with_name(f"{self.file.name}.part").exists())
        self.imported(held=False)
        self.assertEqual((rows, bodies), await self.inside())

    async def test_mail_goes_on(self) -> None:
        """Accepted, delivered and deferred meanwhile: every message that was there all the time is in it, none is half there."""
        before = {row.message for row in await self.filled(60)}
        gone: set[int] = set()
        self.now += 10**9
        exporting: Deferred[CopyReport] = deferToThread(self.exported)
        while not exporting.called:
            claims = await self.claim(3)
            await self.settle(claims[:2], Kind.DELIVERED)
            await self.defer(*claims[2:])
            gone |= {claim.message for claim in claims[:2]}
            await self.accept(data=os.urandom(LARGE))
        report = await exporting
        self.assertEqual((), report.refused)
        with self.file.open("rb") as given:
            unpacking, found = Unpacking(given), set()
            for envelope in unpacking.records():
                found.add(envelope.message.id)
                for _ in unpacking.pieces():
                    pass
        self.assertEqual(set(), before - gone - found)
        self.assertTrue(gone)

    async def test_complete_or_absent(self) -> None:
        """A full disk, a file that is there, a folder that is not, a queue that is not: said, and nothing is left."""
        await self.filled(3)
        with patch.object(Packing, "end", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertEqual(452, self.assertRaises(MailError, self.exported).reply.code)
        with patch.object(module.os, "fsync", side_effect=OSError(errno.EIO, "disk")):
            self.assertRaises(MailError, self.exported)
        assert self.directory is not None
        self.directory, mine = self.other, self.directory
        self.assertRaises(MailError, self.exported)
        self.directory = mine
        self.assertEqual([], list(self.file.parent.glob(f"{self.file.name}*")))
        self.file.write_bytes(b"mine")
        self.assertIn("there already", str(self.assertRaises(MailError, self.exported)))
        self.assertEqual(b"mine", self.file.read_bytes())
        self.file = self.other / "x"
        self.assertRaises(MailError, self.exported)

    async def test_durable_before_its_name(self) -> None:
        """Its bytes, then its name, then the name's folder."""
        await self.filled(3)
        order: list[str] = []
        fsync, rename = os.fsync, Path.rename

        def syncing(descriptor: int) -> None:
            order.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
            fsync(descriptor)

        def renaming(path: Path, target: Path) -> Path:
            order.append("name")
            return rename(path, target)

        with patch("os.fsync", syncing), patch.object(Path, "rename", renaming):
            self.exported()
        self.assertEqual(["file", "name", "directory"], order)

    async def test_a_body_is_missing(self) -> None:
        """Its message is left out, with the reason; all others are there."""
        rows = await self.filled(12)
        await self.queue.stop()
        assert self.directory is not None
        spool_path(self.directory / "spool", rows[0].message).unlink()
        os.truncate(spool_path(self.directory / "spool", rows[20].message), 3)
        report = self.exported()
        self.assertEqual((10, [rows[0].message, rows[20].message]), (report.messages, [id for id, _ in report.refused]))
        self.assertEqual(10, self.imported().messages)

    async def test_selected(self) -> None:
        """Only that, and no total is known."""
        rows = await self.filled(5)
        self.assertEqual(1, self.exported(Selector(message=rows[4].message)).messages)
        self.assertEqual([("messages", 1, 0)], self.seen)

    async def test_memory(self) -> None:
        """Flat, whatever the size of a body, both ways."""
        await self.accept(data=b"x" * (12 << 20))
        for work in (self.exported, self.imported):
            tracemalloc.start()
            work()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertTrue(peak < 2 << 20, f"{work}: {peak}")


class ImportTests(ExportCase):
    """Back."""

    async def test_held(self) -> None:
        """All of it is held, with ids, attempts and due; twice is once; what was delivered since comes back, held."""
        rows = await self.filled()
        self.exported()
        self.assertEqual(CopyReport(25, 50, 3), self.imported())
        self.assertEqual(("bytes", self.file.stat().st_size // 512 * 512 - 1024), self.seen[-1][:2])
        self.assertEqual(CopyReport(0, 0, 0, skipped=25), self.imported())
        found, _ = await self.inside()
        self.assertEqual([attrs.evolve(row, state=State.HELD) for row in rows], found)

    async def test_service_runs(self) -> None:
        """Its queue is not touched; a file that is none makes no queue."""
        await self.filled(2)
        self.exported()
        assert self.directory is not None
        self.assertIn("in use", str(self.assertRaises(MailError, import_, self.file, self.directory, True, self.progress)))
        self.assertRaises(MailError, import_, Path(self.mktemp()), self.other, True, self.progress)
        self.assertFalse(self.other.exists())

    async def test_broken(self) -> None:
        """Cut anywhere: what came before the break is whole and stays; the whole file does the rest."""
        rows = await self.filled(12)
        self.exported()
        whole = self.file.read_bytes()
        with patch.object(passage, "MESSAGES", 3):
            for share in (0, 1, 3, 8, 9):
                self.file.write_bytes(whole[: len(whole) * share // 10])
                error = self.assertRaises(MailError, self.imported)
                self.assertEqual("the file is broken", error.reply.text)
                self.assertEqual([], check(self.other / "queue" / "0.db", self.other / "spool"))
        self.file.write_bytes(whole)
        report = self.imported(held=False)
        self.assertEqual(12, report.messages + report.skipped)
        self.assertTrue(report.messages and report.skipped)
        found, bodies = await self.inside()
        self.assertEqual([row.id for row in rows], [row.id for row in found])
        self.assertEqual({row.message: await self.read(row.message) for row in rows}, bodies)

    async def test_interrupted(self) -> None:
        """By a full disk, or a key: whole bites stand, no file lies about, and it can be repeated."""
        await self.filled(12)
        self.exported()
        for error, count in ((OSError(errno.ENOSPC, "full"), 3), (KeyboardInterrupt(), 6)):
            calls = []

            def stop(*given: object, calls: list[int] = calls, error: BaseException = error) -> None:
                calls.append(1)
                if len(calls) == 4:
                    raise error

            with patch.object(passage, "MESSAGES", 3), patch.object(passage, "filled", self.stopping(stop)):
                self.assertRaises((MailError, KeyboardInterrupt), self.imported)
            self.assertEqual([], check(self.other / "queue" / "0.db", self.other / "spool"))
            self.assertEqual(1, len([path for path in (self.other / "spool").rglob("*") if path.is_file()]))
            self.file, kept = Path(self.mktemp()), self.file
            self.assertEqual(count, export(self.other, Selector(), self.file, self.now, self.progress).messages)
            self.file = kept
        self.assertEqual(6, self.imported().messages)

    def stopping(self, stop: object) -> object:
        filled = passage.filled

        async def wrapped(*given: object) -> object:
            stop()  # type: ignore[operator]
            return await filled(*given)  # type: ignore[arg-type]

        return wrapped
