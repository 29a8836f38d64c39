"""`mta.workers.adoption`: mail of workers that are no more, into a queue that serves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import deferLater

from mta.envelope import Kind
from mta.queue.body import BodySink, Spool
from mta.queue.carry import passage
from mta.queue.ids import node_of
from mta.queue.sqlite import schema
from mta.queue.sqlite.check import check
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.sqlite.files import nodes_in, queue_file, spool_folder
from mta.queue.sqlite.schema import open_writer
from mta.queue.sqlite.still import Owned
from mta.queue.state import Alteration, Row, Selector
from mta.status import transient
from mta.workers import adoption as module
from mta.workers.adoption import Adoption
from tests.queue.harness import DEST
from tests.queue.sqlite.case import SqliteCase

LARGE = 200_000


def refuse(_: Owned, rows: Sequence[Row]) -> None:
    """Of `Owned.remove`: the old file takes no write, if there is anything to write."""
    if rows:
        raise transient("4.3.1", "full")


class Serving:
    """A queue service, as far as an adoption knows one."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.suspended: list[tuple[str, str]] = []
        self.adoptions = 0

    def suspend(self, dest: str, why: str) -> Deferred[None]:
        self.suspended.append((dest, why))
        return succeed(None)

    def adopted(self) -> Deferred[None]:
        self.adoptions += 1
        return succeed(None)


