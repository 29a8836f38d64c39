"""The queues of several workers in one data directory: copied, exported and moved as one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest.mock import patch

from twisted.internet import reactor

from mta.queue.sqlite import move as move_module
from mta.queue.sqlite.backup import save
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.sqlite.export import export, import_
from mta.queue.sqlite.files import queue_file, spool_folder
from mta.queue.sqlite.move import Moving, move
from mta.queue.sqlite.restore import restore
from mta.queue.sqlite.still import at_once, owning
from mta.queue.state import CopyReport, Selector
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase

LARGE = 200_000
Bodies = dict[int, bytes]


def nothing(*_: object) -> None:
    """No progress is shown."""


class ManyTests(SqliteCase):
    """Nodes 0 and 1 had mail, and stand still."""

    async def setUp(self) -> None:
        await super().setUp()
        assert self.directory is not None
        self.data: Path = self.directory
        self.other = Path(self.mktemp())
        self.bodies: Bodies = await self.filled()
        await self.queue.stop()
        self.queue = SqliteQueue(self.data, reactor, now=self.clock, node=1)
        await self.queue.start()
        self.bodies |= await self.filled()
        await self.queue.stop()

    async def filled(self) -> Bodies:
        """Ten messages to one each, two of them large."""
        given: Bodies = {}
        for number in range(10):
            data = os.urandom(LARGE if number % 5 == 0 else 500)
            given[(await self.accept(data=data))[0]] = data
        return given

    async def inside(self, directory: Path) -> Bodies:
        """What node 0 finds there."""
        self.queue = SqliteQueue(directory, reactor, now=self.clock)
        await self.queue.start()
        found = {row.message: await self.read(row.message) for row in await self.rows()}
        await self.queue.stop()
        return found

    async def test_files_of_their_own(self) -> None:
        """Each has its file and its spool."""
        for node in (0, 1):
            self.assertTrue(queue_file(self.data, node).exists())
            self.assertEqual(2, len([path for path in spool_folder(self.data, node).rglob("*") if path.is_file()]))

    async def test_move(self) -> None:
        """All of them into one."""
        self.assertEqual(CopyReport(20, 20, 4), move(self.data, self.other, nothing))
        self.assertEqual(self.bodies, await self.inside(self.other))
        self.assertEqual(CopyReport(0, 0, 0), move(self.data, self.other, nothing))

    async def test_export(self) -> None:
        """All of them into one archive, and that into one queue."""
        file = Path(self.mktemp())
        self.assertEqual(CopyReport(20, 20, 4), export(self.data, Selector(), file, self.now, nothing))
        self.assertEqual(CopyReport(20, 20, 4), import_(file, self.other, False, nothing))
        self.assertEqual(self.bodies, await self.inside(self.other))

    async def test_save_and_restore(self) -> None:
        """A folder for each in one; restored into one queue."""
        dest = Path(self.mktemp()).absolute()
        self.assertEqual(CopyReport(20, 20, 4), save(self.data, dest, nothing))
        self.assertEqual(["0", "1"], sorted(path.name for path in dest.iterdir()))
        self.assertEqual(CopyReport(20, 20, 4), restore(dest, self.other, nothing))
        self.assertEqual(self.bodies, await self.inside(self.other))

    async def test_there_already(self) -> None:
        """What any of the workers has is not brought a second time, by an import or a restore; nor beside one that serves."""
        file, dest = Path(self.mktemp()), Path(self.mktemp()).absolute()
        export(self.data, Selector(), file, self.now, nothing)
        save(self.data, dest, nothing)
        self.assertEqual((0, 20), ((report := import_(file, self.data, True, nothing)).messages, report.skipped))
        self.assertEqual((0, 20), ((report := restore(dest, self.data, nothing)).messages, len(report.refused)))
        await self.queue.start()
        self.assertRaises(MailError, import_, file, self.data, True, nothing)
        self.assertRaises(MailError, restore, dest, self.data, nothing)

    async def test_one_cannot_be_saved(self) -> None:
        """Then there is no copy, nor anything else of it."""
        dest = Path(self.mktemp()).absolute()
        queue_file(self.data, 1).write_bytes(b"no database" * 1000)
        self.assertRaises(MailError, save, self.data, dest, nothing)
        self.assertEqual([], list(dest.parent.glob(f"{dest.name}*")))

    async def test_repeat(self) -> None:
        """Only what is at the target already goes from the source; behind a margin of what is not, nobody looks."""
        shutil.copytree(self.data, self.other)
        with owning(self.other) as target, owning(self.data, 1) as source:
            self.assertEqual(0, at_once(Moving(source, target, nothing).repeat()))
            self.assertEqual(10, source.count())
        with owning(self.other) as target, owning(self.data) as source:
            self.assertEqual(10, at_once(Moving(source, target, nothing).repeat()))
            self.assertEqual((0, 10), (source.count(), target.count()))
        newest = max(id for id in self.bodies if queue_file(self.data, 1))
        with patch.object(move_module, "MARGIN", 3), owning(self.other, 1) as target, owning(self.data, 1) as source:
            target.remove([row for row in at_once(_rows(target)) if row.message != newest])
            self.assertEqual(0, at_once(Moving(source, target, nothing).repeat()))
            self.assertEqual(10, source.count())


async def _rows(queue: object) -> list[object]:
    """Of a queue in our hands."""
    rows: list[object] = await queue.browse(Selector(), 0, 1000)  # type: ignore[attr-defined]
    return rows
