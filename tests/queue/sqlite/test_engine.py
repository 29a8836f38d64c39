"""The engine's life: one owner, nothing before its start, nothing after its stop."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from twisted.internet.defer import gatherResults

from mta.queue.ids import node_of
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.state import Alteration, Selector
from mta.status import MailError
from tests.queue.harness import DEST, changed, ids
from tests.queue.sqlite.case import SqliteCase


class LifeTests(SqliteCase):
    """Start and stop."""

    async def refused(self, queue: SqliteQueue) -> str:
        return str(await self.assertFailure(queue.start(), MailError))

    async def test_nothing_before_the_start(self) -> None:
        """No file, no thread, no lock when it is made (twistd forks then); every call says that it is not running."""
        threads, before = threading.active_count(), os.listdir("/proc/self/fd")
        self.directory = Path(self.mktemp())
        queue = self.make_engine()
        self.assertFalse(self.directory.exists())
        self.assertEqual((threads, before), (threading.active_count(), os.listdir("/proc/self/fd")))
        await self.all_refused(queue)
        await queue.stop()

    async def all_refused(self, queue: SqliteQueue) -> None:
        self.assertRaises(MailError, queue.create_body, 1)
        calls = [
            queue.claim([], 0),
            queue.settle([]),
            queue.lanes(),
            queue.load(1),
            queue.mark(DEST),
            queue.destinations(),
            queue.alter(Selector(), Alteration.HOLD, 0),
            queue.browse(Selector()),
            queue.sweep(0),
            queue.enqueue([]),
        ]
        await gatherResults([self.assertFailure(call, MailError) for call in calls])
        self.assertEqual(1.0, queue.pressure)

    async def test_q30_one_owner(self) -> None:
        """A second one is refused and says why; the first is not disturbed; after its stop the second may start."""
        second = self.make_engine()
        self.assertIn("in use by another process", await self.refused(second))
        await self.accept()
        await self.queue.stop()
        await second.start()
        self.queue = second
        self.assertEqual(1, len(await self.rows()))

    async def test_q30_owned_by_another_process(self) -> None:
        """The lock is the kernel's: it ends with the process that held it, however that ended."""
        import subprocess
        import sys

        await self.queue.stop()
        assert self.directory is not None
        lock = self.directory / "queue" / "0.lock"
        code = f"import fcntl,sys; f=open({str(lock)!r},'w'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        self.assertIn("in use", await self.refused(self.queue))
        child.kill()
        child.wait()
        child.stdout.close()
        child.stdin.close()
        await self.queue.start()

    async def test_data_directory_that_cannot_be_used(self) -> None:
        """A clear message, and nothing left open: a file in its place, a queue file that is none."""
        broken = Path(self.mktemp())
        broken.write_bytes(b"a file")
        from twisted.internet import reactor

        self.assertIn(f"cannot write in {broken}", await self.refused(SqliteQueue(broken, reactor)))
        other = Path(self.mktemp())
        (other / "queue").mkdir(parents=True)
        (other / "queue" / "0.db").write_bytes(b"not a database" * 500)
        before = len(os.listdir("/proc/self/fd"))
        self.assertIn("not a database", await self.refused(SqliteQueue(other, reactor)))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    async def test_stop_does_what_was_asked(self) -> None:
        """Everything submitted before is committed and answered; everything after is refused."""
        messages = [await self.new() for _ in range(30)]
        waiting = [self.queue.enqueue([message]) for message in messages]
        stopped = self.queue.stop()
        await self.all_refused(self.queue)
        await gatherResults(waiting)
        await stopped
        await self.queue.start()
        self.assertEqual(30, len(await self.rows()))

    async def test_stop_while_bodies_are_written(self) -> None:
        """A link that is under way is waited for; no thread is left."""
        sink = self.queue.create_body(1)
        sink.write(b"x" * 300_000)
        body = sink.finish()
        await self.queue.stop()
        self.assertEqual(300_000, (await body).size)
        self.assertEqual([], [thread.name for thread in threading.enumerate() if "queue" in thread.name])

    async def test_restart_of_the_same_object(self) -> None:
        """A service may be stopped and started again."""
        for _ in range(3):
            await self.accept()
            await self.queue.stop()
            await self.queue.start()
        self.assertEqual(3, len(await self.claim()))

    async def test_nodes_are_apart(self) -> None:
        """Two nodes on one data directory: a file each, and a spool where neither sweeps the other's bodies."""
        from twisted.internet import reactor

        other = SqliteQueue(self.directory, reactor, node=7)
        await other.start()
        sink = other.create_body(1)
        self.assertEqual(7, node_of(sink.id))
        self.assertTrue(sink.id > 0 and sink.id >> 22 > 0, "by default the reactor's clock")
        await self.accept()
        self.assertEqual([], await other.browse(Selector()))
        await other.stop()

    async def test_modes_of_files(self) -> None:
        """Mail is read by nobody else."""
        await self.accept(data=b"x" * 200_000)
        assert self.directory is not None
        for folder in ("queue", "spool"):
            self.assertEqual(0o700, (self.directory / folder).stat().st_mode & 0o777)


