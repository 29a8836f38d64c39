"""What could not be recorded is offered again: one a second, and all of it when there is room."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.unrecorded import REPEAT, Record, Unrecorded


class Case(SynchronousTestCase):
    """A queue that records what it likes; offered: what it was asked to record."""

    def setUp(self) -> None:
        self.now = 1000
        self.bad: set[int] = set()
        self.full = True
        self.offered: list[int] = []
        self.unrecorded = Unrecorded(self.settle)
        self.names: dict[int, int] = {}

    def record(self, name: int) -> Record:
        record: Record = ([], [])
        self.names[id(record)] = name
        self.kept = [*getattr(self, "kept", []), record]  # or another one may be where it was
        return record

    def settle(self, records: list[Record]) -> None:
        (record,) = records
        name = self.names[id(record)]
        self.offered.append(name)
        if self.full or name in self.bad:
            self.unrecorded.add(records, self.now)
        else:
            self.unrecorded.recorded()

    def pass_time(self, ms: int = REPEAT) -> list[int]:
        """What is offered when its time has come, and not before."""
        self.offered.clear()
        self.now += ms - 1
        self.unrecorded.tick(self.now)
        self.assertEqual([], self.offered)
        self.now += 1
        self.unrecorded.tick(self.now)
        return self.offered

    def left(self) -> list[int]:
        return sorted(self.names[id(record)] for record in self.unrecorded.records)


class UnrecordedTests(Case):
    """By a second."""

    def test_full(self) -> None:
        """One a second, another each time."""
        self.unrecorded.add([self.record(name) for name in range(3)], self.now)
        self.assertEqual([[0], [1], [2], [0]], [list(self.pass_time()) for _ in range(4)])
        self.assertEqual([0, 1, 2], self.left())

    def test_room(self) -> None:
        """All of them as soon as one could be recorded."""
        self.unrecorded.add([self.record(name) for name in range(300)], self.now)
        self.full = False
        self.assertEqual(list(range(300)), self.pass_time())
        self.assertEqual(([], 0), (self.left(), self.unrecorded.at))

    def test_bad(self) -> None:
        """One that can never be recorded is tried once a second, however much is recorded, and holds up nobody."""
        self.full, self.bad = False, {0}
        self.unrecorded.add([self.record(name) for name in range(4)], self.now)
        self.assertEqual([0], self.pass_time())
        for _ in range(9):
            self.unrecorded.recorded()  # of other mail
        self.assertEqual([0], self.offered)
        self.assertEqual([1, 2, 3, 0], self.pass_time())
        for _ in range(3):
            self.unrecorded.recorded()
            self.assertEqual([0], self.pass_time())

    def test_all(self) -> None:
        """At the end each is tried once."""
        self.unrecorded.add([self.record(name) for name in range(3)], self.now)
        self.unrecorded.offer_all()
        self.assertEqual(([0, 1, 2], [0, 1, 2]), (self.offered, self.left()))

    def test_nothing(self) -> None:
        """There is no time to come again when nothing is unrecorded."""
        self.unrecorded.recorded()
        self.unrecorded.tick(self.now)
        self.assertEqual((0, []), (self.unrecorded.at, self.offered))

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=30))
    @settings(deadline=None, max_examples=200)
    def test_none_is_lost(self, steps: list[tuple[bool, int, bool]]) -> None:
        """Whatever happens: each is recorded once or still kept, and while any is kept there is a time to come again."""
        self.setUp()
        names = 0
        for self.full, count, is_told in steps:
            if count:
                self.unrecorded.add([self.record(names + n) for n in range(count)], self.now)
                names += count
            if is_told:
                self.unrecorded.recorded()
            self.now += REPEAT // 2
            self.unrecorded.tick(self.now)
            self.assertEqual(bool(self.left()), self.unrecorded.at > 0)
        recorded = [name for name in range(names) if name not in self.left()]
        self.assertEqual(len(set(self.left())), len(self.left()))
        self.full = False
        self.offered.clear()
        self.now += REPEAT
        self.unrecorded.tick(self.now)
        self.assertEqual((sorted({*range(names)} - {*recorded}), []), (sorted(self.offered), self.left()))
