"""The scheduler: what starts, what is asked for, what a failure does to a destination."""

from __future__ import annotations

from mta.config.settings import Concurrency, Retry
from mta.envelope import BOUNCE, Claim
from mta.queue.scheduler.schedule import BUSY_BLOCK, Feedback
from mta.queue.scheduler.stock import LOOK_AGAIN
from mta.queue.state import DestState, Lane
from tests.queue.scheduler.case import DAY, DEST, NOW, OTHER, PLAIN, Case


class StartTests(Case):
    """What starts now."""

    def test_window(self) -> None:
        """Five transactions at first; each that ends lets another start."""
        self.arrive(20)
        batches = self.start()
        self.assertEqual(5, len(batches))
        self.end(batches[0])
        self.assertEqual(1, len(self.start()))

    def test_total(self) -> None:
        """All destinations together: `total`; the last places are kept for those that have none."""
        self.scheduler = self.make(total=12)
        for number in range(10):
            self.arrive(5, f"smtp:a/{number}")
        batches = self.start()
        self.assertEqual((10, 10), (len(batches), self.scheduler.running))
        self.arrive(5, OTHER)
        self.arrive(5)
        self.assertEqual([OTHER, DEST], [batch.dest for batch in self.start()])
        self.assertEqual(12, self.scheduler.running)
        self.assertEqual(10, len({batch.dest for batch in batches}))

    def test_q54_stuck_destination(self) -> None:
        """It holds its window and nothing else: another destination's mail starts at once, every time."""
        self.arrive(500)
        self.start()
        for _ in range(50):
            self.arrive(1, OTHER)
            (batch,) = self.start()
            self.assertEqual(OTHER, batch.dest)
            self.end(batch)

    def test_siblings_are_not_parted(self) -> None:
        """All failed recipients of a message are one job, however many; others are cut at the limit."""
        for dest, expected in ((BOUNCE, [120]), (DEST, [50, 50, 20])):
            claims = [Claim(1000 + n, 999, dest, 0, NOW, 0, "u@b") for n in range(120)]
            self.scheduler.offer(claims, NOW, False)
            self.assertEqual(expected, [len(batch.claims) for batch in self.start()])


class TimeTests(Case):
    """Rows that fall due."""

    def drain(self) -> None:
        self.scheduler.answered(self.scheduler.wants(), [], self.now)

    def test_due(self) -> None:
        """Not before its time, exactly at its time."""
        self.scheduler.waiting(DEST, 0, NOW + 300, NOW)
        self.assertEqual(NOW + 300, self.scheduler.next_time())
        self.pass_time(299)
        self.assertEqual([], self.scheduler.wants())
        self.pass_time(1)
        self.assertEqual([(DEST, 0)], [(want.dest, want.lane) for want in self.scheduler.wants()])
        self.assertEqual(0, self.scheduler.next_time())

    def test_later_rows_are_looked_for(self) -> None:
        """Of two rows the first is remembered; when its lane is drained the file is asked where the next is."""
        self.scheduler.waiting(DEST, 0, NOW + 900, NOW)
        self.scheduler.waiting(DEST, 0, NOW + 300, NOW)
        self.pass_time(300)
        self.drain()
        self.assertEqual({DEST}, self.scheduler.looks())
        self.assertEqual(set(), self.scheduler.looks())
        self.scheduler.located(DEST, [Lane(DEST, 0, NOW + 900)], self.now)
        self.assertEqual(NOW + 900, self.scheduler.next_time())
        self.pass_time(600)
        self.drain()
        self.scheduler.looks()
        self.scheduler.located(DEST, [], self.now)
        self.assertEqual(0, self.scheduler.next_time())

    def test_no_look_without_need(self) -> None:
        """One row of a destination that is awake, and it has come: nothing to look for."""
        self.end_all(DEST)
        self.scheduler.waiting(DEST, 0, NOW + 300, NOW)
        self.pass_time(301)
        self.drain()
        self.assertEqual(set(), self.scheduler.looks())

    def test_rows_that_are_due_and_do_not_come(self) -> None:
        """The file calls due what is on its way: asked again in a while, not at once and for ever."""
        self.scheduler.located(DEST, [Lane(DEST, 0, NOW - 1)], NOW)
        self.assertEqual([], self.scheduler.wants())
        self.assertEqual(NOW + LOOK_AGAIN, self.scheduler.next_time())

    def test_discovered(self) -> None:
        """At the start: due rows are wanted at once, later ones in their time."""
        self.scheduler.discovered([Lane(DEST, 0, NOW - 5), Lane(OTHER, 7, NOW + 5)], NOW)
        self.assertEqual([DEST], [want.dest for want in self.scheduler.wants()])
        self.pass_time(5)
        self.assertEqual([OTHER], [want.dest for want in self.scheduler.wants()])

    def test_tidy(self) -> None:
        """A destination without work is forgotten at the second look, one with work never."""
        self.end_all(OTHER)
        self.arrive(1, DEST)
        for _ in range(3):
            self.assertEqual([], self.scheduler.tidy(self.now))
        self.assertEqual([DEST], list(self.scheduler._destinations))

    def end_all(self, dest: str) -> None:
        self.arrive(1, dest)
        for batch in self.start():
            self.end(batch)
        self.start()


