"""What is taken into memory, and what is asked of the file."""

from __future__ import annotations

from mta.config.settings import DestinationEntry, Seconds
from mta.envelope import Claim
from mta.queue.ids import id_at
from mta.queue.scheduler.destination import QUANTUM, Batch
from mta.queue.scheduler.stock import ROWS
from mta.queue.state import Lane
from tests.queue.scheduler.case import DAY, DEST, NOW, OTHER, Case


class AdmitTests(Case):
    """What new mail is taken into memory."""

    def test_limit_of_memory(self) -> None:
        """Nothing above active_limit; what is released makes room."""
        self.scheduler = self.make(active_limit=3)
        self.assertEqual([True] * 3 + [False], [self.scheduler.admit(DEST, 0) for _ in range(4)])
        self.scheduler.refund(DEST)
        self.assertTrue(self.scheduler.admit(OTHER, 0))

    def test_limit_of_a_destination(self) -> None:
        """Two windows of full transactions, at most 1,000."""
        self.assertEqual(500, sum(self.scheduler.admit(DEST, 0) for _ in range(2000)))
        self.scheduler = self.make(initial=20)
        self.assertEqual(1000, sum(self.scheduler.admit(DEST, 0) for _ in range(2000)))

    def test_q56_stored_rows_come_first(self) -> None:
        """While due rows of the destination wait in the file nothing new is admitted; a short answer opens the door."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.assertTrue(self.scheduler.admit(OTHER, 0))
        wants = self.scheduler.wants()
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.scheduler.answered(wants, [self.claim()], NOW)
        self.assertTrue(self.scheduler.admit(DEST, 0))

    def test_q53_a_lane_with_nothing_passes(self) -> None:
        """One message of a lane that has nothing in the file or in memory does not wait for what other lanes have there."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertEqual([True, False, False], [self.admitted(lane) for lane in (1, 1, 0)])

    def test_q56_few_pass_between_two_claims(self) -> None:
        """However many lanes send: then the stored rows' turn comes."""
        self.scheduler.waiting(DEST, 63, NOW, NOW)
        self.assertEqual(QUANTUM, sum(self.admitted(lane) for lane in range(60)))
        self.start()
        wants = self.scheduler.wants()
        self.scheduler.answered(wants, [self.claim(lane=63) for _ in range(wants[0].quota)], NOW)
        self.assertEqual([True, True], [self.admitted(lane) for lane in (60, 61)])

    def admitted(self, lane: int) -> bool:
        """New mail of that lane is offered, if it is admitted."""
        before = self.scheduler.active
        self.arrive(1, DEST, lane)
        return self.scheduler.active > before

    def test_q56_row_stored_while_asking(self) -> None:
        """It was not in the answer: the door stays shut and the lane is asked again."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        wants = self.scheduler.wants()
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.scheduler.answered(wants, [], NOW)
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.assertEqual([DEST], [want.dest for want in self.scheduler.wants()])

    def test_q56_stored_rows_are_served_while_new_mail_arrives(self) -> None:
        """300 rows in the file and new mail at capacity for ever: every old row has gone after 400 deliveries."""
        file = [self.claim() for _ in range(300)]
        old = {claim.id for claim in file}
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        running: list[Batch] = []
        for _ in range(100):
            for _ in range(4):
                if self.scheduler.admit(DEST, 0):
                    self.scheduler.offer([self.claim()], self.now, True)
                else:
                    file.append(self.claim())
                    self.scheduler.waiting(DEST, 0, NOW, NOW)
            if wants := self.scheduler.wants():
                quota = wants[0].quota
                answer, file = file[:quota], file[quota:]
                self.scheduler.answered(wants, answer, self.now)
            running += self.start()
            for batch in [running.pop(0) for _ in range(min(4, len(running)))]:
                old -= {claim.id for claim in batch.claims}
                self.end(batch)
        self.assertEqual(set(), old)


class SleepTests(Case):
    """Destinations of which all rows are due later: a time and some bits, whoever found them."""

    def asleep(self) -> bool:
        return not self.scheduler._destinations and list(self.scheduler._asleep) == [DEST]

    def test_q54_found_at_the_start(self) -> None:
        """They are asleep until the first row falls due; then each of their lanes is asked, and where later rows are."""
        later = [Lane(DEST, 3, NOW + 900), Lane(DEST, 1, NOW + 300), Lane(DEST, 63, NOW + 600)]
        self.scheduler.discovered(later, NOW)
        self.assertTrue(self.asleep())
        self.pass_time(299)
        self.assertTrue(self.asleep())
        self.assertEqual(NOW + 300, self.scheduler.next_time())
        self.pass_time(1)
        wants = self.scheduler.wants()
        self.assertEqual([1, 3, 63], [want.lane for want in wants])
        self.scheduler.answered(wants, [self.claim(lane=1)], self.now)
        self.assertEqual({DEST}, self.scheduler.looks())
        self.scheduler.located(DEST, later[::2], self.now)
        self.assertEqual(NOW + 600, self.scheduler.next_time())

    def test_falls_asleep(self) -> None:
        """When there was nothing else to do for a while."""
        self.end(self.arrived())
        self.scheduler.waiting(DEST, 5, NOW + DAY, NOW)
        self.scheduler.tidy(NOW)
        self.assertFalse(self.asleep())
        self.scheduler.tidy(NOW)
        self.assertTrue(self.asleep())
        self.pass_time(DAY)
        self.assertEqual([5], [want.lane for want in self.scheduler.wants()])

    def test_new_mail_wakes_it(self) -> None:
        """It goes at once, and what is due later is not forgotten, not even by a second sleep."""
        self.scheduler.waiting(DEST, 5, NOW + DAY, NOW)
        self.end(self.arrived())
        for _ in range(2):
            self.scheduler.tidy(NOW)
        self.assertTrue(self.asleep())
        self.pass_time(DAY)
        self.assertEqual([5], [want.lane for want in self.scheduler.wants()])

    def test_due_row_wakes_it(self) -> None:
        """A row that was released, or was put back: asked for at once."""
        self.scheduler.waiting(DEST, 5, NOW + DAY, NOW)
        self.scheduler.waiting(DEST, 6, NOW, NOW)
        self.assertEqual([6], [want.lane for want in self.scheduler.wants()])

    def test_an_earlier_row(self) -> None:
        """Found while it sleeps: it wakes for that."""
        for due in (NOW + 600, NOW + 300, NOW + 900):
            self.scheduler.waiting(DEST, 5, due, NOW)
        self.assertEqual(NOW + 300, self.scheduler.next_time())

    def test_dead_ones_do_not_sleep(self) -> None:
        """How often it failed is not forgotten while its mail waits."""
        self.kill()
        self.scheduler.waiting(DEST, 5, NOW + DAY, NOW)
        self.pass_time(300_000)
        for _ in range(3):
            self.assertEqual([], self.scheduler.tidy(NOW + 100 * DAY))
        self.assertEqual(1, self.scheduler._destination(DEST).fails)

    def test_alarms_are_bounded(self) -> None:
        """However often an earlier row is found, the heap has two entries for each destination and some."""
        for early in range(1000):
            self.scheduler.waiting(DEST, 5, NOW + DAY - early, NOW)
        self.assertTrue(len(self.scheduler._heap) < 100)
        self.assertEqual(NOW + DAY - 999, self.scheduler.next_time())

    def test_lifetimes_of_those_held_up(self) -> None:
        """Mail that is due and has no turn, or whose destination rests, expires too: after a minute for its last attempt."""
        self.scheduler = self.make(20_000, DestinationEntry(("example.org",), lifetime=Seconds(60.0)))
        self.arrive()
        self.arrive(dest=OTHER)
        self.assertEqual([], self.scheduler.mortals())
        self.scheduler.rest(DEST, NOW + 5)
        self.scheduler.rest(OTHER, NOW + 5)
        self.assertEqual([(DEST, 120.0)], self.scheduler.mortals())
        self.pass_time(5)
        self.assertEqual([], self.scheduler.mortals())
        self.scheduler.waiting(DEST, 5, NOW, NOW)
        self.assertEqual([(DEST, 120.0)], self.scheduler.mortals())

    def test_outlived_in_memory(self) -> None:
        """What is ready and older than its destination keeps it, and a minute more, is taken out; nothing else."""
        self.scheduler = self.make(20_000, DestinationEntry(("example.org",), lifetime=Seconds(60.0)))
        times = (NOW - 120_002, NOW - 120_001, NOW - 119_000, NOW)
        claims = [Claim(id_at(at) + 1, id_at(at), dest, 0, NOW, 0, "u@x") for dest in (DEST, OTHER) for at in times]
        for claim in claims:
            self.scheduler.admit(claim.dest, 0)
        self.scheduler.offer(claims, NOW, True)
        self.assertEqual(claims[:2], self.scheduler.outlived(NOW))
        self.assertEqual([], self.scheduler.outlived(NOW))
        self.scheduler.released(2)
        self.assertEqual({claim.id for claim in claims[2:]}, {batch.claims[0].id for batch in self.start()})

    def test_lifetimes_of_sleepers(self) -> None:
        """While new mail is only stored, mail that sleeps expires by its destination's lifetime as well."""
        self.scheduler = self.make(20_000, DestinationEntry(("*",), lifetime=Seconds(60.0)))
        self.scheduler.waiting(DEST, 5, NOW + DAY, NOW)
        self.assertEqual([], self.scheduler.mortals())
        self.scheduler.spool(True)
        self.assertEqual([(DEST, 60.0)], self.scheduler.mortals())

    def arrived(self) -> Batch:
        self.arrive()
        (batch,) = self.start()
        return batch


