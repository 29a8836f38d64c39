"""The queue in memory keeps every promise of the conformance suite."""

from __future__ import annotations

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mta.envelope import Kind
from mta.interfaces import IQueue
from mta.queue.memory import MemoryQueue
from tests.queue.conformance import QueueConformance


class MemoryConformance(QueueConformance, TestCase):
    """See tests/queue/conformance.py; its crash is a stop and a start of the same object."""

    def make_engine(self) -> MemoryQueue:
        return MemoryQueue(self.clock)

    def test_provides_the_seam(self) -> None:
        """Every method of IQueue, with its signature."""
        verifyObject(IQueue, self.queue)

    async def test_nothing_is_left_behind(self) -> None:
        """Settled mail leaves no row, no message and no heap entry: memory does not grow with the mail of the past."""
        for _ in range(3):
            claims = await self.taken("a@example.org", "b@example.org")
            await self.defer(*claims, after=10)
            self.now += 10
            await self.queue.settle([])
            for claim in await self.claim():
                await self.settle([claim], Kind.DELIVERED)
        self.assertEqual([], await self.lanes())
        for kept in (self.queue._rows, self.queue._messages, self.queue._waiting):
            self.assertFalse(kept)