class AcceptTests(SqliteCase):
    """What is between the reactor and the writer."""

    async def test_r6_no_row_without_a_file(self) -> None:
        """A large message whose body was given up, or never was, is refused before it reaches the writer."""
        sink = self.queue.create_body(1)
        sink.write(b"x" * 200_000)
        body = await sink.finish()
        message = await self.new()
        lost = changed(message, id=sink.id, body=body)
        sink.abort()
        await self.assertFailure(self.queue.enqueue([lost]), MailError)
        await self.assertFailure(self.queue.settle([], [lost]), MailError)
        kept = await self.new(data=b"x" * 200_000)
        await self.assertFailure(self.queue.enqueue([kept, lost]), MailError)
        await self.queue.enqueue([kept])
        self.assertEqual([kept.id], [row.message for row in await self.rows()])
        await self.check_sound()

    async def test_r6_stored_in_spite_of_a_bad_neighbour(self) -> None:
        """A call with a bad message fails, its good neighbour is stored: an abort after that must not take its file."""
        sink = self.queue.create_body(1)
        sink.write(b"x" * 200_000)
        good = changed(await self.new(), id=sink.id, body=await sink.finish())
        await self.assertFailure(self.queue.enqueue([good, changed(await self.new(), sender=None)]), MailError)
        sink.abort()
        await self.removals()
        self.assertEqual(200_000, len(await self.read(good.id)))
        await self.check_sound()

    async def test_too_many_recipients(self) -> None:
        """More than a block of ids has: told before the body is received."""
        self.assertEqual(452, self.assertRaises(MailError, self.queue.create_body, 16_384).reply.code)
        self.queue.create_body(16_383)

    async def test_claims_nobody_waits_for(self) -> None:
        """A claim that is cancelled too late is given back."""
        id, _ = await self.accept()
        deliver = self.writer.deliver

        def cancelling(results) -> None:
            for operation, _, _ in results:
                operation.cancelled = True
            self.writer.deliver = deliver
            deliver(results)

        self.writer.deliver = cancelling
        await self.claim()
        self.assertEqual([id + 1], ids(await self.claim()))

    async def test_deferred_needs_its_due(self) -> None:
        """A mistake of the caller, told at once; nothing is settled by it."""
        from mta.envelope import Kind, Outcome
        from tests.queue.harness import BUSY

        (claim,) = await self.taken()
        await self.assertFailure(self.queue.settle([Outcome(claim, Kind.DEFERRED, BUSY)]), ValueError)
        self.assertEqual([True], await self.defer(claim))

    async def test_first_attempt_without_a_read(self) -> None:
        """A taken message is in memory until all its claims are settled; one that waits is not."""
        one, two = await self.taken("a@example.org", "b@example.org")
        await self.accept()
        self.assertEqual([one.message], list(self.queue._cache._kept))
        await self.defer(one)
        self.assertEqual([one.message], list(self.queue._cache._kept))
        await self.defer(two)
        self.assertEqual((0, {}), (self.queue._cache.size, self.queue._cache._kept))

    async def test_pressure(self) -> None:
        """Slow commits and a log that a reader holds press; a log that is in the file too does not."""
        await self.accept()
        self.assertTrue(0 <= self.queue.pressure < 1)
        self.writer.commit_mean = 2.0
        self.assertEqual(2.0, self.queue.pressure)
        self.writer.commit_mean, self.writer.wal_pages = 0.0, 65_536 * 3
        self.assertEqual(3.0, self.queue.pressure)
        self.writer.wal_moved = 65_536 * 2
        self.assertEqual(1.0, self.queue.pressure)

    async def test_pressure_ends_without_mail(self) -> None:
        """A slow commit is forgotten after some seconds: mail that is refused for it brings no quicker one."""
        await self.accept()
        self.writer.commit_mean = 2.0
        self.writer.committed -= 5.1
        self.assertTrue(self.queue.pressure < 0.01)

    async def test_fatal_is_told_once(self) -> None:
        """An exception in the writer that nobody foresaw is fatal too: no accept is left waiting."""
        told: list[BaseException] = []
        self.queue._on_fatal = told.append
        self.writer._collect = lambda: 1 / 0
        waking = self.queue.enqueue([await self.new()])  # wakes the thread; its next turn fails, or this one already
        await waking.addErrback(lambda failure: failure.trap(MailError))
        await self.assertFailure(self.queue.enqueue([await self.new()]), MailError)
        self.assertEqual([ZeroDivisionError], [type(error) for error in told])
