"""One destination: whose turn it is, and what of its rows in the file is known."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Concurrency, Retry
from mta.envelope import Claim
from mta.queue.scheduler.destination import QUANTUM, Destination
from mta.queue.scheduler.terms import TermsTable

NOW = 1_000_000


class DestinationTests(SynchronousTestCase):
    """Lanes in rotation, by recipients."""

    def setUp(self) -> None:
        self.dest = Destination("smtp:a/b", TermsTable(Concurrency(), Retry()).usual)
        self.next = 0

    def add(self, lane: int, messages: int = 1, recipients: int = 1) -> None:
        for _ in range(messages):
            self.next += 100
            for number in range(recipients):
                self.dest.ready += 1
                self.dest.add(Claim(self.next + number + 1, self.next, "smtp:a/b", lane, NOW, 0, "u@b"), NOW)

    def take(self, count: int, limit: int = 50) -> list[tuple[int, int]]:
        batches = [self.dest.take(limit) for _ in range(count)]
        return [(batch.claims[0].lane, len(batch.claims)) for batch in batches]

    def test_q53_campaign_and_single_mail(self) -> None:
        """A campaign is one lane: a single mail goes after at most one quantum of it."""
        self.add(3, messages=1000)
        self.take(25)
        self.add(8)
        lanes = [lane for lane, _ in self.take(QUANTUM + 1)]
        self.assertIn(8, lanes)

    def test_q53_single_mail_first(self) -> None:
        """A lane that had nothing goes before those that send on and on, in the order in which such lanes come."""
        self.add(3, messages=1000)
        self.take(25)
        self.add(8)
        self.add(5)
        self.assertEqual([8, 5, 3], [lane for lane, _ in self.take(3)])

    def test_q53_campaign_is_not_starved(self) -> None:
        """60 lanes bring one mail after the other, as many as can go: the campaign has the share of one lane, and more."""
        self.add(3, messages=1000)
        self.take(25)
        lanes = []
        for number in range(400):
            self.add(4 + number % 60)
            lanes += [lane for lane, _ in self.take(1)]
        self.assertGreaterEqual(lanes.count(3), 2 * 400 // 61)

    def test_q53_recipients_count(self) -> None:
        """A lane of large transactions misses turns: in the long run both lanes send as many recipients."""
        self.add(1, messages=20, recipients=50)
        self.add(2, messages=500)
        taken = self.take(208)
        sums = {lane: sum(n for number, n in taken if number == lane) for lane in (1, 2)}
        self.assertTrue(abs(sums[1] - sums[2]) <= 50 + QUANTUM, sums)

    def test_one_message_together(self) -> None:
        """Recipients of one message that come one by one go together, up to the limit, in their order."""
        self.add(0, recipients=5)
        self.assertEqual([(0, 3), (0, 2)], self.take(2, limit=3))
        self.assertEqual((0, False), (self.dest.ready, bool(self.dest.ring)))

    def test_order_within_a_lane(self) -> None:
        """First come, first served."""
        self.add(0, messages=5)
        self.assertEqual([100, 200, 300, 400, 500], [self.dest.take(50).message for _ in range(5)])

    def test_drain(self) -> None:
        """Everything that is ready, and it is not ready any more; what is awaited keeps its place."""
        self.dest.ready += 1
        self.add(0, messages=2, recipients=2)
        self.add(1)
        self.assertEqual(5, len(self.dest.drain()))
        self.assertEqual((1, False), (self.dest.ready, bool(self.dest.ring)))
        self.add(0)
        self.assertEqual([(0, 1)], self.take(1))

    def test_stored_lanes_go_round(self) -> None:
        """Nine lanes with due rows, asked four at a time: each is asked in its turn."""
        for number in range(9):
            self.dest.store(self.dest.lane(number))
        asked = [[lane.number for lane in self.dest.next_stored(4)] for _ in range(3)]
        self.assertEqual([[0, 1, 2, 3], [4, 5, 6, 7], [8, 0, 1, 2]], asked)

    def test_drained(self) -> None:
        """A short answer empties a lane, unless rows came after the question."""
        lane = self.dest.lane(0)
        self.dest.store(lane)
        lane.fresh = False
        self.dest.drained(lane)
        self.dest.drained(lane)
        self.assertEqual((False, 0), (lane.stored, self.dest.stored))
        self.dest.store(lane)
        self.dest.drained(lane)
        self.assertEqual((True, 1), (lane.stored, self.dest.stored))

    def test_ripen(self) -> None:
        """Lanes whose time has come, the end of the block, and the next time."""
        self.dest.lane(1).due, self.dest.lane(2).due = NOW, NOW + 5
        self.dest.blocked_until = NOW + 3
        self.assertEqual(NOW + 3, self.dest.ripen(NOW))
        self.assertEqual((1, True), (self.dest.stored, self.dest.closed))
        self.assertEqual(NOW + 5, self.dest.ripen(NOW + 3))
        self.assertEqual((1, True, False), (self.dest.room, self.dest.probing, self.dest.closed))
        self.assertEqual(0, self.dest.ripen(NOW + 5))
        self.assertEqual(2, self.dest.stored)
