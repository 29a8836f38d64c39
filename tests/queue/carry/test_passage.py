"""Out of a queue and into one: what goes on meanwhile, what is not whole, what breaks off."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.envelope import BodyRef, Kind, Stored
from mta.queue.carry import passage
from mta.queue.carry.archive import Packing, Unpacking
from mta.queue.carry.passage import Unreadable, body_of, by_message, export, unpacked
from mta.queue.memory import MemoryQueue
from mta.queue.state import CopyReport, Selector
from mta.status import MailError, transient
from tests.queue.carry.case import NOW, message, packed
from tests.queue.harness import QueueHarness

WHOLE = packed(*(message(number, 13 + number * 700) for number in range(5)))


class Case(QueueHarness, TestCase):
    """From a queue in memory."""

    queue: MemoryQueue

    def make_engine(self) -> MemoryQueue:
        return MemoryQueue(self.clock)

    async def exported(self, seen: Any = lambda _: None) -> tuple[CopyReport, bytes]:
        file = BytesIO()
        return await export([self.queue], Selector(), Packing(file, NOW), seen), file.getvalue()


class OutTests(Case):
    """See the module."""

    async def test_by_message(self) -> None:
        """Messages with more recipients than a page has come whole; the last one too; none of an empty queue."""
        self.assertEqual([], [rows async for rows in by_message(self.queue, Selector())])
        counts = [1, 3, 2, 7]
        for count in counts:
            await self.accept(*[f"u{n}@example.org" for n in range(count)])
        with patch.object(passage, "PAGE", 2):
            found = [rows async for rows in by_message(self.queue, Selector())]
        self.assertEqual(counts, [len(rows) for rows in found])
        self.assertEqual(4, len({row.message for rows in found for row in rows}))

    async def test_mail_goes_on(self) -> None:
        """What is delivered after it was seen is not there, what comes meanwhile may be; nothing is half there."""
        for _ in range(6):
            await self.accept()
        load, claims = self.queue.load, await self.claim()

        def busy(id: int) -> Deferred[Stored]:
            loaded = load(id)
            if claims and id == claims[1].message:
                self.successResultOf(self.settle(claims[1:3], Kind.DELIVERED))  # this one, and one that was seen already
                self.successResultOf(self.accept("new@example.org"))
                return load(id)
            return loaded

        with patch.object(self.queue, "load", busy):
            report, data = await self.exported()
        self.assertEqual((5, ()), (report.messages, report.refused))
        self.assertEqual([row.message for row in await self.rows()], list_of(data))

    async def test_not_whole(self) -> None:
        """A body that cannot be read, or is of another length, leaves out its message, says why, and harms no other."""
        ids = [(await self.accept(data=b"z" * 200_000))[0] for _ in range(4)]
        self.queue._messages[ids[0]].new = self.shorter(ids[0])
        opened = self.queue.open_body

        def broken(id: int) -> Any:
            reader: Any = opened(id)
            if id == ids[2]:
                reader.read = lambda: fail(transient("4.3.0", "cannot", reason="input/output error"))
            return reader

        with patch.object(self.queue, "open_body", broken):
            report, data = await self.exported()
        self.assertEqual(((ids[0], "its body is not as long as it ought to be"), (ids[2], "input/output error")), report.refused)
        self.assertEqual(([ids[1], ids[3]], 2), (list_of(data), report.messages))

    def shorter(self, id: int) -> Any:
        from tests.queue.harness import changed

        return changed(self.queue._messages[id].new, body=BodyRef(150_000, b"z" * 150_000))

    async def test_body_of_what_is_gone(self) -> None:
        """Unreadable."""
        await self.assertFailure(Deferred.fromCoroutine(self.read_gone()), Unreadable)

    async def read_gone(self) -> None:
        async for _ in body_of(self.queue, Stored(message(), None)):
            self.fail("there is nothing")

    async def test_progress(self) -> None:
        """At every hundredth message and at the end."""
        for _ in range(101):
            await self.accept()
        seen: list[int] = []
        await self.exported(seen.append)
        self.assertEqual([100, 101], seen)


def list_of(data: bytes) -> list[int]:
    """The ids in an export."""
    unpacking, found = Unpacking(BytesIO(data)), []
    for envelope in unpacking.records():
        found.append(envelope.message.id)
        for _ in unpacking.pieces():
            pass
    return found


class Watched(MemoryQueue):
    """Counts adoptions; `trouble`: which of them fails."""

    trouble = 0

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.bites: list[int] = []

    def adopt(self, messages: Any) -> Deferred[None]:
        self.bites.append(len(messages))
        if len(self.bites) == self.trouble:
            return fail(transient("4.3.1", "insufficient system storage", code=452))
        return super().adopt(messages)


class InTests(SynchronousTestCase):
    """Into a queue in memory."""

    def tried(self, queue: MemoryQueue, data: bytes) -> CopyReport | MailError:
        trying: Deferred[Any] = Deferred.fromCoroutine(unpacked(queue, Unpacking(BytesIO(data)), True, lambda _: None))
        result: CopyReport | MailError = self.successResultOf(trying.addErrback(lambda failure: failure.value))
        return result

    def bring(self, queue: MemoryQueue, data: bytes) -> CopyReport:
        report = self.tried(queue, data)
        assert isinstance(report, CopyReport), report
        return report

    def broken(self, queue: MemoryQueue, data: bytes) -> MailError:
        error = self.tried(queue, data)
        assert isinstance(error, MailError), error
        return error

    def test_bites(self) -> None:
        """So many messages, or so many bytes, are adopted at once."""
        for messages, size, bites in ((2, 1 << 20, [2, 2, 1]), (100, 3000, [3, 2]), (100, 1 << 20, [5])):
            queue = Watched()
            with patch.object(passage, "MESSAGES", messages), patch.object(passage, "BYTES", size):
                self.assertEqual(CopyReport(5, 10, 0), self.bring(queue, WHOLE))
            self.assertEqual(bites, queue.bites)

    @given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
    @settings(deadline=None, max_examples=150)
    def test_broken_anywhere(self, at: int, flip: int) -> None:
        """Cut or damaged: what came before is imported and whole, the error tells how many; the whole file does the rest."""
        damaged = WHOLE[:at] if not flip else WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :]
        queue, whole = Watched(), Watched()
        self.bring(whole, WHOLE)
        outcome = self.tried(queue, damaged)
        before = len(queue._messages)
        if isinstance(outcome, MailError):
            self.assertIn(f"before it {before} message(s) were imported, 0 were there", outcome.reason)
            self.assertIn(f"before it 0 message(s) were imported, {before} were there", self.broken(queue, damaged).reason)
        again = self.bring(queue, WHOLE)
        self.assertEqual(5, again.messages + again.skipped)
        self.assertEqual(whole._rows, queue._rows)
        self.assertEqual([kept.body for kept in whole._messages.values()], [kept.body for kept in queue._messages.values()])

    def test_full(self) -> None:
        """A bite that cannot be stored: the error, what came before stands, and repeated with room the rest comes."""
        queue = Watched()
        queue.trouble = 2
        with patch.object(passage, "MESSAGES", 2):
            self.assertEqual(452, self.broken(queue, WHOLE).reply.code)
            self.assertEqual(2, len(queue._messages))
            self.assertEqual(CopyReport(3, 6, 0, skipped=2), self.bring(queue, WHOLE))
