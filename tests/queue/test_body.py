"""Bodies on their way in: memory, files without names, what a full or broken disk does, what is left behind."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from unittest.mock import patch

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.body import INLINE_LIMIT, BodySink, Spool, storage_error, unlink
from mta.queue.ids import Generator, id_text, ms_of
from mta.status import MailError

HOUR = 3_600_000
NOW = 1_800_000_000_000


class Threads:
    """A pool that runs what it is given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list = []
        self.at_once = True

    def __call__(self, function, *arguments) -> Deferred:
        if self.at_once:
            return execute(function, *arguments)
        waiting: Deferred = Deferred()
        waiting.addCallback(lambda _: function(*arguments))
        self.waiting.append(waiting)
        return waiting

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0).callback(None)


class SpoolCase(SynchronousTestCase):
    """A spool in a folder of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.threads = Threads()
        self.spool = Spool(self.directory, self.threads)
        self.ids = Generator(lambda: NOW)

    def sink(self, size: int = 0) -> BodySink:
        sink = BodySink(self.ids.block(2), self.spool)
        for start in range(0, size, 50_000):
            self.assertIsNone(sink.write(b"x" * min(50_000, size - start)))
        return sink

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.rglob("*") if path.is_file())


class SinkTests(SpoolCase):
    """What receives bodies."""

    def test_q24_small_stays_in_memory(self) -> None:
        """Up to 128 KiB inline, byte-identical; no file is made."""
        for size in (0, 1, INLINE_LIMIT):
            body = self.successResultOf(self.sink(size).finish())
            self.assertEqual((size, b"x" * size, None), (body.size, body.data, body.path))
        self.assertEqual([], self.files())

    def test_q24_large_gets_its_name_at_the_end(self) -> None:
        """One byte more: a file, without a name until it is finished, readable by us only."""
        for tmpfile in (True, False):
            if not tmpfile:
                self.spool.tmpfile = 0
            sink = self.sink(INLINE_LIMIT + 1)
            self.assertEqual([] if tmpfile else [f"{sink.name}.tmp"], self.files())
            body = self.successResultOf(sink.finish())
            self.assertEqual([sink.name], self.files())
            path = self.spool.path(sink.id)
            self.assertEqual((INLINE_LIMIT + 1, None, str(path)), (body.size, body.data, body.path))
            self.assertEqual(b"x" * (INLINE_LIMIT + 1), path.read_bytes())
            self.assertEqual(0o600, path.stat().st_mode & 0o777)
            path.unlink()

    def test_r1_order_of_the_syncs(self) -> None:
        """File synced, linked, directory synced; a new folder is synced into the spool before anything is in it."""
        order = []
        link, fsync = os.link, os.fsync
        sink = self.sink(INLINE_LIMIT + 1)
        with (
            patch(
                "os.fsync",
                lambda fd: order.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).split()[0][:3]) or fsync(fd),
            ),
            patch("os.link", lambda *a, **k: order.append("link") or link(*a, **k)),
        ):
            self.successResultOf(sink.finish())
        folder = self.spool.path(sink.id).parent.name
        self.assertEqual(["spool"[:0] + self.directory.name[:3], "link", folder], order[1:])
        self.assertTrue(order[0].startswith("#"), "an unnamed file is synced first")

    def test_r1_folder_of_another(self) -> None:
        """A folder that is there, made by another thread or a killed process, may not be on the disk: it is synced, once."""
        synced: list[Path] = []
        first, second = self.sink(INLINE_LIMIT + 1), self.sink(INLINE_LIMIT + 1)
        self.spool.path(first.id).parent.mkdir()
        with patch("mta.queue.body.sync_directory", synced.append):
            for sink in (first, second):
                self.successResultOf(sink.finish())
        self.assertEqual([self.directory], synced)

    def test_q24_abort_leaves_nothing(self) -> None:
        """At any time and twice; descriptors are closed."""
        before = len(os.listdir("/proc/self/fd"))
        for tmpfile in (self.spool.tmpfile, 0):
            self.spool.tmpfile = tmpfile
            for size in (10, 200_000):
                for finished in (False, True):
                    sink = self.sink(size)
                    if finished:
                        self.successResultOf(sink.finish())
                    sink.abort()
                    sink.abort()
                    self.assertIsNone(sink.write(b"late"))
        self.assertEqual([], self.files())
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_abort_while_the_file_is_linked(self) -> None:
        """The thread cannot be stopped: what it made is removed, and nobody gets the body."""
        sink = self.sink(200_000)
        self.threads.at_once = False
        waiting = sink.finish()
        sink.abort()
        self.threads.run()
        self.failureResultOf(waiting, MailError)
        self.assertEqual([], self.files())

    def test_finish_after_abort(self) -> None:
        """A body that was given up cannot be accepted."""
        for size in (10, 200_000):
            sink = self.sink(size)
            sink.abort()
            self.failureResultOf(sink.finish(), MailError)


class DiskTests(SpoolCase):
    """A disk that fails."""

    def test_q26_full_disk(self) -> None:
        """ENOSPC while writing: 452 4.3.1, told once, then again at the end; nothing is left."""
        for call in ("os.open", "os.write"):
            sink = self.sink(INLINE_LIMIT)
            with patch(call, side_effect=OSError(errno.ENOSPC, "full")):
                told = sink.write(b"x" * 10)
            assert told is not None
            self.assertEqual(452, self.failureResultOf(told, MailError).value.reply.code)
            self.assertIsNone(sink.write(b"more"))
            self.assertEqual("4.3.1", self.failureResultOf(sink.finish(), MailError).value.reply.enhanced)
        self.assertEqual([], self.files())

    def test_q26_full_disk_at_the_end(self) -> None:
        """Delayed allocation: the sync says that the disk is full."""
        sink = self.sink(200_000)
        with patch("os.fsync", side_effect=OSError(errno.EDQUOT, "quota")):
            waiting = sink.finish()
        self.assertEqual(452, self.failureResultOf(waiting, MailError).value.reply.code)
        self.assertEqual([], self.files())

    def test_error_of_the_directory_sync(self) -> None:
        """The name is there but not durable: it is taken back."""
        self.successResultOf(self.sink(200_000).finish())  # makes the folder
        fsync, calls = os.fsync, []

        def second_fails(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == 2:
                raise OSError(errno.EIO, "lost")
            fsync(descriptor)

        sink = self.sink(200_000)
        with patch("os.fsync", second_fails):
            waiting = sink.finish()
        self.assertEqual(451, self.failureResultOf(waiting, MailError).value.reply.code)
        self.assertNotIn(sink.name, self.files())

    def test_name_that_exists_is_never_touched(self) -> None:
        """A file of that name may have a row: the new body is refused, the old file stays."""
        first = self.sink(200_000)
        self.successResultOf(first.finish())
        again = BodySink(first.id, self.spool)
        again.write(b"y" * 200_000)
        self.failureResultOf(again.finish(), MailError)
        again.abort()
        self.assertEqual(b"x" * 200_000, self.spool.path(first.id).read_bytes())

    def test_short_writes(self) -> None:
        """A write that takes less than it was given goes on where it stopped."""
        write = os.write
        with patch("os.write", lambda fd, data: write(fd, data[:1000])):
            sink = self.sink(140_000)
        self.successResultOf(sink.finish())
        self.assertEqual(140_000, self.spool.path(sink.id).stat().st_size)

    def test_no_tmpfile(self) -> None:
        """A file system without O_TMPFILE: a named temporary file, from then on."""
        real = os.open

        def refuse(path, flags, *more, **named):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no")
            return real(path, flags, *more, **named)

        with patch("os.open", refuse):
            sink = self.sink(200_000)
        self.assertEqual([f"{sink.name}.tmp"], self.files())
        self.successResultOf(sink.finish())
        self.assertEqual([sink.name], self.files())

    def test_errors(self) -> None:
        """Full is 452, anything else 451."""
        codes = [
            storage_error(OSError(number, "x")).reply.code for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE)
        ]
        self.assertEqual([452, 452, 451, 451], codes)


class LifeTests(SpoolCase):
    """From finish to the row, and after it."""

    def kept(self) -> BodySink:
        sink = self.sink(200_000)
        self.successResultOf(sink.finish())
        return sink

    def test_r6_abort_after_the_queue_has_it(self) -> None:
        """Once given, a body is the queue's: the abort of a lost connection must not touch it."""
        for stored in (False, True):
            sink = self.kept()
            self.assertTrue(self.spool.give(sink.id))
            if stored:
                self.spool.stored(sink.id, True)
            sink.abort()
            self.assertIn(sink.name, self.files())

    def test_refused_by_the_queue(self) -> None:
        """Then abort removes it; offered again before that it is taken."""
        sink = self.kept()
        self.spool.give(sink.id)
        self.spool.stored(sink.id, False)
        self.assertTrue(self.spool.give(sink.id))
        self.spool.stored(sink.id, False)
        sink.abort()
        self.assertEqual([], self.files())

    def test_r6_no_row_without_a_file(self) -> None:
        """A body that is being removed, or is gone, cannot be given to the queue."""
        sink = self.kept()
        self.threads.at_once = False
        sink.abort()
        self.assertFalse(self.spool.give(sink.id))
        self.threads.run()
        self.assertFalse(self.spool.give(sink.id))

    def test_orphans(self) -> None:
        """Over an hour old, and of no message on its way, also one that came from another node; temporary files too; nothing else."""
        sinks = [self.kept() for _ in range(4)]
        self.spool.give(sinks[1].id)
        self.spool.give(sinks[2].id)
        self.spool.stored(sinks[2].id, True)
        self.spool.give(sinks[3].id)
        self.spool.stored(sinks[3].id, False)
        other = Generator(lambda: NOW, node=3).block(1)
        stale = Generator(lambda: NOW - 9).block(1)
        (self.spool.path(other)).write_bytes(b"of a node whose mail was adopted")
        (self.spool.path(other).parent / "notes.txt").write_bytes(b"not ours")
        (self.directory / f"{id_text(stale)}.tmp").write_bytes(b"left over")
        folder = self.spool.path(other).parent.name
        for path in self.directory.rglob("*"):
            os.utime(path, (NOW / 1000, NOW / 1000))
        self.assertEqual(([], []), self.spool.old_files(int(folder, 16), NOW + HOUR - 1))
        ids, _ = self.spool.old_files(int(folder, 16), NOW + HOUR)
        self.assertEqual({sinks[2].id, sinks[3].id, other}, set(ids))
        self.assertEqual([f"{id_text(stale)}.tmp"], [path.name for path in self.spool.old_files(0, NOW + HOUR)[1]])

    def test_refused_again_and_again(self) -> None:
        """A report that cannot be stored for hours (a full disk) keeps its file: without it it could never be stored."""
        sink = self.kept()
        path = self.spool.path(sink.id)
        self.spool.give(sink.id)
        os.utime(path, (0, 0))
        self.spool.stored(sink.id, False)
        now = int(time.time() * 1000)
        self.assertEqual(([], []), self.spool.old_files(int(path.parent.name, 16), now + HOUR // 2))
        self.assertEqual([sink.id], self.spool.old_files(int(path.parent.name, 16), now + 2 * HOUR)[0])
        path.unlink()
        self.spool.stored(sink.id, False)

    def test_remove(self) -> None:
        """Missing files are no error; a file on its way is never removed."""
        sink = self.kept()
        self.spool.remove([sink.id, 99])
        self.assertEqual([sink.name], self.files())
        unlink([self.directory / "none"])
        self.assertEqual(NOW, ms_of(sink.id))
