"""What is remembered of a way: who is asked, for how long it holds, and hosts to which nothing may be sent (P13, P14, H35)."""

from __future__ import annotations

from pathlib import Path

import attrs
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, fail

from mta.envelope import Flag, Kind
from mta.relay.destination import MAX_ADDRESSES
from mta.status import MailError, Reply, Scope, transient
from mta.tls.policy import Demand, Level, Parameters
from tests.relay.world import AUTHORITY, RelayCase

LOOKUP = transient("4.7.5", "TLSA lookup error for mx1.example.org:25", scope=Scope.SITE, reason="SERVFAIL")


class OutlookTests(RelayCase):
    """`IDemands` and the relay."""

    def refuse(self, *names: str) -> None:
        """Nothing may be sent to these hosts."""
        self.owed.changed = lambda demand: attrs.evolve(demand, refusal=LOOKUP) if demand.target.name in names else demand

    async def test_who_is_asked(self) -> None:
        """Next hop, the route's level (none where it has none) and the flags that count; the answer serves the next job."""
        self.serve()
        await self.delivered(route="other", flags=int(Flag.EIGHTBITMIME))
        await self.delivered(route="verify", flags=int(Flag.TLS_REQUIRED_NO | Flag.EIGHTBITMIME))
        await self.delivered(route="other")
        asked = [("example.org", None, 0, ""), ("example.org", Level.VERIFY, int(Flag.TLS_REQUIRED_NO), "")]
        self.assertEqual(self.owed.asked, asked)

    async def test_until(self) -> None:
        """What holds for a second is asked for again after it, though the hosts would still be known."""
        self.serve()
        self.start()
        self.owed.holds = self.reactor.seconds() + 1
        await self.delivered()
        await self.delivered()
        self.assertEqual(len(self.owed.asked), 1)
        self.reactor.shift += 1.1
        await self.delivered()
        self.assertEqual(len(self.owed.asked), 2)

    async def test_p13_p14_a_host_without_an_answer_is_left_out(self) -> None:
        """P13 P14: no connection is made to it, the other host gets the mail, and the log says so once."""
        bogus, good = self.serve(), self.serve()
        self.refuse("mx1.example.org")
        await self.delivered()
        await self.delivered()
        self.assertEqual((bogus.connections, len(good.messages), self.faults()), (0, 2, ["policy"]))
        assert self.relay is not None
        self.assertIn(("mta_relay_faults_total", ("policy",), 1), list(self.relay.measures()))
        self.assertIn("TLSA lookup error", str(self.log.events[0][2]["reason"]))

    async def test_p13_p14_no_host_may_be_used(self) -> None:
        """P13 P14 C2.5: all left out: deferred 4.7.5 with the reason of the look-up, no connection anywhere."""
        one, two = self.serve(), self.serve()
        self.refuse("mx1.example.org", "mx2.example.org")
        outcome = await self.deferred()
        self.assertEqual((outcome.reply, outcome.scope), (LOOKUP.reply, Scope.SITE))
        self.assertEqual((one.connections, two.connections, outcome.facts["reason"]), (0, 0, "SERVFAIL"))
        self.assertIn("mx2.example.org", str(outcome.facts["relay"]))

    async def test_the_refusal_is_told_rather_than_a_dead_host(self) -> None:
        """One host is left out, the other is down: what somebody can mend is told."""
        self.serve()
        self.dead()
        self.refuse("mx1.example.org")
        self.assertEqual((await self.deferred()).reply.enhanced, "4.7.5")

    async def test_bounded(self) -> None:
        """At most so many addresses are tried in one attempt, and those that are left out do not count."""
        relay = self.start()
        one = self.serve()
        target = self.hops.targets[0]
        many = [attrs.evolve(target, address=f"127.0.1.{number}") for number in range(50)]
        demands = [(await self.owed.of("example.org", None, [each], 0, ""))[0] for each in many]
        demands[:20] = [attrs.evolve(demand, refusal=LOOKUP) for demand in demands[:20]]
        outlook = relay._ways.outlook(relay._way("smtp:may/example.org"), demands, 0, 0.0)
        self.assertEqual([candidate.target for candidate in outlook.candidates], many[20 : 20 + MAX_ADDRESSES])
        self.assertEqual((len(outlook.refused), one.connections), (20, 0))

    async def test_nothing_at_all_may_be_sent(self) -> None:
        """A MailError for the whole next hop settles by its reply; a bug defers and is told to the log."""
        self.serve()
        self.start()
        for error, kind in (
            (MailError(Reply(451, "4.7.5", "MX look-up is bogus"), "why", Scope.SITE), Kind.DEFERRED),
            (MailError(Reply(550, "5.7.30", "no"), "why", Scope.MESSAGE), Kind.FAILED),
        ):
            self.owed.answer = fail(error)
            outcome = await self.outcome()
            self.assertEqual((outcome.kind, outcome.reply, outcome.scope), (kind, error.reply, error.scope))
        self.owed.answer = fail(RuntimeError("bug"))
        self.assertEqual((await self.deferred()).reply.enhanced, "4.3.0")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_stop_while_asking(self) -> None:
        """What waits for its demands is given back: no attempt is counted."""
        self.serve()
        self.start()
        self.owed.answer = Deferred()
        delivery = self.deliver()
        await self.relay.stopService()
        self.assertIs((await delivery).outcomes[0].kind, Kind.GIVEN_BACK)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    async def test_h35_tls_required_no_does_not_share(self) -> None:
        """H35 P44: mail that says TLS-Required: No and went in clear leaves a connection that no other mail gets, and back."""

        def lowered(demand: Demand) -> Demand:
            level = Level.MAY if self.owed.asked[-1][2] & Flag.TLS_REQUIRED_NO else Level.VERIFY
            return attrs.evolve(demand, required=attrs.evolve(demand.required, level=level))

        self.owed.changed = lowered
        server = self.serve(offer_tls=False)
        flags = int(Flag.TLS_REQUIRED_NO)
        await self.delivered(flags=flags)
        await self.delivered()
        await self.delivered(flags=flags)
        self.assertEqual([message.in_tls for message in server.messages], [False, True, False])
        self.assertEqual([message.connection for message in server.messages], [1, 2, 1])


