"""The SQLite engine passes the conformance suite; its crash is a copy of its files while it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from twisted.trial.unittest import TestCase

from mta.queue.sqlite.engine import SqliteQueue
from tests.queue.conformance import QueueConformance


class SqliteConformance(QueueConformance, TestCase):
    """Every row of the suite."""

    directory: Path | None = None

    def make_engine(self) -> SqliteQueue:
        """An engine on the current directory."""
        from twisted.internet import reactor

        if self.directory is None:
            self.directory = Path(self.mktemp())
        return SqliteQueue(self.directory, reactor, now=self.clock)

    async def crash(self) -> None:
        """What is in the files at this moment is all that the next engine gets."""
        copy = Path(self.mktemp())
        assert self.directory is not None
        shutil.copytree(self.directory, copy)
        await self.queue.stop()
        self.directory = copy
        self.queue = self.make_engine()
        await self.queue.start()


class LazyConformance(SqliteConformance):
    """With lazy completions nothing changes but what a power cut may undo."""

    def make_engine(self) -> SqliteQueue:
        """The same, lazy."""
        from twisted.internet import reactor

        if self.directory is None:
            self.directory = Path(self.mktemp())
        return SqliteQueue(self.directory, reactor, now=self.clock, completions="lazy")
