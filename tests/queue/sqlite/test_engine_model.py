"""q29: random operations on the engine and on the queue in memory, side by side: the same answers and the same rows."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any

import attrs

from mta.envelope import BOUNCE, Claim, Kind, Outcome, Want
from mta.queue.memory import MemoryQueue
from mta.queue.state import Alteration, Row, Selector, State
from tests.queue.harness import BUSY, DEST, HOUR, OK, OTHER, UNKNOWN
from tests.queue.sqlite.case import SqliteCase

PLACES = [(DEST, 0), (DEST, 5), (OTHER, 0), (BOUNCE, 0), (BOUNCE, 5)]
REPLIES = {Kind.DELIVERED: OK, Kind.DEFERRED: BUSY, Kind.FAILED: UNKNOWN, Kind.GIVEN_BACK: BUSY}
STEPS = 200


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
        message = await self.new(*to, lifetime=self.random.choice((HOUR, 100 * HOUR)))
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
        selector = Selector(
            dest=self.random.choice((None, DEST, OTHER, BOUNCE)), state=self.random.choice((None, None, State.HELD))
        )
        action = self.random.choice(list(Alteration))
        removed = bool(self.writer.claims.removed)  # in flight: how these are counted once more is the engine's affair
        ours, theirs = [await queue.alter(selector, action, self.now, 1000) for queue in (self.queue, self.model)]
        if not removed:
            self.assertEqual(theirs, ours)

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

    steps = [enqueue, enqueue, enqueue, claim, claim, settle, settle, alter, time, time, expire, look]


def listed(value: Any) -> list[Any]:
    """An answer as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def shown(value: Any) -> Any:
    """What both must say in the same way: all but whether a claimed row is shown as taken."""
    return attrs.evolve(value, state=State.WAITING) if isinstance(value, Row) and value.state is State.TAKEN else value
