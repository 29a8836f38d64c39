"""One timer, moved often: rings in time, never early, and leaves nothing behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.relay.deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    """`Deadline`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.rung: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.rung.append(self.clock.seconds()))

    def test_moving_later_costs_no_timer(self) -> None:
        """A thousand later deadlines arm one timer; it rings at the last of them."""
        armed = []
        call_later = self.clock.callLater
        self.clock.callLater = lambda *args: armed.append(args) or call_later(*args)
        for _ in range(1000):
            self.deadline.set(10)
            self.clock.advance(0.001)
        self.assertEqual(len(armed), 1)
        self.clock.pump([0.5] * 40)
        self.assertEqual(len(self.rung), 1)
        self.assertTrue(10.999 <= self.rung[0] <= 11.5, self.rung)

    def test_moving_earlier(self) -> None:
        """An earlier deadline is kept to."""
        self.deadline.set(300)
        self.deadline.set(1)
        self.clock.advance(1)
        self.assertEqual(self.rung, [1.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moving_earlier_looks_through_no_timers(self) -> None:
        """With ten thousand connections a timer is put down and another taken, for `reset` is slow in Twisted's reactors."""
        self.deadline.set(300)
        (timer,) = self.clock.getDelayedCalls()
        timer.reset = None
        self.deadline.set(1)
        self.assertEqual((timer.active(), len(self.clock.getDelayedCalls())), (False, 1))

    def test_clear_and_stop(self) -> None:
        """Cleared, it rings for nothing once; stopped, nothing is left; both may be followed by another deadline."""
        self.deadline.set(5)
        self.deadline.clear()
        self.clock.advance(6)
        self.assertEqual((self.rung, self.clock.getDelayedCalls()), ([], []))
        self.deadline.set(5)
        self.deadline.stop()
        self.deadline.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deadline.set(5)
        self.clock.advance(5)
        self.assertEqual(len(self.rung), 1)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.tuples(st.sampled_from(["set", "clear", "stop"]), st.integers(1, 20), st.integers(0, 8)), max_size=20))
    def test_rings_exactly_when_the_last_one_set_is_due(self, story: list[tuple[str, int, int]]) -> None:
        """Against a model that has a timer for each deadline."""
        self.setUp()
        due: float | None = None
        expected: list[float] = []
        for verb, seconds, wait in story:
            if verb == "set":
                self.deadline.set(seconds)
                due = self.clock.seconds() + seconds
            else:
                getattr(self.deadline, verb)()
                due = None
            for _ in range(wait):
                self.clock.advance(1)
                if due == self.clock.seconds():
                    expected.append(due)
                    due = None
        self.assertEqual(self.rung, expected)
