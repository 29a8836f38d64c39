"""The agent: where to go and who says so, what never errbacks, and the end (H39, H40, H24 over loopback)."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from zope.interface.verify import verifyObject

from mta.config.settings import Handover
from mta.envelope import Kind
from mta.interfaces import IDeliveryAgent
from mta.status import MailError, Reply, Scope, permanent, transient
from mta.testing.peers import Act
from mta.tls.policy import Level
from tests.relay.world import RelayCase, job


class NextHopsTests(RelayCase):
    """`INextHops` and the relay."""

    async def test_provides(self) -> None:
        """It is a delivery agent."""
        verifyObject(IDeliveryAgent, self.start())

    async def test_lookups_that_fail(self) -> None:
        """A MailError of the look-up settles every recipient by its reply and scope."""
        self.start()
        for error, kind in (
            (permanent("5.1.2", "no such domain", scope=Scope.SITE), Kind.FAILED),
            (transient("4.4.3", "no answer", scope=Scope.SITE), Kind.DEFERRED),
            (MailError(Reply(451, "4.4.3", "soon"), "why", Scope.SITE, retry_after=7.0), Kind.DEFERRED),
        ):
            self.hops.answers["example.org"] = fail(error)
            outcomes = (await self.deliver("a@example.org", "b@example.org")).outcomes
            self.assertEqual([(outcome.kind, outcome.scope) for outcome in outcomes], [(kind, Scope.SITE)] * 2)
            self.assertEqual((outcomes[0].reply, outcomes[0].retry_after), (error.reply, error.retry_after))

    async def test_bugs_defer(self) -> None:
        """Another failure is a bug: deferred, logged, never an errback; also when it is raised at once."""
        self.start()
        self.hops.answers["example.org"] = fail(RuntimeError("bug"))
        self.assertEqual((await self.deferred()).reply.enhanced, "4.3.0")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.patch(self.hops, "hosts", lambda next_hop: 1 / 0)
        self.assertEqual((await self.deferred()).reply.enhanced, "4.3.0")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.hops.targets = None
        self.patch(self.reactor, "connectTCP", lambda *args: 1 / 0)
        del self.hops.hosts
        self.serve_nothing()
        self.assertEqual((await self.deferred()).reply.enhanced, "4.3.0")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def serve_nothing(self) -> None:
        """One target that nobody serves."""
        self.hops.targets = []
        self.hops.answers.clear()
        self.dead()

    async def test_answers_are_used_again_for_a_while(self) -> None:
        """The second job does not ask; after five seconds one does."""
        self.serve()
        await self.delivered()
        delivery = self.deliver()
        self.assertEqual(self.hops.asked, ["example.org"])
        await delivery
        self.reactor.shift += 5.1
        await self.delivered()
        self.assertEqual(self.hops.asked, ["example.org"] * 2)

    async def test_levels_of_routes(self) -> None:
        """A route has its own level, and never less than when the mail was filed under it; a route without one has none."""
        relay = self.start()
        self.assertEqual(relay._way("smtp:verify/example.org").level, Level.VERIFY)
        self.assertEqual(relay._way("smtp:may+encrypt/example.org").level, Level.ENCRYPT)
        self.assertEqual(relay._way("smtp:verify+encrypt/example.org").level, Level.VERIFY)
        self.assertEqual(relay._way("smtp:gone+secure/example.org").level, Level.SECURE)
        self.assertIsNone(relay._way("smtp:other/[host]:25").level)
        self.assertEqual(relay._way("smtp:other/[host]:25").next_hop, "[host]:25")

    async def test_one_deferred_on_a_kept_connection(self) -> None:
        """The job is on its way before `deliver` returns: nothing waits for another turn."""
        server = self.serve()
        await self.delivered()
        session = next(iter(self.relay.pool._alive))
        delivery = self.deliver()
        self.assertEqual((session.uses, session.machine.awaiting), (2, "rset"))
        await delivery
        self.assertEqual(len(server.messages), 2)

    async def test_at_once(self) -> None:
        """Twenty jobs at once: each has its own connection, all are kept for the next twenty."""
        server = self.serve()
        for _ in range(2):
            deliveries = [self.deliver(number=number) for number in range(20)]
            for delivery in deliveries:
                self.assertIs((await delivery).outcomes[0].kind, Kind.DELIVERED)
        self.assertEqual((server.connections, len(server.messages)), (20, 40))


class IdleTests(RelayCase):
    """What happens to connections while nobody uses them."""

    async def test_h20_closed_while_idle(self) -> None:
        """H20: gone from the pool at once; the next delivery has a fresh one, and nothing was stale."""
        server = self.serve()
        await self.delivered()
        server.close_all()
        while self.relay.pool.idle:
            await self.turn()
        outcome = await self.delivered()
        self.assertEqual((server.connections, outcome.facts["tls"]), (2, "new"))
        self.assertEqual(self.relay.pool._stale, {})

    async def test_h25_421_while_idle(self) -> None:
        """H25: anything said while idle closes the connection, quietly, in TLS and in clear."""
        for route in ("may", "none"):
            for words in (b"421 4.4.2 timeout\r\n", b"250 what\r\n", b"x"):
                await self.afresh()
                server = self.serve()
                await self.delivered(route=route)
                server.say(words)
                while self.relay.pool._alive:
                    await self.turn()
                self.assertEqual((self.relay.pool.idle, server.quits), (0, 0))
                await self.delivered(route=route)
        self.assertEqual([name for name, _, _ in self.log.events], [])

    async def test_h40_expiry(self) -> None:
        """H40: after idle_limit QUIT is said, in TLS, and the peer's answer waited for."""
        self.handover = Handover(idle_limit=0.1)
        server = self.serve()
        await self.delivered()
        while self.relay.pool._alive:
            await self.turn()
        self.assertEqual((server.verbs(1)[-1], server.quits), ("tls QUIT", 1))

    async def test_h24_three_stale_in_a_row(self) -> None:
        """H24: then nothing is kept for ten minutes; no mail is delayed."""
        server = self.serve({"RSET": Act.ABORT})
        for _ in range(7):
            await self.delivered()
        self.assertEqual(len(server.messages), 7)
        outcome = await self.delivered()
        self.assertEqual(outcome.facts["handover_why"], "suspended")
        self.reactor.shift += 601
        self.assertEqual((await self.delivered()).facts["handover"], "keep")

    async def test_h26_mailmax(self) -> None:
        """H26: LIMITS MAILMAX=3 (RFC 9422): the fourth message goes by another connection."""
        server = self.serve(extensions=("PIPELINING", "LIMITS RCPTMAX=10 MAILMAX=3"))
        for _ in range(4):
            await self.delivered()
        await self.quiet()
        self.assertEqual((server.connections, server.quits), (2, 1))


