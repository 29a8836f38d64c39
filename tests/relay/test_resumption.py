"""Deliveries that go on with the TLS session of an earlier connection, over loopback: what is logged, and what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from OpenSSL import SSL

from mta.config.settings import Handover
from mta.envelope import Flag, Outcome
from mta.testing.peers import Act, ScriptedServer
from mta.testing.pki import Authority
from mta.tls.policy import Demand, Parameters
from tests.relay.test_takedown import TakedownCase
from tests.relay.world import AUTHORITY, ISSUED, RelayCase


def asks_for_certificates(context: SSL.Context) -> None:
    """A server that names no session id context: OpenSSL gives it tickets, and fails when one comes back."""
    context.set_verify(SSL.VERIFY_PEER, lambda *seen: True)


class ResumptionCase(RelayCase):
    """Every connection says QUIT behind its mail."""

    def setUp(self) -> None:
        super().setUp()
        self.handover = Handover(hosts_nopass_tls=("*",))
        self.numbers = iter(range(1, 1000, 10))

    async def mail(self, **facts: Any) -> Outcome:
        """One message, delivered; its connection is closed."""
        outcome = await self.delivered(number=next(self.numbers), **facts)
        await self.quiet()
        return outcome

    async def resumed(self, *all_facts: dict[str, Any]) -> list[bool]:
        """One message after the other: whose handshake went on with an earlier session?"""
        found = []
        for facts in all_facts:
            outcome = await self.mail(**facts)
            self.assertEqual(outcome.facts["tls"], "new")
            found.append(outcome.facts.get("tls_resumed") == "yes")
        return found


class ResumedTests(ResumptionCase):
    """A server that gives sessions."""

    async def test_resumed(self) -> None:
        """The second mail's handshake shows no certificate, and is logged with the verdict of the first; each counts for TLSRPT."""
        server = self.serve()
        first, second = [await self.mail(route="verify") for _ in range(2)]
        self.assertEqual(second.facts, {**first.facts, "tls_resumed": "yes"})
        self.assertEqual((second.facts["verified"], server.connections, server.handshakes), ("verified", 2, 2))
        self.assertEqual(self.reports.counted, ["success"] * 2)

    async def test_a_kept_connection_tells_it_once(self) -> None:
        """`tls_resumed` stands with the mail for which the handshake was made."""
        self.serve()
        await self.mail()
        self.relay._ways._handover._nopass = self.relay._ways._handover._clear  # from now on connections are kept
        facts = [(await self.delivered(number=next(self.numbers))).facts for _ in range(2)]
        self.assertEqual([(fact["tls"], fact.get("tls_resumed")) for fact in facts], [("new", "yes"), ("kept", None)])

    async def test_x18_levels_have_their_own(self) -> None:
        """X18: a session of one level, route, or kind of mail is none for another."""
        self.serve(extensions=("REQUIRETLS",))
        strict = {"route": "verify", "flags": int(Flag.REQUIRETLS)}
        may, verify = {"route": "may"}, {"route": "verify"}
        self.assertEqual(await self.resumed(may, verify, strict, may, verify, strict), [False] * 3 + [True] * 3)

    async def test_x18_hosts_have_their_own(self) -> None:
        """X18: nor is one of a host for another of its names at the same address."""
        self.serve(name="mx1.example.org")
        self.assertEqual(await self.resumed({}, {}), [False, True])
        self.hops.targets[0] = attrs.evolve(self.hops.targets[0], name="mx2.example.org")
        self.relay._known.clear()
        self.assertEqual(await self.resumed({}, {}), [False, True])

    async def test_evidence_changes(self) -> None:
        """Another MTA-STS policy, or other TLSA records: a full handshake."""
        self.serve()
        self.assertEqual(await self.resumed({}, {}), [False, True])
        self.owed.changed = lambda demand: attrs.evolve(demand, required=attrs.evolve(demand.required, evidence="sts:2"))
        self.relay._known.clear()
        self.assertEqual(await self.resumed({}, {}), [False, True])

    async def test_reload(self) -> None:
        """Another configuration begins anew."""
        self.serve()
        self.assertEqual(await self.resumed({}, {}), [False, True])
        await self.relay.stopService()
        self.start()
        self.assertEqual(await self.resumed({}), [False])

    async def test_client_certificate(self) -> None:
        """C50: a server that was shown ours takes the session for it; a renewed one is shown in a full handshake."""
        folder = Path(self.mktemp())
        folder.mkdir()
        certificate, key = AUTHORITY.issue("relay.example.com").write(folder)
        parameters = Parameters(certificate=certificate, key=key)

        def ours(demand: Demand) -> Demand:
            return attrs.evolve(demand, required=attrs.evolve(demand.required, parameters=parameters))

        def prepare(context: SSL.Context) -> None:
            asks_for_certificates(context)
            context.set_session_id(b"server")

        self.owed.changed = ours
        server = self.serve(prepare=prepare)
        self.assertEqual(await self.resumed({}, {}), [False, True])
        AUTHORITY.issue("relay.example.com").write(folder)
        self.assertEqual(await self.resumed({}, {}), [False, True])
        self.assertEqual(len(set(server.client_certificates)), 1)
        self.assertNotIn("", server.client_certificates)


