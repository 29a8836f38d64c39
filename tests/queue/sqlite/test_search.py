"""Searches beside the writer: few rows by an index, all others by bounded walks, and the same found either way."""

from __future__ import annotations

from mta.queue.sqlite import search
from mta.queue.state import Alteration, Selector, State
from tests.queue.harness import DEST, HOUR, OTHER, ids
from tests.queue.sqlite.case import SqliteCase


class SearchTests(SqliteCase):
    """On a running engine, with small bounds."""

    async def setUp(self) -> None:
        await super().setUp()
        self.patch(search, "LOOK", 10)
        self.looked = 0

    async def pages(self, selector: Selector, limit: int = 3) -> tuple[list[int], int]:
        """All ids, and in how many calls."""
        found, after, calls = [], 0, 0
        while True:
            rows, after = await self.queue._reads.run(search.page, selector, after, limit)
            found += ids(rows)
            calls += 1
            if not after:
                return found, calls

    async def test_is_searched(self) -> None:
        """What no index knows: patterns, account, age; not message, destination, state."""
        for selector in (Selector(to="*"), Selector(sender=""), Selector(account="a"), Selector(before=1)):
            self.assertTrue(search.is_searched(selector))
        self.assertFalse(search.is_searched(Selector(message=1, dest=DEST, state=State.HELD)))

    async def test_a_walk_is_bounded(self) -> None:
        """One row in a hundred: each call ends after some tens of rows and says where to go on."""
        for number in range(100):
            await self.accept(f"u{number}@example.org")
        found, calls = await self.pages(Selector(to="u99@*"))
        self.assertEqual(1, len(found))
        self.assertTrue(5 <= calls <= 12, calls)
        self.assertEqual(found, ids(await self.rows(to="u99@*")))
        self.assertEqual((1, 0), await self.queue.alter(Selector(to="u99@*"), Alteration.HOLD, self.now))

    async def test_few_by_an_index(self) -> None:
        """A small destination in a large queue, the held ones, the taken ones: one call finds them."""
        for number in range(60):
            await self.accept(f"u{number}@example.org")
        few = [(await self.accept(self.to(dest=OTHER, lane=n)))[0] + 1 for n in (5, 0, 2)]
        taken = (await self.taken(self.to(dest=OTHER)))[0].id
        self.assertEqual(([*few, taken], 2), await self.pages(Selector(dest=OTHER)))
        await self.queue.alter(Selector(message=few[1] - 1), Alteration.HOLD, self.now)
        for selector, expected in (
            (Selector(dest=OTHER), [*few, taken]),
            (Selector(dest=OTHER, state=State.WAITING), [few[0], few[2]]),
            (Selector(state=State.HELD), [few[1]]),
            (Selector(state=State.HELD, dest=DEST), []),
            (Selector(state=State.TAKEN), [taken]),
            (Selector(state=State.TAKEN, dest=OTHER, to="*"), [taken]),
        ):
            self.assertEqual((expected, 1), await self.pages(selector, 10))

    async def test_many_by_an_index_or_by_a_walk(self) -> None:
        """The same, in the same order, when there are too many for the index."""
        for number in range(40):
            await self.accept(f"u{number}@example.org", self.to("v@example.net", OTHER, number % 3))
        by_index = (await self.pages(Selector(dest=OTHER)))[0]
        self.patch(search, "FEW", 5)
        self.assertEqual(by_index, (await self.pages(Selector(dest=OTHER)))[0])
        self.assertEqual((40, sorted(by_index)), (len(by_index), by_index))

    async def test_message(self) -> None:
        """Its recipients alone, page by page; one that is not there has none."""
        await self.accept("x@example.org")
        id, _ = await self.accept(*[f"u{n}@example.org" for n in range(7)])
        await self.accept("y@example.org")
        self.assertEqual(list(range(id + 1, id + 8)), (await self.pages(Selector(message=id)))[0])
        self.assertEqual([id + 3], (await self.pages(Selector(message=id, to="u2@*")))[0])
        self.assertEqual(([], 1), await self.pages(Selector(message=id + 1)))

    async def test_summary_in_bites(self) -> None:
        """The sums of the bites are the sums; the oldest is that of the first bite."""
        for number in range(35):
            await self.accept(self.to(dest=(DEST, OTHER)[number % 2]))
            self.now += 1
        summary = search.Summary(self.now)
        bites = 1
        while await self.queue._reads.run(summary.bite):
            bites += 1
        self.assertEqual(4, bites)
        one, two = summary.largest(5)
        self.assertEqual((DEST, 18, 18, self.now - 35), (one.name, one.waiting, one.due, one.oldest))
        self.assertEqual((OTHER, 17, self.now - 34, 17), (two.name, two.waiting, two.oldest, sum(two.ages)))

    async def test_q21_walk_over_the_warned(self) -> None:
        """Many messages that were warned of: bounded calls, and the one behind them is found."""
        for _ in range(30):
            await self.queue.warn((await self.accept())[0], [])
        id, _ = await self.accept()
        self.now += 2 * HOUR
        found, after, calls = [], 0, 0
        while not calls or after:
            late, after = await self.queue._reads.run(search.late, self.now, after, 5)
            found += [overdue.message.id for overdue in late]
            calls += 1
        self.assertEqual([id], found)
        self.assertTrue(3 <= calls <= 5, calls)
