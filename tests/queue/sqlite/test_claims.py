"""Claims in memory: the cursor is only a shortcut, whatever happens to the rows behind it."""

from __future__ import annotations

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Want
from mta.queue.sqlite.claims import Claims
from tests.queue.sqlite.case import fresh_database

DEST = "smtp:a/b"
INSERT = "INSERT INTO delivery(id,message,dest,lane,due,state,address,notify) VALUES (?,1,?,?,?,0,'a',0)"


class ClaimsTests(SynchronousTestCase):
    """On a bare table."""

    def setUp(self) -> None:
        self.db = fresh_database()
        self.claims = Claims()
        self.unread: list[int] = []

    def row(self, id: int, due: int = 0, lane: int = 0) -> None:
        self.db.execute(INSERT, (id, DEST, lane, due))
        self.claims.appeared(DEST, lane, due, id)

    def claim(self, quota: int = 100, now: int = 1000) -> list[int]:
        return [claim.id for claim in self.claims.claim(self.db, [Want(DEST, 0, quota)], now, self.damaged)]

    def damaged(self, want: Want, error: UnicodeDecodeError) -> None:
        self.unread.append(want.lane)

    def test_cursor_saves_the_walk(self) -> None:
        """After a claim the next begins behind it: no step for rows in flight."""
        for id in range(1, 501):
            self.row(id)
        self.claim(400)
        first = self.steps()
        self.claims.forget_cursors()
        self.assertTrue(self.steps() > first + 400)

    def steps(self) -> int:
        count = 0

        def step() -> bool:
            nonlocal count
            count += 1
            return False

        self.db.set_progress_handler(step, 1)
        self.claim(1)
        self.db.set_progress_handler(None)
        return count

    def test_all_or_nothing(self) -> None:
        """A file that cannot be read fails the call: what it had found before is nobody's, and can be claimed."""
        self.row(1)
        self.row(2, lane=1)
        asked: list[str] = []

        class Failing:
            """The file, until it is asked again."""

            def execute(_, text, values) -> apsw.Cursor:
                asked.append(text)
                if len(asked) > 1:
                    raise apsw.IOError("the disk")
                return self.db.execute(text, values)

        wants = [Want(DEST, 0, 1), Want(DEST, 1, 1)]
        self.assertRaises(apsw.IOError, self.claims.claim, Failing(), wants, 1000, self.damaged)
        self.assertEqual(({}, {}), (self.claims.taken, self.claims._cursors))
        self.assertEqual([1], self.claim())

    def test_a_damaged_row(self) -> None:
        """It holds up what is behind it in its lane, and no other lane; it is told of each time."""
        for id, lane in enumerate((0, 1, 1, 1, 2), 1):
            self.row(id, due=id, lane=lane)
        self.db.execute("UPDATE delivery SET address=CAST(x'ff' AS TEXT) WHERE id=3")
        wants = [Want(DEST, lane, 5) for lane in range(3)]
        found = [[claim.id for claim in self.claims.claim(self.db, wants, 1000, self.damaged)] for _ in range(2)]
        self.assertEqual(([[1, 2, 5], []], [1, 1]), (found, self.unread))
        self.assertEqual({1, 2, 5}, set(self.claims.taken))
        self.db.execute("UPDATE delivery SET address='a' WHERE id=3")
        self.assertEqual([3, 4], [claim.id for claim in self.claims.claim(self.db, wants, 1000, self.damaged)])

    def test_cursors_do_not_pile_up(self) -> None:
        """A lane without more due rows has none."""
        for lane in range(64):
            self.row(lane + 1, lane=lane)
            self.claims.claim(self.db, [Want(DEST, lane, 5)], 1000, self.damaged)
        self.assertEqual({}, self.claims._cursors)

    def test_quota_is_filled_past_taken_rows(self) -> None:
        """Rows in flight do not count."""
        for id in range(1, 21):
            self.row(id)
        self.claims.taken.update(dict.fromkeys(range(1, 11), 0))
        self.assertEqual([11, 12, 13], self.claim(3))

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from(["new", "claim", "back", "gone"]), st.integers(0, 9)), max_size=60))
    def test_q07_no_row_is_missed_or_given_twice(self, steps: list[tuple[str, int]]) -> None:
        """Whatever is inserted before or behind the cursor, deferred, given back or removed."""
        self.setUp()
        free: dict[int, int] = {}  # id -> due
        flight: list[int] = []
        for id, (step, number) in enumerate(steps, 1):
            if step == "new":
                self.row(id, number)
                free[id] = number
            elif step == "claim":
                expected = [id for due, id in sorted((due, id) for id, due in free.items())][: number // 2]
                self.assertEqual(expected, self.claim(number // 2))
                flight += expected
                for one in expected:
                    del free[one]
            elif flight:
                one = flight.pop(number % len(flight))
                self.claims.settled({one})
                if step == "gone":
                    self.db.execute("DELETE FROM delivery WHERE id=?", (one,))
                else:
                    self.db.execute("UPDATE delivery SET due=? WHERE id=?", (number, one))
                    self.claims.appeared(DEST, 0, number, one)
                    free[one] = number
            first = min(free.values(), default=None)
            lanes = self.claims.lanes(self.db, DEST, "", 10)
            self.assertEqual([] if first is None else [first], [lane.due for lane in lanes])
