"""An engine on files of its own, for the tests that look inside."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
from twisted.trial.unittest import TestCase

from mta.queue.sqlite.engine import SqliteQueue
from tests.queue.harness import QueueHarness


class SqliteCase(QueueHarness, TestCase):
    """settings: keyword arguments of the engine."""

    queue: SqliteQueue
    directory: Path | None = None
    settings: dict[str, Any] = {}
    timeout = 60

    def make_engine(self) -> SqliteQueue:
        """An engine on the current directory."""
        from twisted.internet import reactor

        if self.directory is None:
            self.directory = Path(self.mktemp())
        return SqliteQueue(self.directory, reactor, now=self.clock, **self.settings)

    async def crash(self) -> None:
        """What is in the files at this moment is all that the next engine gets."""
        assert self.directory is not None
        copy = Path(self.mktemp())
        shutil.copytree(self.directory, copy, copy_function=copy_if_there)
        await self.queue.stop()
        self.directory = copy
        self.queue = self.make_engine()
        await self.queue.start()

    @property
    def writer(self) -> Any:
        """The engine's writer; Any, for the tests replace its methods."""
        return self.queue.writer

    async def sql(self, text: str, *values: Any) -> list[Any]:
        """Run a statement on the writer's connection, between its transactions."""
        return await self.queue._ask(lambda db: list(db.execute(text, values)))

    def spool_files(self) -> list[Path]:
        """What lies in the spool."""
        assert self.directory is not None
        return [path for path in (self.directory / "spool").rglob("*") if path.is_file()]

    async def removals(self) -> None:
        """Wait for the threads that remove files."""
        while self.queue._spool._removing:
            await self.sql("SELECT 1")

    async def check_sound(self) -> None:
        """What `mta queue check` will ask: the file is whole, pending counts, bodies and files fit the rows."""
        self.assertEqual([("ok",)], await self.sql("PRAGMA integrity_check"))
        self.assertEqual([], await self.sql(UNCOUNTED))
        self.assertEqual([], await self.sql(HOMELESS))
        large = {self.queue._spool.path(id) for (id,) in await self.sql("SELECT id FROM message WHERE body=-1")}
        self.assertEqual(set(), large - set(self.spool_files()), "a row without its file (R6)")


def copy_if_there(source: str, dest: str) -> None:
    """A thread may remove the body of a message that is settled while its folder is copied."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, dest)


UNCOUNTED = """SELECT m.id, m.pending, count(d.id) FROM message m LEFT JOIN delivery d ON d.message=m.id
 GROUP BY m.id HAVING m.pending<>count(d.id) OR m.pending=0"""
HOMELESS = """SELECT 'delivery', id FROM delivery WHERE message NOT IN (SELECT id FROM message)
 UNION ALL SELECT 'body', id FROM body WHERE id NOT IN (SELECT id FROM message UNION SELECT id+1 FROM message)"""


def fresh_database(path: str = ":memory:") -> apsw.Connection:
    """The tables, without the rest."""
    from mta.queue.sqlite.schema import TABLES

    db = apsw.Connection(path)
    db.execute(TABLES)
    return db
