"""Clear text after failed handshakes, over loopback with the clock put forward (C30, C41 to C43, C48)."""

from __future__ import annotations

import attrs

from mta.testing.peers import Act, ScriptedServer
from mta.tls.policy import Demand, Parameters
from tests.relay.world import ISSUED, RelayCase


class FallbackTests(RelayCase):
    """One host whose TLS is broken."""

    def broken(self) -> ScriptedServer:
        """A server that offers STARTTLS and cannot do it, as Debian 12's opensmtpd."""
        return self.serve({"STARTTLS": "220 go"}, tls=False, extensions=("PIPELINING", "STARTTLS"))

    async def test_c41_one_message(self) -> None:
        """C41: deferred at 0 s and at 59 s; at 61 s TLS is tried, fails, and the same address gets it in clear."""
        server = self.broken()
        self.assertEqual((await self.deferred()).retry_after, 60.0)
        self.reactor.shift += 59
        await self.deferred()
        self.reactor.shift += 2
        outcome = await self.delivered()
        self.assertEqual((len(server.messages), server.messages[0].in_tls, server.connections), (1, False, 4))
        self.assertEqual((outcome.facts["tls"], outcome.facts["tls_why"], self.faults()), ("none", "broken", ["T6"] * 3))

    async def test_c42_the_next_messages(self) -> None:
        """C42: no delay for them; after 15 minutes TLS is probed, and one success clears the mark for good."""
        server = self.broken()
        await self.deferred()
        self.reactor.shift += 61
        await self.delivered()
        await self.delivered()
        self.assertEqual((len(server.messages), len(self.faults())), (2, 2))
        server.tls, server.script = ScriptedServer(certificate=ISSUED).tls, {}
        self.reactor.shift += 14 * 60
        self.assertEqual((await self.delivered()).facts["tls"], "none")
        self.reactor.shift += 60 + 301
        self.assertEqual((await self.delivered()).facts["tls"], "new")
        server.script["STARTTLS"] = ("220 go", Act.CLOSE)
        self.reactor.shift += 301
        self.assertEqual((await self.deferred()).retry_after, 60.0)

    async def test_strikes_of_other_parameters(self) -> None:
        """X22 C52: a destination whose own ciphers or versions fail leaves the mail of others to the same host encrypted."""
        server = self.serve()
        odd = Parameters(min_version="TLSv1", max_version="TLSv1.1", ciphers="AES256-GCM-SHA384")  # no cipher is left
        spoken = {"odd.example": odd, "example.org": Parameters()}

        def changed(demand: Demand) -> Demand:
            parameters = spoken[demand.required.next_hop]
            return attrs.evolve(demand, required=attrs.evolve(demand.required, parameters=parameters))

        self.owed.changed = changed
        self.assertEqual((await self.deferred(next_hop="odd.example")).retry_after, 60.0)
        self.reactor.shift += 61
        self.assertEqual((await self.delivered(next_hop="odd.example")).facts["tls_why"], "broken")
        self.assertEqual((await self.delivered()).facts["tls"], "new")
        self.assertEqual((await self.delivered(next_hop="odd.example", number=11)).facts["tls_why"], "broken")
        self.assertEqual([message.in_tls for message in server.messages], [False, True, False])

    async def test_c43_tls_that_dies_at_mail(self) -> None:
        """C43: the handshake is good and MAIL kills it (Exchange 2003): T9, the same path, each recipient once."""
        server = self.serve({"tls MAIL": Act.ABORT})
        recipients = ("a@example.org", "b@example.org")
        await self.deliver(*recipients)
        self.reactor.shift += 61
        outcomes = (await self.deliver(*recipients)).outcomes
        self.assertEqual([outcome.claim.address for outcome in outcomes], list(recipients))
        self.assertEqual([(message.recipients, message.in_tls) for message in server.messages], [(recipients, False)])
        self.assertEqual(self.faults(), ["T9", "T9"])

    async def test_c48_encrypt(self) -> None:
        """C48: at encrypt and verify never in clear, however long it fails."""
        server = self.broken()
        for level in ("encrypt", "verify"):
            for _ in range(5):
                outcome = await self.deferred(route=level)
                self.assertEqual(outcome.reply.enhanced, "4.7.5")
                self.reactor.shift += 86400
        self.assertEqual(server.messages, [])
        self.assertFalse([line for line in server.commands if "MAIL" in line])

    async def test_c30_tls_wanted_after_all(self) -> None:
        """C30: 530 in clear text at may is no refusal of the mail: deferred, and TLS is tried again."""
        server = self.serve({"MAIL": "530 5.7.0 Must issue a STARTTLS command first", "STARTTLS": ["454 4.7.0 later"]})
        outcome = await self.deferred()
        self.assertIn("530", outcome.reply.text)
        del server.script["MAIL"]
        self.assertEqual((await self.delivered()).facts["tls"], "new")
