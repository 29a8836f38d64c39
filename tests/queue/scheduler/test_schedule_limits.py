"""The scheduler: limits of single destinations, the share that is kept for the next one, suspension."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.settings import Concurrency, DestinationEntry, Retry, Seconds
from mta.queue.scheduler.convoy import Convoy
from mta.queue.scheduler.schedule import Feedback, Scheduler
from mta.queue.state import Lane
from mta.rate import SLACK
from tests.queue.scheduler.case import DEST, NOW, OTHER, Case

HOP = "example.org"


class TermsTests(Case):
    """`[[destination]]`."""

    def test_concurrency_and_recipients(self) -> None:
        """Two at once of at most three recipients; another destination has the usual."""
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), concurrency=2, recipients=3))
        claims = [claim for _ in range(4) for claim in [self.claim()] * 1]
        same = [claims[0].__class__(900 + n, 899, DEST, 0, NOW, 0, "u@b") for n in range(7)]
        self.scheduler.offer(same + claims, NOW, False)
        self.arrive(9, OTHER)
        batches = self.start()
        self.assertEqual([3, 3], [len(batch.claims) for batch in batches if batch.dest == DEST])
        self.assertEqual(5, sum(batch.dest == OTHER for batch in batches))

    def test_rate(self) -> None:
        """5/s: one each 200 ms by one entry in the heap, and another destination is not held up."""
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), rate="5/s"))
        self.arrive(50)
        self.arrive(5, OTHER)
        gone: list[int] = []
        for batch in self.start():
            if batch.dest == DEST:
                gone.append(self.now)
                self.end(batch)
        self.assertEqual([NOW], gone)
        for _ in range(9):
            self.assertEqual(1, len(self.scheduler._heap))
            self.pass_time(self.scheduler.next_time() - self.now)
            for batch in self.start():
                gone.append(self.now)
                self.end(batch)
        self.assertEqual([NOW + 200 * n for n in range(10)], gone)

    def test_rest_in_a_convoy(self) -> None:
        """Whose turn it is in a convoy and who rests leaves it to the next."""
        third = "smtp:default/example.com"
        convoy = Convoy()
        self.arrive(1)
        (first,) = self.start()
        for name in (DEST, OTHER, third):
            self.arrive(2, name)
            self.scheduler.join(name, convoy)
        self.assertEqual([], self.start())
        self.scheduler.rest(DEST, NOW + 60_000)
        self.end(first)
        gone = []
        while batches := self.start():
            self.assertEqual(1, len(batches))
            gone.append(batches[0].dest)
            self.end(batches[0])
        self.assertEqual([OTHER, third, OTHER, third], gone)
        self.pass_time(60_000)
        self.assertEqual([DEST], [batch.dest for batch in self.start()])

    def test_rate_and_later_mail(self) -> None:
        """The heap holds a destination about once, however often its rate makes it rest while a retry waits for its time."""
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), rate="5/s"))
        self.scheduler.waiting(DEST, 0, NOW + 3_600_000, NOW)
        self.scheduler.waiting(OTHER, 0, NOW + 1_000_000, NOW)
        for _ in range(1_000):
            self.arrive(5)
            batches = self.start()
            self.assertEqual(1, len(batches))
            self.end(batches[0])
            self.pass_time(200)
        self.assertLess(len(self.scheduler._heap), 100)
        self.pass_time(1_000_000)
        self.assertEqual([OTHER], [want.dest for want in self.scheduler.wants()])

    def test_slow_rate_and_memory(self) -> None:
        """What a rate does not let go within a minute waits in the file, where it can expire."""
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), rate="1/h", recipients=1))
        self.assertEqual([True, False], [self.scheduler.admit(DEST, 0) for _ in range(2)])

    def test_rate_outlives_idleness(self) -> None:
        """A destination whose next message may go in an hour is not forgotten with its rate."""
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), rate="1/h"))
        self.arrive()
        (batch,) = self.start()
        self.end(batch)
        for _ in range(5):
            self.pass_time(60_000)
            self.scheduler.tidy(self.now)
        self.arrive()
        self.assertEqual([], self.start())
        self.pass_time(3_600_000 - 300_000)
        self.assertEqual(1, len(self.start()))

    @settings(deadline=None, max_examples=50)
    @given(st.integers(1, 500), st.lists(st.integers(0, 2_000), max_size=60))
    def test_rate_is_held(self, count: int, steps: list[int]) -> None:
        """Whenever the pump runs, no more starts than the rate allows."""
        self.scheduler, self.now = self.make(20_000, DestinationEntry((HOP,), rate=f"{count}/min")), NOW
        started = 0
        for step in steps:
            self.pass_time(step)
            self.arrive(3)
            for batch in self.start():
                started += 1
                self.end(batch)
        interval = 60_000 / count
        self.assertTrue(started <= 1 + (self.now - NOW + SLACK) / interval + 1e-6)

    def test_ladder(self) -> None:
        """An explicit ladder blocks by its own waits, and gives up by its own lifetime."""
        waits = (Seconds(60.0), Seconds(600.0))
        self.scheduler = self.make(20_000, DestinationEntry((HOP,), retry=waits, lifetime=Seconds(7200.0)))
        (change,) = self.kill()
        self.assertEqual(NOW + 60_000, change.until)
        for wait in (600_000, 600_000):
            self.pass_time(change.until - self.now)
            self.arrive()
            (batch,) = self.start()
            change = self.end(batch, Feedback.BAD)
            self.assertEqual(self.now + wait, change.until)
        self.pass_time(7_200_000)
        self.arrive()
        (batch,) = self.start()
        self.assertEqual(self.now + 3_600_000, self.end(batch, Feedback.BAD).until)

    def test_h38_other_terms(self) -> None:
        """H38: a reload changes limits of what is known, and a rate that stays keeps its tokens."""
        entry = DestinationEntry((HOP,), rate="1/min")
        self.scheduler = self.make(20_000, entry)
        self.arrive(4)
        self.assertEqual(1, len(self.start()))
        again = DestinationEntry((HOP,), rate="1/min", concurrency=2)
        self.scheduler.reconfigure(Concurrency(), 20_000, Retry(), [again])
        self.assertEqual([], self.start())
        self.scheduler.reconfigure(Concurrency(), 20_000, Retry(), [])
        self.assertEqual(1, len(self.start()))  # the window is cut to 2 and grows again


class ShareTests(Case):
    """`total` and those who hold it."""

    def test_stuck_destinations_leave_room(self) -> None:
        """Ten destinations that have grown to 20 and then hang hold 167 of 200: the eleventh starts at once."""
        self.scheduler = self.make(initial=20)
        for number in range(10):
            self.arrive(100, f"smtp:a/stuck{number}")
        self.assertEqual(167, len(self.start()))
        self.arrive(5, OTHER)
        self.assertEqual([OTHER] * 5, [batch.dest for batch in self.start()])

    def test_however_many(self) -> None:
        """40 destinations that hang one after the other: the next one always has a place."""
        for number in range(40):
            dest = f"smtp:a/{number}"
            self.arrive(100, dest)
            self.assertIn(dest, [batch.dest for batch in self.start()])

    def test_one_alone(self) -> None:
        """A destination that nobody competes with has what it is allowed, up to three quarters of all."""
        self.scheduler = self.make(initial=200, per_destination=200)
        self.arrive(1000)
        self.assertEqual(151, len(self.start()))

    def test_share_comes_back(self) -> None:
        """What was held back goes when others have ended."""
        self.scheduler = self.make(initial=20)
        for number in range(12):
            self.arrive(40, f"smtp:a/{number}")
        running, done = self.start(), 0
        while running:
            self.end(running.pop())
            done += 1
            running += self.start()
        self.assertEqual(480, done)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(1, 60), st.integers(1, 30), st.lists(st.integers(0, 12), max_size=300), st.randoms())
    def test_last_place(self, total: int, limit: int, steps: list[int], random: object) -> None:
        """Mail comes and transactions end in any order: with three quarters in use nobody starts who holds half of what is free."""
        limit = min(limit, total)
        self.scheduler = Scheduler(Concurrency(limit, limit, total), 20_000, Retry())
        running, busy = [], dict.fromkeys([f"smtp:a/{n}" for n in range(12)], 0)
        for step in steps:
            if step < 12:
                self.arrive(8, f"smtp:a/{step}")
            elif running:
                batch = running.pop(random.randrange(len(running)))  # type: ignore[attr-defined]
                busy[batch.dest] -= 1
                self.end(batch)
            while (batch := self.scheduler.next_batch(self.now)) is not None:
                free = total - len(running)
                self.assertTrue(free > 0 and (4 * free >= total or busy[batch.dest] < max(free // 2, 1)))
                busy[batch.dest] += 1
                running.append(batch)
            self.assertEqual(len(running), self.scheduler.running)


class SuspensionTests(Case):
    """`suspend` and `resume`."""

    def test_suspended(self) -> None:
        """What is ready is given back, nothing is admitted, asked for or started; what runs goes on."""
        self.arrive(8)
        running = self.start()
        self.assertEqual(3, len(self.scheduler.suspend(DEST)))
        self.scheduler.released(3)
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.assertTrue(self.scheduler.admit(OTHER, 0))
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.assertEqual([], self.scheduler.wants())
        for batch in running:
            self.end(batch)
        self.assertEqual([], self.start())
        self.assertEqual(1, self.scheduler.active)

    def test_resumed(self) -> None:
        """It is probed at once by one transaction; success opens the window."""
        self.scheduler.suspend(DEST)
        self.scheduler.waiting(DEST, 0, NOW, NOW)
        self.scheduler.resume(DEST)
        (want,) = self.scheduler.wants()
        self.assertEqual((DEST, 1), (want.dest, want.quota))
        self.scheduler.answered([want], [self.claim()], self.now)
        (batch,) = self.start()
        self.end(batch)
        self.arrive(9)
        self.scheduler.answered(self.scheduler.wants(), [self.claim() for _ in range(9)], self.now)
        self.assertEqual(5, len(self.start()))

    def test_block_ends_with_it(self) -> None:
        """A destination that was dead and suspended is probed when it is resumed, not when its block would end."""
        self.kill()
        self.scheduler.suspend(DEST)
        self.pass_time(1_000)
        self.assertFalse(self.scheduler.admit(DEST, 0))
        self.scheduler.resume(DEST)
        self.assertTrue(self.scheduler.admit(DEST, 0))

    def test_time_does_not_resume(self) -> None:
        """The end of a block, or rows that fall due, change nothing."""
        self.kill()
        self.scheduler.suspend(DEST)
        self.scheduler.discovered([Lane(DEST, 0, NOW + 1000)], NOW)
        self.pass_time(10_000_000)
        self.assertEqual([], self.scheduler.wants())
        self.assertFalse(self.scheduler.admit(DEST, 0))
