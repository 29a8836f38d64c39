"""Connections are counted exactly, whatever order clients come and go in, and some places are kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.access import client_address
from mta.receive.limits import table
from mta.receive.limits.connections import Connections, client_key


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
        self.assertIs(connections.enter(mine), table.CONNECTIONS_PER_CLIENT)
        self.assertIsNone(connections.enter(other))
        connections.leave(mine)
        self.assertIsNone(connections.enter(mine))

    def test_in_all(self) -> None:
        """The limit in all holds for everybody, exempt or not, with another reply."""
        connections = Connections(2, 100)
        self.assertIsNone(connections.enter(key("192.0.2.1")))
        self.assertIsNone(connections.enter(key("192.0.2.2"), exempt=True))
        for exempt in (False, True):
            self.assertIs(connections.enter(key("192.0.2.3"), exempt), table.CONNECTIONS)

    def test_exempt(self) -> None:
        """Clients in relay_from, and those without an address, have no limit of their own."""
        connections = Connections(100, 1)
        for _ in range(5):
            self.assertIsNone(connections.enter(key("192.0.2.1"), exempt=True))
            self.assertIsNone(connections.enter(b""))

    def test_reserve(self) -> None:
        """When strangers have all but the reserve, listed clients still get in, up to the limit; then nobody does."""
        connections = Connections(10, 100, reserve=3)
        for _ in range(7):
            self.assertIsNone(connections.enter(key("192.0.2.1")))
        self.assertIs(connections.enter(key("192.0.2.2")), table.RESERVE)
        self.assertIs(connections.enter(key("192.0.2.2"), exempt=True), table.RESERVE)
        for _ in range(3):
            self.assertIsNone(connections.enter(key("192.0.2.3"), listed=True))
        self.assertIs(connections.enter(key("192.0.2.3"), listed=True), table.CONNECTIONS)
        connections.leave(key("192.0.2.1"))
        self.assertIs(connections.enter(key("192.0.2.1")), table.RESERVE)

    def test_reserve_is_never_all(self) -> None:
        """At most half is kept: a small server with the default reserve still serves strangers, and one of one place too."""
        for limit, strangers in ((1, 1), (2, 1), (10, 5), (1000, 900)):
            connections = Connections(limit, 5000, reserve=100)
            entered = [connections.enter(key("192.0.2.1")) for _ in range(limit)]
            self.assertEqual(entered.count(None), strangers)

    def test_obey(self) -> None:
        """Other limits hold from now on, for who comes; who is in stays."""
        connections = Connections(10, 10)
        for _ in range(4):
            connections.enter(key("192.0.2.1"))
        connections.obey(4, 2, 2)
        self.assertIs(connections.enter(key("192.0.2.2")), table.CONNECTIONS)
        connections.obey(10, 4, 0)
        self.assertIs(connections.enter(key("192.0.2.1")), table.CONNECTIONS_PER_CLIENT)
        self.assertEqual(connections.total, 4)

    def test_move(self) -> None:
        """A connection that turns out to be another's is counted there, unless that one has too many; the total stays."""
        connections = Connections(3, 2)
        one, other = key("192.0.2.1"), key("192.0.2.2")
        for who in (one, other, other):
            connections.enter(who)
        self.assertIs(connections.move(one, other), table.CONNECTIONS_PER_CLIENT)
        self.assertIsNone(connections.move(other, other))
        self.assertIsNone(connections.move(one, other, exempt=True))
        self.assertEqual((connections.total, connections._clients), (3, {other: 3}))
        self.assertIsNone(connections.move(other, b""))
        for who in (b"", other, other):
            connections.leave(who)
        self.assertEqual((connections.total, connections._clients), (0, {}))

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
