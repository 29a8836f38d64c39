"""What an operator does: bites that stay small, removals that survive, blocks that write one row."""

from __future__ import annotations

import apsw
from twisted.internet.defer import gatherResults

from mta.queue.state import Alteration, Selector, State
from mta.status import MailError
from tests.queue.harness import DEST, HOUR, OTHER, ids
from tests.queue.sqlite.case import SqliteCase


class AlterationTests(SqliteCase):
    """On a running engine."""

    async def changes(self, work) -> int:
        """Rows that the writer's connection changes during it."""
        before = await self.queue._ask(lambda db: db.total_changes())
        await work()
        return await self.queue._ask(lambda db: db.total_changes()) - before

    async def test_q22_block_and_unblock_write_one_row_each(self) -> None:
        """Whatever waits for the destination: 1,000 recipients here."""
        await self.accept(*[f"u{n}@example.org" for n in range(1000)])
        self.assertEqual(1, await self.changes(lambda: self.queue.mark(DEST, self.now + HOUR, "421 busy")))
        self.assertEqual(1, await self.changes(lambda: self.queue.mark(DEST, self.now + 2 * HOUR, "421 busy")))
        self.assertEqual(1, await self.changes(lambda: self.queue.mark(DEST, clear=True)))
        self.assertEqual(0, await self.changes(lambda: self.queue.mark(DEST, clear=True)))

    async def test_q19_accepts_go_on_between_the_bites(self) -> None:
        """5,000 rows held in ten bites while mail arrives: each accept is answered before the next bite but one."""
        await self.accept(*[f"u{n}@example.org" for n in range(5000)])
        order: list[str] = []
        for bite in range(10):
            message = await self.new(self.to(dest=OTHER))
            altered = self.queue.alter(Selector(dest=DEST), Alteration.HOLD, self.now)
            accepted = self.queue.enqueue([message])
            altered.addCallback(lambda result, bite=bite: order.append(f"bite {bite} {result}"))
            accepted.addCallback(lambda _, bite=bite: order.append(f"accept {bite}"))
            await gatherResults([altered, accepted])
        self.assertEqual(
            [f"bite {n} {(500, int(n < 9))}" for n in range(10)], [entry for entry in order if entry.startswith("bite")]
        )
        for bite in range(9):
            self.assertTrue(
                order.index(f"accept {bite}") < next(n for n, e in enumerate(order) if e.startswith(f"bite {bite + 1}"))
            )

    async def test_q18_removed_in_flight_and_killed(self) -> None:
        """The mark of the removal is lost by a crash: the row is held then, not delivered after all."""
        await self.taken()
        await self.accept()
        await self.claim()
        await self.queue.alter(Selector(), Alteration.REMOVE, self.now)
        await self.crash()
        self.assertEqual([State.HELD] * 2, [row.state for row in await self.rows()])
        self.assertEqual([], await self.claim())
        self.assertEqual((2, False), await self.queue.alter(Selector(), Alteration.REMOVE, self.now))
        self.assertEqual([], await self.rows())
        await self.check_sound()

    async def test_q18_removed_in_flight_is_not_released(self) -> None:
        """It is held only for the crash: release leaves it alone."""
        (claim,) = await self.taken()
        await self.queue.alter(Selector(), Alteration.REMOVE, self.now)
        self.assertEqual((0, False), await self.queue.alter(Selector(), Alteration.RELEASE, self.now))
        await self.defer(claim)
        self.assertEqual([], await self.rows())

    async def test_removal_without_room(self) -> None:
        """A removal that was refused removes nothing: what is in flight and not delivered waits again."""
        (claim,) = await self.taken()
        commit = self.writer.commit

        def full() -> None:
            raise apsw.FullError("no room")

        self.writer.commit = full
        await self.assertFailure(self.queue.alter(Selector(), Alteration.REMOVE, self.now), MailError)
        self.writer.commit = commit
        await self.defer(claim)
        self.assertEqual([claim.id], ids(await self.rows()))

    async def test_large_body_goes_with_a_removal(self) -> None:
        """The file too."""
        await self.accept("a@example.org", "b@example.org", data=b"x" * 200_000)
        await self.queue.alter(Selector(), Alteration.REMOVE, self.now, 1)
        self.assertEqual(1, len(self.spool_files()))
        await self.queue.alter(Selector(), Alteration.REMOVE, self.now, 1)
        await self.removals()
        self.assertEqual([], self.spool_files())

    async def test_retry_looks_at_what_is_later_only(self) -> None:
        """A bite of a queue that is due costs nothing: no row is written."""
        await self.accept(*[f"u{n}@example.org" for n in range(300)])
        self.assertEqual(0, await self.changes(lambda: self.queue.alter(Selector(), Alteration.RETRY, self.now)))
