"""The pool alone, with sessions that only note what is asked of them: limits, expiry, keys, stop (H20, H24 to H28, H39 to H42)."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Handover
from mta.hints import MemoryHints
from mta.relay.handover import ReuseKey
from mta.relay.pool import Pool
from mta.smtp.client import Transaction
from mta.status import Reply
from mta.tls.policy import Level

KEY = ReuseKey(
    "r", "smtp", "192.0.2.1", 25, "", "me.example", "mx.example.org", "mx.example.org", Level.MAY, "", "", "", "", "", 0, ""
)
MAIL = Transaction("a@example.org", ("b@example.org",), 100, 0)


class Fake:
    """What the pool knows of a session."""

    def __init__(self, pool: Pool, clock: Clock, key: ReuseKey = KEY, takes: bool = True) -> None:
        self.key = key
        self.opened = clock.seconds()
        self.uses = 1
        self.mail_max = 0
        self.leaving = False
        self.unused = False
        self.asked: list[str] = []
        self._pool = pool
        self._takes = takes
        pool.joined(self)

    def unfit(self, transaction: Transaction) -> Reply | None:
        return None if self._takes else Reply(552, "5.3.4", "too big")

    def park(self, now: float) -> None:
        self.asked.append("park")

    def quit(self) -> None:
        self.asked.append("quit")
        self.leaving = True

    def drop(self) -> None:
        self.asked.append("drop")
        self._pool.left(self)

    def cut(self) -> None:
        self.asked.append("cut")
        self._pool.left(self)


class PoolCase(SynchronousTestCase):
    """A pool on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.build()

    def build(self, **limits: float) -> None:
        self.hints = MemoryHints(self.clock)
        self.pool = Pool(Handover(**limits), self.clock, self.hints)

    def session(self, key: ReuseKey = KEY, takes: bool = True) -> Fake:
        return Fake(self.pool, self.clock, key, takes)

    def idle(self, key: ReuseKey = KEY, takes: bool = True) -> Fake:
        session = self.session(key, takes)
        self.assertEqual(self.pool.release(session), "")
        return session


class AcquireTests(PoolCase):
    """Who gets which connection."""

    def test_equal_key(self) -> None:
        """H28: an equal key gets the connection, once; the one used last comes first."""
        first, second = self.idle(), self.idle()
        self.assertEqual(first.asked, ["park"])
        key = attrs.evolve(KEY)
        self.assertIs(self.pool.acquire(key, MAIL), second)
        self.assertIs(self.pool.acquire(key, MAIL), first)
        self.assertIsNone(self.pool.acquire(key, MAIL))

    def test_any_differing_field(self) -> None:
        """H28 H36 H37: no hand-over for a key that differs in one of the sixteen fields."""
        self.idle()
        for field in attrs.fields(ReuseKey):
            value = getattr(KEY, field.name)
            other = Level.ENCRYPT if isinstance(value, Level) else value + 1 if isinstance(value, int) else value + "x"
            self.assertIsNone(self.pool.acquire(attrs.evolve(KEY, **{field.name: other}), MAIL), field.name)
        self.assertIsNotNone(self.pool.acquire(KEY, MAIL))

    def test_hash_collision(self) -> None:
        """H42: keys with one hash are still two keys."""
        one, two = attrs.evolve(KEY, flags=-1), attrs.evolve(KEY, flags=-2)
        self.assertEqual(hash(one), hash(two))
        session = self.idle(one)
        self.assertIsNone(self.pool.acquire(two, MAIL))
        self.assertIs(self.pool.acquire(one, MAIL), session)

    def test_unfit_sessions_are_left_for_others(self) -> None:
        """H33: a connection whose server cannot take this message stays idle."""
        fit, unfit = self.idle(), self.idle(takes=False)
        self.assertIs(self.pool.acquire(KEY, MAIL), fit)
        self.assertIsNone(self.pool.acquire(KEY, MAIL))
        self.assertEqual((unfit.asked, self.pool.idle), (["park"], 1))

    def test_time_limit_at_pick_up(self) -> None:
        """H26: a connection that grew too old while it idled is not used; QUIT."""
        self.build(reuse_time_limit=10.0, idle_limit=60.0)
        session = self.idle()
        self.clock.advance(10)
        self.assertIsNone(self.pool.acquire(KEY, MAIL))
        self.assertEqual((session.asked, self.pool.idle), (["park", "quit"], 0))

    def test_closed_while_idle(self) -> None:
        """H20 H25: a connection that is gone is never given out."""
        session = self.idle()
        self.pool.left(session)
        self.assertIsNone(self.pool.acquire(KEY, MAIL))
        self.assertEqual(self.pool.idle, 0)


