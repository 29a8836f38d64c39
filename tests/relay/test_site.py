"""Limits of sites: who is one, whose turn it is, and what that does to deliveries to real servers."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import SiteEntry
from mta.envelope import Kind
from mta.relay.site import GRACE, MOST_AWAY, Site, Sites, site_of
from tests.relay.world import RelayCase


class Fake:
    """What a site knows of a connection."""

    def __init__(self, idle_since: float = 0.0, idling: bool = False) -> None:
        self.idle_since, self.idling, self.leaving = idle_since, idling, False

    def give_way(self) -> None:
        self.leaving = True


class SitesTests(SynchronousTestCase):
    """Which hosts are one site, and which entry is for it."""

    def test_set_of_hosts(self) -> None:
        """The order of the MX hosts and how often one is named make no difference."""
        sites = Sites((SiteEntry(("*.big.org",), 1),))
        self.assertIs(sites.of(["a.big.org", "b.big.org"]), sites.of(["b.big.org", "a.big.org", "b.big.org"]))
        self.assertIsNot(sites.of(["a.big.org"]), sites.of(["a.big.org", "b.big.org"]))
        self.assertEqual("a b", site_of(["b", "a", "b"]))

    def test_patterns(self) -> None:
        """Each host must match, names below a domain are not the domain itself; nothing is limited without an entry."""
        sites = Sites((SiteEntry(("*.Big.org", "mx.other.org"), 1),))
        self.assertIsNotNone(sites.of(["a.b.big.org", "mx.other.org"]))
        for names in (["big.org"], ["abig.org"], ["a.big.org", "mx.org"], ["x.mx.other.org"], []):
            self.assertIsNone(sites.of(names), names)
        self.assertIsNone(Sites().of(["a.big.org"]))
        self.assertIsNotNone(Sites((SiteEntry(("*",), 1),)).of(["any.example"]))

    def test_first_entry(self) -> None:
        """The first that matches wins: its rate holds, the other's does not."""
        site = Sites((SiteEntry(("a.org",), rate="1/s"), SiteEntry(("*",), rate="1/h"))).of(["a.org"])
        assert site is not None
        self.assertEqual([0.0, 1.0], [site.wait(who, 5.0) for who in "ab"])

    def test_reconfigured(self) -> None:
        """Connections stay counted over a change of the limit; what is limited no more is forgotten."""
        sites = Sites((SiteEntry(("*",), 1),))
        site = sites.of(["a.org"])
        assert site is not None
        site.joined(Fake())
        sites.reconfigure((SiteEntry(("a.org",), 2),))
        self.assertIs(site, sites.of(["a.org"]))
        self.assertEqual(0.0, site.delay("x", 0.0))
        site.joined(Fake())
        self.assertTrue(site.delay("x", 0.0))
        sites.reconfigure(())
        self.assertIsNone(sites.of(["a.org"]))

    def test_unused_sites_are_forgotten(self) -> None:
        """10,000 sites once met take no memory; one with a connection stays."""
        sites = Sites((SiteEntry(("*",), 1),))
        used = sites.of(["used.org"])
        assert used is not None
        used.joined(Fake())
        for number in range(10_000):
            sites.of([f"mx{number}.org"])
        self.assertTrue(len(sites._known) <= 1001)
        self.assertIs(used, sites.of(["used.org"]))


class RateTests(SynchronousTestCase):
    """`Site.wait`."""

    def test_turns(self) -> None:
        """Three destinations, one message a second: each has a time of its own, and comes when it is told."""
        site = Site(SiteEntry(("*",), rate="1/s"))
        self.assertEqual([0.0, 1.0, 2.0], [site.wait(who, 10.0) for who in "abc"])
        self.assertEqual(1.5, site.wait("c", 10.5))
        self.assertEqual([0.0, 0.0], [site.wait("b", 11.0), site.wait("c", 12.0)])
        self.assertEqual([0.0, 1.0], [site.wait("a", 13.0), site.wait("a", 13.0)])

    def test_who_does_not_come(self) -> None:
        """His turn is lost and nobody waits for it; what is remembered of him goes."""
        site = Site(SiteEntry(("*",), rate="1/s"))
        for number in range(50):
            site.wait(f"d{number}", 0.0)
        later = 50 + GRACE
        self.assertEqual([0.0, 1.0], [round(site.wait(who, later + 1), 6) for who in "ab"])
        self.assertEqual(["b"], list(site._turns))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 9)), max_size=200))
    def test_never_more_than_the_rate(self, asks: list[tuple[float, int]]) -> None:
        """Whoever asks whenever: in no second more than 5 of 5/s, but for one at its border."""
        site, now, gone = Site(SiteEntry(("*",), rate="5/s")), 0.0, []
        for step, who in asks:
            now += step
            if not site.wait(str(who), now):
                gone.append(now)
        promised = len(gone)
        self.assertTrue(promised <= 1 + now * 5 + 1)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(2, 20), st.integers(10, 100))
    def test_everybody_in_his_turn(self, crowd: int, rounds: int) -> None:
        """All come at the time they are told: the rate is used up, and nobody has more than one message more than another."""
        site = Site(SiteEntry(("*",), rate="10/s"))
        due = {str(number): 0.0 for number in range(crowd)}
        sent = dict.fromkeys(due, 0)
        for _ in range(rounds * crowd):
            who = min(due, key=lambda name: due[name])
            now = due[who]
            wait = site.wait(who, now)
            due[who] = now + wait
            sent[who] += not wait
        total = sum(sent.values())
        self.assertTrue(max(sent.values()) - min(sent.values()) <= 2, sent)
        self.assertTrue(max(due.values()) <= total / 10 + crowd / 10 + 0.2, (total, max(due.values())))


