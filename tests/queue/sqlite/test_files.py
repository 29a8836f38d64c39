"""`mta.queue.sqlite.files`: whose files are whose."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder


class FilesTests(SynchronousTestCase):
    """Names on disk: they never change."""

    def test_names(self) -> None:
        """Node 0 has those of a server that is alone; no two nodes share anything."""
        data = Path("/d")
        self.assertEqual((Path("/d/queue/0.db"), Path("/d/spool")), (queue_file(data), spool_folder(data)))
        self.assertEqual((Path("/d/queue/12.db"), Path("/d/spool.12")), (queue_file(data, 12), spool_folder(data, 12)))

    def test_found(self) -> None:
        """In the order of numbers; what is not named so is none of ours."""
        data = Path(self.mktemp())
        self.assertEqual([], nodes_in(data))
        (data / "queue").mkdir(parents=True)
        for name in ("10.db", "2.db", "0.db", "02.db", "old.db", "3.lock", "4.db-wal", "5.flights"):
            (data / "queue" / name).touch()
        self.assertEqual([0, 2, 10], nodes_in(data))
