"""Greylisting on a clock of our own."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.receiving import Greylist
from mta.hints import MemoryHints
from mta.receive.greylist import NEW, GreylistJudge, prefix_of, seconds_left
from mta.status import MailError
from tests.receive.test_rules import HOME, facts

HOUR, DAY = 3600.0, 86400.0


class GreylistTests(SynchronousTestCase):
    """`GreylistJudge`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_795_000_000)
        self.hints = MemoryHints(self.clock)
        self.begin()

    def begin(self, **changes: Any) -> None:
        """With the usual settings but for these; what is remembered stays."""
        self.greylist = attrs.evolve(Greylist(), **changes)
        self.judge = GreylistJudge(self.greylist, HOME, self.hints, self.clock.seconds)

    def ask(self, client: str = "192.0.2.9", **known: Any) -> MailError | None:
        """At RCPT."""
        return self.judge.judge("rcpt", facts(client=client, **known))

    def waits(self, **known: Any) -> int:
        """Seconds that are left, 0: it passed."""
        error = self.ask(**known)
        if error is None:
            return 0
        self.assertEqual((450, "4.7.1", "greylisted"), (error.reply.code, error.reply.enhanced, error.reason))
        return int(error.reply.text.split()[-2])

    def test_comes_again(self) -> None:
        """After the delay it passes, and from then on at once; a repeat in between does not begin it anew."""
        self.assertEqual(300, self.waits())
        self.clock.advance(100.5)
        self.assertEqual(200, self.waits())
        self.clock.advance(199.5)
        self.assertEqual(0, self.waits())
        self.assertEqual(0, self.waits())

    def test_neighbours_count_as_one(self) -> None:
        """The /24, the /64: large senders repeat from another address.  Another network is another."""
        self.waits()
        self.clock.advance(300)
        self.assertEqual(300, self.waits(client="192.0.3.9"))
        self.assertEqual(0, self.waits(client="192.0.2.200"))
        self.waits(client="2001:db8::1")
        self.clock.advance(300)
        self.assertEqual([0, 300], [self.waits(client=client) for client in ("2001:db8::9:9", "2001:db8:0:1::1")])

    def test_letters(self) -> None:
        """Count for nothing; another sender or recipient is new."""
        self.waits()
        self.clock.advance(300)
        self.assertEqual(300, self.waits(sender="t@a.org"))
        self.assertEqual(300, self.waits(recipient="q@example.org"))
        self.assertEqual(0, self.waits(sender="S@A.org", recipient="R@example.ORG"))

    def test_too_late(self) -> None:
        """Behind the window it begins anew."""
        self.waits()
        self.clock.advance(2 * DAY)
        self.assertEqual(300, self.waits())

    def test_kept(self) -> None:
        """Who has passed is known for so long after the last time, not after the first."""
        self.waits()
        self.clock.advance(300)
        for _ in range(4):
            self.assertEqual(0, self.waits())
            self.clock.advance(30 * DAY)
        self.clock.advance(37 * DAY)
        self.assertEqual(300, self.waits())

    def test_known_network(self) -> None:
        """A network that has passed often enough is known for all."""
        self.begin(pass_after=2)
        for sender in ("a@a.org", "b@a.org"):
            self.waits(sender=sender)
        self.clock.advance(300)
        self.assertEqual([0, 300], [self.waits(sender="a@a.org"), self.waits(sender="c@a.org")])
        self.assertEqual([0, 0], [self.waits(sender="b@a.org"), self.waits(sender="d@a.org")])
        self.assertEqual(300, self.waits(client="10.0.0.1", sender="d@a.org"))
        self.begin(pass_after=0)
        self.assertEqual(300, self.waits(sender="e@a.org"))

    def test_exempt(self) -> None:
        """Networks, names, recipients, who may relay, logins, the postmaster, and who has no address."""
        networks = (ip_network("192.0.2.0/24"),)
        self.begin(networks=networks, names=("*.big.example",), recipients=("eager@example.org", "*.fast.example"))
        self.assertEqual(0, self.waits())
        other = {"client": "198.51.100.1"}
        for known in (
            {"client_name": "mx.big.example"},
            {"recipient": "eager@example.org"},
            {"recipient": "x@a.fast.example"},
            {"recipient": "postmaster"},
            {"trusted": True},
            {"account": "ann"},
        ):
            self.assertEqual(0, self.waits(**other, **known), known)
        self.assertIsNone(self.judge.judge("rcpt", {**facts(), "address": None}))
        self.assertEqual(300, self.waits(**other))

    def test_a_flood_pushes_out_no_one(self) -> None:
        """Whoever has passed stays known, however many come new."""
        self.hints = MemoryHints(self.clock, {NEW: 10, "": 10})
        self.begin()
        self.waits()
        self.clock.advance(300)
        self.assertEqual(0, self.waits())
        for number in range(50):
            self.waits(sender=f"s{number}@spam.example", client="198.51.100.1")
        self.assertEqual(0, self.waits())

    def test_clock_set_back(self) -> None:
        """Nobody waits for longer than the delay."""
        self.assertEqual(300.0, seconds_left(first=10_000.0, now=0.0, delay=300.0))

    def test_clock_set_back_meanwhile(self) -> None:
        """Who came when the clock was a day ahead waits once more, and then passes."""
        self.waits()
        self.clock.rightNow -= DAY
        self.assertEqual(300, self.waits())
        self.clock.advance(300)
        self.assertEqual(0, self.waits())

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    def test_prefixes(self, length: int, one: int, other: int) -> None:
        """Two addresses are one client exactly when they share a network."""
        first, second = ip_address(one), ip_address(other)
        same = second in ip_network((one, length), strict=False)
        self.assertEqual(same, prefix_of(first, length, 64) == prefix_of(second, length, 64))

    def test_families(self) -> None:
        """Are never one."""
        self.assertNotEqual(prefix_of(ip_address("0.0.0.0"), 24, 24), prefix_of(ip_address("::"), 24, 24))
