"""What the durable engine tells of itself."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mta.interfaces import IMeasured
from mta.queue.sqlite.engine import COUNTING
from mta.queue.state import Alteration, Selector, State
from mta.status import transient
from tests.queue.sqlite.case import SqliteCase


class MeasuresTests(SqliteCase):
    """`SqliteQueue.measures`."""

    async def told(self) -> dict[tuple[str, ...], object]:
        return {(name, *labels): number for name, labels, number in await self.queue.measures()}

    def states(self, told: dict[tuple[str, ...], object]) -> list[object]:
        return [told["mta_queue_recipients", state] for state in ("waiting", "taken", "held")]

    async def test_rows(self) -> None:
        """How many recipients are in which state, as it is at this moment."""
        verifyObject(IMeasured, self.queue)
        self.assertEqual([0, 0, 0], self.states(await self.told()))
        await self.accept("a@example.org", "b@example.org", "c@example.org")
        held, _ = await self.accept("d@example.org")
        await self.queue.alter(Selector(message=held), Alteration.HOLD, self.now)
        await self.taken("e@example.org", "f@example.org")
        self.assertEqual([3, 2, 1], self.states(await self.told()))

    async def test_commits(self) -> None:
        """They are counted, with their time, and what they were for; the log grows with them."""
        before = await self.told()
        for _ in range(3):
            await self.accept()
        after = await self.told()
        for name in ("commits_total", "commit_seconds_total", "operations_total", "log_bytes"):
            self.assertGreater(after[f"mta_queue_{name}",], before[f"mta_queue_{name}",], name)  # type: ignore[operator]
        self.assertEqual(3, after["mta_queue_commits_total",] - before["mta_queue_commits_total",])  # type: ignore[operator]
        self.assertEqual(0, after["mta_queue_log_bytes",] % 4096)  # type: ignore[operator]

    async def test_a_disk_that_hangs(self) -> None:
        """Who asks gets the rest, in time."""
        clock = Clock()
        self.patch(self.queue, "_reactor", clock)
        self.patch(self.queue._reads, "run", lambda _: Deferred())
        asked = self.queue.measures()
        clock.advance(COUNTING)
        told = {(name, *labels): number for name, labels, number in self.successResultOf(asked)}
        self.assertIn(("mta_queue_commits_total",), told)
        self.assertNotIn(("mta_queue_recipients", "waiting"), told)
        self.assertEqual([], clock.getDelayedCalls())

    async def test_counted_once_for_all(self) -> None:
        """However many ask, and ask again behind a timeout: one thread counts, and the others are there for the mail."""
        clock, counts = Clock(), list[Deferred[dict[State, int]]]()
        self.patch(self.queue, "_reactor", clock)
        self.patch(self.queue._reads, "run", lambda _: counts.append(Deferred()) or counts[-1])
        late = self.queue.measures()
        clock.advance(COUNTING)
        self.successResultOf(late)
        asked = [self.queue.measures() for _ in range(3)]
        asked[0].addErrback(lambda failure: failure.trap(CancelledError))
        asked[0].cancel()
        self.assertEqual(1, len(counts))
        counts[0].callback(dict.fromkeys(State, 7))
        for each in asked[1:]:
            told = {(name, *labels): number for name, labels, number in self.successResultOf(each)}
            self.assertEqual(7, told["mta_queue_recipients", "held"])
        again = self.queue.measures()
        counts[1].errback(transient("4.3.0", "damaged"))
        self.assertNotIn("mta_queue_recipients", [name for name, _, _ in self.successResultOf(again)])
        self.assertEqual([], clock.getDelayedCalls())

    async def test_stopped(self) -> None:
        """There is nothing to tell."""
        await self.queue.stop()
        self.assertEqual({}, await self.told())
        await self.queue.start()
