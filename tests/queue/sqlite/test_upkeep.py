"""What operators and the clock ask of the durable queue: what was found is looked at again, and bites stay small."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from mta.envelope import Kind
from mta.queue.state import Alteration, Selector, State
from mta.status import MailError
from tests.queue.harness import DEST, OTHER, ids
from tests.queue.sqlite.case import SqliteCase


class UpkeepTests(SqliteCase):
    """On a running engine."""

    def between(self, act: Any) -> None:
        """Do that between the search and the change of the next alteration."""
        altered = self.queue._altered

        async def meddled(*arguments: Any) -> Any:
            del self.queue._altered
            await act()
            return await altered(*arguments)

        self.queue._altered = lambda *arguments: Deferred.fromCoroutine(meddled(*arguments))

    async def test_settled_meanwhile(self) -> None:
        """Found waiting, delivered before the writer's turn: it is neither altered nor counted, and stays gone."""
        await self.accept("a@example.org", "b@example.org")
        one, _ = await self.claim()
        self.between(lambda: self.settle([one], Kind.DELIVERED))
        self.assertEqual((1, 0), await self.queue.alter(Selector(to="*"), Alteration.HOLD, self.now))
        self.assertEqual([(one.id + 1, State.HELD)], [(row.id, row.state) for row in await self.rows()])

    async def test_moved_meanwhile(self) -> None:
        """Found at one destination, failed before the writer's turn: the removal there does not reach the bounce."""
        claims = await self.taken("a@example.org")
        self.between(lambda: self.settle(claims, Kind.FAILED))
        self.assertEqual((0, 0), await self.queue.alter(Selector(to="*", dest=DEST), Alteration.REMOVE, self.now))
        self.assertEqual(["bounce:"], [row.dest for row in await self.rows()])

    async def test_q19_accepts_go_on_during_a_search(self) -> None:
        """1,000 held by a pattern, 100 a bite, while mail is accepted: all accepts are answered, and all that matched are held."""
        await self.accept(*[self.to(f"u{n}@example.org") for n in range(1000)])
        accepting = [self.queue.enqueue([await self.new(self.to("x@example.net", OTHER))]) for _ in range(20)]
        total, after = await self.queue.alter(Selector(to="u*"), Alteration.HOLD, self.now, 100)
        while after:
            accepting.append(self.queue.enqueue([await self.new(self.to("x@example.net", OTHER))]))
            count, after = await self.queue.alter(Selector(to="u*"), Alteration.HOLD, self.now, 100, after)
            total += count
        await gatherResults(accepting)
        self.assertEqual((1000, 1000), (total, len(await self.rows(state=State.HELD))))

    async def statements(self, act: Any) -> int:
        """How many statements the writer runs meanwhile."""
        seen: list[str] = []
        self.writer.db.exec_trace = lambda _, text, __: seen.append(text) or True
        try:
            await act
        finally:
            self.writer.db.exec_trace = None
        return len(seen)

    async def test_q19_flush_of_many_destinations(self) -> None:
        """Each bite costs the writer the same: it does not walk anew through all destinations that were done before."""
        for n in range(60):
            await self.accept(self.to(f"u{n}@d{n}.example", f"smtp:default/d{n}.example", due=self.now + 1000))
        costs, after, total = [], 0, 0

        async def bite() -> None:
            nonlocal after, total
            count, after = await self.queue.alter(Selector(state=State.WAITING), Alteration.RETRY, self.now, 10, after)
            total += count

        while not costs or after:
            costs.append(await self.statements(bite()))
        self.assertEqual(60, total)
        self.assertEqual([self.now] * 60, [row.due for row in await self.rows()])
        self.assertLessEqual(max(costs), min(costs[:-1]) + 2)

    async def test_q19_few_among_many(self) -> None:
        """What is found and not to be altered is passed over in large steps, also when little is wanted still."""
        for name, count in (("first", 99), ("u", 300), ("late", 2)):
            await self.accept(*[self.to(f"{name}{n}@example.org") for n in range(count)])
        await self.queue.alter(Selector(to="u*"), Alteration.HOLD, self.now)
        pages = []
        reads = self.queue._reads
        run = reads.run
        reads.run = lambda *arguments: pages.append(arguments) or run(*arguments)
        count, after = await self.queue.alter(Selector(to="*"), Alteration.HOLD, self.now, 100)
        self.assertEqual(100, count)
        self.assertLessEqual(len(pages), 5)
        self.assertEqual((1, 0), await self.queue.alter(Selector(to="*"), Alteration.HOLD, self.now, 100, after))

    async def test_q21_warning_without_its_body(self) -> None:
        """A large warning whose file is not there: refused, no mark, and it may be made again."""
        id, _ = await self.accept()
        warning = await self.new("s@example.com", sender="", data=b"w" * 200_000)
        (path,) = self.spool_files()
        path.unlink()
        await self.assertFailure(self.queue.warn(id, [warning]), MailError)
        self.assertEqual([id + 1], ids(await self.rows()))
        self.assertEqual([id], [overdue.message.id for overdue in await self.queue.overdue(self.now + 1)])

    async def test_q21_file_of_a_second_warning(self) -> None:
        """Refused because one was sent already: the file of its body is an orphan, which the sweep removes after an hour."""
        id, _ = await self.accept()
        await self.queue.warn(id, [])
        again = await self.new("s@example.com", sender="", data=b"w" * 200_000)
        self.assertFalse(await self.queue.warn(id, [again]))
        (path,) = self.spool_files()
        os.utime(path, (0, 0))
        while (await self.queue.sweep(self.now)).more:
            pass
        self.assertEqual([], self.spool_files())

    async def test_room(self) -> None:
        """What the disk of the queue has free; None when it cannot be asked."""
        room = self.queue.room()
        assert room is not None
        self.assertTrue(room > 0)
        self.queue._directory = self.queue._directory / "gone"
        self.assertIsNone(self.queue.room())
