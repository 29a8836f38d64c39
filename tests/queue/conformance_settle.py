"""Conformance: what becomes of a claim, and that it becomes so once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.queue.state import State
from mta.status import MailError, Reply
from tests.queue.harness import BUSY, OK, SECOND, UNKNOWN, QueueHarness, changed, ids

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness


class SettleRows(Rows):
    """Rows 10 to 15."""

    async def test_q10_last_recipient_removes_the_message(self) -> None:
        """Message and body stay while a recipient is left, and go with the last one; small and large body."""
        for size in (10, 100_000, 300_000):
            claims = await self.taken("a@example.org", "b@example.org", "c@example.org", data=b"x" * size)
            id = claims[0].message
            for claim in claims[:2]:
                self.assertEqual([True], await self.settle([claim], Kind.DELIVERED))
                self.assertEqual(size, len(await self.read(id)))
                self.assertEqual(3, (await self.queue.load(id)).message.nrcpt)
            self.assertEqual([True], await self.settle(claims[2:], Kind.DELIVERED))
            await self.assertFailure(self.queue.load(id), MailError)
            await self.assertFailure(self.queue.open_body(id).read(), MailError)
            self.assertEqual([], await self.rows())

    async def test_q10_all_at_once(self) -> None:
        """All recipients of several messages in one settlement."""
        claims = [claim for number in (1, 2, 5) for claim in await self.taken(*["a@example.org"] * number)]
        await self.accept("other@example.org")
        self.assertEqual([True] * 8, await self.settle(claims, Kind.DELIVERED))
        self.assertEqual(["other@example.org"], [row.address for row in await self.rows()])
        for message in {claim.message for claim in claims}:
            await self.assertFailure(self.queue.load(message), MailError)

    async def test_q10_claimed_from_the_store(self) -> None:
        """The same for recipients that were waiting and claimed, after a restart."""
        id, _ = await self.accept("a@example.org", "b@example.org", data=b"x" * 300_000)
        await self.crash()
        one, two = await self.claim()
        await self.settle([one], Kind.DELIVERED)
        self.assertEqual(300_000, len(await self.read(id)))
        await self.settle([two], Kind.DELIVERED)
        await self.assertFailure(self.queue.load(id), MailError)
        await self.crash()
        self.assertEqual([], await self.rows())

    async def test_q10_settled_stays_settled(self) -> None:
        """After a crash nothing that was settled comes back."""
        one, two = await self.taken("a@example.org", "b@example.org")
        await self.settle([one], Kind.DELIVERED)
        await self.crash()
        self.assertEqual([two.id], ids(await self.claim()))

    async def test_q11_two_recipients_at_the_same_moment(self) -> None:
        """Settled in two calls without waiting between: both true, the message is gone."""
        for _ in range(5):
            one, two = await self.taken("a@example.org", "b@example.org")
            results = await gatherResults([self.settle_now(one), self.settle_now(two)])
            self.assertEqual([[True], [True]], results)
            await self.assertFailure(self.queue.load(one.message), MailError)

    def settle_now(self, claim: Claim, kind: Kind = Kind.DELIVERED, reply: Reply = OK):
        return self.queue.settle([Outcome(claim, kind, reply, due=self.now)])

    async def test_q12_lost_claims(self) -> None:
        """A claim settled before, never made, or of before a crash: False, and nothing changes."""
        one, two = await self.taken("a@example.org", "b@example.org")
        self.assertEqual([True], await self.defer(one))
        before = await self.rows()
        self.assertEqual([False], await self.settle([one], Kind.DELIVERED))
        self.assertEqual([False], await self.settle([one], Kind.FAILED, UNKNOWN))
        self.assertEqual([False], await self.settle([attrs.evolve(one, id=one.id + 77)], Kind.DELIVERED))
        self.assertEqual(before, await self.rows())
        await self.crash()
        self.assertEqual([False], await self.settle([two], Kind.DELIVERED))
        self.assertEqual(2, len(await self.rows()))

    async def test_q12_the_same_claim_twice(self) -> None:
        """Twice in one call and in two calls at once: the first counts."""
        one, two, three = await self.taken("a@example.org", "b@example.org", "c@example.org")
        self.assertEqual([True, False], await self.settle([one, one], Kind.DELIVERED))
        results = await gatherResults([self.settle_now(two), self.settle_now(two, Kind.DEFERRED, BUSY)])
        self.assertEqual([[True], [False]], results)
        self.assertEqual([three.id], ids(await self.rows()))

    async def test_q12_mixed_outcomes(self) -> None:
        """Each claim of a settlement has its own outcome."""
        claims = await self.taken(*[f"{name}@example.org" for name in "abcd"])
        kinds = (Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED, Kind.GIVEN_BACK)
        outcomes = [
            Outcome(c, kind, BUSY, due=self.now + 9 if kind is Kind.DEFERRED else None)
            for c, kind in zip(claims, kinds, strict=True)
        ]
        self.assertEqual([True] * 4, await self.queue.settle(outcomes))
        found = {row.address[0]: (row.dest == BOUNCE, row.attempts, row.due - self.now) for row in await self.rows()}
        self.assertEqual({"b": (False, 1, 9), "c": (True, 0, 2000), "d": (False, 0, 0)}, found)

    async def test_q13_reply_is_stored(self) -> None:
        """Code and text of the deciding reply, on one line; also of a reply of many lines."""
        (claim,) = await self.taken()
        await self.defer(claim, reply=Reply(452, "4.2.2", "mailbox full\ncome back"))
        row = await self.row(claim.id)
        self.assertEqual((452, "452 4.2.2 mailbox full come back", State.WAITING), (row.last_code, row.last_reply, row.state))

    async def test_q13_hostile_replies(self) -> None:
        """Longer than 400 bytes, with NUL, with bytes that were no UTF-8: stored, cut, and clean text."""
        for text in ("x" * 1000, "é" * 300, "a\0b", "bad \udcff bytes \ud800", "€" * 133 + "ab"):
            (claim,) = await self.taken()
            self.assertEqual([True], await self.defer(claim, reply=Reply(450, "", text)))
            stored = (await self.row(claim.id)).last_reply
            assert stored is not None
            self.assertTrue(len(stored.encode()) <= 400 and "\0" not in stored, repr(stored))
            self.assertTrue(stored.startswith("450 " + text[0]), repr(stored))

    async def test_q14_failed_moves_to_bounce(self) -> None:
        """Due two seconds later, so that the recipients that fail one after the other are reported together."""
        one, two = await self.taken("a@example.org", "b@example.org")
        await self.settle([one], Kind.FAILED, UNKNOWN)
        self.now += 500
        await self.settle([two], Kind.FAILED, UNKNOWN)
        self.now += 1499
        self.assertEqual([], await self.claim(dest=BOUNCE))
        self.now += 501
        found = await self.claim(dest=BOUNCE)
        self.assertEqual([(one.id, str(UNKNOWN)), (two.id, str(UNKNOWN))], [(claim.id, claim.last_reply) for claim in found])

    async def test_q14_who_said_so(self) -> None:
        """The mail server whose reply is kept is kept beside it, and replaced with it."""
        for host in ("mx1.example.org", None, "mx2.example.org"):
            (claim,) = await self.taken()
            for kind, dest in ((Kind.DEFERRED, claim.dest), (Kind.FAILED, BOUNCE)):
                await self.queue.settle([Outcome(claim, kind, BUSY, due=self.now, host=host)])
                (claim,) = await self.claim(dest=dest)
                self.assertEqual(host, claim.last_host)
            await self.settle([claim], Kind.DELIVERED)

    async def test_q14_report_and_removal_are_one(self) -> None:
        """The report is stored by the settlement that removes what it reports, also over a crash."""
        failed = await self.bounced()
        report = await self.new("sender@example.com", sender="", source="dsn")
        self.assertEqual([True], await self.settle([failed], Kind.DELIVERED, spawn=[report]))
        await self.crash()
        self.assertEqual([report.id + 1], ids(await self.rows()))
        self.assertEqual("dsn", (await self.queue.load(report.id)).message.source)
        self.assertEqual([report.id + 1], ids(await self.claim()))

    async def test_q14_report_refused_removes_nothing(self) -> None:
        """An error in the spawned message: the whole settlement fails and the claim is still ours."""
        failed = await self.bounced()
        other, _ = await self.accept("x@example.org")
        report = changed(await self.new("sender@example.com", sender=""), id=other)
        neighbour = await self.taken()
        bad, good = self.settle([failed], Kind.DELIVERED, spawn=[report]), self.settle(neighbour, Kind.DELIVERED)
        outcome = gatherResults([self.wrapped(good), self.assertFailure(self.wrapped(bad), MailError)])
        self.assertEqual([True], (await outcome)[0])
        self.assertEqual([failed.id, other + 1], sorted(ids(await self.rows())))
        self.assertEqual([True], await self.settle([failed], Kind.DELIVERED))

    def wrapped(self, coroutine):
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(coroutine)

    async def bounced(self, sender: str = "sender@example.com") -> Claim:
        """A claim at the bounce destination."""
        claims = await self.taken(sender=sender)
        await self.settle(claims, Kind.FAILED, UNKNOWN)
        self.now += 2 * SECOND
        (failed,) = await self.claim(dest=BOUNCE)
        return failed

    async def test_q15_null_sender(self) -> None:
        """A failed message of the null reverse-path is told by its envelope; settled without a report it is gone."""
        failed = await self.bounced(sender="")
        self.assertEqual("", (await self.queue.load(failed.message)).message.sender)
        self.assertEqual([True], await self.settle([failed], Kind.DELIVERED))
        self.assertEqual([], await self.rows())

    async def test_q15_bounce_that_fails_for_now(self) -> None:
        """The bounce service defers: the row stays at the bounce destination."""
        failed = await self.bounced()
        await self.defer(failed, after=60 * SECOND)
        self.now += 60 * SECOND
        (again,) = await self.claim(dest=BOUNCE)
        self.assertEqual((failed.id, 1), (again.id, again.attempts))
        self.assertEqual(str(UNKNOWN), again.last_reply)  # what the sender is told is why the mail failed, not the report

    async def test_q14_confirmed_moves_to_bounce(self) -> None:
        """Delivered, and the sender is owed a report: filed like a failure, with the positive reply and whence it came."""
        (claim,) = await self.taken(lifetime=60 * SECOND)
        await self.defer(claim, after=SECOND)
        self.now += SECOND
        (claim,) = await self.claim()
        self.assertEqual([True], await self.settle([claim], Kind.CONFIRMED))
        row = await self.row(claim.id)
        self.assertEqual(
            (BOUNCE, claim.dest, 0, 250, str(OK), self.now + 2000),
            (row.dest, row.failed_dest, row.attempts, row.last_code, row.last_reply, row.due),
        )
        await self.crash()
        self.now += 3600 * SECOND
        self.assertEqual(0, (await self.queue.sweep(self.now)).expired)
        (owed,) = await self.claim(dest=BOUNCE)
        self.assertEqual((claim.id, str(OK), claim.dest, claim.orcpt), (owed.id, owed.last_reply, owed.failed_dest, owed.orcpt))
        await self.defer(owed, after=SECOND)  # the report had to wait: what it tells is kept
        self.now += SECOND
        (owed,) = await self.claim(dest=BOUNCE)
        self.assertEqual((str(OK), claim.dest, 1), (owed.last_reply, owed.failed_dest, owed.attempts))
        self.assertEqual([True], await self.settle([owed], Kind.DELIVERED))
        self.assertEqual([], await self.rows())

    async def test_q14_confirmed_at_its_due(self) -> None:
        """With a due, then; beside a failed sibling, each with its own reply."""
        one, two = await self.taken("a@example.org", "b@example.org")
        outcomes = [Outcome(one, Kind.CONFIRMED, OK, due=self.now + 5), Outcome(two, Kind.FAILED, UNKNOWN, due=self.now + 5)]
        self.assertEqual([True, True], await self.queue.settle(outcomes))
        self.now += 5
        self.assertEqual([str(OK), str(UNKNOWN)], [claim.last_reply for claim in await self.claim(dest=BOUNCE)])
