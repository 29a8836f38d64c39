"""The sweep: what is too old, what has no row, and how little it looks at."""

from __future__ import annotations

import os

from mta.envelope import BOUNCE, Flag, Kind
from mta.queue.sqlite import sweep as module
from tests.queue.harness import DAY, HOUR
from tests.queue.sqlite.case import SqliteCase


class SweepTests(SqliteCase):
    """On a running engine."""

    async def sweep(self) -> tuple[int, int, int]:
        """(expired, orphans, bites) of a whole round."""
        expired = orphans = bites = 0
        more = True
        while more:
            report = await self.queue.sweep(self.now)
            expired, orphans, bites, more = expired + report.expired, orphans + report.orphans, bites + 1, report.more
        return expired, orphans, bites

    async def test_r6_orphans(self) -> None:
        """A file that no row names goes after an hour; one with a row stays, whatever its age."""
        await self.accept(data=b"x" * 200_000)
        await self.body(1, b"y" * 200_000)  # linked, and never given to the queue
        await self.crash()
        for path in self.spool_files():
            os.utime(path, (self.now / 1000, self.now / 1000))
        self.assertEqual(0, (await self.sweep())[1])
        self.now += HOUR
        self.assertEqual(1, (await self.sweep())[1])
        self.assertEqual(1, len(self.spool_files()))
        await self.check_sound()

    async def test_r6_message_on_its_way(self) -> None:
        """A file between its link and its row is no orphan, however the clock jumps."""
        message = await self.new(data=b"x" * 200_000)
        self.now += 30 * DAY
        self.assertEqual(0, (await self.sweep())[1])
        await self.queue.enqueue([message])
        await self.check_sound()

    async def test_q20_bites(self) -> None:
        """At most 500 recipients each, also of one message with more, and of its neighbours the rest."""
        await self.accept(*[f"u{n}@example.org" for n in range(1200)], lifetime=HOUR)
        await self.accept(lifetime=HOUR)
        self.now += HOUR
        first = await self.queue.sweep(self.now)
        self.assertEqual((500, True), (first.expired, first.more))
        self.assertEqual(701, (await self.sweep())[0])
        self.assertEqual(1201, len(await self.claim(5000, BOUNCE)))

    async def test_q20_only_the_oldest_are_looked_at(self) -> None:
        """Once a round has seen all lifetimes, young messages are not walked again; a shorter life is noticed."""
        for _ in range(5):
            await self.accept()
        await self.sweep()
        walked = []
        walk = module.walk
        self.patch(module, "walk", lambda db, after, before, now: walked.append(walk(db, after, before, now)) or walked[-1])
        self.patch(module, "WALK", 2)
        await self.sweep()
        self.assertEqual([([], None, None)], walked, "nothing is old enough")
        self.now += DAY
        await self.accept(lifetime=HOUR)
        self.now += HOUR
        self.assertEqual(1, (await self.sweep())[0])

    async def test_q20_a_named_time_is_no_lifetime(self) -> None:
        """A message for a minute (RFC 2852) goes at its time, and the rest of the queue is not walked through for it, ever."""
        for _ in range(5):
            await self.accept()
        by = self.now + 60_000
        await self.accept(lifetime=60_000, deliver_by=by, flags=int(Flag.BY_RETURN))
        for _ in range(2):
            await self.sweep()
            walked = []
            walk = module.walk
            self.patch(module, "walk", lambda *given, walk=walk, walked=walked: walked.append(walk(*given)) or walked[-1])
            self.now += HOUR
            self.assertEqual(1, (await self.sweep())[0])
            self.assertTrue(walked and all(each == ([], None, None) for each in walked), walked)
            await self.crash()
            await self.accept(lifetime=60_000, deliver_by=self.now + 60_000, flags=int(Flag.BY_RETURN))

    async def test_q20_named_times_in_bites(self) -> None:
        """A bite of what has expired does not hide what follows, nor does what is held."""
        self.patch(module, "WALK", 2)
        self.patch(module, "BITE", 3)
        timed = {"lifetime": 60_000, "deliver_by": self.now + 60_000, "flags": int(Flag.BY_RETURN)}
        for _ in range(5):
            await self.accept(hold="looked at", **timed)
        for _ in range(5):
            await self.accept("a@example.org", "b@example.org", **timed)
        await self.accept(lifetime=9 * DAY)
        self.now += HOUR
        self.assertEqual(10, (await self.sweep())[0])
        self.assertEqual(0, (await self.sweep())[0])

    async def test_q20_after_a_restart(self) -> None:
        """Nothing is known then: the first round walks all, and finds the short life among the long ones."""
        await self.accept(lifetime=9 * DAY)
        await self.accept(lifetime=HOUR)
        await self.accept(lifetime=9 * DAY)
        await self.crash()
        self.now += HOUR
        self.assertEqual(1, (await self.sweep())[0])

    async def test_unused_pages_are_given_back(self) -> None:
        """After a flood the file shrinks again, bite by bite; a few unused pages are kept for the next mail."""
        claims = [claim for _ in range(40) for claim in await self.taken(data=b"x" * 100_000)]
        await self.settle(claims, Kind.DELIVERED)
        (before,) = (await self.sql("PRAGMA page_count"))[0]
        await self.sweep()
        self.assertEqual([(before,)], await self.sql("PRAGMA page_count"))
        self.patch(module, "FREE", 100)
        await self.sweep()
        (after,) = (await self.sql("PRAGMA page_count"))[0]
        self.assertTrue(after < before / 2, (before, after))
        await self.check_sound()

    async def test_failed_dest_and_attempts(self) -> None:
        """The report knows where it was going; the bounce starts with no attempt."""
        (claim,) = await self.taken(lifetime=HOUR)
        await self.defer(claim)
        self.now += HOUR
        await self.sweep()
        self.assertEqual(
            [("bounce:", claim.dest, 0, 450)], await self.sql("SELECT dest,failed_dest,attempts,last_code FROM delivery")
        )
