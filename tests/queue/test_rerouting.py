"""Mail that waits goes the new way when the routes have changed: at start and at a reload, all of it, and only once."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Refusal, Route
from mta.queue.state import Alteration, Selector, State
from mta.status import transient
from tests.queue.station import LATER, NO, FakeAgent, FakeRouter, Station, deferred, delivered

TO = "bob@example.org"


class LocalRouter(FakeRouter):
    """example.org is ours now."""

    def __init__(self, digest: str = "2", tls: str = "") -> None:
        self.digest = digest
        self.tls = tls
        self.asked: list[str] = []

    def route(self, address: str) -> Route | Refusal:
        self.asked.append(address)
        if address.startswith("gone"):
            return Refusal(NO)
        if address.startswith("later"):
            return Refusal(LATER)
        if address.endswith("@example.org"):
            return Route("home", "maildir", "")
        return Route("default", "smtp", address.rpartition("@")[2], self.tls)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.station = Station().start()
        self.station.smtp.answer = deferred
        self.home = self.station.agents["maildir"] = FakeAgent(delivered)

    def accepted(self, *addresses: str) -> int:
        return self.successResultOf(self.station.accept(*(addresses or (TO,))))

    def reload(self, router: FakeRouter) -> None:
        self.station.router = router
        self.station.service.reconfigure(self.station.settings, router)

    def dests(self) -> dict[str, str]:
        return {row.address: row.dest for row in self.station.engine._rows.values()}

    def reroutings(self) -> list[object]:
        return [fields["recipients"] for name, _, fields in self.station.log.lines if name == "rerouted"]


class ReloadTests(Case):
    """While the server runs."""

    def test_domain_becomes_local(self) -> None:
        """What was deferred for it is delivered at home at once; other mail is left where it is."""
        self.accepted(TO, "c@example.net")
        self.reload(LocalRouter())
        self.assertEqual([(TO,)], self.home.seen)
        self.assertEqual({"c@example.net": "smtp:default/example.net"}, self.dests())
        self.assertEqual([1], self.reroutings())

    def test_before_its_release(self) -> None:
        """What its sender has put off himself (RFC 4865) goes the new way in its time, not now."""
        station = self.station
        self.successResultOf(station.service.accept(attrs.evolve(station.message(TO), release=station.now() + 600_000)))
        self.reload(LocalRouter())
        station.advance(590)
        self.assertEqual(({TO: "maildir:home/"}, []), (self.dests(), self.home.seen))
        station.advance(20)
        self.assertEqual([(TO,)], self.home.seen)

    def test_the_same_routes(self) -> None:
        """A reload that leaves the routes alone looks at no mail."""
        self.accepted()
        router = LocalRouter(digest="1")
        self.reload(router)
        self.station.advance(300)
        self.assertEqual(([], []), (router.asked, self.home.seen))
        self.assertNotIn("refile", self.station.queue.calls)

    def test_once(self) -> None:
        """Once more a minute later, for what was being stored; then the digest is kept, and no minute looks again."""
        self.accepted("c@example.net")
        router = LocalRouter()
        self.reload(router)
        self.assertEqual(["c@example.net"], router.asked)
        self.station.advance(500)
        self.assertEqual(["c@example.net"] * 2, router.asked)
        self.assertEqual("2", self.successResultOf(self.station.engine.noted("routes")))

    def test_being_stored(self) -> None:
        """Filed by the old routes, stored after the walk: the next walk finds it."""
        self.station.queue.stalled = []
        accepting = self.station.accept(TO)
        self.reload(LocalRouter())
        self.station.queue.begin()
        self.successResultOf(accepting)
        self.assertEqual({TO: "smtp:default/example.org"}, self.dests())
        self.station.advance(61)
        self.assertEqual([(TO,)], self.home.seen)

    def test_due_before_the_walk(self) -> None:
        """It is not tried the old way once more, which may be to its end; it goes the new way when the walk has come to it."""
        self.accepted(TO, "c@example.net")
        self.station.queue.faults["browse"] = [transient("4.3.0", "the disk")] * 20
        self.reload(LocalRouter())
        self.station.advance(400)
        self.assertEqual([("c@example.net",)], self.station.smtp.seen[2:])
        self.assertEqual([], self.home.seen)
        self.assertTrue(self.flushLoggedErrors())
        self.station.queue.faults.clear()
        self.station.advance(61)
        self.assertEqual([(TO,)], self.home.seen)

    def test_in_flight(self) -> None:
        """What is being delivered when the routes change, and is deferred, follows within a minute."""
        self.station.smtp.wait = True
        self.accepted()
        self.reload(LocalRouter())
        self.assertEqual("", self.successResultOf(self.station.engine.noted("routes")).strip("1"))
        self.station.smtp.finish(answer=deferred)
        self.assertEqual({TO: "smtp:default/example.org"}, self.dests())
        self.station.advance(61)
        self.assertEqual([(TO,)], self.home.seen)
        self.station.advance(60)
        self.assertEqual("2", self.successResultOf(self.station.engine.noted("routes")))

    def test_refused(self) -> None:
        """For good: to the bounce, with the reason; for now: it stays where it is and is tried there."""
        self.station.bounce.wait = True
        self.accepted("gone@example.org", "later@example.org")
        self.reload(LocalRouter())
        self.assertEqual({"gone@example.org": "bounce:", "later@example.org": "smtp:default/example.org"}, self.dests())
        ((job, _),) = self.station.bounce.jobs
        self.assertEqual((str(NO), "smtp:default/example.org"), (job.claims[0].last_reply, job.claims[0].failed_dest))

    def test_held(self) -> None:
        """It is moved and stays held."""
        self.accepted()
        self.successResultOf(self.station.engine.alter(Selector(), Alteration.HOLD, self.station.now()))
        self.reload(LocalRouter())
        ((row,),) = [list(self.station.engine._rows.values())]
        self.assertEqual(("maildir:home/", State.HELD), (row.dest, row.state))

    def test_demand_is_not_lost(self) -> None:
        """Filed under a demand for TLS: the demand goes with it, whatever the new route's; at home there is none."""
        self.station.router = LocalRouter("2", "verify")
        self.station.service.reconfigure(self.station.settings, self.station.router)
        self.accepted("a@example.net")
        self.assertEqual(["smtp:default+verify/example.net"], list(self.dests().values()))
        for digest, tls in (("3", ""), ("4", "may")):
            self.reload(LocalRouter(digest, tls))
            self.assertEqual(["smtp:default+verify/example.net"], list(self.dests().values()))
        self.assertEqual([], self.reroutings())
        moved = LocalRouter("5")
        moved.route = lambda address: Route("bank", "smtp", "[192.0.2.1]:25", "may")
        self.reload(moved)
        self.assertEqual(["smtp:bank+verify/[192.0.2.1]:25"], list(self.dests().values()))
        moved = LocalRouter("6")
        moved.route = lambda address: Route("home", "maildir", "")
        self.home.wait = True
        self.reload(moved)
        self.assertEqual(["maildir:home/"], list(self.dests().values()))

    def test_many(self) -> None:
        """1,200 recipients in bites of 500, each asked for once."""
        station = self.station
        self.accepted(*[f"u{n}@example.org" for n in range(1200)])
        router = LocalRouter()
        self.reload(router)
        self.assertEqual((1200, 1200), (len(set(router.asked)), sum(len(seen) for seen in self.home.seen)))
        self.assertEqual(3, station.queue.calls["refile"])
        self.assertEqual([], station.left)

    def test_changed_again_meanwhile(self) -> None:
        """A second reload during the walk: it begins again with the newest routes, and only those are kept."""
        self.accepted(*[f"u{n}@example.org" for n in range(600)])
        newest = LocalRouter("3")

        class Meddling(LocalRouter):
            def route(inner, address: str) -> Route | Refusal:
                self.reload(newest)
                return Route("default", "smtp", "elsewhere.example")

        self.reload(Meddling())
        self.assertEqual([], self.station.left)
        self.station.advance(120)
        self.assertEqual("3", self.successResultOf(self.station.engine.noted("routes")))

    def test_there_and_back(self) -> None:
        """The old routes again before the new ones were settled: what was moved comes back, also over a kill."""
        for restart in (False, True):
            self.home.answer = deferred
            self.accepted()
            self.reload(LocalRouter())
            self.assertEqual(["maildir:home/"], list(self.dests().values()))
            self.station.smtp.answer = delivered
            if restart:
                self.station.router = FakeRouter()
                self.station.again()
            else:
                self.reload(FakeRouter())
            self.assertEqual([], self.station.left)
            self.station.smtp.answer = deferred

    def test_trouble(self) -> None:
        """The queue cannot answer: it is in the log, and the next minute does it."""
        self.accepted()
        self.station.queue.faults["browse"] = [transient("4.3.0", "no")]
        self.reload(LocalRouter())
        self.assertEqual([], self.home.seen)
        self.assertEqual(1, len(self.flushLoggedErrors()))
        self.station.advance(61)
        self.assertEqual([(TO,)], self.home.seen)