class OurCertificateTests(RelayCase):
    """The file of our certificate is replaced in its place while connections are open."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        certificate, key = AUTHORITY.issue("old.example.com").write(self.folder)
        parameters = Parameters(certificate=certificate, key=key)
        self.owed.changed = lambda demand: attrs.evolve(demand, required=attrs.evolve(demand.required, parameters=parameters))
        ask = lambda context: context.set_verify(SSL.VERIFY_PEER, lambda *args: True)  # noqa: E731
        self.server = self.serve(prepare=ask)

    def renew(self) -> None:
        """Another certificate, in the same files."""
        AUTHORITY.issue("new.example.com").write(self.folder)

    async def test_h28_another_certificate(self) -> None:
        """H28: mail that follows has a connection that shows the new one, though the old connection is open and young."""
        await self.delivered()
        self.assertEqual((await self.delivered()).facts["tls"], "kept")
        self.renew()
        self.reactor.shift += 5.1  # where the mail goes is looked up anew
        self.assertEqual((await self.delivered()).facts["tls"], "new")
        self.assertEqual((await self.delivered()).facts["tls"], "kept")
        self.assertEqual(self.server.client_certificates, ["CN=old.example.com", "CN=new.example.com"])

    async def test_h28_made_before_it_was_known(self) -> None:
        """H28: a connection goes by what it shows itself, though the mail that made it was looked up with the old file."""
        await self.delivered()
        self.renew()
        one, two = self.deliver(), self.deliver(number=10)  # the open connection has room for one of them
        kinds = [(await each).outcomes[0].facts["tls"] for each in (one, two)]
        self.assertEqual(kinds, ["kept", "new"])
        self.reactor.shift += 5.1
        one, two = self.deliver(), self.deliver(number=10)
        kinds = [(await each).outcomes[0].facts["tls"] for each in (one, two)]
        self.assertEqual(kinds, ["kept", "new"])  # there are two open, and one of them shows what is in the file
        self.assertEqual(self.server.client_certificates, ["CN=old.example.com", "CN=new.example.com", "CN=new.example.com"])
        self.assertEqual({message.connection for message in self.server.messages[-2:]}, {2, 3})

    async def test_c04_half_a_file(self) -> None:
        """C04: while the file cannot be used nothing goes, on the open connection neither; whole again, it serves."""
        await self.delivered()
        [path] = [each for each in self.folder.iterdir() if b"CERTIFICATE" in each.read_bytes()]
        whole = path.read_bytes()
        path.write_bytes(whole[:100])
        self.reactor.shift += 5.1
        self.assertEqual((await self.deferred()).reply.enhanced, "4.7.5")
        path.write_bytes(whole)
        self.reactor.shift += 5.1
        await self.delivered()
