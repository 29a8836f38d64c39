"""q46: power loss at any moment, and the files of large bodies: a row never stands without its file (queue law R1, R4, R6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import gatherResults

from mta.envelope import Kind
from mta.queue.ids import id_text
from mta.queue.sqlite.operation import Enqueue
from tests.queue.sqlite.case import SqliteCase
from tests.queue.sqlite.modelfs import Entry, Recorder, crash_trees

SIZE = 131_073  # the smallest that is a file
ROUNDS = 6


class BodyPowerTests(SqliteCase):
    """A recorded run of an engine, cut at every moment."""

    async def setUp(self) -> None:
        await super().setUp()
        assert self.directory is not None
        self.random = Random(46)
        self.recorder = Recorder(self.directory / "spool")
        transact, deliver = self.writer._transact, self.queue.deliver

        def transacting(operations: Any, *more: Any) -> None:
            """From the begin of its transaction on a row may be on the disk."""
            for operation in operations:
                if isinstance(operation, Enqueue):
                    self.recorder.note("row", *(message.id for message in operation.messages))
            transact(operations, *more)

        def delivering(results: Any, removable: list[int]) -> None:
            """The writer says that the removal of these rows is on the disk."""
            self.recorder.note("removed", *removable)
            deliver(results, removable)

        self.writer._transact = transacting
        self.queue.deliver = delivering  # type: ignore[method-assign]

    async def work(self, tmpfile: bool = True) -> list[Entry]:
        """Large messages accepted together, aborted, delivered; what was recorded of it."""
        if not tmpfile:
            self.queue._spool.tmpfile = 0
        with self.recorder:
            for _ in range(ROUNDS):
                claims = [claim for some in await gatherResults([self.message() for _ in range(4)]) for claim in some]
                sink = self.queue.create_body(1)
                sink.write(bytes(SIZE))
                if self.random.random() < 0.5:
                    await sink.finish()
                sink.abort()
                self.random.shuffle(claims)
                await self.settle(claims[:3], Kind.DELIVERED)
                await self.removals()
        return self.recorder.log

    def message(self) -> Any:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self._message())

    async def _message(self) -> Any:
        message = await self.new(data=bytes(SIZE))
        return await self.queue.enqueue([message], lambda _: True)

    def offences(self, log: list[Entry]) -> Counter[str]:
        """What is wrong in the trees that a cut may leave."""
        found: Counter[str] = Counter()
        rows: set[int] = set()
        seen = 0
        for moment, files in crash_trees(log, self.random):
            for kind, _, *ids in log[seen:moment]:
                if kind == "row":
                    rows.update(ids)
                elif kind == "removed":
                    rows.difference_update(ids)
            seen = moment
            sizes = {path.rpartition("/")[2]: size for path, size in files.items()}
            for id in rows:
                size = sizes.get(id_text(id))
                if size is None:
                    found["row without its file"] += 1
                elif size != SIZE:  # its pieces were written in order, once each
                    found["row with half a file"] += 1
        return found

    async def test_q46_a_row_has_its_file(self) -> None:
        """In every tree, with files that have no name at first and with named ones."""
        await self.work()
        log = await self.work(tmpfile=False)
        kinds = Counter(kind for kind, *_ in log)
        self.assertTrue(kinds["gone"] >= 6 * ROUNDS and kinds["sync"] > 16 * ROUNDS and kinds["name"] > 8 * ROUNDS, kinds)
        self.assertEqual(Counter(), self.offences(log))

    async def test_q46_would_be_found(self) -> None:
        """The test tests itself: without the sync of files, of folders, of the spool; with removals before their commit."""
        log = await self.work()

        def without(dropped: Callable[[Entry], bool]) -> Counter[str]:
            return self.offences([entry for entry in log if not dropped(entry)])

        self.assertTrue(without(lambda entry: entry[0] == "sync" and isinstance(entry[1], int))["row with half a file"])
        for folder in (True, False):
            lost = without(
                lambda entry, root=folder: entry[0] == "sync" and isinstance(entry[1], str) and (entry[1] == "/") is root
            )
            self.assertTrue(lost["row without its file"])
        late = [entry for entry in log if entry[0] != "removed"] + [entry for entry in log if entry[0] == "removed"]
        self.assertTrue(self.offences(late)["row without its file"])
