"""q29: random operations on the engine and on the queue in memory, side by side: the same answers and the same rows."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any

import attrs

from mta.envelope import BOUNCE, Claim, Kind, Outcome, Want
from mta.queue.memory import MemoryQueue
from mta.queue.state import Alteration, DestSummary, Move, Row, Selector, State
from tests.queue.harness import BUSY, DEST, HOUR, OK, OTHER, UNKNOWN
from tests.queue.sqlite.case import SqliteCase

PLACES = [(DEST, 0), (DEST, 5), (OTHER, 0), (BOUNCE, 0), (BOUNCE, 5)]
REPLIES = {Kind.DELIVERED: OK, Kind.CONFIRMED: OK, Kind.DEFERRED: BUSY, Kind.FAILED: UNKNOWN, Kind.GIVEN_BACK: BUSY}
STEPS = 250


class ModelTests(SqliteCase):
    """The invariants: pending = rows; nothing settled returns; nobody holds a claim twice."""

    async def test_q29_random_operations(self) -> None:
        """Ten runs of 200 steps."""
        for seed in range(10):
            self.random = Random(seed)
            self.model = MemoryQueue(self.clock)
            await self.model.start()
            self.claims: list[Claim] = []
            self.theirs: dict[int, Claim] = {}  # the model's claims, which speak of expiry in their own words
            for _ in range(STEPS):
                await self.random.choice(self.steps)(self)
            await self.compare(f"seed {seed}")
            await self.check_sound()
            await self.model.stop()
            await self.anew()

    async def anew(self) -> None:
        await self.queue.stop()
        self.directory = Path(self.mktemp())
        self.queue = self.make_engine()
        await self.queue.start()

    async def both(self, call: Any) -> Any:
        """The engine's answer, which is the model's too."""
        ours, theirs = await call(self.queue), await call(self.model)
        self.theirs.update({value.id: value for value in listed(theirs) if isinstance(value, Claim)})
        self.assertEqual([shown(value) for value in listed(theirs)], [shown(value) for value in listed(ours)])
        return ours

    async def enqueue(self) -> None:
        places = [self.random.choice(PLACES[:3]) for _ in range(self.random.choice((1, 1, 2, 5)))]
        to = [
            self.to(f"u{n}@example.org", dest, lane, self.now + self.random.choice((0, 0, 500)))
            for n, (dest, lane) in enumerate(places)
        ]
        sender, account = self.random.choice(("", "Ann@example.com", "bob@example.com")), self.random.choice((None, "ann"))
        lifetime = self.random.choice((HOUR, 100 * HOUR))
        message = await self.new(*to, lifetime=lifetime, sender=sender, account=account)
        admitted = {recipient.address for recipient in to if self.random.random() < 0.5}
        self.claims += await self.both(lambda queue: queue.enqueue([message], lambda recipient: recipient.address in admitted))

    async def claim(self) -> None:
        wants = [Want(dest, lane, self.random.randint(1, 4)) for dest, lane in self.random.sample(PLACES, 3)]
        found = await self.both(lambda queue: queue.claim(wants, self.now))
        self.assertFalse({claim.id for claim in found} & {claim.id for claim in self.claims}, "claimed twice")
        self.claims += found

    async def settle(self) -> None:  # type: ignore[override]
        chosen = self.random.sample(self.claims, min(len(self.claims), self.random.randint(1, 4)))
        self.claims = [claim for claim in self.claims if claim not in chosen]
        outcomes = []
        for claim in chosen:
            kind = self.random.choice(list(Kind))
            due = self.now + 700 if kind is Kind.DEFERRED else None
            outcomes.append(Outcome(claim, kind, REPLIES[kind], due=due))
        same = [attrs.evolve(outcome, claim=self.theirs[outcome.claim.id]) for outcome in outcomes]
        for expected in (True, False):
            found = await self.both(lambda queue: queue.settle(outcomes if queue is self.queue else same))
            self.assertEqual([expected] * len(chosen), found)

    async def alter(self) -> None:
        selector = self.selector()
        action = self.random.choice(list(Alteration))
        removed = bool(self.writer.claims.removed)  # in flight: how these are counted once more is the engine's affair
        ours, theirs = [await queue.alter(selector, action, self.now, 1000) for queue in (self.queue, self.model)]
        if not removed:
            self.assertEqual(theirs, ours)

    def selector(self) -> Selector:
        """Any; mostly by destination and state, sometimes what must be searched for."""
        choose = self.random.choice
        selector = Selector(dest=choose((None, DEST, OTHER, BOUNCE)), state=choose((None, None, State.HELD)))
        if self.random.random() < 0.5:
            return selector
        return attrs.evolve(
            selector,
            to=choose((None, "U[13]@*")),
            sender=choose((None, "", "ann@*")),
            account=choose((None, "ann")),
            before=choose((None, self.now)),
        )

    async def find(self) -> None:
        """browse, page by page: the same ids."""
        selector, after = self.selector(), 0
        if selector.state is not None or self.writer.claims.removed:
            return  # whether a claimed row is shown as taken, or a removed one at all, is the engine's affair
        while rows := await self.both(lambda queue: queue.browse(selector, after, 7)):
            after = rows[-1].id

    async def refile(self) -> None:
        """Some go elsewhere, some to the bounce, if nobody has them."""
        rows = await self.model.browse(Selector(), 0, 10_000)
        chosen = self.random.sample(rows, min(len(rows), 3))
        moves = [
            Move(row.id, self.random.choice((DEST, OTHER, BOUNCE)), self.random.choice((None, "551 moved"))) for row in chosen
        ]
        await self.both(lambda queue: queue.refile(moves, self.now))

    async def warn(self) -> None:
        """The oldest message that is late; the warning is mail too."""
        late = await self.both(lambda queue: queue.overdue(self.now, 0, 3))
        if late:
            warning = await self.new("ann@example.com", sender="")
            for _ in range(2):
                await self.both(lambda queue: queue.warn(late[0].message.id, [warning]))

    async def sums(self) -> None:
        """The same sums."""
        if not self.writer.claims.removed:
            await self.both(lambda queue: queue.summary(self.now))

    async def time(self) -> None:
        self.now += self.random.choice((1, 300, 2000))

    async def expire(self) -> None:
        if self.random.random() < 0.1:
            self.now += HOUR
            await self.both(self.swept)

    async def swept(self, queue: Any) -> int:
        report = await queue.sweep(self.now)
        expired = report.expired
        while report.more:
            report = await queue.sweep(self.now)
            expired += report.expired
        return expired

    async def look(self) -> None:
        await self.compare("")

    async def compare(self, what: str) -> None:
        """Rows and lanes; whether a claimed row is shown as taken is the engine's affair."""
        ours, theirs = [
            [shown(row) for row in await queue.browse(Selector(), 0, 10_000) if row.id not in self.writer.claims.removed]
            for queue in (self.queue, self.model)
        ]
        for one, other in itertools.zip_longest(theirs, ours):
            self.assertEqual(one, other, what)
        await self.both(lambda queue: queue.lanes())

    steps = [enqueue, enqueue, enqueue, claim, claim, settle, settle, alter, time, time, expire, look, find, refile, warn, sums]


def listed(value: Any) -> list[Any]:
    """An answer as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def shown(value: Any) -> Any:
    """What both must say in the same way: all but whether a claimed row is shown as taken."""
    if isinstance(value, Row) and value.state is State.TAKEN:
        return attrs.evolve(value, state=State.WAITING)
    if isinstance(value, DestSummary):
        return attrs.evolve(value, waiting=value.waiting + value.taken, taken=0, due=0)
    return value
