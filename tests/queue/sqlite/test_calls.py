"""How calls reach the writer: together, in order, and not at all when the queue does not run or nobody waits."""

from __future__ import annotations

from threading import Event
from typing import Any

from twisted.internet.defer import gatherResults

from mta.envelope import Kind, Outcome
from mta.queue.state import Alteration, Move, Selector
from mta.status import MailError
from tests.queue.harness import DEST, OK
from tests.queue.sqlite.case import SqliteCase


class CallsTests(SqliteCase):
    """On a running engine."""

    async def test_not_running(self) -> None:
        """Every method says so, before the start and after the stop."""
        await self.queue.stop()
        for queue in (self.queue, self.make_engine()):
            for call in (
                lambda queue: queue.enqueue([]),
                lambda queue: queue.alter(Selector(to="*"), Alteration.HOLD, 0),
                lambda queue: queue.alter(Selector(), Alteration.HOLD, 0),
                lambda queue: queue.browse(Selector()),
                lambda queue: queue.summary(0),
                lambda queue: queue.refile([Move(1, DEST)], 0),
                lambda queue: queue.overdue(0),
                lambda queue: queue.warn(1, []),
                lambda queue: queue.noted("x"),
                lambda queue: queue.note("x", "y"),
                lambda queue: queue.sweep(0),
                lambda queue: queue.destinations(),
            ):
                error = await self.assertFailure(call(queue), MailError)
                self.assertEqual("4.3.2", error.reply.enhanced)

    async def test_one_batch(self) -> None:
        """All calls of one turn of the reactor are one commit."""
        messages = [await self.new() for _ in range(20)]
        commits: list[None] = []
        commit = self.writer.commit
        self.writer.commit = lambda: commits.append(None) or commit()
        await gatherResults([self.queue.enqueue([message]) for message in messages])
        self.assertEqual(1, len(commits))

    async def test_settlements_wait_for_company(self) -> None:
        """What is settled while nothing else is to be written waits a moment, and goes at once with whatever somebody waits for."""
        claims = [(await self.taken(f"{n}@example.org"))[0] for n in range(2)]
        commits: list[None] = []
        commit = self.writer.commit
        self.writer.commit = lambda: commits.append(None) or commit()
        first = self.queue.settle([Outcome(claims[0], Kind.DELIVERED, OK)])
        message = await self.new()
        await self.queue.enqueue([message])
        self.assertEqual([True], self.successResultOf(first))
        self.assertEqual(1, len(commits))
        self.assertEqual([True], await self.queue.settle([Outcome(claims[1], Kind.DELIVERED, OK)]))  # alone, it goes too
        self.assertEqual(2, len(commits))

    async def test_a_late_sync_launches_nothing(self) -> None:
        """The writer tells that lazy completions are synced, while a settlement waits: it is launched once, and no timer outlives it."""
        claims = await self.taken("a@example.org")
        await self.turn()
        settled = self.queue.settle([Outcome(claims[0], Kind.DELIVERED, OK)])
        launch = self.queue._launch
        self.queue._answer([], [])
        self.assertIs(launch, self.queue._launch)
        self.assertEqual([True], await settled)

    async def test_a_stop_writes_what_has_gathered(self) -> None:
        """A settlement that waits for company, others behind a busy writer: all are recorded before the file is closed."""
        claims = [claim for number in range(3) for claim in await self.taken(f"{number}@example.org")]
        event = self.block()
        await self.turn()
        behind = [self.queue.settle([Outcome(claim, Kind.DELIVERED, OK)]) for claim in claims[:2]]
        message = await self.new("late@example.org")
        accepted = self.queue.enqueue([message], lambda _: True)
        stopped = self.queue.stop()
        event.set()
        await stopped
        self.assertEqual([[True]] * 2, [self.successResultOf(call) for call in behind])
        self.assertEqual([message.id + 1], [claim.id for claim in self.successResultOf(accepted)])
        await self.queue.start()
        (claim, _) = await self.claim()
        alone = self.queue.settle([Outcome(claim, Kind.DELIVERED, OK)])
        await self.queue.stop()
        self.assertEqual([True], self.successResultOf(alone))
        await self.queue.start()
        self.assertEqual(["late@example.org"], [row.address for row in await self.rows()])

    # -- given up

    def block(self) -> Event:
        """The writer does nothing until the event is set."""
        event = Event()
        self.queue._ask(lambda _: event.wait(10))
        return event

    async def stalled(self, wanted: Any, **more: Any) -> tuple[int, Any]:
        """An accept that the writer has not begun, for it waits; the event that lets it go."""
        event = self.block()
        await self.turn()
        message = await self.new("a@example.org", **more)
        return message.id, (event, self.queue.enqueue([message], lambda _: True, wanted))

    async def turn(self) -> None:
        """A turn of the reactor."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        await deferLater(reactor, 0.01)

    async def test_given_up_before_it_is_begun(self) -> None:
        """Nothing is stored, nobody holds a claim: the client's 451 is the truth.  A file is an orphan, for the sweep."""
        for data in (b"small", b"x" * 200_000):
            waits = [True]
            id, (event, accepting) = await self.stalled(lambda waits=waits: waits[0], data=data)
            waits[0] = False
            event.set()
            error = await self.assertFailure(accepting, MailError)
            self.assertEqual(451, error.reply.code)
            await self.assertFailure(self.queue.load(id), MailError)
            self.assertEqual([], await self.rows() + await self.claim())
        self.assertTrue(self.queue._spool.give(id), "the file is the sink's again, which may abort it")
        await self.crash()
        self.assertEqual([], await self.rows())

    async def test_given_up_when_it_was_begun(self) -> None:
        """Asked once, when it is begun: what is written then is stored, and the claims are the caller's."""
        asked: list[bool] = []
        message = await self.new("a@example.org")
        claims = await self.queue.enqueue([message], lambda _: True, lambda: asked.append(True) or len(asked) == 1)
        self.assertEqual([True], asked)
        self.assertEqual([True], await self.queue.settle([Outcome(claim, Kind.DELIVERED, OK) for claim in claims]))

    async def test_neighbours_of_one_that_was_given_up(self) -> None:
        """They are stored, in the same batch; every call is answered."""
        messages = [await self.new(f"u{n}@example.org") for n in range(10)]
        calls = [self.queue.enqueue([message], None, lambda n=n: n % 2 == 0) for n, message in enumerate(messages)]
        for number, call in enumerate(calls):
            if number % 2:
                await self.assertFailure(call, MailError)
            else:
                await call
        self.assertEqual([f"u{n}@example.org" for n in range(0, 10, 2)], [row.address for row in await self.rows()])
        self.assertEqual(0, self.queue._writing)
