"""Conformance: whose sender hears that mail is late, and that it is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Flag, Kind, NewRecipient, Notify
from mta.queue.state import Alteration, Overdue, Selector
from mta.status import MailError
from tests.queue.harness import BUSY, DEST, HOUR, START, UNKNOWN, QueueHarness, changed, ids

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness


class DelayRows(Rows):
    """Row 21."""

    async def late(self, **more: Any) -> list[Overdue]:
        """What has waited for an hour."""
        return await self.queue.overdue(self.now - HOUR, **more)

    def told(self, address: str, notify: int) -> NewRecipient:
        return NewRecipient(address, notify=notify, dest=DEST, due=self.now)

    async def test_q21_overdue(self) -> None:
        """Older than the moment, not at it; with the envelope and the claims of those who wait, and why."""
        (claim,) = await self.taken("a@example.org", flags=1, envid="e1")
        await self.defer(claim)
        self.now += HOUR
        self.assertEqual([], await self.late())
        self.now += 1
        (overdue,) = await self.late()
        self.assertEqual((await self.queue.load(claim.message)).message, overdue.message)
        (found,) = overdue.claims
        self.assertEqual(
            (claim.id, "a@example.org", 1, str(BUSY), DEST),
            (found.id, found.address, found.attempts, found.last_reply, found.dest),
        )

    async def test_q21_only_who_wants_to_hear(self) -> None:
        """Nothing said, or DELAY; never NEVER, nor SUCCESS and FAILURE alone; never the null sender."""
        notify = (0, Notify.DELAY, Notify.DELAY | Notify.FAILURE, Notify.NEVER, Notify.FAILURE, Notify.SUCCESS | Notify.FAILURE)
        id, _ = await self.accept(*[self.told(f"{n}@example.org", int(wish)) for n, wish in enumerate(notify)])
        await self.accept(self.told("never@example.org", int(Notify.NEVER)))
        await self.accept(sender="")
        self.now += 2 * HOUR
        self.assertEqual([(id, [id + 1, id + 2, id + 3])], [(o.message.id, ids(o.claims)) for o in await self.late()])

    async def test_q21_only_what_waits(self) -> None:
        """Not held, not failed, not gone."""
        claims = await self.taken(*[f"{name}@example.org" for name in "abcd"])
        await self.settle(claims[:1], Kind.DELIVERED)
        await self.settle(claims[1:2], Kind.FAILED, UNKNOWN)
        await self.defer(*claims[2:])
        await self.queue.alter(Selector(to="c@*"), Alteration.HOLD, self.now)
        self.now += 2 * HOUR
        self.assertEqual([[claims[3].id]], [ids(overdue.claims) for overdue in await self.late()])
        await self.queue.alter(Selector(to="d@*"), Alteration.HOLD, self.now)
        self.assertEqual([], await self.late())

    async def test_q21_in_bites(self) -> None:
        """In the order of ids, from a place on, so many at once."""
        made = [(await self.accept())[0] for _ in range(7)]
        self.now += 2 * HOUR
        await self.accept()
        found: list[int] = []
        while bite := await self.late(after=found[-1] if found else 0, limit=3):
            self.assertTrue(len(bite) <= 3)
            found += [overdue.message.id for overdue in bite]
        self.assertEqual(made, found)

    async def test_q21_warned_once(self) -> None:
        """The mark and the warning are one transaction, and stay over a crash; a second warning is refused and not stored."""
        id, _ = await self.accept()
        self.now += 2 * HOUR
        warning = await self.new("sender@example.com", sender="", source="dsn", data=b"w" * 200_000)
        self.assertIs(True, await self.queue.warn(id, [warning]))
        await self.crash()
        self.assertEqual([], await self.late())
        again = await self.new("sender@example.com", sender="", source="dsn", data=b"w" * 200_000)
        self.assertIs(False, await self.queue.warn(id, [again]))
        self.assertIs(False, await self.queue.warn(id + 1, []))
        self.assertEqual([id + 1, warning.id + 1], ids(await self.rows()))
        self.assertEqual(Flag.DELAY_WARNED, (await self.queue.load(id)).message.flags)
        self.assertEqual(b"w" * 200_000, await self.read(warning.id))
        self.assertEqual([id + 1, warning.id + 1], ids(await self.claim()))

    async def test_q21_warning_that_cannot_be_stored(self) -> None:
        """An error in the warning: no mark either, it is late as before; without a warning the mark alone is kept."""
        id, _ = await self.accept()
        other, _ = await self.accept(sender="")
        self.now += 2 * HOUR
        bad = changed(await self.new("sender@example.com", sender=""), id=other)
        await self.assertFailure(self.queue.warn(id, [bad]), MailError)
        self.assertEqual([id], [overdue.message.id for overdue in await self.late()])
        self.assertIs(True, await self.queue.warn(id, []))
        self.assertEqual([], await self.late())

    async def test_confirmed_is_not_late(self) -> None:
        """Delivered, the report of it owed: nobody is told that it waits."""
        claims = await self.taken(created=START)
        await self.settle(claims, Kind.CONFIRMED)
        self.now += 2 * HOUR
        self.assertEqual([BOUNCE], [row.dest for row in await self.rows()])
        self.assertEqual([], await self.late())
