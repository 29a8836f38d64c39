"""What the scheduler tells of itself."""

from __future__ import annotations

from mta.queue.scheduler.schedule import Feedback
from tests.queue.scheduler.case import DAY, DEST, OTHER, Case


class MeasuresTests(Case):
    """`Scheduler.measures`."""

    def told(self) -> dict[str, object]:
        """By name without its beginning, or by the state of destinations."""
        return {
            labels[0] if labels else name.removeprefix("mta_queue_"): number for name, labels, number in self.scheduler.measures()
        }

    def test_memory(self) -> None:
        """What is in memory, what of it waits for its turn, and what runs."""
        self.scheduler = self.make(100)
        self.arrive(7)
        batches = self.start()
        told = self.told()
        self.assertEqual((7, 100, 2, 5), tuple(told[name] for name in ("active", "active_limit", "ready", "running")))
        self.end(batches[0])
        told = self.told()
        self.assertEqual((6, 2, 4), tuple(told[name] for name in ("active", "ready", "running")))

    def test_destinations(self) -> None:
        """Each is in one state: blocked when it is dead, probed behind that, suspended, asleep while all is due later."""
        self.arrive(1, OTHER)
        self.kill()
        self.scheduler.suspend("smtp:default/suspended.example")
        self.scheduler.waiting("smtp:default/later.example", 0, self.now + DAY, self.now)
        states = ("open", "probed", "blocked", "suspended", "asleep")
        self.assertEqual([1, 0, 1, 1, 1], [self.told()[state] for state in states])
        self.pass_time(2 * 3600 * 1000)
        self.assertEqual([1, 1, 0, 1, 1], [self.told()[state] for state in states])
        self.arrive(1, DEST)
        for batch in self.start():
            self.end(batch, Feedback.GOOD)
        self.assertEqual([2, 0, 0, 1, 1], [self.told()[state] for state in states])