class ReleaseTests(PoolCase):
    """H26: the limits when a connection is given back."""

    def refused(self, **facts: object) -> str:
        session = self.session()
        for name, value in facts.items():
            setattr(session, name, value)
        return self.pool.release(session)

    def test_time_and_count(self) -> None:
        """H26: 300 s from connect, 500 transactions, the peer's MAILMAX; not a moment before."""
        self.clock.advance(300)
        self.assertEqual(self.refused(opened=0.0), "reuse_time_limit")
        self.assertEqual(self.refused(opened=0.1, uses=499), "")
        self.assertEqual(self.refused(uses=500), "reuse_count_limit")
        self.assertEqual(self.refused(uses=3, mail_max=3), "peer-limit")
        self.assertEqual(self.refused(uses=2, mail_max=3), "")

    def test_no_count_limit(self) -> None:
        """0 means none."""
        self.build(reuse_count_limit=0)
        self.assertEqual(self.refused(uses=100_000), "")

    def test_total(self) -> None:
        """idle_max_total is never passed, and idling can be switched off."""
        self.build(idle_max_total=3, idle_max_per_key=2)
        self.assertEqual([self.refused() for _ in range(4)], ["", "", "", "idle-limits"])
        self.build(idle_limit=0.0)
        self.assertEqual(self.refused(), "idle-limits")