class BlockTests(Case):
    """Destinations that do not answer."""

    def test_q52_dead(self) -> None:
        """A cohort of failures: blocked for 300 s; what was ready is to be given back; nothing is admitted or asked for."""
        self.arrive(8)
        changes = [self.end(batch, Feedback.BAD) for batch in self.start()]
        (change,) = [change for change in changes if change is not None]
        self.assertEqual((True, NOW + 300_000, 3), (change.dead, change.until, len(change.returned)))
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertEqual(([], []), (self.scheduler.wants(), self.start()))

    def test_q52_one_probe(self) -> None:
        """When the block ends one row is asked for and one transaction starts; nothing else until it has ended."""
        self.kill()
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.pass_time(299_999)
        self.assertEqual([], self.scheduler.wants())
        self.pass_time(1)
        wants = self.scheduler.wants()
        self.assertEqual([1], [want.quota for want in wants])
        self.scheduler.answered(wants, [self.claim()], self.now)
        (probe,) = self.start()
        self.assertEqual(([], []), (self.scheduler.wants(), self.start()))
        self.assertTrue(self.end(probe).alive)
        self.assertTrue(self.scheduler.wants()[0].quota > 1)

    def test_q52_probe_fails(self) -> None:
        """The ladder of the destination: 300, 600, 1200 seconds, one transaction each."""
        waits = [change.until - self.now for change in self.kill()]
        for _ in range(2):
            self.pass_time(waits[-1])
            self.arrive()
            (probe,) = self.start()
            waits.append(self.end(probe, Feedback.BAD).until - self.now)
        self.assertEqual([300_000, 600_000, 1_200_000], waits)

    def test_after_death(self) -> None:
        """Failures after death are no news: one block, one failure counted.  A success is: it is alive."""
        self.arrive(10)
        batches = self.start()
        for batch in batches[:4]:
            self.assertIsNone(self.end(batch, Feedback.BAD))
        self.assertEqual(2, len(self.start()))
        self.assertTrue(self.end(batches[4], Feedback.BAD).dead)
        self.assertIsNone(self.scheduler.finished(DEST, Feedback.BAD, NOW, PLAIN))
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.assertTrue(self.scheduler.finished(DEST, Feedback.GOOD, NOW, PLAIN).alive)
        self.assertTrue(self.scheduler.admit(DEST, 0))

    def test_busy(self) -> None:
        """421: a minute without mail, not recorded as dead."""
        self.arrive(6)
        batches = self.start()
        change = self.end(batches[0], Feedback.BUSY)
        self.assertEqual((NOW + BUSY_BLOCK, False, 1), (change.until, change.dead, len(change.returned)))
        self.pass_time(BUSY_BLOCK)
        self.assertTrue(self.scheduler.admit(DEST, 0))

    def test_offered_while_closed(self) -> None:
        """Mail that was admitted before the block and committed after it goes back."""
        self.assertTrue(self.scheduler.admit(DEST, 0))
        self.kill()
        returned = self.scheduler.offer([self.claim()], NOW, True)
        self.assertEqual(1, len(returned))
        self.scheduler.released(1)
        self.assertEqual(0, self.scheduler.active)

    def test_not_tried(self) -> None:
        """Given back says nothing of the destination: the probe is still to come."""
        self.kill()
        self.pass_time(300_000)
        self.arrive()
        self.assertIsNone(self.end(self.start()[0], Feedback.NONE))
        self.arrive(2)
        self.assertEqual(1, len(self.start()))

    def test_restored(self) -> None:
        """After a restart: blocked until its time, then probed; suspended ones are left alone; the ladder goes on."""
        self.scheduler.restore([DestState(DEST, NOW + 500, "why", 3, NOW - 1000), DestState(OTHER, suspended=True)], NOW)
        self.assertFalse(self.scheduler.admit(DEST, 0) or self.scheduler.admit(OTHER, 0))
        self.pass_time(500)
        self.assertFalse(self.scheduler.admit(OTHER, 0))
        self.arrive(3)
        (probe,) = self.start()
        self.assertEqual(2_400_000, self.end(probe, Feedback.BAD).until - self.now)

    def test_flushed(self) -> None:
        """An operator ends the block: a probe at once."""
        self.kill()
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.scheduler.unblock()
        self.assertEqual([1], [want.quota for want in self.scheduler.wants()])

    def test_forsaken(self) -> None:
        """Dead for two lifetimes and nobody writes to it: it is forgotten with its record."""
        self.kill()
        self.pass_time(9 * DAY)
        self.assertEqual([], self.scheduler.tidy(self.now))
        self.pass_time(2 * DAY)
        self.assertEqual([DEST], self.scheduler.tidy(self.now))
        self.assertEqual({}, self.scheduler._destinations)

    def test_h38_other_limits(self) -> None:
        """H38: after a reload running transactions go on, and new ones obey the new limits."""
        self.arrive(5)
        self.assertEqual(5, len(running := self.start()))
        self.scheduler.reconfigure(Concurrency(per_destination=2, initial=2, total=3), 6, Retry())
        self.arrive(9)
        self.assertEqual((6, 0), (self.scheduler.active, len(self.start())))
        for batch in running:
            self.end(batch)
        self.arrive(9)
        self.assertEqual(2, len(self.start()))
