"""A queue file in the hands of a command: the engine's answers and order rules, without the engine."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import apsw
from attrs import evolve
from twisted.internet.defer import Deferred, fail

from mta.envelope import BodyRef
from mta.queue.rerouting import KEY
from mta.queue.sqlite import still as module
from mta.queue.sqlite.check import check, spool_path
from mta.queue.sqlite.still import Owned, at_once, opened, owning
from mta.queue.state import Carried, Selector
from mta.status import MailError
from tests.queue.harness import DEST, OTHER
from tests.queue.sqlite.case import SqliteCase

LARGE = b"z" * 200_000


class StillTests(SqliteCase):
    """A queue with some mail, and an empty one beside it."""

    async def setUp(self) -> None:
        await super().setUp()
        self.target = Path(self.mktemp())

    async def stopped(self) -> Path:
        """The engine's directory, which nobody owns any more."""
        await self.queue.stop()
        assert self.directory is not None
        return self.directory

    async def carried(self, data: bytes = LARGE) -> tuple[Carried, bytes]:
        """A message of the running engine."""
        id, _ = await self.accept("a@example.org", data=data)
        rows = tuple(await self.rows(message=id))
        return Carried((await self.queue.load(id)).message, rows, BodyRef(len(data))), data

    def placed(self, owned: Owned, carried: Carried, data: bytes) -> Carried:
        """Its body is at the target."""

        async def place() -> Carried:
            sink = await owned.body_of(carried.id, 1)
            assert sink is not None
            sink.write(data)
            return Carried(carried.message, carried.recipients, await sink.finish())

        return at_once(place())

    async def test_reads_as_the_engine_does(self) -> None:
        """Rows, envelopes, bodies; beside a running engine and without one; nothing is written, no log is left."""
        for data in (b"", b"small", LARGE):
            await self.accept("a@example.org", self.to("b@example.net", OTHER), data=data)
        rows = await self.rows()
        loaded = [await self.queue.load(id) for id in sorted({row.message for row in rows})]
        for _ in range(2):
            assert self.directory is not None
            with opened(self.directory) as source:
                self.assertEqual(rows, self.now_of(source.browse(Selector(), 0, 100)))
                self.assertEqual(rows[3:4], self.now_of(source.browse(Selector(to="b*"), rows[1].id, 1)))
                self.assertEqual(loaded, [self.now_of(source.load(stored.message.id)) for stored in loaded])
                reader = source.open_body(loaded[2].message.id)
                self.assertEqual(LARGE[:65536], self.now_of(reader.read()))
                reader.close()
                self.assertEqual(3, source.count())
                source.unchanged()
            await self.queue.stop()
        self.assertEqual({"0.db", "0.flights", "0.lock"}, set(os.listdir(self.directory / "queue")))

    def now_of(self, deferred: Deferred[object]) -> object:
        return self.successResultOf(deferred)

    async def test_a_service_starts_meanwhile(self) -> None:
        """What was read as a file that nobody has is doubtful: also when it has stopped again."""
        directory = await self.stopped()
        for ends in (False, True):
            with opened(directory) as source:
                self.queue = self.make_engine()
                await self.queue.start()
                await self.accept()
                if ends:
                    await self.queue.stop()
                self.assertIn("once more", str(self.assertRaises(MailError, source.unchanged)))
            await self.queue.stop()

    async def test_no_queue(self) -> None:
        """Nothing there, another program's file, an older version: said; one that is owned is not touched."""
        with self.assertRaises(MailError), opened(self.target):
            self.fail("there is nothing")
        self.assertFalse(self.target.exists())
        assert self.directory is not None
        with self.assertRaises(MailError) as caught, owning(self.directory):
            self.fail("it has an owner")
        self.assertIn("in use by another process", str(caught.exception))
        path = await self.stopped() / "queue" / "0.db"
        db = apsw.Connection(str(path))
        db.execute("PRAGMA user_version=1; PRAGMA journal_mode=DELETE").fetchall()
        db.close()
        with self.assertRaises(MailError), opened(self.directory):
            self.fail("it is old")
        path.write_bytes(b"no database at all" * 100)
        with self.assertRaises(MailError), opened(self.directory):
            self.fail("it is nothing")

    async def test_r1_files_first(self) -> None:
        """The body and its name are durable before the rows; the next service routes what came."""
        carried, data = await self.carried()
        order: list[str] = []
        fsync, adopt = os.fsync, module.alteration.adopt

        def syncing(descriptor: int) -> None:
            order.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
            fsync(descriptor)

        with owning(self.target) as owned:
            with (
                patch("os.fsync", syncing),
                patch.object(module.alteration, "adopt", lambda *given: order.append("rows") or adopt(*given)),
            ):
                at_once(self.adopted(owned, self.placed(owned, carried, data)))
            self.assertEqual(["file", "directory", "directory", "rows"], order)
        self.check_sound_at(self.target)
        db = apsw.Connection(str(self.target / "queue" / "0.db"))
        self.assertEqual([(KEY, "")], list(db.execute("SELECT key,value FROM meta")))
        db.close()

    async def adopted(self, owned: Owned, *messages: Carried) -> None:
        await owned.adopt(messages)

    def check_sound_at(self, directory: Path) -> None:
        self.assertEqual([], check(directory / "queue" / "0.db", directory / "spool"))

    async def test_r6_no_row_without_its_file(self) -> None:
        """A body that is not there is not adopted; one that a crash has left is replaced."""
        carried, data = await self.carried()
        with owning(self.target) as owned:
            for path in owned._spool.remains(carried.id):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"of a crash")
            placed = self.placed(owned, carried, data)
            path = spool_path(self.target / "spool", carried.id)
            path.rename(self.target / "elsewhere")
            self.assertIn("not there", str(self.failureResultOf(owned.adopt([placed]), MailError).value))
            (self.target / "elsewhere").rename(path)
            self.successResultOf(owned.adopt([placed]))
            self.assertEqual(data, path.read_bytes())
        self.check_sound_at(self.target)

    async def test_full(self) -> None:
        """452, nothing is stored, the sink takes its file back; after an error of the disk the file stays, for the row may."""
        carried, data = await self.carried()
        path = spool_path(self.target / "spool", carried.id)
        for error, code, left in ((apsw.FullError("full"), 452, False), (apsw.IOError("fsync"), 451, True)):
            with owning(self.target) as owned:
                sink = self.successResultOf(owned.body_of(carried.id, 1))
                assert sink is not None
                sink.write(data)
                placed = Carried(carried.message, carried.recipients, self.successResultOf(sink.finish()))
                with patch.object(module.alteration, "adopt", side_effect=error):
                    failed = self.failureResultOf(owned.adopt([placed]), MailError).value
                sink.abort()
                self.assertEqual((code, left, 0), (failed.reply.code, path.exists(), owned.count()))
            self.check_sound_at(self.target)

    async def test_r4_remove(self) -> None:
        """Recipients go, the message with the last of them, its file when that is durable; on a full disk all stays."""
        id, _ = await self.accept("a@example.org", "b@example.org", data=LARGE)
        rows = await self.rows()
        directory = await self.stopped()
        path = spool_path(directory / "spool", id)
        with owning(directory) as owned:
            owned.remove(rows[:1])
            self.assertEqual((1, True), (owned.count(), path.exists()))
            with patch.object(module, "remove_recipients", side_effect=apsw.FullError("full")):
                self.assertRaises(MailError, owned.remove, rows[1:])
            self.assertEqual((1, True), (owned.count(), path.exists()))
            owned.remove(rows[1:])
            self.assertEqual((0, False), (owned.count(), path.exists()))
        self.check_sound_at(directory)

    async def test_a_new_folder_is_durable(self) -> None:
        """The name of the data directory, and of those it lies in, before a message is in it."""
        synced: list[Path] = []
        deep = self.target.absolute() / "a" / "b"
        sync = module.sync_directory
        with patch.object(module, "sync_directory", lambda folder: synced.append(folder) or sync(folder)), owning(deep):
            pass
        self.assertEqual([deep.parent.parent.parent, deep.parent.parent, deep.parent], synced)
        self.assertEqual(0o700, deep.stat().st_mode & 0o777)

    async def test_remember(self) -> None:
        """Suspended and blocked destinations are so there too, unless something is known of them there."""
        await self.queue.mark(DEST, suspended=True, why="moving")
        await self.queue.mark(OTHER, suspended=True, why="old news")
        with owning(self.target) as owned:
            self.directory, source = self.target, self.directory
            owned._db.execute("INSERT INTO dest VALUES(?,5,'blocked',1,1,0,1)", (OTHER,))
            await self.queue.stop()
            assert source is not None
            with owning(source) as other:
                owned.remember(other)
        self.queue = self.make_engine()
        await self.queue.start()
        known = {state.name: (state.suspended, state.blocked_why) for state in await self.queue.destinations()}
        self.assertEqual({DEST: (True, "moving"), OTHER: (False, "blocked")}, known)

    async def test_what_a_kill_has_left_is_made_durable(self) -> None:
        """What is in the log without a sync gets one before a move trusts it: a commit of something, whatever is to be said."""
        with owning(self.target) as owned, owning(Path(self.mktemp())) as other:
            log = self.target / "queue" / "0.db-wal"
            before = log.stat().st_size
            owned.remember(other)
            self.assertGreater(log.stat().st_size, before)

    async def test_the_log_stays_short(self) -> None:
        """It is moved into the file as the service does it, however much is adopted at once."""
        carried, _ = await self.carried(b"s" * 100_000)
        with owning(self.target) as owned:
            for number in range(300):
                id = carried.id + number * 10
                message = evolve(carried.message, id=id)
                rows = tuple(evolve(row, id=id + 1, message=id) for row in carried.recipients)
                self.successResultOf(owned.adopt([Carried(message, rows, BodyRef(100_000, b"s" * 100_000))]))
            log = self.target / "queue" / "0.db-wal"
            self.assertTrue(0 < log.stat().st_size < 12 << 20, log.stat().st_size)

    def test_at_once(self) -> None:
        """What it returns, or raises."""

        async def answer() -> int:
            return 5

        async def trouble() -> int:
            await fail(ValueError("no"))
            return 5

        self.assertEqual(5, at_once(answer()))
        self.assertRaises(ValueError, at_once, trouble())
