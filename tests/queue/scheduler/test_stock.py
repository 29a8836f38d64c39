"""What is taken into memory, and what is asked of the file."""

from __future__ import annotations

from mta.queue.scheduler.destination import Batch
from mta.queue.scheduler.stock import ROWS
from tests.queue.scheduler.case import DEST, NOW, OTHER, Case


class AdmitTests(Case):
    """What new mail is taken into memory."""

    def test_limit_of_memory(self) -> None:
        """Nothing above active_limit; what is released makes room."""
        self.scheduler = self.make(active_limit=3)
        self.assertEqual([True] * 3 + [False], [self.scheduler.admit(DEST) for _ in range(4)])
        self.scheduler.refund(DEST)
        self.assertTrue(self.scheduler.admit(OTHER))

    def test_limit_of_a_destination(self) -> None:
        """Two windows of full transactions, at most 1,000."""
        self.assertEqual(500, sum(self.scheduler.admit(DEST) for _ in range(2000)))
        self.scheduler = self.make(initial=20)
        self.assertEqual(1000, sum(self.scheduler.admit(DEST) for _ in range(2000)))

    def test_q56_stored_rows_come_first(self) -> None:
        """While due rows of the destination wait in the file nothing new is admitted; a short answer opens the door."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertFalse(self.scheduler.admit(DEST))
        self.assertTrue(self.scheduler.admit(OTHER))
        wants = self.scheduler.wants()
        self.assertFalse(self.scheduler.admit(DEST))
        self.scheduler.answered(wants, [self.claim()], NOW)
        self.assertTrue(self.scheduler.admit(DEST))

    def test_q56_row_stored_while_asking(self) -> None:
        """It was not in the answer: the door stays shut and the lane is asked again."""
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        wants = self.scheduler.wants()
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.scheduler.answered(wants, [], NOW)
        self.assertFalse(self.scheduler.admit(DEST))
        self.assertEqual([DEST], [want.dest for want in self.scheduler.wants()])

    def test_q56_stored_rows_are_served_while_new_mail_arrives(self) -> None:
        """300 rows in the file and new mail at capacity for ever: every old row has gone after 400 deliveries."""
        file = [self.claim() for _ in range(300)]
        old = {claim.id for claim in file}
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        running: list[Batch] = []
        for _ in range(100):
            for _ in range(4):
                if self.scheduler.admit(DEST):
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
            self.assertTrue(all(self.scheduler.admit(f"smtp:a/{number}") for _ in range(10)))
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
