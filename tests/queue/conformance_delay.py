"""Conformance: whose sender hears that mail is late, and that it is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Flag, Kind, NewRecipient, Notify
from mta.queue.state import Alteration, Overdue, Selector
from mta.status import MailError
from tests.queue.harness import BUSY, DAY, DEST, HOUR, START, UNKNOWN, QueueHarness, changed, ids

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

    async def timed(self, after: int = HOUR, flags: int = 0, *to: NewRecipient, **more: Any) -> int:
        """A message whose sender has named a time."""
        return (await self.accept(*to, deliver_by=self.now + after, flags=flags, **more))[0]

    async def timed_out(self, **more: Any) -> list[int]:
        return [overdue.message.id for overdue in await self.queue.overdue_by(self.now, **more)]

    async def test_q21_at_its_time(self) -> None:
        """At the time that its sender has named, and not for its age; mode R for its age, and never so; nor what has no time."""
        noticed = await self.timed()
        returned = await self.timed(flags=int(Flag.BY_RETURN))
        plain, _ = await self.accept()
        self.now += HOUR - 1
        self.assertEqual([], await self.timed_out())
        self.now += 1
        (overdue,) = await self.queue.overdue_by(self.now)
        self.assertEqual((await self.queue.load(noticed)).message, overdue.message)
        self.assertEqual([noticed + 1], ids(overdue.claims))
        self.assertEqual((overdue.message.deliver_by, noticed), overdue.place)
        self.now += HOUR
        self.assertEqual([returned, plain], [late.message.id for late in await self.late()])

    async def test_q21_a_time_that_never_comes(self) -> None:
        """A named time beyond the message's own: it would be given up without a word before, so its age counts."""
        never = await self.timed(2 * DAY, lifetime=DAY)
        at_the_end = await self.timed(DAY, lifetime=DAY)
        await self.timed(DAY - 1, lifetime=DAY)
        self.now += 2 * HOUR
        self.assertEqual([never, at_the_end], [late.message.id for late in await self.late()])

    async def test_q21_at_its_time_once(self) -> None:
        """Warned once, over a crash; who wants no word, what is held and the null sender are not found; what waits on is."""
        told = await self.timed()
        await self.timed(HOUR, 0, self.told("never@example.org", int(Notify.NEVER)))
        await self.timed(sender="")
        held = await self.timed(hold="looked at")
        await self.timed(flags=int(Flag.DELAY_WARNED))
        self.now += 2 * HOUR
        self.assertEqual([told], await self.timed_out())
        self.assertIs(True, await self.queue.warn(told, []))
        await self.queue.alter(Selector(message=held), Alteration.RELEASE, self.now)
        self.assertEqual([held], await self.timed_out())
        await self.crash()
        self.assertEqual([held], await self.timed_out())

    async def test_q21_at_its_time_in_bites(self) -> None:
        """In the order of the times, those of one moment by their ids, from a place on; nobody is passed over."""
        later = [await self.timed(HOUR + 5) for _ in range(3)]
        first = [await self.timed(HOUR) for _ in range(4)]
        await self.timed(3 * HOUR)
        self.now += 2 * HOUR
        found: list[Overdue] = []
        while bite := await self.queue.overdue_by(self.now, found[-1].place if found else (0, 0), 2):
            self.assertTrue(len(bite) <= 2)
            found += bite
        self.assertEqual(first + later, [overdue.message.id for overdue in found])

    async def test_q20_given_back_at_its_time(self) -> None:
        """Mode R ends at its time, if it waits; N does not; what is held or in flight then, when it waits again."""
        by_return = int(Flag.BY_RETURN)
        waits = await self.timed(flags=by_return, lifetime=HOUR)
        held = await self.timed(flags=by_return, lifetime=HOUR, hold="looked at")
        (flying,) = await self.taken(flags=by_return, deliver_by=self.now + HOUR, lifetime=HOUR)
        await self.timed()
        self.now += HOUR - 1
        self.assertEqual(0, (await self.queue.sweep(self.now)).expired)
        self.now += 1
        self.assertEqual(1, (await self.queue.sweep(self.now)).expired)
        self.assertEqual([waits + 1], ids(await self.rows(dest=BOUNCE)))
        await self.queue.alter(Selector(message=held), Alteration.RELEASE, self.now)
        await self.defer(flying)
        self.assertEqual(2, (await self.queue.sweep(self.now)).expired)
        self.assertEqual(0, (await self.queue.sweep(self.now)).expired)

    async def test_confirmed_is_not_late(self) -> None:
        """Delivered, the report of it owed: nobody is told that it waits."""
        claims = await self.taken(created=START)
        await self.settle(claims, Kind.CONFIRMED)
        self.now += 2 * HOUR
        self.assertEqual([BOUNCE], [row.dest for row in await self.rows()])
        self.assertEqual([], await self.late())