class StopTests(RelayCase):
    """`stopService`."""

    async def test_h39_idle_connections_hear_quit(self) -> None:
        """H39: QUIT to all that idle, and no connection is left when it fires."""
        server = self.serve()
        await self.delivered()
        await self.delivered(route="none")
        await self.relay.stopService()
        self.assertEqual((server.quits, len(self.relay.pool._alive)), (2, 0))

    async def test_running_transactions_finish(self) -> None:
        """A transaction that is under way ends as usual; the connection is not kept."""
        server = self.serve({".": Act.STALL})
        delivery = self.deliver()
        while "1 tls DATA" not in server.commands:
            await self.turn()
        await self.turn(0.05)
        stopping = self.relay.stopService()
        server.say(b"250 ok\r\n")
        outcome = (await delivery).outcomes[0]
        self.assertEqual((outcome.kind, outcome.facts["handover_why"]), (Kind.DELIVERED, "stopping"))
        await stopping

    async def test_what_takes_too_long_is_cut(self) -> None:
        """At the limit: lost after the dot is deferred as unknown; before it, deferred too; both settle."""
        for point in (".", "MAIL"):
            await self.afresh()
            self.patch(type(self.relay.pool), "STOP_LIMIT", 0.2)
            self.patch(type(self.relay.pool), "QUIT_LIMIT", 0.1)
            server = self.serve({point: Act.STALL})
            delivery = self.deliver()
            while not [line for line in server.commands if line.endswith("DATA")]:
                await self.turn()
            await self.turn(0.05)
            await self.relay.stopService()
            outcome = (await delivery).outcomes[0]
            self.assertIs(outcome.kind, Kind.DEFERRED)
            self.assertEqual("unknown" in outcome.reply.text, point == ".")

    async def test_what_is_cut_is_no_fault_of_the_hosts(self) -> None:
        """C41 H39: our own stop in the first transaction inside TLS is no T9: no strike, which could send mail in clear later."""
        for point in (".", "tls MAIL"):
            await self.afresh()
            self.patch(type(self.relay.pool), "STOP_LIMIT", 0.2)
            self.patch(type(self.relay.pool), "QUIT_LIMIT", 0.1)
            server = self.serve({point: Act.STALL})
            delivery = self.deliver()
            while not [line for line in server.commands if line.endswith("DATA")]:
                await self.turn()
            await self.turn(0.05)
            await self.relay.stopService()
            self.assertIsNone((await delivery).outcomes[0].retry_after)
            self.assertEqual(([], []), (self.faults(), self.relay._hints.keys("tls-strikes")), point)

    async def test_cut_on_a_kept_connection(self) -> None:
        """C25 H39: what the hosts before it said is no verdict while one was not heard: given back, never a bounce."""
        self.start(mandatory_5xx="bounce")
        self.patch(type(self.relay.pool), "STOP_LIMIT", 0.2)
        self.patch(type(self.relay.pool), "QUIT_LIMIT", 0.1)
        self.serve({"STARTTLS": "554 no"})
        server = self.serve({"tls RSET": Act.STALL})
        await self.delivered(route="encrypt")
        delivery = self.deliver(route="encrypt", number=11)
        while not [line for line in server.commands if line.endswith("RSET")]:
            await self.turn()
        await self.relay.stopService()
        self.assertIs((await delivery).outcomes[0].kind, Kind.GIVEN_BACK)
        self.assertEqual({}, self.relay.pool._stale)

    async def test_what_has_not_begun_is_given_back(self) -> None:
        """A connection that carries no transaction yet is cut at once: nothing is lost, and no attempt is counted."""
        for point in ("greeting", "EHLO", "STARTTLS", "tls EHLO"):
            await self.afresh()
            server = self.serve({point: Act.STALL})
            delivery = self.deliver()
            while server.connections == 0 or len(server.commands) < ("greeting", "EHLO", "STARTTLS", "tls EHLO").index(point):
                await self.turn()
            await self.turn(0.05)
            await self.relay.stopService().addTimeout(2, self.reactor)
            self.assertIs((await delivery).outcomes[0].kind, Kind.GIVEN_BACK, point)
            self.assertEqual([], self.faults())

    async def test_waiting_for_dns_is_given_back(self) -> None:
        """What has not set out yet, or comes later, is given back: no attempt is counted."""
        self.start()
        self.hops.answers["example.org"] = Deferred()
        delivery = self.deliver()
        await self.relay.stopService()
        self.assertIs((await delivery).outcomes[0].kind, Kind.GIVEN_BACK)
        self.hops.answers.clear()
        self.serve()
        self.assertIs((await self.outcome()).kind, Kind.GIVEN_BACK)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    async def test_stop_without_having_worked(self) -> None:
        """A service that never delivered stops at once, with the router's job still refused."""
        self.serve()
        relay = self.start()
        await relay.stopService()
        self.assertIs((await relay.deliver(job())).outcomes[0].kind, Kind.GIVEN_BACK)
