"""Conformance: who gets which recipient, when, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Kind, Want
from tests.queue.harness import BUSY, DEST, HOUR, OTHER, SECOND, START, QueueHarness, ids

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness


class ClaimRows(Rows):
    """Rows 6 to 9, 16 and 23."""

    async def test_q06_oldest_first_within_a_lane(self) -> None:
        """By due, then by id; at most the quota; nothing with due > now; the rest by the next claim."""
        dues = (50, 10, 30, 10, 0, 20)
        made = {(START + due, (await self.accept(self.to(due=START + due)))[0] + 1) for due in dues}
        self.now = START + 30
        order = [id for due, id in sorted(made) if due <= self.now]
        self.assertEqual(order[:2], ids(await self.claim(2)))
        self.assertEqual(order[2:], ids(await self.claim(10)))
        self.assertEqual([], await self.claim(10))
        self.now = START + 50
        self.assertEqual(1, len(await self.claim(10)))

    async def test_q06_lanes_and_destinations_are_apart(self) -> None:
        """Each want is served from its own lane, in the order of the wants, each up to its quota."""
        for dest in (DEST, OTHER):
            for lane in (0, 7):
                for number in range(3):
                    await self.accept(self.to(f"{lane}-{number}@example.org", dest, lane))
        wants = [Want(OTHER, 7, 2), Want(DEST, 0, 1), Want(DEST, 5, 9), Want(DEST, 7, 9)]
        found = await self.queue.claim(wants, self.now)
        self.assertEqual([(OTHER, 7)] * 2 + [(DEST, 0)] + [(DEST, 7)] * 3, [(claim.dest, claim.lane) for claim in found])

    async def test_q07_two_claimers_at_once(self) -> None:
        """Asked at the same moment, and twice in one call: disjoint, and together complete."""
        made = [(await self.accept())[0] + 1 for _ in range(40)]
        first, second = await gatherResults(
            [self.queue.claim([Want(DEST, 0, 15), Want(DEST, 0, 5)], self.now), self.queue.claim([Want(DEST, 0, 100)], self.now)]
        )
        self.assertEqual(20, len(first))
        self.assertEqual(made, sorted(ids(first) + ids(second)))

    async def test_q08_claim_after_defer(self) -> None:
        """Not before it is due, exactly at due, with the attempt counted and the reason at hand."""
        (claim,) = await self.taken()
        self.assertEqual([True], await self.defer(claim, after=300))
        self.now += 299
        self.assertEqual([], await self.claim())
        self.now += 1
        (again,) = await self.claim()
        self.assertEqual((claim.id, 1, self.now, str(BUSY)), (again.id, again.attempts, again.due, again.last_reply))

    async def test_q09_clock_steps_back(self) -> None:
        """An hour back: new mail is claimable at once, nothing is lost, nothing is claimed twice."""
        early = [(await self.accept())[0] + 1 for _ in range(4)]
        held = await self.claim(2)
        self.now -= HOUR
        late = (await self.accept())[0] + 1
        self.assertEqual([late], ids(await self.claim()))
        self.now += HOUR
        rest = await self.claim()
        self.assertEqual(early, sorted(ids(held) + ids(rest)))
        self.assertEqual([], await self.claim())

    async def test_q09_no_id_twice_over_a_restart(self) -> None:
        """An hour back and a restart: new ids are above all that are stored."""
        id, _ = await self.accept("a@example.org", "b@example.org")
        self.now -= HOUR
        await self.crash()
        self.assertTrue(self.queue.create_body(1).id > id + 2)

    async def test_q16_given_back(self) -> None:
        """No attempt is counted, the reply is not kept, and it is claimable at once though the lane has moved on."""
        made = [(await self.accept())[0] + 1 for _ in range(6)]
        first = await self.claim(2)
        await self.claim(2)
        self.assertEqual([True], await self.settle(first[:1], Kind.GIVEN_BACK, BUSY))
        again = await self.claim(1)
        self.assertEqual([made[0]], ids(again))
        self.assertEqual((0, first[0].due, None), (again[0].attempts, again[0].due, again[0].last_reply))
        self.assertEqual(made[4:], ids(await self.claim()))

    async def test_q16_given_back_until_later(self) -> None:
        """With a due, it waits until then; taken at insert or claimed alike."""
        claims = await self.taken("a@example.org", "b@example.org")
        await self.settle(claims, Kind.GIVEN_BACK, BUSY, self.now + 60 * SECOND)
        self.assertEqual([], await self.claim())
        self.now += 60 * SECOND
        self.assertEqual([(id, 0) for id in ids(claims)], [(claim.id, claim.attempts) for claim in await self.claim()])

    async def test_q16_many_given_back_at_once(self) -> None:
        """A destination is blocked: all its ready recipients go back in one settlement, and come again in their order."""
        made = [(await self.accept())[0] + 1 for _ in range(300)]
        claims = await self.claim()
        self.assertEqual([True] * 300, await self.settle(claims, Kind.GIVEN_BACK, BUSY))
        self.assertEqual(made, ids(await self.claim()))

    async def test_q16_attempts_over_several_deliveries(self) -> None:
        """Each defer counts one, whoever claimed it."""
        (claim,) = await self.taken()
        for attempts in range(4):
            self.assertEqual(attempts, claim.attempts)
            await self.defer(claim, after=10)
            self.now += 10
            (claim,) = await self.claim()
        await self.crash()
        self.assertEqual([4], [claim.attempts for claim in await self.claim()])

    async def test_q23_lanes(self) -> None:
        """Every (dest, lane) with waiting rows and only those, with the first due; pages never cut a destination."""
        self.assertEqual([], await self.lanes())
        expected = []
        for dest in ("smtp:a/a", "smtp:b/b", "smtp:c/c"):
            for lane in (0, 1, 2, 63):
                for due in (self.now + 5 + lane, self.now + 9):
                    await self.accept(self.to(dest=dest, lane=lane, due=due))
                expected.append((dest, lane, min(self.now + 5 + lane, self.now + 9)))
        await self.taken()
        self.assertEqual(expected, await self.lanes())
        self.assertEqual(expected[4:8], [(lane.dest, lane.lane, lane.due) for lane in await self.queue.lanes("smtp:b/b")])
        self.assertEqual(
            expected[4:8], [(lane.dest, lane.lane, lane.due) for lane in await self.queue.lanes(None, "smtp:a/a", 1)]
        )

    async def test_q23_lanes_follow_the_rows(self) -> None:
        """Claimed rows are not waiting; deferred, failed, given back and held ones where they belong."""
        for number in range(3):
            await self.accept(self.to(due=self.now + number))
        self.now += 1
        first, second = await self.claim()
        self.assertEqual([(DEST, 0, START + 2)], await self.lanes())
        await self.settle([first], Kind.GIVEN_BACK)
        self.assertEqual([(DEST, 0, START)], await self.lanes())
        await self.claim(1)
        await self.defer(second, after=SECOND)
        self.assertEqual([(DEST, 0, START + 2)], await self.lanes())
        await self.settle([first], Kind.FAILED, BUSY)
        self.assertIn((DEST, 0, START + 2), await self.lanes())
        self.assertEqual(["bounce:", DEST], [dest for dest, _, _ in await self.lanes()])
        self.now += HOUR
        for claim in await self.claim():
            await self.settle([claim], Kind.DELIVERED)
        self.assertEqual(["bounce:"], [dest for dest, _, _ in await self.lanes()])