class ExpiryTests(PoolCase):
    """H40: what idles too long says QUIT."""

    def test_idle_limit(self) -> None:
        """H40: QUIT after idle_limit, in order, with one timer for all."""
        first = self.idle()
        self.clock.advance(2)
        second = self.idle()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2.9)
        self.assertEqual(first.asked, ["park"])
        self.clock.advance(0.1)
        self.assertEqual((first.asked, second.asked), (["park", "quit"], ["park"]))
        self.clock.advance(2)
        self.assertEqual((second.asked, self.pool.idle), (["park", "quit"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_used_in_time(self) -> None:
        """A connection that was picked up does not expire, and its next idling counts anew."""
        session = self.idle()
        self.clock.advance(4)
        self.assertIs(self.pool.acquire(KEY, MAIL), session)
        self.clock.advance(4)
        self.assertEqual(self.pool.release(session), "")
        self.clock.advance(4.9)
        self.assertNotIn("quit", session.asked)
        self.clock.advance(0.2)
        self.assertIn("quit", session.asked)

    def test_surplus_of_one_key_idles_briefly(self) -> None:
        """More than idle_max_per_key of one key stay for a second only; the others of the limit stay on."""
        sessions = [self.idle() for _ in range(5)]
        other = self.idle(attrs.evolve(KEY, port=26))
        self.clock.advance(1)
        self.assertEqual([("quit" in session.asked) for session in sessions], [False, False, True, True, True])
        self.assertNotIn("quit", other.asked)
        self.assertEqual(self.pool.idle, 3)
        self.clock.advance(4)
        self.assertEqual(self.pool.idle, 0)

    def test_busy_key_keeps_all(self) -> None:
        """Twenty connections used in bursts half a second apart: none of them has to be made again."""
        sessions = [self.idle() for _ in range(20)]
        for _ in range(10):
            self.clock.advance(0.5)
            taken = [self.pool.acquire(KEY, MAIL) for _ in range(20)]
            self.assertEqual(set(taken), set(sessions))
            for session in taken:
                assert session is not None
                self.assertEqual(self.pool.release(session), "")


class SuspensionTests(PoolCase):
    """H24: hosts whose kept connections are dead."""

    def test_three_in_a_row(self) -> None:
        """H24: after the third, nothing is kept for that host for ten minutes; other hosts go on."""
        for _ in range(3):
            self.assertEqual(self.pool.release(self.session()), "")
            self.pool.stale(KEY)
        self.assertEqual(self.pool.release(self.session()), "suspended")
        self.idle(attrs.evolve(KEY, address="192.0.2.2"))
        self.clock.advance(600)
        self.assertEqual(self.pool.release(self.session()), "")

    def test_only_in_a_row(self) -> None:
        """H24: a kept connection that serves wipes the count."""
        for _ in range(5):
            self.pool.stale(KEY)
            self.pool.stale(KEY)
            self.pool.fine(KEY)
        self.assertEqual(self.pool.release(self.session()), "")

    def test_counts_are_bounded(self) -> None:
        """H24: hosts that were stale once and are never heard of again fill no memory."""
        for number in range(3 * Pool.MOST_STALE):
            self.pool.stale(attrs.evolve(KEY, host=f"mx{number}.example"))
        self.assertLessEqual(len(self.pool._stale), Pool.MOST_STALE)


class RetireTests(PoolCase):
    """H38: another generation has a pool of its own."""

    def test_h38_idle_and_busy(self) -> None:
        """H38: QUIT to the idle, and no busy one idles here again; nothing is left on the clock."""
        idle, busy = self.idle(), self.session()
        self.pool.retire()
        self.assertEqual((idle.asked, busy.asked), (["park", "quit"], []))
        self.assertIsNone(self.pool.acquire(KEY, MAIL))
        self.assertEqual(self.pool.release(busy), "reload")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for session in (idle, busy):
            self.pool.left(session)
        self.successResultOf(self.pool.stop())

    def test_h38_stopped_afterwards(self) -> None:
        """H38: the stop of the service ends what a retired pool still has."""
        busy = self.session()
        self.pool.retire()
        stopped = self.pool.stop()
        self.clock.pump([Pool.QUIT_LIMIT, Pool.STOP_LIMIT])
        self.assertEqual(busy.asked, ["cut"])
        self.successResultOf(stopped)


class StopTests(PoolCase):
    """H39: the end."""

    def test_nothing_open(self) -> None:
        """A pool without connections stops at once and keeps nothing afterwards."""
        self.successResultOf(self.pool.stop())
        self.assertEqual(self.pool.release(self.session()), "stopping")

    def test_idle_and_busy(self) -> None:
        """H39: QUIT to the idle; what does not close is dropped after 5 s; busy ones are cut at the limit."""
        idle, deaf, busy = self.idle(), self.idle(), self.session()
        stopped = self.pool.stop()
        self.assertEqual((idle.asked[-1], deaf.asked[-1], busy.asked), ("quit", "quit", []))
        self.pool.left(idle)
        self.clock.advance(4.9)
        self.assertEqual(deaf.asked[-1], "quit")
        self.clock.advance(0.1)
        self.assertEqual((deaf.asked[-1], busy.asked), ("drop", []))
        self.assertNoResult(stopped)
        self.clock.advance(15)
        self.assertEqual(busy.asked, ["cut"])
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unused(self) -> None:
        """One that is still on its way to its first transaction is cut at once."""
        session = self.session()
        session.unused = True
        stopped = self.pool.stop()
        self.assertEqual(session.asked, ["cut"])
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_busy_one_ends_in_time(self) -> None:
        """H39: the stop is over with the last connection, and no timer is left."""
        busy = self.session()
        stopped = self.pool.stop()
        self.assertEqual(self.pool.release(busy), "stopping")
        self.pool.left(busy)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
