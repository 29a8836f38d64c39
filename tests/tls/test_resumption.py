"""The store of TLS sessions: bounded, each given out once, only to its key, never beyond its hour (X18)."""

from __future__ import annotations

from collections.abc import Hashable

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mta.tls import resumption
from mta.tls.policy import Achieved
from mta.tls.resumption import EACH, HOLDS, LONGEST, MOST, Resumable, Sessions

KEYS = st.sampled_from(["a", "b", "c"])


def found(since: float) -> Resumable:
    """One of its own."""
    return Resumable(object(), Achieved("TLSv1.3"), since)  # type: ignore[arg-type]


class StoreTests(SynchronousTestCase):
    """`Sessions`."""

    def setUp(self) -> None:
        self.sessions = Sessions()

    def test_once(self) -> None:
        """The youngest first, each once; then there is none."""
        one, two = found(0), found(1)
        self.sessions.put("key", one, 1)
        self.sessions.put("key", two, 1)
        self.assertEqual([self.sessions.take("key", 1) for _ in range(3)], [two, one, None])
        self.assertEqual(len(self.sessions), 0)

    def test_x18_never_across_keys(self) -> None:
        """X18: what is stored for one key is nothing for another."""
        self.sessions.put("key", found(0), 0)
        self.assertIsNone(self.sessions.take("other", 0))

    def test_an_hour_behind_the_full_handshake(self) -> None:
        """However late it was stored: its time is that of the full handshake; a clock that has gone back gives none either."""
        for now, holds in ((HOLDS - 1, True), (HOLDS, False), (-1, False)):
            self.sessions.put("key", found(0), HOLDS - 1)
            self.assertEqual(self.sessions.take("key", now) is not None, holds, now)
            self.assertEqual(len(self.sessions), 0)

    def test_an_old_one_hides_no_young_one(self) -> None:
        """What comes last may stem from the oldest handshake."""
        young = found(1000)
        self.sessions.put("key", young, 1000)
        self.sessions.put("key", found(0), 1000)
        self.assertIs(self.sessions.take("key", HOLDS), young)
        self.assertIsNone(self.sessions.take("key", HOLDS))

    def test_refused(self) -> None:
        """Behind a refusal there is none for an hour, whatever is stored; other keys have theirs."""
        self.sessions.put("key", found(0), 0)
        self.sessions.put("other", found(0), 0)
        self.sessions.refuse("key", 0)
        self.sessions.put("key", found(1), 1)
        self.assertIsNone(self.sessions.take("key", 1))
        self.assertIsNotNone(self.sessions.take("other", 1))
        self.sessions.put("key", found(HOLDS), HOLDS)
        self.assertIsNotNone(self.sessions.take("key", HOLDS))

    def test_bounded(self) -> None:
        """The sessions of one key, all of them, and the refusals: those that were stored to first go."""
        for number in range(MOST + 100):
            for _ in range(1 if number else EACH + 5):
                self.sessions.put(number, found(0), 0)
            self.assertLessEqual(len(self.sessions), MOST)
            self.sessions.refuse(-number, 0)
        self.assertEqual(len(self.sessions), MOST)
        self.assertEqual((self.sessions.take(0, 0), self.sessions.take(100, 0) is not None), (None, True))
        self.sessions.put(-1, found(0), 0)
        self.assertIsNotNone(self.sessions.take(-1, 0))  # forgotten
        self.sessions.put(-MOST, found(0), 0)
        self.assertIsNone(self.sessions.take(-MOST, 0))

    def test_long_chains(self) -> None:
        """A server that shows 64 KiB of certificates costs 0.8 MiB for each session (measured): none of it is stored."""
        for size, stored in ((LONGEST // 2, True), (LONGEST // 2 + 1, False)):
            entry = Resumable(object(), Achieved("TLSv1.3", chain=(bytes(size),) * 2), 0)  # type: ignore[arg-type]
            self.sessions.put("key", entry, 0)
            self.assertEqual(self.sessions.take("key", 0) is entry, stored, size)


class StoreModel(RuleBasedStateMachine):
    """Against a list of what was stored, with small bounds and a clock that goes both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.stored: list[tuple[Hashable, Resumable]] = []
        self.refused: dict[Hashable, float] = {}
        self.now = 10_000.0

    @rule(seconds=st.sampled_from([1.0, HOLDS / 2, HOLDS, -5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=KEYS, age=st.sampled_from([0.0, 10.0, HOLDS - 1]))
    def put(self, key: Hashable, age: float) -> None:
        entry = found(self.now - age)
        self.sessions.put(key, entry, self.now)
        if key in self.refused and not 0 <= self.now - self.refused[key] < HOLDS:
            del self.refused[key]
        self.stored.append((key, entry))

    @rule(key=KEYS)
    def take(self, key: Hashable) -> None:
        entry = self.sessions.take(key, self.now)
        if entry is None:
            return
        assert (key, entry) in self.stored, "of another key, or given out before"
        assert 0 <= self.now - entry.since < HOLDS
        assert not 0 <= self.now - self.refused.get(key, self.now + 1) < HOLDS
        self.stored.remove((key, entry))

    @rule(key=KEYS)
    def refuse(self, key: Hashable) -> None:
        self.sessions.refuse(key, self.now)
        self.refused[key] = self.now
        self.stored = [(other, entry) for other, entry in self.stored if other != key]
        assert self.sessions.take(key, self.now) is None

    @invariant()
    def bounded(self) -> None:
        assert len(self.sessions) <= min(resumption.MOST, len(self.stored))
        assert len(self.sessions) == sum(len(same) for same in self.sessions._known.values())
        assert all(0 < len(same) <= resumption.EACH for same in self.sessions._known.values())


class ModelTests(SynchronousTestCase):
    """Any order of calls."""

    def test_any_order(self) -> None:
        """Never twice, never across keys, never too late, never too many."""
        self.patch(resumption, "MOST", 5)
        self.patch(resumption, "EACH", 3)
        run_state_machine_as_test(StoreModel, settings=settings(deadline=None, max_examples=150, stateful_step_count=40))


class ResumableTests(SynchronousTestCase):
    """`Resumable`."""

    def test_two_are_never_the_same(self) -> None:
        """By what they are, not by what they say: sessions of two connections with one server are two."""
        one = found(0)
        self.assertNotEqual(one, attrs.evolve(one))