class WantsTests(Case):
    """What is asked for."""

    def test_nothing(self) -> None:
        """Nothing waits: no question."""
        self.assertEqual([], self.scheduler.wants())

    def test_bounded(self) -> None:
        """200 destinations with 64 lanes each: at most 64 wants, 8 of one destination, 512 rows; all in their turn."""
        for number in range(200):
            for lane in range(64):
                self.scheduler.waiting(f"smtp:a/{number}", lane, NOW, NOW)
        seen = set()
        for _ in range(40):
            wants = self.scheduler.wants()
            self.assertTrue(len(wants) <= 64 and sum(want.quota for want in wants) <= ROWS)
            self.assertTrue(max(sum(w.dest == want.dest for w in wants) for want in wants) <= 8)
            seen |= {want.dest for want in wants}
            self.scheduler.answered(wants, [], NOW)
        self.assertEqual(200, len(seen))

    def test_q54_million_rows(self) -> None:
        """A stuck destination with a file that always has more takes a bounded number of rows into memory."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        for _ in range(1000):
            wants = self.scheduler.wants()
            answer = [self.claim(want.dest, want.lane) for want in wants for _ in range(want.quota)]
            self.scheduler.answered(wants, answer, self.now)
            self.start()
        self.assertTrue(self.scheduler.active <= 200, self.scheduler.active)
        self.arrive(1, OTHER)
        self.assertEqual([OTHER], [batch.dest for batch in self.start()])

    def test_retries_do_not_crowd_out(self) -> None:
        """Above 80 % of memory only half of what is free is asked for."""
        self.scheduler = self.make(active_limit=100, initial=20)
        for number in range(9):
            self.assertTrue(all(self.scheduler.admit(f"smtp:a/{number}", 0) for _ in range(10)))
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertEqual([5], [want.quota for want in self.scheduler.wants()])

    def test_full(self) -> None:
        """No room at all: asked later, not forgotten."""
        self.scheduler = self.make(active_limit=1)
        self.arrive(1, OTHER)
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertEqual([], self.scheduler.wants())
        self.end(self.start()[0])
        self.assertEqual([DEST], [want.dest for want in self.scheduler.wants()])

    def test_question_failed(self) -> None:
        """The queue could not say: the same is wanted again."""
        self.scheduler.waiting(DEST, 3, NOW, NOW)
        wants = self.scheduler.wants()
        self.assertEqual([], self.scheduler.wants())
        self.scheduler.unanswered(wants)
        self.assertEqual(wants, self.scheduler.wants())
