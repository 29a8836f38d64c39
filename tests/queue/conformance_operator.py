"""Conformance: what operators and the clock do to the queue: hold, release, retry, remove, block, expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Flag, Kind
from mta.queue.retry import NEVER_TRIED
from mta.queue.state import Alteration, DestState, Selector, State
from mta.status import MailError
from tests.queue.harness import BUSY, DAY, DEST, HOUR, OTHER, SECOND, START, UNKNOWN, QueueHarness, ids

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness


class OperatorRows(Rows):
    """Rows 17 to 20 and 22."""

    async def alter(self, action: Alteration, limit: int = 500, **selector) -> int:
        """All bites: how many recipients."""
        total, more = 0, True
        while more:
            count, more = await self.queue.alter(Selector(**selector), action, self.now, limit)
            self.assertTrue(count <= limit and (count or not more))
            total += count
        return total

    async def sweep(self) -> int:
        """Whole rounds of bites: how many recipients have expired."""
        report = await self.queue.sweep(self.now)
        expired = report.expired
        while report.more:
            report = await self.queue.sweep(self.now)
            expired += report.expired
        return expired

    # -- hold

    async def test_q17_hold_while_waiting(self) -> None:
        """Held rows are not claimable, not at any time, also over a crash; released they are due now."""
        id, _ = await self.accept(self.to(due=self.now + HOUR))
        self.assertEqual(1, await self.alter(Alteration.HOLD, message=id))
        self.assertEqual(0, await self.alter(Alteration.HOLD, message=id))
        await self.crash()
        self.now += DAY
        self.assertEqual([], await self.claim() + await self.lanes())
        self.assertEqual(State.HELD, (await self.row(id + 1)).state)
        self.assertEqual(1, await self.alter(Alteration.RELEASE, message=id))
        self.assertEqual([(id + 1, self.now)], [(claim.id, claim.due) for claim in await self.claim()])

    async def test_released_before_its_time(self) -> None:
        """What its sender has put off (RFC 4865) goes at its time; RETRY, and what was tried, goes now, and so does what is past it."""
        put_off, when = {"flags": int(Flag.PUT_OFF)}, self.now + HOUR
        rule, _ = await self.accept(self.to(due=when), hold="rule r", **put_off)
        waits, _ = await self.accept(self.to(due=when), **put_off)
        retried, _ = await self.accept(self.to(due=when), **put_off)
        (tried,) = await self.taken(**put_off)
        await self.defer(tried, after=HOUR)
        for id in (waits, tried.message):
            await self.alter(Alteration.HOLD, message=id)
        for id in (rule, waits, tried.message):
            self.assertEqual(1, await self.alter(Alteration.RELEASE, message=id))
        self.assertEqual(1, await self.alter(Alteration.RETRY, message=retried))
        await self.crash()
        dues = [(await self.row(id + 1)).due for id in (rule, waits, tried.message, retried)]
        self.assertEqual([when, when, self.now, self.now], dues)
        self.assertEqual({tried.id, retried + 1}, {*ids(await self.claim())})
        await self.alter(Alteration.HOLD, message=rule)
        self.now = when + HOUR
        await self.alter(Alteration.RELEASE, message=rule)
        self.assertEqual(self.now, (await self.row(rule + 1)).due)

    async def test_hold_at_enqueue(self) -> None:
        """A message that comes with a reason to hold it is never on its way, nor over a crash, until it is released."""
        asked: list[str] = []
        message = await self.new("a@example.org", self.to("b@example.net", OTHER), hold="rule r")
        beside = await self.new("c@example.org")
        claims = await self.queue.enqueue([message, beside], lambda to: asked.append(to.address) or True)
        self.assertEqual((["c@example.org"], [beside.id + 1]), (asked, ids(claims)))
        await self.settle(claims, Kind.DELIVERED)
        await self.crash()
        self.now += HOUR
        self.assertEqual([], await self.claim() + await self.lanes())
        self.assertEqual([State.HELD] * 2, [(await self.row(message.id + number)).state for number in (1, 2)])
        self.assertEqual(2, await self.alter(Alteration.RELEASE, message=message.id))
        self.assertEqual([message.id + 1], ids(await self.claim()))

    async def test_q17_hold_in_flight_then_delivered(self) -> None:
        """It goes: the other side has it."""
        for make in (self.taken, self.waiting):
            claims = await make()
            self.assertEqual(1, await self.alter(Alteration.HOLD, message=claims[0].message))
            self.assertEqual([True], await self.settle(claims, Kind.DELIVERED))
            self.assertEqual([], await self.rows())

    async def test_q17_hold_in_flight_then_not_delivered(self) -> None:
        """It stays held, with the reason; released it is due now, once."""
        for kind in (Kind.DEFERRED, Kind.GIVEN_BACK):
            for make in (self.taken, self.waiting):
                claims = await make()
                await self.alter(Alteration.HOLD, message=claims[0].message)
                await self.settle(claims, kind, BUSY, self.now + SECOND)
                self.now += DAY
                self.assertEqual([], await self.claim())
                self.assertEqual(1, await self.alter(Alteration.RELEASE, dest=DEST))
                self.assertEqual(ids(claims), ids(again := await self.claim()))
                await self.settle(again, Kind.DELIVERED)

    async def test_q17_released_in_flight(self) -> None:
        """Held and released while in flight: nobody else gets it before it is settled."""
        for make in (self.taken, self.waiting):
            claims = await make()
            await self.alter(Alteration.HOLD, message=claims[0].message)
            await self.alter(Alteration.RELEASE, message=claims[0].message)
            self.assertEqual([], await self.claim())
            self.assertEqual([True], await self.defer(*claims, after=SECOND))
            self.now += SECOND
            self.assertEqual(ids(claims), ids(again := await self.claim()))
            await self.settle(again, Kind.DELIVERED)

    async def waiting(self):
        """Claims of a message that was waiting."""
        await self.accept()
        return await self.claim()

    # -- remove and retry

    async def test_q18_remove_while_waiting(self) -> None:
        """Gone at once, message and body with the last recipient; waiting or held."""
        for data in (b"small", b"x" * 200_000):
            id, _ = await self.accept("a@example.org", self.to("b@example.net", OTHER), data=data)
            self.assertEqual(1, await self.alter(Alteration.REMOVE, message=id, dest=OTHER))
            self.assertEqual([id + 1], ids(await self.rows()))
            await self.alter(Alteration.HOLD, message=id)
            self.assertEqual(1, await self.alter(Alteration.REMOVE, message=id))
            self.assertEqual([], await self.rows())
            await self.assertFailure(self.queue.load(id), MailError)

    async def test_q18_remove_in_flight(self) -> None:
        """It takes effect when the delivery ends, however it ends: no retry, no bounce."""
        for kind in (Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED, Kind.GIVEN_BACK):
            for make in (lambda: self.taken(data=b"x" * 200_000), self.waiting):
                claims = await make()
                self.assertEqual(1, await self.alter(Alteration.REMOVE, message=claims[0].message))
                self.assertEqual(0, await self.alter(Alteration.REMOVE))
                await self.queue.load(claims[0].message)
                self.assertEqual([True], await self.settle(claims, kind, UNKNOWN, self.now))
                self.assertEqual([], await self.rows())
                await self.assertFailure(self.queue.load(claims[0].message), MailError)

    async def test_q18_removed_and_settled_is_not_removed_again(self) -> None:
        """A deferred row removed later is simply gone: the mark of a removal in flight does not outlive its claim."""
        (claim,) = await self.taken()
        await self.defer(claim)
        self.assertEqual(1, await self.alter(Alteration.REMOVE))
        self.assertEqual([False], await self.settle([claim], Kind.DELIVERED))

    async def test_retry(self) -> None:
        """Due now, where it was due later; one destination or all; rows in flight and held ones are left alone."""
        later = [
            (await self.accept(self.to(dest=dest, lane=lane, due=self.now + HOUR)))[0] + 1
            for dest in (DEST, OTHER)
            for lane in (0, 3)
        ]
        await self.taken()
        self.assertEqual(2, await self.alter(Alteration.RETRY, dest=OTHER))
        self.assertEqual([later[2]], ids(await self.claim(dest=OTHER)))
        self.assertEqual(2, await self.alter(Alteration.RETRY, limit=1))
        self.assertEqual([later[0]], ids(await self.claim()))
        self.assertEqual(0, await self.alter(Alteration.RETRY))

    async def test_q19_bites(self) -> None:
        """Many rows in bites: each at most the limit, together all, in every direction; selected by state too."""
        for _ in range(7):
            await self.accept(*[self.to(f"u{n}@example.org", (DEST, OTHER)[n % 2], n % 3) for n in range(30)])
        flight = await self.taken("x@example.org", "y@example.org")
        self.assertEqual(107, await self.alter(Alteration.HOLD, 20, dest=DEST))
        self.assertEqual(0, await self.alter(Alteration.REMOVE, 20, dest=DEST, state=State.WAITING))
        self.assertEqual(105, await self.alter(Alteration.HOLD, 20))
        self.assertEqual(212, await self.alter(Alteration.RELEASE, 50))
        self.assertEqual(105, await self.alter(Alteration.REMOVE, 40, dest=OTHER))
        self.assertEqual(107, await self.alter(Alteration.REMOVE, 40, dest=DEST))
        await self.settle(flight, Kind.DEFERRED, BUSY, self.now)
        self.assertEqual([], await self.rows())

    async def test_browse(self) -> None:
        """In the order of ids, page by page, by message, destination and state; with sender, size and age."""
        one, _ = await self.accept("a@example.org", self.to("b@example.net", OTHER))
        two, _ = await self.accept("c@example.org")
        await self.alter(Alteration.HOLD, message=two)
        self.assertEqual([one + 1, one + 2, two + 1], ids(await self.rows()))
        self.assertEqual([one + 2], ids(await self.rows(dest=OTHER)))
        self.assertEqual([two + 1], ids(await self.rows(state=State.HELD)))
        self.assertEqual([one + 1], ids(await self.rows(message=one, dest=DEST)))
        self.assertEqual([one + 2], ids(await self.queue.browse(Selector(), one + 1, 1)))
        row = await self.row(two + 1)
        self.assertEqual(
            ("c@example.org", "sender@example.com", DEST, START, START), (row.address, row.sender, row.dest, row.due, row.created)
        )
        self.assertEqual((two, 0, (await self.queue.load(two)).message.size), (row.message, row.attempts, row.size))

    # -- expiry

    async def test_q20_expiry(self) -> None:
        """Not before its moment, then to the bounce, with the last reason; each message by its own lifetime."""
        (claim,) = await self.taken(lifetime=HOUR)
        await self.defer(claim)
        quiet, _ = await self.accept(self.to(due=self.now + 9 * DAY), lifetime=HOUR)
        await self.accept(self.to(due=self.now + 9 * DAY), lifetime=2 * HOUR)
        self.now += HOUR - 1
        self.assertEqual(0, await self.sweep())
        self.now += 1
        self.assertEqual(2, await self.sweep())
        found = {c.id: c for c in await self.claim(dest=BOUNCE)}
        self.assertEqual({claim.id, quiet + 1}, set(found))
        self.assertEqual(str(BUSY), found[claim.id].last_reply)
        self.assertIn("expired", found[quiet + 1].last_reply or "")
        self.assertEqual(0, await self.sweep())
        self.now += HOUR
        self.assertEqual(1, await self.sweep())

    async def test_q20_not_expired(self) -> None:
        """Held ones never, those in flight not before they are settled, those at the bounce not again."""
        held, _ = await self.accept(lifetime=HOUR)
        await self.alter(Alteration.HOLD, message=held)
        flight = await self.taken(lifetime=HOUR) + await self.waiting()
        failed = await self.taken(lifetime=HOUR)
        await self.settle(failed, Kind.FAILED, UNKNOWN)
        self.now += DAY
        self.assertEqual(0, await self.sweep())
        await self.defer(flight[0])
        self.assertEqual(1, await self.sweep())
        self.assertEqual(State.HELD, (await self.row(held + 1)).state)

    async def test_q20_reason_of_a_blocked_destination(self) -> None:
        """Mail that was never tried because its destination was blocked says so in its bounce."""
        await self.queue.mark(DEST, self.now + DAY, "421 4.4.1 connection refused")
        await self.accept(lifetime=HOUR)
        self.now += HOUR
        await self.sweep()
        self.assertEqual(["421 4.4.1 connection refused"], [claim.last_reply for claim in await self.claim(dest=BOUNCE)])

    async def test_q20_reason_of_a_suspended_destination(self) -> None:
        """Why an operator suspended a destination is his affair: the bounce says that the mail has expired, and no more."""
        for why in ("", "ticket 42: they have not paid"):
            await self.queue.mark(DEST, suspended=True, why=why)
            await self.accept(lifetime=HOUR)
            self.now += HOUR
            await self.sweep()
            self.assertEqual([NEVER_TRIED], [claim.last_reply for claim in await self.claim(dest=BOUNCE)])

    async def test_q20_many(self) -> None:
        """1,200 recipients in bites, none forgotten."""
        for _ in range(12):
            await self.accept(*[f"u{n}@example.org" for n in range(100)], lifetime=HOUR)
        self.now += HOUR
        self.assertEqual(1200, await self.sweep())
        self.assertEqual(1200, len(await self.claim(5000, BOUNCE)))

    # -- destinations

    async def test_q22_block_and_unblock(self) -> None:
        """Failures count, the block only grows, the first failure is remembered over a crash; clear makes it plain."""
        self.assertEqual([], await self.queue.destinations())
        first = await self.queue.mark(DEST, self.now + 300 * SECOND, "421 busy")
        self.assertEqual(DestState(DEST, self.now + 300 * SECOND, "421 busy", 1, START, False, START), first)
        self.now += SECOND
        again = await self.queue.mark(DEST, self.now + 60 * SECOND, "connection refused")
        self.assertEqual(DestState(DEST, START + 300 * SECOND, "connection refused", 2, START, False, self.now), again)
        await self.crash()
        self.assertEqual([again], await self.queue.destinations())
        self.assertEqual(0, (await self.queue.mark(DEST, clear=True)).fails)
        self.assertEqual([], await self.queue.destinations())

    async def test_q22_suspended(self) -> None:
        """An operator's suspension survives a success and a crash, and ends when the operator ends it."""
        await self.queue.mark(DEST, suspended=True, why="maintenance")
        await self.queue.mark(DEST, self.now + SECOND, "421 busy")
        state = await self.queue.mark(DEST, clear=True)
        self.assertEqual((True, 0, 0, None), (state.suspended, state.fails, state.blocked_until, state.first_fail))
        await self.crash()
        self.assertEqual([DEST], [state.name for state in await self.queue.destinations() if state.suspended])
        await self.queue.mark(DEST, suspended=False)
        self.assertEqual([], await self.queue.destinations())

    async def test_q22_messages_are_left_alone(self) -> None:
        """Blocking is a fact about the destination: its messages stay as they are."""
        await self.accept()
        before = await self.rows()
        await self.queue.mark(DEST, self.now + DAY, "421 busy")
        self.assertEqual(before, await self.rows())
