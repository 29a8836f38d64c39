"""The SQLite engine passes the conformance suite, strict and lazy; its crash is a copy of its files while it runs."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from mta.interfaces import IQueue
from tests.queue.conformance import QueueConformance
from tests.queue.sqlite.case import SqliteCase


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
