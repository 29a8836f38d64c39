"""Mail that outlives its destination's own lifetime where nothing is tried: bites, reasons, what is left alone."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, DestinationEntry, Retry, Seconds
from mta.envelope import BOUNCE, BodyRef, NewMessage, NewRecipient
from mta.queue.lifetime import BITE, expire
from mta.queue.memory import MemoryQueue
from mta.queue.retry import NEVER_TRIED
from mta.queue.scheduler.schedule import Scheduler
from mta.queue.state import Selector

NOW = 1_800_000_000_000
DAY = 86_400_000
MORTAL = "smtp:r/a.org"
OTHER = "smtp:r/b.org"


class LifetimeTests(SynchronousTestCase):
    """`expire` with an engine in memory; mail for a.org lives for a day."""

    def setUp(self) -> None:
        self.engine = MemoryQueue(lambda: NOW)
        self.successResultOf(self.engine.start())
        entry = DestinationEntry(("a.org",), lifetime=Seconds(86400.0))
        self.scheduler = Scheduler(Concurrency(), 20_000, Retry(), [entry])

    def store(self, dest: str, created: int, recipients: int = 1) -> None:
        told = tuple(NewRecipient(f"u{n}@x", dest=dest, due=created) for n in range(recipients))
        message = NewMessage(
            self.engine.create_body(recipients).id, "s@x", told, BodyRef(1, b"x"), b"", created, created + 5 * DAY
        )
        self.successResultOf(self.engine.enqueue([message]))
        self.scheduler.waiting(dest, 0, created, NOW)

    def expire(self) -> int:
        return self.successResultOf(Deferred.fromCoroutine(expire(self.engine, self.scheduler, NOW)))

    def rows(self) -> list[tuple[str, str | None]]:
        return [(row.dest, row.last_reply) for row in self.successResultOf(self.engine.browse(Selector()))]

    def test_suspended(self) -> None:
        """What is older than a day is owed a bounce that says why; what is younger, or goes elsewhere, stays."""
        self.store(MORTAL, NOW - DAY - 1000)
        self.store(MORTAL, NOW - DAY + 1000)
        self.store(OTHER, NOW - 2 * DAY)
        self.scheduler.suspend(MORTAL)
        self.scheduler.suspend(OTHER)
        self.assertEqual(1, self.expire())
        rows = self.rows()
        self.assertEqual([(BOUNCE, NEVER_TRIED), (MORTAL, None), (OTHER, None)], rows)

    def test_open(self) -> None:
        """A destination that delivers is left to its attempts, unless mail is only stored."""
        self.store(MORTAL, NOW - 2 * DAY)
        self.assertEqual(0, self.expire())
        self.scheduler.spool(True)
        self.assertEqual(1, self.expire())

    def test_bites(self) -> None:
        """A bounded number at once, all in the end."""
        self.store(MORTAL, NOW - 2 * DAY, BITE + 7)
        self.scheduler.suspend(MORTAL)
        self.assertEqual([BITE, 7, 0], [self.expire() for _ in range(3)])
