"""Conformance: mail from one queue into another (row 28), through the file of an export."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, BodyRef, Flag, Kind, NewRecipient, Notify, Outcome, Stored, Want
from mta.interfaces import IQueue
from mta.queue.carry.archive import Packing, Unpacking
from mta.queue.carry.passage import export, unpacked
from mta.queue.memory import MemoryQueue
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.state import Alteration, Carried, CopyReport, Row, Selector, State
from mta.status import MailError
from tests.queue.harness import BUSY, DEST, HOUR, OTHER, SECOND, UNKNOWN, QueueHarness

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness

SIZES = (0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 300_000)


class CarryRows(Rows):
    """What comes out of this engine goes into each of both, and is what it was."""

    async def mixed(self) -> None:
        """Mail in every state, with everything that a row can have, and bodies of all sizes."""
        for size in SIZES:
            await self.accept(
                self.to("size@example.org", lane=size % 64), data=bytes(range(256)) * 1200 if size == 300_000 else b"x" * size
            )
        gone, late, held = await self.taken("gone@example.org", "late@example.org", self.to("held@example.net", OTHER, 9))
        await self.settle([gone], Kind.DELIVERED)
        self.now += SECOND
        await self.queue.settle([Outcome(late, Kind.DEFERRED, BUSY, due=self.now + HOUR, host="mx1.example.org")])
        await self.settle([held], Kind.GIVEN_BACK)
        await self.queue.alter(Selector(to="held@*"), Alteration.HOLD, self.now)
        told = NewRecipient("told@example.org", "rfc822;t@x", Notify.SUCCESS | Notify.DELAY, DEST, 3, self.now)
        flags = Flag.SMTPUTF8 | Flag.BINARYMIME | Flag.RET_HDRS
        claims = await self.taken(told, sender="", prefix=b"", account="ann", envid="e+2B", trace='{"tls":"1.3"}', flags=flags)
        await self.settle(claims, Kind.FAILED, UNKNOWN)
        await self.accept("ünïcode@example.org", sender="'\"\x7f@example.com", source="submission")

    async def exported(self, queue: IQueue, selector: Selector = Selector()) -> bytes:
        """The file of an export."""
        file = BytesIO()
        await export([queue], selector, Packing(file, self.now), lambda _: None)
        return file.getvalue()

    async def imported(self, queue: IQueue, data: bytes, held: bool = False) -> CopyReport:
        """Put it into that queue."""
        return await unpacked(queue, Unpacking(BytesIO(data)), held, lambda _: None)

    def others(self) -> list[IQueue]:
        """An empty one of each engine."""
        from twisted.internet import reactor

        return [MemoryQueue(self.clock), SqliteQueue(Path(self.mktemp()), reactor, now=self.clock)]

    async def everything(self, queue: IQueue) -> tuple[list[Row], list[Stored], list[bytes]]:
        """All rows, envelopes and bodies."""
        mine, self.queue = self.queue, queue
        try:
            rows = await self.rows()
            messages = sorted({row.message for row in rows})
            loaded = [await queue.load(id) for id in messages]
            return rows, loaded, [await self.read(id) for id in messages]
        finally:
            self.queue = mine

    async def test_q28_export_and_import(self) -> None:
        """Same rows, ids, attempts, due, replies, envelopes, bodies; same lanes, sums and claims; and once more, nothing."""
        await self.mixed()
        data, before = await self.exported(self.queue), await self.everything(self.queue)
        lanes, sums = await self.queue.lanes(), await self.queue.summary(self.now)
        reports = []
        for other in self.others():
            await other.start()
            try:
                reports.append(await self.imported(other, data))
                self.assertEqual(before, await self.everything(other))
                self.assertEqual((lanes, sums), (await other.lanes(), await other.summary(self.now)))
                again = await self.imported(other, data)
                self.assertEqual((0, 11, before), (again.messages, again.skipped, await self.everything(other)))
                self.assertEqual(data, await self.exported(other), "byte by byte what was exported")
                wants = [Want(name, lane, 99) for name in (DEST, OTHER, BOUNCE) for lane in range(64)]
                claims = await other.claim(wants, self.now + HOUR)
                self.assertEqual({row.id for row in before[0] if row.state is State.WAITING}, {claim.id for claim in claims})
                self.assertTrue(all(await other.settle([Outcome(claim, Kind.DELIVERED, UNKNOWN) for claim in claims])))
                self.assertEqual(["held@example.net"], [row.address for row in await other.browse(Selector())])
            finally:
                await other.stop()
        self.assertEqual({(11, 12, 0)}, {(report.messages, report.recipients, len(report.refused)) for report in reports})

    async def test_q28_held(self) -> None:
        """Held, nothing of it goes out; what was taken waits where states are kept, for nobody there delivers it."""
        await self.taken("taken@example.org")
        await self.accept("waiting@example.org")
        data, before = await self.exported(self.queue), await self.rows()
        self.assertEqual([State.TAKEN, State.WAITING], [row.state for row in before])
        for held, state in ((True, State.HELD), (False, State.WAITING)):
            for other in self.others():
                await other.start()
                await self.imported(other, data, held)
                rows, _, _ = await self.everything(other)
                self.assertEqual([attrs.evolve(row, state=state) for row in before], rows)
                self.assertEqual(0 if held else 2, len(await other.claim([Want(DEST, 0, 9)], self.now)))
                await other.stop()

    async def test_q28_selected(self) -> None:
        """Only the recipients that were asked for go, also those of one message."""
        await self.accept("a@example.org", self.to("b@example.net", OTHER), "c@example.org")
        await self.accept(self.to("d@example.net", OTHER))
        data = await self.exported(self.queue, Selector(dest=DEST))
        for other in self.others():
            await other.start()
            await self.imported(other, data)
            rows, (stored,), _ = await self.everything(other)
            self.assertEqual((["a@example.org", "c@example.org"], 3), ([row.address for row in rows], stored.message.nrcpt))
            for claim in await other.claim([Want(DEST, 0, 9)], self.now):
                await other.settle([Outcome(claim, Kind.DELIVERED, UNKNOWN)])
            self.assertEqual([], await other.browse(Selector()))
            await self.assertFailure(other.load(stored.message.id), Exception)
            await other.stop()

    async def test_q28_all_or_nothing(self) -> None:
        """One message of a call that cannot be stored: none is, what is there stays, and the sinks take their files back."""
        for data in (b"small", b"l" * 200_000):
            used, _ = await self.accept("here@example.org", data=data)
            row, free = await self.row(used + 1), used - (1 << 22)
            message = (await self.queue.load(used)).message
            sink = await self.queue.body_of(free, 1)
            assert sink is not None
            sink.write(data)
            new = Carried(attrs.evolve(message, id=free), (attrs.evolve(row, id=free + 1, message=free),), await sink.finish())
            await self.assertFailure(self.queue.adopt([new, Carried(message, (row,), BodyRef(5, b"other"))]), MailError)
            sink.abort()
            self.assertEqual(([row], data), (await self.rows(message=used), await self.read(used)))
            self.assertEqual([], await self.rows(message=free))
            sink = await self.queue.body_of(free, 1)
            assert sink is not None, "and it may come again"
            sink.write(data)
            await self.queue.adopt([attrs.evolve(new, body=await sink.finish())])
            self.assertEqual(data, await self.read(free))

    async def test_q28_id_in_use(self) -> None:
        """An id of its block is another message's here: it has no place."""
        id, _ = await self.accept("a@example.org", "b@example.org", "c@example.org")
        for first, recipients in ((id, 1), (id + 3, 1), (id - 2, 2), (id - 5, 9)):
            self.assertIsNone(await self.queue.body_of(first, recipients))
        for first, recipients in ((id - 2, 1), (id + 4, 5)):
            self.assertIsNotNone(await self.queue.body_of(first, recipients))
