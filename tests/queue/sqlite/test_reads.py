"""Reading beside the writer: pieces, threads, and what is there no more."""

from __future__ import annotations

import os

import apsw
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from mta.envelope import Kind
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
