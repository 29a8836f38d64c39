"""What the tests of the scheduler share: one on a clock of its own, and short words for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Retry
from mta.envelope import Claim
from mta.queue.scheduler.destination import Batch
from mta.queue.scheduler.schedule import Feedback, Scheduler

NOW = 1_800_000_000_000
DEST = "smtp:default/example.org"
OTHER = "smtp:default/example.net"
PLAIN = 0.0  # the roll without jitter
DAY = 86_400_000


class Case(SynchronousTestCase):
    """A scheduler and short words for it."""

    def setUp(self) -> None:
        self.made = 0
        self.now = NOW
        self.scheduler = self.make()

    def make(self, active_limit: int = 20_000, *entries: DestinationEntry, **concurrency: int) -> Scheduler:
        return Scheduler(Concurrency(**concurrency), active_limit, Retry(), entries)

    def claim(self, dest: str = DEST, lane: int = 0, due: int = NOW) -> Claim:
        self.made += 10
        return Claim(self.made + 1, self.made, dest, lane, due, 0, "u@example.org")

    def arrive(self, count: int = 1, dest: str = DEST, lane: int = 0) -> list[Claim]:
        """New mail: those that are admitted are offered; returns what must be given back."""
        admitted = [self.claim(dest, lane) for _ in range(count) if self.scheduler.admit(dest, lane)]
        return list(self.scheduler.offer(admitted, self.now, True))

    def start(self) -> list[Batch]:
        batches = []
        while (batch := self.scheduler.next_batch(self.now)) is not None:
            batches.append(batch)
        return batches

    def end(self, batch: Batch, feedback: Feedback = Feedback.GOOD):
        change = self.scheduler.finished(batch.dest, feedback, self.now, PLAIN)
        self.scheduler.released(len(batch.claims))
        return change

    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.scheduler.advance(self.now)

    def kill(self, dest: str = DEST):
        """A whole cohort fails."""
        self.arrive(5, dest)
        return [change for batch in self.start() if (change := self.end(batch, Feedback.BAD))]