class StartTests(Case):
    """At the start."""

    def test_other_routes_at_start(self) -> None:
        """A restart with other routes: what waits is delivered by them; the same routes once more look at nothing."""
        self.accepted()
        self.station.router = router = LocalRouter()
        self.station.again()
        self.assertEqual([(TO,)], self.home.seen)
        self.accepted("c@example.net")
        router.asked.clear()
        self.station.again()
        self.assertEqual([], router.asked)

    def test_killed_on_the_way(self) -> None:
        """Killed before the walk was over: the next start begins again."""
        self.accepted()
        self.station.queue.faults["refile"] = [transient("4.3.0", "no")]
        self.reload(LocalRouter())
        self.flushLoggedErrors()
        self.station.again()
        self.assertEqual([(TO,)], self.home.seen)

    def test_stopped_on_the_way(self) -> None:
        """The queue closes under the walk: nothing is complained of."""
        self.accepted()
        closed = transient("4.3.2", "the queue is not running")
        self.station.queue.faults["browse"] = [closed]
        service = self.station.service
        service._started = False
        service._begin(service._rerouting.run(), "routing anew")
        self.assertEqual([], self.flushLoggedErrors())
        service._started = True


class OperatorTests(Case):
    """`reroute`, in bites."""

    def test_bites(self) -> None:
        """Those that were selected, at most so many at once; where to go on is told."""
        self.accepted(*[f"u{n}@example.org" for n in range(7)], "c@example.net")
        self.station.service._rerouting.use(LocalRouter())
        found, after = [], 0
        while not found or after:
            count, after = self.successResultOf(self.station.service.reroute(Selector(to="u*"), after, 3))
            found.append(count)
        self.assertEqual([3, 3, 1], found)
        self.assertEqual({"c@example.net": "smtp:default/example.net"}, self.dests())

    def test_discover(self) -> None:
        """What an operator made due behind the scheduler's back is found at once, of one destination or of all."""
        for dest in ("smtp:default/example.org", None):
            self.accepted()
            self.station.smtp.answer = delivered
            self.successResultOf(self.station.engine.alter(Selector(), Alteration.RETRY, self.station.now()))
            self.assertEqual([(TO, False)], self.station.left)
            self.successResultOf(self.station.service.discover(dest))
            self.assertEqual([], self.station.left)
            self.station.smtp.answer = deferred


