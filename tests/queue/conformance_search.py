"""Conformance: what people look for and what is done with what was found: patterns, pages, sums, moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Kind
from mta.queue.state import Alteration, DestSummary, Move, Selector, State
from tests.queue.harness import BUSY, DAY, DEST, HOUR, OTHER, SECOND, START, UNKNOWN, QueueHarness, ids

if TYPE_CHECKING:

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness


class SearchRows(Rows):
    """Selectors in full, summary, refile; the rest of rows 17 to 19."""

    async def found(self, **selector: Any) -> list[str]:
        """The addresses, asked for in pages of three."""
        rows: list[Any] = []
        while page := await self.queue.browse(Selector(**selector), rows[-1].id if rows else 0, 3):
            rows += page
        return [row.address for row in rows]

    async def some(self) -> None:
        """Mail of three senders, the second an hour younger."""
        await self.accept("a1@example.org", self.to("B2@Example.NET", OTHER), sender="Ann@example.com", account="ann")
        self.now += HOUR
        await self.accept("c[3]@example.org", "d4@example.org", sender="bob@example.com", account="Ann")
        await self.accept("e5@example.org", sender="")

    async def test_browse_by_patterns(self) -> None:
        """As in a shell, whatever the case; brackets are sets, one that is not closed is itself."""
        await self.some()
        for pattern, expected in (
            ("*@example.net", ["B2@Example.NET"]),
            ("A1@*", ["a1@example.org"]),
            ("[a-b]?@*", ["a1@example.org", "B2@Example.NET"]),
            ("[!a-c]*", ["d4@example.org", "e5@example.org"]),
            ("c[[]3]@*", ["c[3]@example.org"]),
            ("c[3*", ["c[3]@example.org"]),
            ("d4@example.org", ["d4@example.org"]),
            ("", []),
        ):
            self.assertEqual(expected, await self.found(to=pattern), pattern)
        self.assertEqual(["c[3]@example.org", "d4@example.org"], await self.found(sender="BOB@*"))
        self.assertEqual(["e5@example.org"], await self.found(sender=""))

    async def test_browse_by_age_and_account(self) -> None:
        """Begun earlier than a moment; an account as it is written; all conditions together."""
        await self.some()
        self.assertEqual(["a1@example.org", "B2@Example.NET"], await self.found(before=START + 1))
        self.assertEqual([], await self.found(before=START))
        self.assertEqual(["a1@example.org", "B2@Example.NET"], await self.found(account="ann"))
        self.assertEqual(["B2@Example.NET"], await self.found(account="ann", dest=OTHER, before=START + 1, sender="*"))
        self.assertEqual([], await self.found(account="ann", to="c*"))

    async def test_browse_shows_all(self) -> None:
        """When it was tried last, where it was going when it failed, its lane, account, end and flags."""
        claims = await self.taken(self.to("a@example.org", lane=7), account="ann", flags=5, lifetime=DAY)
        self.now += SECOND
        await self.settle(claims, Kind.FAILED, UNKNOWN)
        row = await self.row(claims[0].id)
        self.assertEqual(
            (START + SECOND, DEST, 7, "ann", START + DAY, 5, BOUNCE),
            (row.last_try, row.failed_dest, row.lane, row.account, row.expires, row.flags, row.dest),
        )

    async def test_q19_alter_by_pattern(self) -> None:
        """In bites that go on where the last one ended, or begin anew: every match, and nothing else; twice is harmless."""
        for number in range(40):
            await self.accept(
                f"u{number}@example.org", self.to(f"x{number}@example.net", OTHER), sender=f"s{number % 2}@example.com"
            )
        for goes_on in (True, False):
            for action in (Alteration.HOLD, Alteration.RELEASE):
                total, after = await self.queue.alter(Selector(to="U*", sender="S1@*"), action, self.now, 7)
                while after:
                    count, after = await self.queue.alter(
                        Selector(to="U*", sender="S1@*"), action, self.now, 7, after if goes_on else 0
                    )
                    self.assertTrue(count <= 7)
                    total += count
                self.assertEqual(20, total)
                held = await self.found(state=State.HELD)
                self.assertEqual([f"u{n}@example.org" for n in range(1, 40, 2)] if action is Alteration.HOLD else [], held)
        self.assertEqual((0, 0), await self.queue.alter(Selector(to="U*"), Alteration.RELEASE, self.now))
        self.assertEqual((40, 0), await self.queue.alter(Selector(sender="*", dest=OTHER), Alteration.REMOVE, self.now))
        self.assertEqual(40, len(await self.rows()))

    async def test_q18_remove_in_flight_by_pattern(self) -> None:
        """What is in flight goes when it is settled; a retry by pattern leaves it alone."""
        claims = await self.taken("a@example.org", "b@example.org")
        self.assertEqual((0, 0), await self.queue.alter(Selector(to="a@*"), Alteration.RETRY, self.now))
        self.assertEqual((1, 0), await self.queue.alter(Selector(to="a@*"), Alteration.REMOVE, self.now))
        self.assertEqual((0, 0), await self.queue.alter(Selector(to="a@*"), Alteration.REMOVE, self.now))
        await self.defer(*claims)
        self.assertEqual(["b@example.org"], await self.found())
        self.assertEqual((1, 0), await self.queue.alter(Selector(sender="*"), Alteration.RETRY, self.now))
        self.assertEqual([claims[1].id], ids(await self.claim()))

    # -- sums

    async def test_summary(self) -> None:
        """Biggest first: waiting, due, held, taken, the oldest, and every recipient in the column of its age."""
        await self.accept(*[self.to(f"o{n}@example.net", OTHER, n) for n in range(2)])
        self.now += DAY
        await self.accept("a@example.org", self.to("b@example.org", due=self.now + HOUR))
        held, _ = await self.accept("c@example.org")
        await self.queue.alter(Selector(message=held), Alteration.HOLD, self.now)
        self.now += HOUR - SECOND
        await self.taken("d@example.org")
        self.assertEqual(
            [
                DestSummary(DEST, 2, 1, 1, 1, START + DAY, (1, 3, 0, 0)),
                DestSummary(OTHER, 2, 2, 0, 0, START, (0, 0, 0, 2)),
            ],
            await self.queue.summary(self.now),
        )
        self.assertEqual([DEST], [found.name for found in await self.queue.summary(self.now, 1)])

    async def test_summary_of_nothing(self) -> None:
        """An empty queue has no destinations; equal ones stand in the order of their names."""
        self.assertEqual([], await self.queue.summary(self.now))
        await self.accept("a@example.org", self.to("b@example.net", OTHER))
        self.assertEqual([OTHER, DEST], [found.name for found in await self.queue.summary(self.now)])

    # -- moves

    async def test_refile(self) -> None:
        """Waiting ones are due now elsewhere and cannot be claimed where they were; held ones stay held; over a crash."""
        id, _ = await self.accept(self.to("a@example.org", due=self.now + HOUR), "b@example.org", "c@example.org")
        await self.queue.alter(Selector(to="b@*"), Alteration.HOLD, self.now)
        self.now += SECOND
        moves = [Move(id + 1, OTHER), Move(id + 2, OTHER), Move(id + 3, DEST), Move(id + 99, OTHER)]
        self.assertEqual(2, await self.queue.refile(moves, self.now))
        await self.crash()
        self.assertEqual([(id + 1, self.now)], [(claim.id, claim.due) for claim in await self.claim(dest=OTHER)])
        self.assertEqual([id + 3], ids(await self.claim()))
        row = await self.row(id + 2)
        self.assertEqual((OTHER, State.HELD), (row.dest, row.state))

    async def test_refile_for_later(self) -> None:
        """What is not to be delivered before its time (RFC 4865) keeps that elsewhere."""
        due = self.now + HOUR
        id, _ = await self.accept(self.to("a@example.org", due=due))
        self.assertEqual(1, await self.queue.refile([Move(id + 1, OTHER, due=due)], self.now))
        self.assertEqual([], await self.claim(dest=OTHER))
        self.now = due
        self.assertEqual([(id + 1, due)], [(claim.id, claim.due) for claim in await self.claim(dest=OTHER)])

    async def test_refile_to_the_bounce(self) -> None:
        """With the reason and where it was going; attempts begin anew; what is owed there does not leave it."""
        (claim,) = await self.taken()
        await self.defer(claim)
        self.assertEqual(1, await self.queue.refile([Move(claim.id, BOUNCE, "550 5.1.2 no such domain")], self.now))
        row = await self.row(claim.id)
        self.assertEqual((0, 550, DEST), (row.attempts, row.last_code, row.failed_dest))
        (owed,) = await self.claim(dest=BOUNCE)
        self.assertEqual(("550 5.1.2 no such domain", DEST), (owed.last_reply, owed.failed_dest))
        await self.settle([owed], Kind.GIVEN_BACK, BUSY)
        self.assertEqual(0, await self.queue.refile([Move(claim.id, OTHER)], self.now))

    async def test_refile_leaves_what_is_in_flight(self) -> None:
        """Taken at insert or claimed: it stays where it is and is settled there."""
        await self.accept()
        claims = await self.claim() + await self.taken()
        self.assertEqual(0, await self.queue.refile([Move(claim.id, OTHER) for claim in claims], self.now))
        self.assertEqual([True] * 2, await self.defer(*claims, after=0))
        self.assertEqual(2, await self.queue.refile([Move(claim.id, OTHER) for claim in claims], self.now))
        self.assertEqual(ids(claims), ids(await self.claim(dest=OTHER)))

    async def test_refile_too_many(self) -> None:
        """501 at once are refused, none is moved."""
        id, _ = await self.accept(*[f"u{n}@example.org" for n in range(501)])
        moves = [Move(id + 1 + n, OTHER) for n in range(501)]
        await self.assertFailure(self.queue.refile(moves, self.now), ValueError)
        self.assertEqual(500, await self.queue.refile(moves[1:], self.now))
        self.assertEqual([id + 1], ids(await self.rows(dest=DEST)))

    async def test_notes(self) -> None:
        """A word is kept with the mail, over a crash, until there is another one."""
        self.assertEqual("", await self.queue.noted("routes"))
        for value in ("abc", "def"):
            await self.queue.note("routes", value)
        await self.crash()
        self.assertEqual(("def", ""), (await self.queue.noted("routes"), await self.queue.noted("other")))
