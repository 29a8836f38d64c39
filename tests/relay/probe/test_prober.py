"""One address looked at: how far a delivery would go, what each level would come to, and what hand-over is taken."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from mta.dns.answer import Tlsa
from mta.relay.probe import prober as module
from mta.relay.probe.finding import Finding, Handover, Result
from mta.relay.probe.prober import Prober, outcome
from mta.status import transient
from mta.testing.peers import Act, Clear
from mta.tls.policy import Achieved, Demand, Level, Parameters
from tests.relay.probe.case import AUTHORITY, ProbeCase, Unwrapping


class ProberCase(ProbeCase):
    """`look` looks at the server on the loopback."""

    def prober(self) -> Prober:
        return Prober(reactor, self.settings(), self.tls(), self.told.append)

    async def look(self, level: Level = Level.MAY, **changes: Any) -> Finding:
        return await self.prober().look(self.demand(level, **changes))


class LookTests(ProberCase):
    """`Prober.look`."""

    async def test_reached(self) -> None:
        """All that a delivery does before MAIL, and nothing else; level by level the right certificate reaches."""
        server = self.serve(tls_extensions=("SIZE 100",))
        for number, level in enumerate((Level.MAY, Level.ENCRYPT, Level.VERIFY, Level.SECURE), 1):
            finding = await self.look(level)
            self.assertEqual((finding.result, finding.trouble), (Result.REACHED, ""), level)
            self.assertEqual(server.verbs(number), ["EHLO", "STARTTLS", "tls EHLO", "tls QUIT"])
        self.assertEqual(finding.achieved.verified, "verified")
        self.assertIn("STARTTLS", finding.clear or {})
        self.assertEqual(dict(finding.inside or {}), {"SIZE": "100"})
        self.assertTrue(all(line.startswith("mx.example.test[127.0.0.1] ") for line in self.told))

    async def test_level_none(self) -> None:
        """Level none: STARTTLS is not said."""
        server = self.serve()
        finding = await self.look(Level.NONE)
        self.assertEqual((finding.result, server.verbs(1)), (Result.REACHED, ["EHLO", "QUIT"]))

    async def test_wrong_certificate(self) -> None:
        """A certificate that will not do is no matter at may, and ends it at verify: QUIT inside TLS, no EHLO."""
        server = self.serve(certificate=AUTHORITY.issue("other.example"))
        self.assertEqual((await self.look()).result, Result.REACHED)
        finding = await self.look(Level.VERIFY)
        self.assertEqual(finding.result, Result.MISSED)
        self.assertIn("certificate is for none of: mx.example.test", finding.trouble)
        self.assertEqual(server.verbs(2), ["EHLO", "STARTTLS", "tls QUIT"])

    async def test_not_offered(self) -> None:
        """STARTTLS is not offered: in clear at may; asked for all the same where it is owed."""
        server = self.serve(offer_tls=False)
        finding = await self.look()
        self.assertEqual((finding.result, finding.achieved.version), (Result.REACHED, ""))
        self.assertIn("not offered", finding.trouble)
        self.assertEqual(server.verbs(1), ["EHLO", "QUIT"])
        self.assertEqual((await self.look(Level.ENCRYPT)).result, Result.REACHED)
        self.assertEqual((await self.look(never_clear=True)).achieved.version, "TLSv1.3")

    async def test_refused(self) -> None:
        """STARTTLS is refused: in clear at may; missed for good with 5yz, for now with 4yz."""
        self.serve({"STARTTLS": ["454 4.7.0 no", "454 4.7.0 no", "502 5.5.1 no", "250 ok"]})
        finding = await self.look()
        self.assertEqual(finding.result, Result.REACHED)
        self.assertIn("refused", finding.trouble)
        for result in (Result.UNKNOWN, Result.MISSED, Result.UNKNOWN):
            finding = await self.look(Level.ENCRYPT)
            self.assertEqual(finding.result, result)
            self.assertIn("STARTTLS was answered", finding.trouble)

    async def test_handshake_fails(self) -> None:
        """A handshake that fails is missed at may too: no clear text at once."""
        self.serve({"STARTTLS": "220 go"}, certificate=None, extensions=("STARTTLS",))
        finding = await self.look()
        self.assertEqual(finding.result, Result.MISSED)
        self.assertIn("in the TLS handshake", finding.trouble)

    async def test_t02_ciphers_without_a_match(self) -> None:
        """T02: ciphers that the server does not have end the handshake, with its alert in the words."""
        self.serve()
        finding = await self.look(parameters=Parameters(max_version="TLSv1.2", ciphers="AES128-SHA"))
        self.assertEqual(finding.result, Result.MISSED)
        self.assertIn("handshake failure in the TLS handshake", finding.trouble)

    async def test_own_side(self) -> None:
        """T02: what our own side cannot do is found before anybody is connected to."""
        server = self.serve()
        finding = await self.look(parameters=Parameters(ciphers="RC4-SHA"))
        self.assertEqual((finding.result, server.connections), (Result.MISSED, 0))
        self.assertIn("RC4-SHA", finding.trouble)

    async def test_refusal_of_the_demand(self) -> None:
        """T03: where nothing may be sent nobody is connected to, and the reason is said."""
        server = self.serve()
        demand = self.demand()
        refusal = transient("4.7.5", "TLSA lookup error for mx.example.test:25: TIMEOUT")
        finding = await self.prober().look(Demand(demand.target, demand.required, refusal))
        self.assertEqual((finding.result, server.connections), (Result.UNKNOWN, 0))
        self.assertIn("TIMEOUT", finding.trouble)

    async def test_greetings(self) -> None:
        """A server that refuses for good, one that refuses for now, one that hangs up, one that is not there."""
        self.serve({"greeting": ["554 no", "421 later", Act.CLOSE]})
        results = [(await self.look()).result for _ in range(3)]
        self.assertEqual(results, [Result.MISSED, Result.UNKNOWN, Result.UNKNOWN])
        self.port = 1
        finding = await self.look()
        self.assertEqual(finding.result, Result.UNKNOWN)
        self.assertIn("cannot connect", finding.trouble)

    async def test_requiretls(self) -> None:
        """REQUIRETLS that is not offered inside TLS is missed."""
        self.serve()
        finding = await self.look(requiretls=True)
        self.assertEqual((finding.result, finding.trouble), (Result.MISSED, "REQUIRETLS is not offered inside TLS"))

    async def test_ehlo_inside(self) -> None:
        """EHLO that is refused inside TLS, and clear text inside TLS."""
        self.serve({"tls EHLO": ["502 5.5.1 no", Clear(b"554 no\r\n")]})
        self.assertIn("EHLO inside TLS was answered 502", (await self.look()).trouble)
        self.assertIn("no TLS record at EHLO inside TLS", (await self.look()).trouble)

    async def test_again(self) -> None:
        """A second look: the same certificate, another one, a server that is gone."""
        self.serve()
        prober, demand = self.prober(), self.demand()
        finding = await prober.look(demand)
        await prober.look_again(finding, demand, 0.0)
        self.assertIn("the same certificate", finding.again)
        self.serve(certificate=AUTHORITY.issue("mx.example.test"))
        await prober.look_again(finding, self.demand(), 0.0)
        self.assertIn("another certificate", finding.again)
        self.port = 1
        await prober.look_again(finding, self.demand(), 0.0)
        self.assertIn("cannot connect", finding.again)


class LevelsTests(ProberCase):
    """What other levels would come to."""

    async def test_by_what_was_seen(self) -> None:
        """One handshake is enough to say it for all levels."""
        self.serve(certificate=AUTHORITY.issue("other.example"))
        prober = self.prober()
        finding = await prober.look(self.demand())
        prober.levels(
            finding,
            [
                (Level.NONE, self.demand(Level.NONE)),
                (Level.ENCRYPT, self.demand(Level.ENCRYPT)),
                (Level.VERIFY, self.demand(Level.VERIFY, sni="sni.example")),
                (Level.SECURE, self.demand(Level.SECURE, names=("other.example",))),
                (Level.STS, Demand(finding.target, finding.required, transient("4.7.5", "no policy"))),
            ],
        )
        said = dict(finding.levels)
        self.assertEqual(said["none"], "in clear text")
        self.assertIn("reached, as encrypt (TLSv1.3", said["encrypt"])
        self.assertIn("not reached: certificate is for none of: mx.example.test; SNI would be sni.example", said["verify"])
        self.assertIn("reached, as secure (TLSv1.3, verified)", said["secure"])
        self.assertEqual(said["sts"], "nothing is sent: no policy")

    def test_half(self) -> None:
        """P19: the words of the delivery line: a TLSA match is verified though no chain is, half where an insecure MX named it."""
        record = (Tlsa(3, 1, 1, bytes(32)),)
        for half, said in ((False, "verified"), (True, "half")):
            required = self.demand(Level.DANE, tlsa=record, half=half).required
            for achieved in (
                Achieved("TLSv1.3", chain=(b"",), names_ok=True),
                Achieved("TLSv1.3", chain=(b"",), chain_error="no"),
            ):
                self.assertEqual(outcome(required, achieved), f"reached, as dane (TLSv1.3, {said})")

    def test_in_clear(self) -> None:
        """Without TLS: where mail may go in clear, and where not."""
        self.assertEqual(outcome(self.demand().required, Achieved()), "in clear text")
        self.assertIn("TLS is required", outcome(self.demand(Level.ENCRYPT).required, Achieved()))
        self.assertIn("not reached", outcome(self.demand(never_clear=True).required, Achieved()))


class HandoverTests(ProberCase):
    """`Prober.handover`."""

    async def handover(self) -> Handover:
        self.patch(module, "IDLE", 0.05)
        return await self.prober().handover(self.demand())

    async def test_keep_only(self) -> None:
        """A server of today: TLS may stay up, close_notify ends it.  MAIL is taken back, and never followed by RCPT."""
        server = self.serve()
        handover = await self.handover()
        self.assertEqual((handover.keep, handover.clear), (True, False))
        self.assertEqual(
            server.verbs(1)[3:], ["tls RSET", "tls RSET", "tls MAIL", "tls RSET", "tls MAIL", "tls RSET", "tls QUIT"]
        )
        self.assertIn("keep", handover.suggestion)
        self.assertEqual(handover.steps[-2][0], "close_notify")
        self.assertEqual(handover.steps[-1][0], "failed")

    async def test_both(self) -> None:
        """A server that goes on in clear as well."""
        server = Unwrapping()
        self.listen(server)
        handover = await self.handover()
        self.assertEqual((handover.keep, handover.clear), (True, True))
        self.assertEqual(handover.steps[-1], ("STARTTLS again", "TLS stands"))
        self.assertEqual(server.lines[-4:], ["RSET", "STARTTLS", "tls EHLO probe.example", "tls QUIT"])

    async def test_clear_without_starttls(self) -> None:
        """A server that goes on in clear and does not offer STARTTLS again: mail behind it would be in clear."""
        self.listen(Unwrapping(offers=False))
        handover = await self.handover()
        self.assertFalse(handover.clear)
        self.assertIn("in clear text", handover.steps[-1][1])

    async def test_neither(self) -> None:
        """RSET that is refused, or answered by hanging up: QUIT is all that is left."""
        for answer in ("502 5.5.1 no", Act.CLOSE, "421 4.4.2 too long"):
            self.serve({"tls RSET": [None, answer]})
            handover = await self.handover()
            self.assertEqual((handover.keep, handover.clear), (False, False))
            self.assertIn("hosts_nopass_tls", handover.suggestion)

    async def test_no_tls_at_all(self) -> None:
        """A server that refuses STARTTLS this time: both questions fail, and say why."""
        self.serve({"STARTTLS": "454 4.7.0 no"})
        handover = await self.handover()
        self.assertEqual([name for name, _ in handover.steps], ["failed", "failed"])
        self.assertIn("STARTTLS was answered 454", handover.steps[0][1])