class AdoptionTests(SqliteCase):
    """Node 0 serves; what is taken up belongs to others."""

    async def setUp(self) -> None:
        await super().setUp()
        assert self.directory is not None
        self.data: Path = self.directory
        self.log: list[dict[str, object]] = []
        self.serving = Serving(self.queue)
        self.adoptions: list[Adoption] = []

    async def tearDown(self) -> None:
        for adoption in self.adoptions:
            await adoption.stop()
        await super().tearDown()

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.log.append({"event": name, **fields})

    def adoption(self, count: int = 1, node: int = 0) -> Adoption:
        made: Adoption = Adoption(self.data, node, count, self.serving, reactor=reactor, log=self)  # type: ignore[arg-type]
        self.adoptions.append(made)
        return made

    async def left_over(self, node: int, count: int = 8) -> tuple[list[Row], dict[int, bytes]]:
        """What a worker of that number has, who is then no more."""
        serving, self.queue = self.queue, SqliteQueue(self.data, reactor, now=self.clock, node=node)
        await self.queue.start()
        for number in range(count):
            await self.accept(f"a{number}@{node}.org", "b@example.org", data=os.urandom(LARGE if number % 4 == 0 else 900))
        await self.defer(*await self.claim(3))
        await self.queue.alter(Selector(to="a5@*"), Alteration.HOLD, self.now)
        rows = await self.rows()
        bodies = {row.message: await self.read(row.message) for row in rows}
        await self.queue.stop()
        self.queue = serving
        return rows, bodies

    async def taken_up(self, adoption: Adoption, until: Callable[[], object] | None = None) -> None:
        """From the start to the end of it."""
        await adoption.repeat()
        adoption.begin()
        until = until or (lambda: nodes_in(self.data) == [0])
        for _ in range(1000):
            if until():
                break
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        await adoption.stop()

    async def found(self) -> tuple[list[Row], dict[int, bytes]]:
        rows = await self.rows()
        return rows, {row.message: await self.read(row.message) for row in rows}

    async def test_all_of_it(self) -> None:
        """Ids, states, attempts, times, bodies: as they were; the file and its spool are gone; ours serves meanwhile."""
        rows, bodies = await self.left_over(1)
        mine, _ = await self.accept("mine@example.org")
        await self.taken_up(self.adoption())
        found, there = await self.found()
        self.assertEqual(rows, [row for row in found if row.message != mine])
        self.assertEqual(bodies, {id: body for id, body in there.items() if id != mine})
        self.assertEqual({1}, {node_of(row.message) for row in rows})
        self.assertEqual([0], nodes_in(self.data))
        self.assertFalse(spool_folder(self.data, 1).exists())
        self.assertEqual(1, self.serving.adoptions)
        (told,) = self.log
        self.assertEqual(
            ("adopted", "1.db", "done", 8, 16), tuple(told[k] for k in ("event", "from", "status", "messages", "recipients"))
        )
        self.assertEqual([], [str(finding) for finding in check(queue_file(self.data), spool_folder(self.data)) if finding.grave])

    async def test_what_kills_have_left(self) -> None:
        """Bodies whose rows are gone, of the old worker or of an adoption, go with the file; what is not ours stays."""
        rows, _ = await self.left_over(1)
        spool = Spool(spool_folder(self.data, 1), execute)
        behind = max(row.message for row in rows) + (1 << 30)
        left = [*spool.remains(behind), spool.directory / "notes"]
        left[0].parent.mkdir(exist_ok=True)
        for path in left:
            path.write_bytes(b"private")
        await self.taken_up(self.adoption())
        self.assertEqual([spool.directory / "notes"], list(spool.directory.iterdir()))
        self.assertEqual([row.id for row in rows], [row.id for row in await self.rows()])

    async def test_whose_it_is(self) -> None:
        """Each file has one who takes it up; those of workers that there are, are left alone."""
        for node in (1, 2, 3, 5):
            await self.left_over(node, 1)
        await self.taken_up(self.adoption(2, 0), lambda: 2 not in nodes_in(self.data))
        self.assertEqual([0, 1, 3, 5], nodes_in(self.data))

    async def test_killed_between_the_commits(self) -> None:
        """A bite that is in both is removed from the old file before anything is delivered from ours: nothing is doubled."""
        rows, bodies = await self.left_over(1)
        with patch.object(passage, "MESSAGES", 3), patch.object(Owned, "remove", refuse):
            await self.taken_up(self.adoption(), lambda: self.log)
        self.assertEqual("failed", self.log[0]["status"])
        self.assertEqual(3, len({row.message for row in await self.rows()}))
        await self.queue.stop()
        again = self.adoption()
        await again.repeat()
        await self.queue.start()
        delivered = await self.claim(1)
        await self.settle(delivered, Kind.DELIVERED)
        await self.taken_up(again)
        left, there = await self.found()
        self.assertEqual([row.id for row in rows if row.id != delivered[0].id], [row.id for row in left])
        self.assertEqual(bodies, there)

    async def test_what_cannot_be_removed(self) -> None:
        """The old file takes no write, for however long: what is here goes out once, and no more comes until it is gone there."""
        rows, _ = await self.left_over(1)
        self.patch(module, "AGAIN", 0.02)
        adoption = self.adoption()
        with patch.object(passage, "MESSAGES", 3), patch.object(Owned, "remove", refuse):
            await adoption.repeat()
            adoption.begin()
            await self.told(1)
            gone = await self.rows()
            await self.queue.alter(Selector(), Alteration.REMOVE, self.now)  # as if delivered
            await self.told(4)
            self.assertEqual([], await self.rows())
        while nodes_in(self.data) != [0]:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        await adoption.stop()
        self.assertEqual(3, len({row.message for row in gone}))
        self.assertEqual([row.id for row in rows if row not in gone], [row.id for row in await self.rows()])

    async def test_a_file_that_takes_no_write(self) -> None:
        """Nothing is taken from it: it could not be removed there."""
        await self.left_over(1, 1)

        def query_only(path: Path) -> apsw.Connection:
            db = open_writer(path)
            if path == queue_file(self.data, 1):
                db.execute("PRAGMA query_only=ON")  # as a file is that belongs to somebody else
            return db

        with patch.object(schema, "open_writer", query_only):
            await self.taken_up(self.adoption(), lambda: self.log)
        self.assertEqual(("failed", []), (self.log[0]["status"], await self.rows()))
        self.assertIn("readonly database", str(self.log[0]["reason"]))

    async def told(self, lines: int) -> None:
        """The log has so many."""
        while len(self.log) < lines:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    async def test_stopped(self) -> None:
        """A stop ends it behind a message; what has come is here, what has not is there, and nothing runs on."""
        rows, _ = await self.left_over(1)
        adoption = self.adoption()
        progress: list[int] = []

        def stop_after_four(*_: object) -> None:
            progress.append(1)
            if len(progress) == 4:
                adoption._wanted = False
            Adoption._go_on(adoption)

        with patch.object(passage, "MESSAGES", 2), patch.object(adoption, "_go_on", stop_after_four):
            await self.taken_up(adoption, lambda: len(progress) >= 4)
        here = {row.message for row in await self.rows()}
        self.assertEqual(4, len(here))
        await self.taken_up(self.adoption())
        self.assertEqual([row.id for row in rows], [row.id for row in await self.rows()])

    async def test_somebody_has_it(self) -> None:
        """A file in use is told, and tried again later; nothing of it is touched."""
        rows, _ = await self.left_over(1)
        owner = SqliteQueue(self.data, reactor, now=self.clock, node=1)
        await owner.start()
        adoption = self.adoption()
        self.patch(module, "AGAIN", 0.05)
        await adoption.repeat()
        adoption.begin()
        while len(self.log) < 2:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        self.assertIn("is in use by another process", str(self.log[0]["reason"]))
        await owner.stop()
        while nodes_in(self.data) != [0]:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        await adoption.stop()
        self.assertEqual([row.id for row in rows], [row.id for row in await self.rows()])

    async def test_full_disk(self) -> None:
        """A body that cannot be written: all stays there, it is told, and the next time it comes."""
        rows, bodies = await self.left_over(1)
        refusal = transient("4.3.1", "full", code=452, reason="No space left on device")
        self.patch(module, "AGAIN", 0.05)
        with patch.object(BodySink, "finish", side_effect=refusal):
            await self.taken_up(self.adoption(), lambda: self.log)
        self.assertEqual([], await self.rows())
        await self.taken_up(self.adoption())
        self.assertEqual(([row.id for row in rows], bodies), ([row.id for row in await self.rows()], (await self.found())[1]))

    async def test_what_cannot_go(self) -> None:
        """A message whose body is lost stays with its file, and is told; all others come."""
        await self.left_over(1)
        next(spool_folder(self.data, 1).glob("*/*")).unlink()
        await self.taken_up(self.adoption(), lambda: self.log)
        self.assertEqual([0, 1], nodes_in(self.data))
        self.assertEqual((7, 1), (self.log[0]["messages"], self.log[0]["left"]))
        self.assertEqual(7, len({row.message for row in await self.rows()}))

    async def test_suspended_destinations(self) -> None:
        """A destination that was suspended there is suspended here, unless something is known of it."""
        serving, self.queue = self.queue, SqliteQueue(self.data, reactor, now=self.clock, node=1)
        await self.queue.start()
        await self.accept("a@example.org")
        await self.queue.mark(DEST, suspended=True, why="moving")
        await self.queue.mark("smtp:_mx/known.org", suspended=True)
        await self.queue.stop()
        self.queue = serving
        await self.queue.mark("smtp:_mx/known.org", blocked_until=self.now + 1000)
        await self.taken_up(self.adoption())
        self.assertEqual([(DEST, "moving")], self.serving.suspended)

    async def test_nothing_left_over(self) -> None:
        """Then there is no thread, no line, nothing to wait for; an empty file goes without a word."""
        adoption = self.adoption()
        await self.taken_up(adoption)
        self.assertIsNone(adoption._pool)
        await self.left_over(1, 0)
        await self.taken_up(self.adoption())
        self.assertEqual([], self.log)

    async def test_damaged_rows(self) -> None:
        """Text that is none, a state that there is not: it is told, and hinders neither a start nor the other files."""
        for node, damage in ((1, "UPDATE message SET sender=CAST(x'ff' AS TEXT)"), (2, "UPDATE delivery SET state=9")):
            await self.left_over(node, 1)
            with closing(apsw.Connection(str(queue_file(self.data, node)))) as db:
                db.execute(damage)
        rows, _ = await self.left_over(3, 1)
        await self.queue.stop()
        adoption = self.adoption()
        await adoption.repeat()
        await self.queue.start()
        await self.taken_up(adoption, lambda: len(self.log) == 3)
        told = [(line["from"], line["status"]) for line in self.log]
        self.assertEqual([("1.db", "failed"), ("2.db", "failed"), ("3.db", "done")], told)
        self.assertIn("codec can't decode", str(self.log[0]["reason"]))
        self.assertEqual(([0, 1, 2], rows), (nodes_in(self.data), await self.rows()))

    async def test_trouble_of_any_kind(self) -> None:
        """A bug met with one file is logged and told, and the next file comes."""
        await self.left_over(1, 1)
        rows, _ = await self.left_over(2, 1)
        bug = patch.object(Owned, "destinations", side_effect=[ZeroDivisionError, []])
        with bug:
            await self.taken_up(self.adoption(), lambda: len(self.log) == 2)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([("1.db", "failed"), ("2.db", "done")], [(line["from"], line["status"]) for line in self.log])
        self.assertEqual(rows, await self.rows())

    async def test_broken_file(self) -> None:
        """What is no queue file is told; it stays."""
        queue_file(self.data, 1).write_bytes(b"no database" * 1000)
        await self.taken_up(self.adoption(), lambda: self.log)
        self.assertEqual(("failed", [0, 1]), (self.log[0]["status"], nodes_in(self.data)))