class ConnectionTests(SynchronousTestCase):
    """`Site.delay`."""

    def setUp(self) -> None:
        self.site = Site(SiteEntry(("*",), 2))
        self.open = [Fake(), Fake()]
        for session in self.open:
            self.assertEqual(0.0, self.site.delay("a", 0.0))
            self.site.joined(session)

    def test_full(self) -> None:
        """The third stays away; one that says QUIT makes room for it."""
        away = self.site.delay("b", 1.0)
        self.assertTrue(0 < away <= MOST_AWAY)
        self.open[0].leaving = True
        self.assertEqual(0.0, self.site.delay("b", 1.0 + away))

    def test_idle_gives_way(self) -> None:
        """A connection that idles for somebody else is ended: the one that idles longest."""
        self.open[0].idling = self.open[1].idling = True
        self.open[0].idle_since, self.open[1].idle_since = 5.0, 4.0
        self.assertEqual(0.0, self.site.delay("b", 6.0))
        self.assertEqual([False, True], [session.leaving for session in self.open])

    def test_line(self) -> None:
        """Who waits comes before who has just had one; a place is lost by who does not come."""
        self.site.delay("b", 1.0)
        self.open[0].leaving = True
        self.assertTrue(self.site.delay("a", 1.0))
        self.assertEqual(0.0, self.site.delay("b", 2.0))
        self.site.joined(Fake())
        self.open[1].leaving = True
        late = 3.0 + MOST_AWAY + GRACE + 10
        self.assertEqual(0.0, self.site.delay("c", late))

    def test_no_limit(self) -> None:
        """A site with a rate alone counts no connections."""
        site = Site(SiteEntry(("*",), rate="1/s"))
        for _ in range(100):
            self.assertEqual(0.0, site.delay("a", 0.0))
            site.joined(Fake())
        self.assertEqual([], site._open)

    @settings(deadline=None, max_examples=100)
    @given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("owiq"), st.integers(0, 7)), max_size=200))
    def test_never_more(self, limit: int, steps: list[tuple[str, int]]) -> None:
        """Opened, worked with, idling, left in any order: never more connections than the limit."""
        site, sessions, now = Site(SiteEntry(("*",), limit)), [], 0.0
        for step, number in steps:
            now += 0.5
            alive = [session for session in sessions if not session.leaving]
            if step == "o":
                if not site.delay(str(number), now):
                    sessions.append(Fake())
                    site.joined(sessions[-1])
            elif alive:
                session = alive[number % len(alive)]
                session.leaving, session.idling, session.idle_since = step == "q", step == "i", now
            self.assertTrue(sum(not session.leaving for session in sessions) <= limit)


class RelayTests(RelayCase):
    """Against servers on loopback."""

    def limit(self, **limits: object) -> None:
        self.start()
        assert self.relay is not None
        self.relay._sites.reconfigure((SiteEntry(("*.example.org",), **limits),))  # type: ignore[arg-type]

    async def test_connections(self) -> None:
        """Limit 1: a second job meanwhile is given back at once without an attempt; later it goes over the same connection."""
        server = self.serve()
        self.limit(connections=1)
        first = self.deliver(next_hop="a.example.org")
        second = (await self.deliver(next_hop="b.example.org")).outcomes[0]
        self.assertIs(Kind.GIVEN_BACK, second.kind)
        self.assertTrue(second.retry_after)
        self.assertEqual("site-limit", second.facts["reason"])
        self.assertIs(Kind.DELIVERED, (await first).outcomes[0].kind)
        await self.delivered(next_hop="b.example.org")
        self.assertEqual(1, len(server.open))

    async def test_rate(self) -> None:
        """One a minute for all domains of these servers: the second is given back until its minute has come."""
        self.serve()
        self.limit(rate="1/min")
        await self.delivered(next_hop="a.example.org")
        outcome = await self.outcome(next_hop="b.example.org")
        self.assertIs(Kind.GIVEN_BACK, outcome.kind)
        self.assertTrue(55 < (outcome.retry_after or 0) <= 60)
        self.reactor.shift += 61
        await self.delivered(next_hop="b.example.org")

    async def test_next_host_over_the_limit(self) -> None:
        """A host that refuses has been tried: what follows is a deferral by the ladder, and nothing goes over the limit."""
        self.dead()
        self.serve()
        self.hops.targets[0] = attrs.evolve(self.hops.targets[0], name="mx0.example.org")
        self.limit(connections=1)
        await self.delivered(next_hop="a.example.org")

    async def test_site_of_a_destination(self) -> None:
        """ISites: domains with the same servers have one name; "" where nobody can say."""
        self.serve()
        self.serve()
        self.start()
        assert self.relay is not None
        names = [await self.relay.site(f"smtp:may/{domain}") for domain in ("a.org", "b.org")]
        self.assertEqual(names[0], names[1])
        self.assertIn("mx1.example.org", names[0])
