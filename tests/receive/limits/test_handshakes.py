"""Handshake slots: exactly so many, and a fair turn for every client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.limits.handshakes import HandshakeSlots


class HandshakeSlotsTests(SynchronousTestCase):
    """`HandshakeSlots`."""

    def setUp(self) -> None:
        self.begun: list[int] = []

    def beginner(self, number: int) -> Callable[[], None]:
        """What notes that it has begun."""
        return lambda: self.begun.append(number)

    def test_first_come_first_served(self) -> None:
        """Two begin at once, the others in their order as slots come back."""
        slots = HandshakeSlots(2)
        begins = [self.beginner(number) for number in range(4)]
        for begin in begins:
            slots.take(begin)
        self.assertEqual((self.begun, slots.waiting), ([0, 1], 2))
        self.assertTrue(slots.give_back(begins[1]))
        self.assertEqual(self.begun, [0, 1, 2])
        for number in (0, 2, 3):
            self.assertTrue(slots.give_back(begins[number]))
        self.assertFalse(slots.give_back(begins[3]), "given back twice")
        self.assertEqual((self.begun, slots.waiting, slots.free), ([0, 1, 2, 3], 0, 2))

    def test_withdraw(self) -> None:
        """Who has gone is passed over; withdrawing twice does no harm."""
        slots = HandshakeSlots(1)
        waiting = [self.beginner(number) for number in range(3)]
        for begin in waiting:
            slots.take(begin)
        slots.withdraw(waiting[1])
        slots.withdraw(waiting[1])
        slots.withdraw(waiting[0])
        slots.give_back(waiting[0])
        self.assertEqual(self.begun, [0, 2])

    def test_failing_at_once(self) -> None:
        """Ten thousand that give back within `begin` are all served, without ten thousand frames of stack."""
        slots = HandshakeSlots(1)
        begins: list[Callable[[], None]] = []
        first = self.beginner(-1)
        slots.take(first)
        for number in range(10_000):

            def begin(number: int = number) -> None:
                self.begun.append(number)
                slots.give_back(begins[number])

            begins.append(begin)
            slots.take(begin)
        slots.give_back(first)
        self.assertEqual((len(self.begun), slots.free), (10_001, 1))

    def test_resize(self) -> None:
        """More slots serve who waits, at once; fewer let those that are held run out first."""
        slots = HandshakeSlots(1)
        begins = [self.beginner(number) for number in range(6)]
        for begin in begins:
            slots.take(begin)
        slots.resize(3)
        self.assertEqual(self.begun, [0, 1, 2])
        slots.resize(1)
        self.assertEqual(slots.free, -2)
        slots.give_back(begins[0])
        slots.give_back(begins[1])
        self.assertEqual((self.begun, slots.free), ([0, 1, 2], 0))
        slots.give_back(begins[2])
        self.assertEqual(self.begun, [0, 1, 2, 3])

    def test_at_least_one(self) -> None:
        """No slot at all would be a server that never speaks TLS."""
        slots = HandshakeSlots(0)
        slots.take(self.beginner(0))
        self.assertEqual(self.begun, [0])

    def test_fair_turn(self) -> None:
        """200 of one client wait; another one that comes then has the next turn, a third the one behind it."""
        slots = HandshakeSlots(1)
        first = self.beginner(-1)
        slots.take(first, b"greedy")
        for number in range(200):
            slots.take(self.beginner(number), b"greedy")
        slots.take(self.beginner(1000), b"modest")
        slots.take(self.beginner(2000), b"third")
        slots.take(self.beginner(1001), b"modest")
        current = first
        for _ in range(5):
            slots.give_back(current)
            [current] = slots._held
        self.assertEqual(self.begun, [-1, 0, 1000, 2000, 1, 1001])
        self.assertEqual(slots.waiting, 198)

    def test_gone_is_forgotten(self) -> None:
        """A client all of whose connections have withdrawn has no turn, and nothing is kept of it."""
        slots = HandshakeSlots(1)
        held, gone, other = (self.beginner(number) for number in range(3))
        slots.take(held, b"a")
        slots.take(gone, b"b")
        slots.take(other, b"c")
        slots.withdraw(gone)
        slots.give_back(held)
        self.assertEqual((self.begun, slots.waiting, slots._waiting, slots._client), ([0, 2], 0, {}, {}))

    @settings(deadline=None, max_examples=100)
    @given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("take give withdraw".split()), st.integers(0, 3)), max_size=60))
    def test_always(self, size: int, steps: list[tuple[str, int]]) -> None:
        """Whatever happens: never more than the slots, nobody waits while one is free, each client's own are served in order."""
        slots, served = HandshakeSlots(size), []
        begins: list[Callable[[], None]] = []
        waiting: list[tuple[int, Callable[[], None]]] = []

        def beginner(client: int) -> Callable[[], None]:
            def begin() -> None:
                mine = [call for who, call in waiting if who == client]
                self.assertIs(mine[0], begin)
                waiting.remove((client, begin))
                served.append(client)

            return begin

        for what, number in steps:
            if what == "take":
                begins.append(beginner(number))
                waiting.append((number, begins[-1]))
                slots.take(begins[-1], bytes([number]))
            elif what == "give" and slots._held:
                slots.give_back(sorted(slots._held, key=begins.index)[0])
            elif what == "withdraw" and waiting:
                _, call = waiting.pop(number % len(waiting))
                slots.withdraw(call)
            self.assertEqual(slots.free + len(slots._held), size)
            self.assertTrue(slots.free >= 0 and (not waiting or slots.free == 0))
            self.assertEqual(slots.waiting, len(waiting))
            self.assertEqual(Counter(client for client, _ in waiting), Counter({c[0]: len(q) for c, q in slots._waiting.items()}))
