"""The SQLite engine passes the conformance suite, strict and lazy; its crash is a copy of its files while it runs."""

from __future__ import annotations

import apsw
from zope.interface.verify import verifyObject

from mta.interfaces import IQueue
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.sqlite.schema import VERSION
from tests.queue.conformance import QueueConformance
from tests.queue.sqlite.case import SqliteCase
from tests.queue.sqlite.test_schema import make_version_1


class SqliteConformance(QueueConformance, SqliteCase):
    """Every row of the suite; after each test the file is sound."""

    async def tearDown(self) -> None:
        await self.check_sound()
        await self.queue.stop()

    def test_provides_the_seam(self) -> None:
        """Every method of IQueue, with its signature."""
        verifyObject(IQueue, self.queue)


class LazyConformance(SqliteConformance):
    """With lazy completions nothing changes but what a power cut may undo."""

    settings = {"completions": "lazy"}


class MigratedConformance(SqliteConformance):
    """q27: a file that was made by version 1 keeps every promise after its migration."""

    def make_engine(self) -> SqliteQueue:
        """The first one finds a file of version 1."""
        queue = super().make_engine()
        if not queue._path.exists():
            queue._path.parent.mkdir(parents=True)
            make_version_1(queue._path)
            db = apsw.Connection(str(queue._path))
            db.execute("DELETE FROM message; DELETE FROM delivery")
            db.close()
        return queue

    async def test_q27_migrated(self) -> None:
        """It is what it says."""
        self.assertEqual([(VERSION,)], await self.sql("PRAGMA user_version"))
