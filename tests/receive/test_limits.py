"""Connections and handshake slots are counted exactly, whatever order clients come and go in."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.access import client_address
from mta.receive.limits import MINUTE, REMEMBERED, Connections, HandshakeSlots, TlsSessions, client_key


def key(text: str) -> bytes:
    """Who that is."""
    return client_key(client_address(text))


class ClientKeyTests(SynchronousTestCase):
    """`client_key`."""

    def test_one_client(self) -> None:
        """An IPv4 address is a client, mapped or not; so is an IPv6 /64; a UNIX socket has no key."""
        self.assertEqual(key("192.0.2.1"), key("::ffff:192.0.2.1"))
        self.assertNotEqual(key("192.0.2.1"), key("192.0.2.2"))
        self.assertEqual(key("2001:db8::1"), key("2001:db8:0:0:ffff::2"))
        self.assertNotEqual(key("2001:db8::1"), key("2001:db8:0:1::1"))
        self.assertEqual(key("local"), b"")


class ConnectionsTests(SynchronousTestCase):
    """`Connections`."""

    def test_per_client(self) -> None:
        """The third of two gets 421 4.7.0; another client does not; one that leaves makes room."""
        connections = Connections(10, 2)
        mine, other = key("192.0.2.1"), key("192.0.2.2")
        self.assertIsNone(connections.enter(mine))
        self.assertIsNone(connections.enter(mine))
        refusal = connections.enter(mine)
        self.assertEqual((refusal.code, refusal.enhanced), (421, "4.7.0"))
        self.assertIsNone(connections.enter(other))
        connections.leave(mine)
        self.assertIsNone(connections.enter(mine))

    def test_in_all(self) -> None:
        """The limit in all holds for everybody, exempt or not, with another reply."""
        connections = Connections(2, 100)
        self.assertIsNone(connections.enter(key("192.0.2.1")))
        self.assertIsNone(connections.enter(key("192.0.2.2"), exempt=True))
        for exempt in (False, True):
            refusal = connections.enter(key("192.0.2.3"), exempt)
            self.assertEqual((refusal.code, refusal.enhanced), (421, "4.3.2"))

    def test_exempt(self) -> None:
        """Clients in relay_from, and those without an address, have no limit of their own."""
        connections = Connections(100, 1)
        for _ in range(5):
            self.assertIsNone(connections.enter(key("192.0.2.1"), exempt=True))
            self.assertIsNone(connections.enter(b""))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
    def test_counts(self, steps: list[tuple[bool, int]]) -> None:
        """After any coming and going the counts are those of a plain list, and nobody who left is remembered."""
        connections = Connections(6, 3)
        here: list[bytes] = []
        for comes, number in steps:
            who = bytes([number])
            if comes:
                allowed = len(here) < 6 and here.count(who) < 3
                self.assertEqual(connections.enter(who) is None, allowed)
                here += [who] if allowed else []
            elif who in here:
                here.remove(who)
                connections.leave(who)
        self.assertEqual(connections.total, len(here))
        self.assertEqual(set(connections._clients), set(here))


class TlsSessionsTests(SynchronousTestCase):
    """`TlsSessions`."""

    def test_s09_rate(self) -> None:
        """S09: three at once, the fourth is 454 4.7.0; after a third of a minute there may be one more; others are not concerned."""
        sessions, mine, other = TlsSessions(3), key("192.0.2.1"), key("192.0.2.2")
        for _ in range(3):
            self.assertIsNone(sessions.enter(mine, 1000.0))
        for _ in range(5):
            refusal = sessions.enter(mine, 1000.0)
            self.assertEqual((refusal.code, refusal.enhanced), (454, "4.7.0"))
        self.assertIsNone(sessions.enter(other, 1000.0))
        self.assertIsNone(sessions.enter(mine, 1020.0))
        self.assertIsNotNone(sessions.enter(mine, 1020.0))

    def test_exempt(self) -> None:
        """No limit, no address, or a client in relay_from: nothing is counted."""
        sessions = TlsSessions(1)
        for _ in range(5):
            self.assertIsNone(sessions.enter(b"", 0.0))
            self.assertIsNone(sessions.enter(key("192.0.2.1"), 0.0, exempt=True))
            self.assertIsNone(TlsSessions(0).enter(key("192.0.2.1"), 0.0))
        self.assertEqual(len(sessions), 0)

    @settings(deadline=None, max_examples=100)
    @given(
        st.integers(1, 7), st.lists(st.tuples(st.sampled_from([0.0, 0.5, 3.0, 11.0, 59.0, 61.0]), st.integers(0, 2)), max_size=80)
    )
    def test_like_one_dictionary(self, limit: int, steps: list[tuple[float, int]]) -> None:
        """The two dictionaries that are thrown away in turn answer like one that keeps everything for ever."""
        sessions, free, now = TlsSessions(limit), [0.0, 0.0, 0.0], 1_795_000_000.0
        for pause, who in steps:
            now += pause
            then = max(now, free[who]) + MINUTE / limit
            allowed = then <= now + MINUTE + 0.001
            self.assertEqual(sessions.enter(bytes([who + 1]), now) is None, allowed)
            free[who] = then if allowed else free[who]

    def test_bounded(self) -> None:
        """A flood of addresses costs bounded memory; and minutes later nobody is remembered."""
        sessions = TlsSessions(1)
        for number in range(3 * REMEMBERED):
            sessions.enter(number.to_bytes(8), 0.0)
        self.assertLessEqual(len(sessions), 2 * REMEMBERED)
        sessions.enter(b"x", 3 * MINUTE)
        self.assertEqual(len(sessions), 1)


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
