"""The writer: what shares a commit, what is refused alone, what a full disk costs, and when the process must end."""

from __future__ import annotations

from unittest.mock import patch

from twisted.internet.defer import gatherResults

from mta.envelope import Kind
from mta.queue.sqlite import stride
from mta.queue.sqlite import writer as module
from mta.queue.sqlite.schema import open_reader
from mta.status import MailError
from tests.queue.harness import BUSY, DEST, changed, ids
from tests.queue.sqlite.case import SqliteCase


class CommitTests(SqliteCase):
    """Group commit."""

    async def setUp(self) -> None:
        await super().setUp()
        self.order: list[str] = []
        commit, deliver = self.writer.commit, self.writer.deliver

        def committing() -> None:
            commit()
            self.order.append("commit")

        def delivering(results) -> None:
            self.order.append(f"{len(results)} results")
            deliver(results)

        self.writer.commit, self.writer.deliver = committing, delivering

    async def test_q01_answered_after_the_commit(self) -> None:
        """The driver's COMMIT has returned before the result leaves the thread, and a failed one answers nothing good."""
        message = await self.new()
        await self.queue.enqueue([message]).addCallback(lambda _: self.order.append("answered"))
        self.assertEqual(["commit", "1 results", "answered"], self.order)

    async def test_q01_one_turn_of_the_reactor_is_one_batch(self) -> None:
        """50 at once: one commit, and one wake-up of the reactor."""
        messages = [await self.new() for _ in range(50)]
        await gatherResults([self.queue.enqueue([message]) for message in messages])
        self.assertEqual(["commit", "50 results"], self.order)

    async def test_q01_what_arrives_meanwhile_is_the_next_batch(self) -> None:
        """While the writer is busy operations gather, turn after turn; then they share a commit."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        busy = self.queue._submit(self.pause())
        await deferLater(reactor, 0)
        waiting = []
        for _ in range(30):
            waiting.append(self.queue.enqueue([await self.new()]))
            await deferLater(reactor, 0)
        self.assertEqual([], self.order)
        self.release.set()
        await gatherResults([busy, *waiting])
        self.assertEqual(["1 results", "commit", "30 results"], self.order)

    async def test_results_come_in_the_order_of_the_calls(self) -> None:
        """Among operations of a kind; a claim asked for after an enqueue sees it."""
        fired: list[int] = []
        messages = [await self.new() for _ in range(30)]
        waiting = [self.queue.enqueue([m]).addCallback(lambda _, n=n: fired.append(n)) for n, m in enumerate(messages)]
        claims = await self.claim()
        self.assertEqual(30, len(claims))
        await gatherResults(waiting)
        self.assertEqual(list(range(30)), fired)

    async def test_batches_are_bounded(self) -> None:
        """By number and by bytes, so that no accept waits for all the others."""
        messages = [await self.new(data=b"x" * 100_000) for _ in range(60)]
        with patch.object(module, "MAX_BYTES", 1_000_000):
            await gatherResults([self.queue.enqueue([message]) for message in messages])
        self.assertTrue(max(int(entry.split()[0]) for entry in self.order if entry != "commit") <= 10)

    async def test_cancelled_before_it_began(self) -> None:
        """It is not stored at all."""
        self.queue._submit(self.pause())
        message = await self.new()
        waiting = self.queue.enqueue([message])
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.release.set()
        await self.accept("next@example.org")
        self.assertEqual(["next@example.org"], [row.address for row in await self.rows()])

    def pause(self):
        """An operation that holds the writer until `release` is set."""
        from threading import Event

        from mta.queue.sqlite.operation import Ask

        self.release = Event()
        return Ask(lambda _: self.release.wait(10))

    async def test_cancelled_too_late(self) -> None:
        """It was stored with nobody waiting for the claims: they are given back, the message is delivered all the same."""
        message = await self.new("a@example.org", "b@example.org")
        deliver = self.writer.deliver

        def cancelling(results) -> None:
            for operation, _, _ in results:
                operation.cancelled = True
            self.writer.deliver = deliver
            deliver(results)

        self.writer.deliver = cancelling
        await self.queue.enqueue([message], lambda _: True)
        self.assertEqual([message.id + 1, message.id + 2], ids(await self.claim()))


class RefusalTests(SqliteCase):
    """One bad operation in a batch of good ones."""

    async def test_q04_what_cannot_be_stored_is_refused(self) -> None:
        """A missing value, text that is no text, no recipients, a huge number: a MailError each, its neighbours stored."""
        good = [await self.new(f"u{n}@example.org") for n in range(10)]
        bad = [
            changed(await self.new(), sender=None),
            changed(await self.new(), sender="\ud800"),
            changed(await self.new(), recipients=()),
            changed(await self.new(), expires=1 << 70),
            await self.new(self.to(dest="")),
            changed(await self.new(), prefix="text"),
        ]
        stored = [self.queue.enqueue([message]) for message in good[:5]]
        refused = [self.assertFailure(self.queue.enqueue([message]), MailError) for message in bad]
        stored += [self.queue.enqueue([message]) for message in good[5:]]
        await gatherResults(stored)
        errors = await gatherResults(refused)
        self.assertEqual([451] * len(bad), [error.reply.code for error in errors])
        self.assertEqual(sorted(m.id + 1 for m in good), ids(await self.rows()))
        await self.check_sound()

    async def test_q14_order_of_a_refused_batch(self) -> None:
        """Settlements of a batch with a bad accept are all done, and once."""
        claims = [claim for _ in range(10) for claim in await self.taken()]
        bad = self.queue.enqueue([changed(await self.new(), sender=None)])
        settled = [self.settled(claim) for claim in claims]
        await self.assertFailure(bad, MailError)
        self.assertEqual([[True]] * 10, await gatherResults(settled))
        self.assertEqual([], await self.rows())

    def settled(self, claim):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self.settle([claim], Kind.DELIVERED))


class FullDiskTests(SqliteCase):
    """q26: no room."""

    async def fill(self) -> None:
        """The file may not grow, and has no page left."""
        (pages,) = (await self.sql("PRAGMA page_count"))[0]
        await self.sql(f"PRAGMA max_page_count={pages}")
        for _ in range(200):
            try:
                await self.accept(data=b"x" * 4000)
            except MailError as error:
                self.assertEqual((452, "4.3.1"), (error.reply.code, error.reply.enhanced))
                return
        self.fail("it never became full")

    async def room(self) -> None:
        """The operator has made room."""
        await self.sql("PRAGMA max_page_count=1000000")

    async def test_q26_accept(self) -> None:
        """452 4.3.1 for what does not fit, the engine stays up, and takes mail again when there is room."""
        await self.fill()
        before = await self.rows()
        waiting = [self.assertFailure(self.queue.enqueue([await self.new(data=b"x" * 9000)]), MailError) for _ in range(20)]
        self.assertEqual({452}, {error.reply.code for error in await gatherResults(waiting)})
        self.assertEqual(before, await self.rows())
        await self.room()
        await self.accept(data=b"x" * 9000)
        self.assertEqual(len(before) + 1, len(await self.rows()))
        await self.check_sound()

    async def test_q26_settlements_go_on(self) -> None:
        """In one batch with accepts that do not fit, deliveries are recorded: a full disk must not repeat mail."""
        claims = [claim for _ in range(20) for claim in await self.taken()]
        await self.fill()
        left = len(await self.rows()) - 20
        refused = [self.queue.enqueue([await self.new(data=b"x" * 90_000)]) for _ in range(5)]
        settled = self.settle(claims, Kind.DELIVERED)
        waiting = gatherResults([self.assertFailure(one, MailError) for one in refused])
        self.assertEqual([True] * 20, await settled)
        await waiting
        self.assertEqual(left, len(await self.rows()))

    async def test_q26_every_kind_of_change(self) -> None:
        """Defer, mark, hold, a report: done, or 452 with nothing changed; afterwards the same works."""
        claims = await self.taken(*[f"u{n}@example.org" for n in range(200)])
        await self.fill()
        report = await self.new("sender@example.com", sender="", data=b"x" * 90_000)
        error = await self.assertFailure(self.wrapped(self.settle(claims[:1], Kind.DELIVERED, spawn=[report])), MailError)
        self.assertEqual(452, error.reply.code)
        for change in (lambda: self.settle(claims, Kind.DEFERRED, BUSY, self.now), lambda: self.marks()):
            try:
                await change()
            except MailError as failure:
                self.assertEqual(452, failure.reply.code)
        await self.room()
        await self.settle(claims, Kind.DEFERRED, BUSY, self.now)
        await self.marks()
        self.assertEqual(200, len([row for row in await self.rows() if row.last_reply == str(BUSY)]))
        await self.check_sound()

    async def marks(self) -> None:
        for number in range(200):
            await self.queue.mark(f"{DEST}{number}", self.now + 1000, "busy " * 50)

    def wrapped(self, coroutine):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)

    async def test_q26_large_body_that_does_not_fit(self) -> None:
        """Its row is refused: its file goes with the abort of the sink."""
        await self.fill()
        sink = self.queue.create_body(3000)
        sink.write(b"x" * 200_000)
        body = await sink.finish()
        message = changed(await self.new(), id=sink.id, body=body, recipients=(self.to("u" * 60 + "@example.org"),) * 3000)
        await self.assertFailure(self.queue.enqueue([message]), MailError)
        sink.abort()
        await self.removals()
        self.assertEqual([], self.spool_files())


class LogTests(SqliteCase):
    """The write-ahead log."""

    async def test_checkpoint_when_it_is_long(self) -> None:
        """It is moved into the file and begun anew: it does not grow with the mail."""
        with patch.object(module, "CHECKPOINT", 100), patch.object(stride, "TIMES", 1):
            self.writer._checkpoint_at = 100
            for _ in range(40):
                await self.accept(data=b"x" * 40_000)
            self.assertTrue(self.writer.wal_pages < 200, self.writer.wal_pages)
        assert self.directory is not None
        self.assertTrue((self.directory / "queue" / "0.db-wal").stat().st_size < 1_500_000)

    async def test_the_log_may_grow_where_checkpoints_are_quick(self) -> None:
        """Twice as long the next time, as stride.py says, and no longer."""
        with patch.object(module, "CHECKPOINT", 100), patch.object(stride, "TIMES", 2), patch.object(stride, "QUICK", 60.0):
            self.writer._checkpoint_at = 100
            longest = 0
            for _ in range(60):
                await self.accept(data=b"x" * 40_000)
                longest = max(longest, self.writer.wal_pages)
        self.assertTrue(200 <= longest < 300, longest)

    async def test_q25_stalled_reader(self) -> None:
        """A peer that takes one piece and stalls for ever does not hold the log."""
        id, _ = await self.accept(data=b"x" * 100_000)
        reader = self.queue.open_body(id)
        await reader.read()
        await self.test_checkpoint_when_it_is_long()
        self.assertEqual(100_000 - 65_536, len(await reader.read()))
        reader.close()

    async def test_a_held_log_is_not_checkpointed_at_every_commit(self) -> None:
        """A shell with an open transaction: the next try is a checkpoint's length later, mail goes on."""
        assert self.directory is not None
        await self.accept()
        shell = open_reader(self.directory / "queue" / "0.db")
        self.addCleanup(shell.close)
        shell.execute("BEGIN")
        shell.execute("SELECT count(*) FROM message").fetchall()
        with patch.object(module, "CHECKPOINT", 50), patch.object(stride, "TIMES", 1):
            self.writer._checkpoint_at = 50
            for _ in range(30):
                await self.accept(data=b"x" * 30_000)
            self.assertTrue(self.writer._checkpoint_at > 200)
            shell.execute("COMMIT")
            for _ in range(8):
                await self.accept(data=b"x" * 30_000)
            self.assertTrue(self.writer.wal_pages < 150, "it began anew")

    async def test_a_log_that_was_held_is_looked_after_without_commits(self) -> None:
        """So long that mail is refused: when the reader has gone, any question has it moved, at most once a second."""
        assert self.directory is not None
        await self.accept()
        shell = open_reader(self.directory / "queue" / "0.db")
        self.addCleanup(shell.close)
        shell.execute("BEGIN; SELECT count(*) FROM message").fetchall()
        with patch.object(module, "HELD", 20):
            self.writer._checkpoint_at = 10
            await self.accept(data=b"x" * 130_000)
            await self.sql("SELECT 1")  # the try after the commit is over
            held = self.writer.wal_pages - self.writer.wal_moved
            self.assertTrue(held > 20, held)
            shell.execute("COMMIT")
            await self.sql("SELECT 1")
            self.assertEqual(held, self.writer.wal_pages - self.writer.wal_moved, "not twice in a second")
            self.writer._checkpointed -= 1
            await self.sql("SELECT 1")
            await self.sql("SELECT 1")
            self.assertEqual(0, self.writer.wal_pages - self.writer.wal_moved)

    async def test_a_log_that_was_held_is_looked_after_unasked(self) -> None:
        """Mail is refused and nothing else is to be done: it is moved all the same when the reader has gone."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        assert self.directory is not None
        await self.accept()
        shell = open_reader(self.directory / "queue" / "0.db")
        self.addCleanup(shell.close)
        shell.execute("BEGIN; SELECT count(*) FROM message").fetchall()
        with patch.object(module, "HELD", 20), patch.object(module, "AGAIN", 0.01):
            await self.accept(data=b"x" * 130_000)
            shell.execute("COMMIT")
            for _ in range(500):
                if self.writer.wal_moved == self.writer.wal_pages:
                    break
                await deferLater(reactor, 0.01)
            self.assertEqual(0, self.writer.wal_pages - self.writer.wal_moved)

    async def test_nothing_is_left_after_a_stop(self) -> None:
        """The log is in the file, and gone."""
        await self.accept()
        await self.queue.stop()
        assert self.directory is not None
        self.assertEqual({"0.db", "0.lock", "0.flights"}, {path.name for path in (self.directory / "queue").iterdir()})
        self.queue = self.make_engine()
        await self.queue.start()
        self.assertEqual(1, len(await self.rows()))


class LazyTests(SqliteCase):
    """completions = "lazy"."""

    settings = {"completions": "lazy"}

    async def synchronous(self) -> int:
        return (await self.sql("PRAGMA synchronous"))[0][0]

    async def test_accepts_are_strict(self) -> None:
        """FULL for accepts and for reports; NORMAL for settlements alone."""
        claims = await self.taken("a@example.org", "b@example.org")
        self.assertEqual(2, await self.synchronous())
        await self.settle(claims[:1], Kind.DELIVERED)
        self.assertEqual(1, await self.synchronous())
        await self.settle(claims[1:], Kind.DELIVERED, spawn=[await self.new()])
        self.assertEqual(2, await self.synchronous())

    async def test_r4_file_waits_for_the_sync(self) -> None:
        """A large body is removed only when the removal of its row is durable: 200 ms later, or with the next accept."""
        with patch.object(module, "FLUSH", 60):
            (claim,) = await self.taken(data=b"x" * 200_000)
            await self.settle([claim], Kind.DELIVERED)
            await self.removals()
            self.assertEqual(1, len(self.spool_files()))
            await self.accept()
            await self.removals()
            self.assertEqual([], self.spool_files())

    async def test_flushed_when_idle(self) -> None:
        """With nothing else to do, completions are made durable after the delay."""
        with patch.object(module, "FLUSH", 0.001):
            (claim,) = await self.taken(data=b"x" * 200_000)
            await self.settle([claim], Kind.DELIVERED)
            for _ in range(500):
                if not self.spool_files():
                    break
                await self.sql("SELECT 1")
            self.assertEqual([], self.spool_files())
            self.assertFalse(self.writer._unsynced)