class AdoptedTests(Case):
    """Mail that came from another queue."""

    def test_routed_anew_and_found(self) -> None:
        """Whatever routes it was filed by, and although nothing has changed here."""
        router = LocalRouter()
        self.reload(router)
        self.accepted(TO)
        self.station.advance(90)
        row = next(iter(self.station.engine._rows.values()), None)
        self.assertIsNone(row, "delivered at home")
        self.home.answer = deferred
        self.accepted(TO)
        (row,) = self.station.engine._rows.values()
        row.dest = "smtp:default/example.org"  # as it was filed elsewhere
        self.successResultOf(self.station.service.adopted())
        self.assertEqual({TO: "maildir:home/"}, self.dests())

    def test_while_a_walk_is_on(self) -> None:
        """What came behind the walk's back is walked through once more before the new digest is kept."""
        self.accepted(TO)
        rerouting = self.station.service._rerouting
        walks: list[int] = []
        walk = rerouting._walk

        async def walked(router: FakeRouter) -> int:
            walks.append(1)
            if len(walks) == 1:
                await rerouting.doubt()
            return await walk(router)

        self.patch(rerouting, "_walk", walked)
        rerouting.use(LocalRouter())
        rerouting._last = 0
        self.successResultOf(Deferred.fromCoroutine(rerouting.run()))
        self.assertEqual((2, "2"), (len(walks), self.successResultOf(self.station.engine.noted("routes"))))
