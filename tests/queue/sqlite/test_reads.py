"""Reading beside the writer: pieces, threads, and what is there no more."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from unittest.mock import patch

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import fail, gatherResults, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Kind
from mta.queue.sqlite import reads as module
from mta.queue.sqlite.reads import AT_HAND, BodyReader, Reads
from mta.queue.state import Alteration, Selector
from mta.status import MailError
from tests.queue.sqlite.case import SqliteCase


class ReadsTests(SqliteCase):
    """On a running engine."""

    async def test_pieces(self) -> None:
        """At most 64 KiB each, from rows and from files alike; after the end empty, again and again."""
        for size in (0, 1, 65_536, 131_072, 200_000):
            id, _ = await self.accept(data=os.urandom(size))
            reader = self.queue.open_body(id)
            sizes = []
            while piece := await reader.read():
                sizes.append(len(piece))
            self.assertEqual(b"", await reader.read())
            reader.close()
            self.assertEqual([65_536] * (size // 65_536) + ([size % 65_536] if size % 65_536 else []), sizes)

    async def test_settled_while_it_is_read(self) -> None:
        """A file that is open stays readable; of rows that are gone the reader says so, never an early end."""
        for size, readable in ((200_000, True), (100_000, False)):
            claims = await self.taken(data=b"x" * size)
            reader = self.queue.open_body(claims[0].message)
            self.assertEqual(65_536, len(await reader.read()))
            await self.settle(claims, Kind.DELIVERED)
            await self.removals()
            if readable:
                self.assertEqual(65_536, len(await reader.read()))
            else:
                await self.assertFailure(reader.read(), MailError)
            reader.close()
            self.assertEqual([], self.spool_files())

    async def test_file_that_is_too_short(self) -> None:
        """Half a body is never delivered as a whole one."""
        id, _ = await self.accept(data=b"x" * 200_000)
        (path,) = self.spool_files()
        os.truncate(path, 70_000)
        reader = self.queue.open_body(id)
        await reader.read()
        await reader.read()
        await self.assertFailure(reader.read(), MailError)
        reader.close()
        path.unlink()
        await self.assertFailure(self.queue.open_body(id).read(), MailError)

    async def test_file_that_is_too_long(self) -> None:
        """That is another message's, or nobody's: it is told before the end."""
        id, _ = await self.accept(data=b"x" * 200_000)
        (path,) = self.spool_files()
        with open(path, "ab") as file:
            file.write(b"y")
        await self.assertFailure(self.wrapped(self.read(id)), MailError)

    async def test_at_hand(self) -> None:
        """What has just come is in memory and needs no thread, but for every fifth piece, so that others have their turn."""
        data = os.urandom(65_536 * 12)
        id, _ = await self.accept(data=data)
        reader, pieces, at_once = self.queue.open_body(id), [], []
        while not pieces or pieces[-1]:
            reading = reader.read()
            at_once.append(reading.called)
            pieces.append(await reading)
        reader.close()
        self.assertEqual(([False, *[True] * AT_HAND] * 3)[:13], at_once)
        self.assertEqual(data, b"".join(pieces))

    async def test_not_at_hand(self) -> None:
        """A thread waits for the disk, and a file system that cannot say whether it would have to be waited for is no harm."""
        data = os.urandom(300_000)
        id, _ = await self.accept(data=data)
        for error in (errno.EAGAIN, errno.EOPNOTSUPP):
            with patch.object(os, "preadv", side_effect=OSError(error, "")):
                self.assertEqual(data, await self.read(id))
        with patch.object(module, "NOWAIT", 0), patch.object(os, "preadv", side_effect=AssertionError):
            self.assertEqual(data, await self.read(id))

    async def test_close_during_a_read(self) -> None:
        """The file is closed when the read returns; a read after close is an error of the caller."""
        id, _ = await self.accept(data=b"x" * 200_000)
        await self.read(id)  # opens the connection
        before = len(os.listdir("/proc/self/fd"))
        reader = self.queue.open_body(id)
        await reader.read()
        waiting = reader.read()
        reader.close()
        await waiting
        self.assertTrue(len(os.listdir("/proc/self/fd")) <= before)
        await self.assertFailure(reader.read(), ValueError)

    async def test_read_after_the_stop(self) -> None:
        """A job that outlives the queue (a mailbox that hangs) hears that it is over, or it would wait for ever."""
        id, _ = await self.accept(data=b"x" * 200_000)
        readers = [self.queue.open_body(id), self.queue.open_body(id)]
        await readers[0].read()
        await self.queue.stop()
        for reader in readers:
            error = await self.assertFailure(reader.read().addTimeout(5, reactor), MailError)
            self.assertEqual("4.3.2", error.reply.enhanced)
            reader.close()

    async def test_many_at_once(self) -> None:
        """20 readers in 4 threads: each gets its own body, over no more connections than threads."""
        made = [(await self.accept(data=bytes([n]) * 150_000))[0] for n in range(20)]
        found = await gatherResults([self.wrapped(self.read(id)) for id in made])
        self.assertEqual([bytes([n]) * 150_000 for n in range(20)], found)
        self.assertTrue(1 <= len(self.queue._reads._idle) <= 4)

    def wrapped(self, coroutine):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)

    async def test_load_from_memory_and_from_the_file(self) -> None:
        """The same answer; the first without a read."""
        (claim,) = await self.taken(data=b"x" * 100_000, envid="e", account="ann", trace="{}", flags=3)
        kept = await self.queue.load(claim.message)
        self.queue._cache.settled(claim.message)
        self.assertEqual(kept, await self.queue.load(claim.message))
        self.assertEqual(3, kept.message.flags)

    async def test_q30_no_reader_can_write(self) -> None:
        """The connections of the threads are read-only."""
        await self.accept()

        def write(db: apsw.Connection) -> None:
            db.execute("DELETE FROM delivery")

        await self.assertFailure(self.queue._reads.run(write), MailError)
        self.assertEqual(1, len(await self.rows()))

    async def test_browse_of_an_unknown_message(self) -> None:
        """Nothing is found, by browse and by alter."""
        await self.accept()
        self.assertEqual([], await self.queue.browse(Selector(message=12345)))
        self.assertEqual((0, False), await self.queue.alter(Selector(message=12345), Alteration.REMOVE, self.now))


class _Here(Reads):
    """Reads at once, of a queue with one message whose body is a file of that size."""

    def __init__(self, size: int) -> None:
        super().__init__(Path(), lambda: None)
        self._size = size

    def execute(self, *_):
        return self

    def fetchone(self):
        return -1, self._size

    def run(self, function):
        try:
            return succeed(function(self))
        except MailError:
            return fail()


class AnyReadsTests(SynchronousTestCase):
    """Whatever the kernel has in memory."""

    @settings(deadline=None, max_examples=100)
    @given(st.integers(0, 40), st.integers(0, 40), st.lists(st.integers(-1, 4), max_size=40))
    def test_whole_or_not_at_all(self, size, there, answers):
        """Any part of a piece at hand, or none (-1): the body is whole, or the reader says that it is not."""
        whole, given_ = os.urandom(there), iter(answers)
        preadv = os.preadv

        def part(file, buffers, at, flags):
            most = next(given_, 4)
            if most < 0:
                raise BlockingIOError
            (buffer,) = buffers
            return preadv(file, [memoryview(buffer)[:most]], at) if most else preadv(file, buffers, at)

        with tempfile.NamedTemporaryFile() as file, patch.object(os, "preadv", part), patch.object(module, "PIECE", 4):
            file.write(whole)
            file.flush()
            spool = type("Spool", (), {"path": lambda self, id: Path(file.name)})()
            reader, pieces = BodyReader(1, _Here(size), spool), []
            while not pieces or pieces[-1]:
                found = []
                reader.read().addBoth(found.append)
                if not isinstance(found[0], bytes):
                    break
                self.assertTrue(len(found[0]) <= 4)
                pieces += found
            reader.close()
        if size == there:
            self.assertEqual((whole, b""), (b"".join(pieces), pieces[-1]))
        else:
            found[0].trap(MailError)
            self.assertTrue(whole.startswith(b"".join(pieces)))