class FullTests(ResumptionCase):
    """Servers that do not go on with a session, each in its way: no mail waits for it, and no host gets a strike."""

    async def test_another_server_answers(self) -> None:
        """Who has no key for the ticket shows a certificate, and is judged by that; it costs no second connection."""
        server = self.serve()
        await self.mail(route="verify")
        server.tls = ScriptedServer(certificate=ISSUED).tls
        self.assertEqual(await self.resumed({"route": "verify"}), [False])
        server.tls = ScriptedServer(certificate=Authority.create().issue("mx1.example.org")).tls
        outcome = await self.deferred(route="verify", number=next(self.numbers))
        self.assertEqual((outcome.reply.enhanced, self.faults(), server.connections), ("4.7.5", ["T7"], 3))

    async def test_it_fails(self) -> None:
        """OpenSSL's `session id context uninitialized`: told to the log, once more with a full handshake, then never again so."""
        server = self.serve(prepare=asks_for_certificates)
        self.assertEqual(await self.resumed({}, {}, {}), [False] * 3)
        self.assertEqual((server.connections, server.handshakes, len(server.messages)), (4, 3, 3))
        self.assertEqual(len(self.faults()), 1)
        self.assertEqual(self.reports.counted, ["success"] * 3)

    async def test_ehlo_fails(self) -> None:
        """The end at EHLO inside TLS: a server that learns only then that it has lost the session (TLS 1.3)."""
        server = self.serve({"tls EHLO": ["250 hi", Act.ABORT, "250 hi", "250 hi"]})
        self.assertEqual(await self.resumed({}, {}, {}), [False] * 3)
        self.assertEqual((server.connections, self.faults()), (4, ["T8"]))

    async def test_it_fails_for_another_reason(self) -> None:
        """The full handshake fails too: that is the host's fault, the next host has the mail."""
        bad = self.serve({"STARTTLS": [None, ("220 go", Act.CLOSE), ("220 go", Act.CLOSE)]})
        await self.mail()
        good = self.serve()
        self.relay._known.clear()
        await self.mail()
        self.assertEqual((bad.connections, len(good.messages), self.faults()), (3, 1, ["T6", "T6"]))
        self.assertEqual(self.reports.counted, ["success", "validation-failure", "success"])

    async def test_the_service_stops(self) -> None:
        """A cut is no fault of the session."""
        server = self.serve({"STARTTLS": [None, "220 go"], "client hello": Act.STALL})
        await self.mail()
        server.tls = None
        delivery = self.deliver(number=next(self.numbers))
        while len(server.commands) < 9:
            await self.turn()
        await self.relay.stopService()
        await delivery
        self.assertEqual((self.faults(), self.reports.counted), ([], ["success"]))


class ClearTests(TakedownCase):
    """The verdict CLEAR."""

    async def test_restarted(self) -> None:
        """H08: TLS that is started again on the same connection goes on with its own session, each time."""
        server = self.goes_on()
        facts = await self.two(server)
        await self.idle()
        facts.append((await self.delivered(number=21)).facts)
        told = [(fact["tls"], fact.get("tls_resumed")) for fact in facts]
        self.assertEqual((server.connections, told), (1, [("new", None), ("restarted", "yes"), ("restarted", "yes")]))
