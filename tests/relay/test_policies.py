"""What is owed decides over loopback: TLSA, MTA-STS, pins, REQUIRETLS, old servers, our own certificate (C04, C49 to C53, P rows)."""

from __future__ import annotations

import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from twisted.internet.defer import Deferred

from mta.dns.answer import Tlsa
from mta.envelope import Flag, Kind, Target
from mta.status import Scope, transient
from mta.testing.peers import Act, ScriptedServer
from mta.testing.pki import Authority, Issued
from mta.tls.policy import Demand, Level, Parameters
from tests.relay.world import AUTHORITY, ISSUED, RelayCase

REQUIRETLS = int(Flag.REQUIRETLS)
OFFERED = ("PIPELINING", "REQUIRETLS")


def tlsa(issued: Issued) -> Tlsa:
    """3 1 1 of a leaf."""
    leaf = x509.load_pem_x509_certificates(issued.certificate_pem)[0]
    return Tlsa(3, 1, 1, sha256(leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


class PolicyCase(RelayCase):
    """Requirements that a test makes of its own."""

    def owe(self, **changes: Any) -> None:
        """Every address is owed this."""
        self.owed.changed = lambda demand: self.changed(demand, **changes)

    def changed(self, demand: Demand, **changes: Any) -> Demand:
        return attrs.evolve(demand, required=attrs.evolve(demand.required, **changes))

    def broken(self) -> ScriptedServer:
        """Offers STARTTLS and cannot do it."""
        return self.serve({"STARTTLS": ("220 go", Act.CLOSE)})


class DaneTests(PolicyCase):
    """TLSA records."""

    async def test_p10_matches(self) -> None:
        """P10: 3 1 1 right: delivered and verified, though name and date are wrong; level and origin stand in the line."""
        issued = Authority.create().issue("elsewhere.example", expired=True)
        self.serve(certificate=issued)
        self.owe(level=Level.DANE, tlsa=(tlsa(issued),), origin="dane")
        facts = (await self.delivered()).facts
        self.assertEqual((facts["verified"], facts["level"], facts["origin"]), ("verified", "dane", "dane"))

    async def test_p19_half(self) -> None:
        """P19: a host that an insecure MX named is never logged as verified."""
        self.serve()
        self.owe(level=Level.DANE, tlsa=(tlsa(ISSUED),), half=True)
        self.assertEqual((await self.delivered()).facts["verified"], "half")

    async def test_p11_p37_does_not_match(self) -> None:
        """P11 P37: QUIT inside TLS, the next host, 4.7.5, never clear; a chain that is good for MTA-STS does not help."""
        servers = [self.serve(), self.serve()]
        self.owe(level=Level.DANE, tlsa=(Tlsa(3, 1, 1, bytes(32)),), never_clear=True, evidence="dane:x sts:1:enforce")
        outcome = await self.deferred()
        await self.quiet()
        self.assertEqual((outcome.reply.enhanced, outcome.scope, self.faults()), ("4.7.5", Scope.SITE, ["T7", "T7"]))
        self.assertEqual([server.verbs(1) for server in servers], [["EHLO", "STARTTLS", "tls QUIT"]] * 2)
        self.assertEqual(self.reports.counted, ["validation-failure"] * 2)

    async def test_p18_unusable_records(self) -> None:
        """P18: usages 0 and 1 only: any TLS will do, none will not: the host without STARTTLS is passed over."""
        none, any_ = self.serve(tls=False), self.serve(certificate=Authority.create().issue("elsewhere.example"))
        self.owe(level=Level.ENCRYPT, origin="dane", never_clear=True)
        outcome = await self.delivered()
        self.assertEqual((none.messages, len(any_.messages), outcome.facts["verified"]), ([], 1, "untrusted"))

    async def test_p12_authority(self) -> None:
        """P12: 2 0 1: good for the host's name or the next hop's, else the next host."""
        record = Tlsa(2, 0, 1, sha256(AUTHORITY.certificate.public_bytes(Encoding.DER)).digest())
        self.owe(level=Level.DANE, tlsa=(record,), names=("mx1.example.org", "example.org"))
        for name, good in (("mx1.example.org", True), ("example.org", True), ("elsewhere.example", False)):
            await self.afresh()
            self.serve(certificate=AUTHORITY.issue(name))
            outcome = await self.outcome()
            self.assertEqual(outcome.kind, Kind.DELIVERED if good else Kind.DEFERRED, name)


class NeverClearTests(PolicyCase):
    """C49, C48."""

    async def test_c49_level_may_that_is_never_clear(self) -> None:
        """C49: REQUIRETLS, TLSA records, MTA-STS: at may too a handshake that fails for days never means clear text."""
        for changes in ({"requiretls": True}, {"evidence": "dane:x"}, {"evidence": "sts:1:enforce"}):
            self.owe(never_clear=True, **changes)
            await self.afresh()
            server = self.broken()
            for _ in range(3):
                outcome = await self.deferred()
                self.assertEqual((outcome.retry_after, outcome.scope), (None, Scope.SITE))
                self.reactor.shift += 86400
            self.assertEqual(server.messages, [])

    async def test_c49_a_known_broken_host_is_not_spared(self) -> None:
        """C49 C48: mail at may has learned that TLS is broken there; mail that is never clear does not profit, nor encrypt."""
        server = self.broken()
        await self.deferred()
        self.reactor.shift += 61
        await self.delivered()
        self.owe(never_clear=True)
        await self.deferred(next_hop="b.example")
        await self.deferred(route="encrypt", next_hop="c.example")
        self.assertEqual(len(server.messages), 1)

    async def test_refused_starttls(self) -> None:
        """C49 X04: not offered, or refused with 454 and 502: next host and deferred, not on in clear."""
        self.owe(never_clear=True)
        for reply in ("454 4.7.0 no", "502 5.5.1 no", "250 ok"):
            await self.afresh()
            server = self.serve({"STARTTLS": reply}, offer_tls=False)
            await self.deferred()
            self.assertEqual((server.messages, self.reports.counted[-1]), ([], "starttls-not-supported"))

    async def test_c30_530_starttls_first(self) -> None:
        """C30: TLS was left out as broken, and MAIL is answered 530: TLS is tried once more, then mail is deferred."""
        server = self.broken()
        await self.deferred()
        self.reactor.shift += 61
        await self.delivered()
        server.script["MAIL"] = "530 5.7.0 Must issue a STARTTLS command first"
        before = server.connections
        outcome = await self.deferred(number=2)
        self.assertEqual((outcome.reply.enhanced, len(server.messages)), ("4.7.5", 1))
        self.assertEqual(self.faults().count("T6"), 3)
        self.assertLessEqual(server.connections - before, 2)
        server.script.clear()
        server.script["EHLO"] = [None]
        server.script["MAIL"] = ["530 5.7.0 Must issue a STARTTLS command first"]
        self.reactor.shift += 30
        await self.delivered(number=3)
        self.assertEqual([message.in_tls for message in server.messages], [False, True])


class ParametersTests(PolicyCase):
    """Versions, ciphers, pins, certificates of ours."""

    async def test_c52_c53_old_servers(self) -> None:
        """C52 C53 A78: a host that speaks TLS 1.0 alone: T6 at may, deferred at encrypt; by its own rule it gets TLS 1.0."""

        def old(context: SSL.Context) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.set_cipher_list(b"AES128-SHA:@SECLEVEL=0")
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_max_proto_version(SSL.TLS1_VERSION)

        server = self.serve(prepare=old, certificate=AUTHORITY.issue("mx1.example.org", key="rsa"))
        self.assertEqual((await self.deferred()).retry_after, 60.0)
        self.assertIsNone((await self.deferred(route="encrypt")).retry_after)
        self.assertEqual(self.faults(), ["T6", "T6"])
        self.owe(parameters=Parameters(min_version="TLSv1", ciphers="AES128-SHA"))
        facts = (await self.delivered(route="encrypt", next_hop="old.example")).facts
        self.assertEqual((facts["tls_version"], facts["cipher"], len(server.messages)), ("TLSv1", "AES128-SHA", 1))

    async def test_c50_asked_for_a_certificate(self) -> None:
        """C50: a server that asks gets none, or the one that the policy names."""
        folder = Path(self.mktemp())
        folder.mkdir()
        certificate, key = AUTHORITY.issue("relay.example.com").write(folder)
        ask = lambda context: context.set_verify(SSL.VERIFY_PEER, lambda *args: True)  # noqa: E731
        server = self.serve(prepare=ask)
        await self.delivered()
        self.owe(parameters=Parameters(certificate=certificate, key=key))
        await self.delivered(next_hop="other.example")
        self.assertEqual(server.client_certificates, ["", "CN=relay.example.com"])
        self.assertEqual(server.connections, 2)

    async def test_c04_our_certificate_cannot_be_read(self) -> None:
        """C04: STARTTLS is never said, no connection is made, 4.7.5 names the file; another next hop is not touched."""
        server = self.serve()
        self.owe(parameters=Parameters(certificate=Path("/nonexistent/cert.pem"), key=Path("/nonexistent/key.pem")))
        for route in ("encrypt", "may"):
            outcome = await self.deferred(route=route)
            self.assertEqual((outcome.reply.enhanced, server.connections), ("4.7.5", 0))
            self.assertIn("/nonexistent/cert.pem", outcome.reply.text)
        self.assertEqual((self.faults(), self.reports.counted), (["T0", "T0"], []))
        self.owed.changed = lambda demand: demand
        await self.delivered(next_hop="b.example")

    async def test_p03_p04_fingerprint(self) -> None:
        """P03 P04: the pinned key is served, another certificate hears QUIT in TLS."""
        pin = tlsa(ISSUED).data.hex()
        self.owe(level=Level.FINGERPRINT, parameters=Parameters(fingerprints=(pin,)))
        bad, good = self.serve(certificate=AUTHORITY.issue("mx1.example.org")), self.serve()
        outcome = await self.delivered()
        await self.quiet()
        self.assertEqual((bad.messages, bad.verbs(1)[-1], len(good.messages)), ([], "tls QUIT", 1))
        self.assertEqual(outcome.facts["verified"], "verified")

    async def test_p02_secure(self) -> None:
        """P02: the next hop's name must be in the certificate, the MX host's does not help."""
        self.owe(level=Level.SECURE, names=("example.org", ".example.org"))
        self.serve(certificate=AUTHORITY.issue("mx1.provider.example"), name="mx1.provider.example")
        self.assertIn("for none of: example.org, .example.org", (await self.deferred()).reply.text)
        self.serve(certificate=AUTHORITY.issue("mx.example.org"))
        self.reactor.shift += 6  # the hosts are asked for anew
        await self.delivered()


class SharingTests(PolicyCase):
    """Who may share a connection."""

    async def test_h29_two_domains_at_levels_that_verify(self) -> None:
        """H29: one MX, two domains: not shared at dane, secure and sts; shared at may."""
        for changes, connections in (
            ({"level": Level.DANE, "tlsa": (tlsa(ISSUED),)}, 2),
            ({"level": Level.SECURE, "names": (".example.org",)}, 2),
            ({"level": Level.STS, "evidence": "sts:1:enforce"}, 2),
            ({"level": Level.MAY}, 1),
        ):
            self.owe(**changes)
            await self.afresh()
            server = self.serve()
            for domain in ("a.example", "b.example"):
                await self.delivered(next_hop=domain)
            self.assertEqual(server.connections, connections, changes)

    async def test_p38_enforce_for_one_domain_only(self) -> None:
        """P38: one MX, policy enforce for D1 and none for D2: D1 waits for a good certificate, D2 is delivered (KumoMTA #484)."""
        server = self.serve(certificate=Authority.create().issue("mx1.example.org"))

        def changed(demand: Demand) -> Demand:
            level = Level.STS if demand.required.next_hop == "d1.example" else Level.MAY
            return self.changed(demand, level=level)

        self.owed.changed = changed
        await self.delivered(next_hop="d2.example")
        await self.deferred(next_hop="d1.example")
        await self.delivered(next_hop="d2.example")
        self.assertEqual((len(server.messages), {message.connection for message in server.messages}), (2, {1}))


class RequireTlsTests(PolicyCase):
    """RFC 8689."""

    async def test_p42_supported(self) -> None:
        """P42: the next hop offers it inside TLS: MAIL has the parameter; the session serves no ordinary mail."""
        server = self.serve(extensions=("PIPELINING",), tls_extensions=OFFERED)
        await self.delivered(route="verify", flags=REQUIRETLS)
        await self.delivered(route="verify")
        mails = [line for line in server.commands if "MAIL" in line]
        self.assertEqual([line.endswith(" REQUIRETLS") for line in mails], [True, False])
        self.assertEqual(server.connections, 2)

    async def test_p41_not_supported(self) -> None:
        """P41: no host offers it: all are asked, then the message goes back with 5.7.30, at once."""
        servers = [self.serve(), self.serve()]
        outcome = await self.outcome(route="verify", flags=REQUIRETLS)
        await self.quiet()
        self.assertEqual((outcome.kind, outcome.reply.enhanced, outcome.scope), (Kind.FAILED, "5.7.30", Scope.MESSAGE))
        self.assertEqual([server.verbs(1)[-1] for server in servers], ["tls QUIT"] * 2)

    async def test_p41_the_other_host_supports_it(self) -> None:
        """P41: a host without it is passed over."""
        lacking, good = self.serve(), self.serve(tls_extensions=OFFERED)
        await self.delivered(route="verify", flags=REQUIRETLS)
        self.assertEqual((lacking.messages, len(good.messages)), ([], 1))

    async def test_p41_no_tls(self) -> None:
        """P41: no host has TLS at all: 5.7.10; a host that is down or whose TLS fails may have it: deferred."""
        self.serve(tls=False)
        self.serve(tls=False)
        outcome = await self.outcome(route="verify", flags=REQUIRETLS)
        self.assertEqual((outcome.kind, outcome.reply.enhanced), (Kind.FAILED, "5.7.10"))
        for ill in (self.dead, self.broken):
            await self.afresh()
            self.serve(tls=False)
            ill()
            await self.deferred(route="verify", flags=REQUIRETLS)

    async def test_p40_offered_in_clear_only(self) -> None:
        """P40: REQUIRETLS offered in clear means nothing (the server's half stands with the receiver's tests)."""
        self.serve(extensions=OFFERED, tls_extensions=())
        outcome = await self.outcome(route="verify", flags=REQUIRETLS)
        self.assertEqual(outcome.reply.enhanced, "5.7.30")

    async def test_a_host_that_is_left_out_may_support_it(self) -> None:
        """Not every host was asked: deferred, not bounced."""
        self.serve()
        self.serve()
        refusal = transient("4.7.10", "nobody vouches for the host", scope=Scope.MESSAGE)
        self.owed.changed = lambda demand: (
            attrs.evolve(demand, refusal=refusal) if demand.target.name == "mx2.example.org" else demand
        )
        await self.deferred(route="verify", flags=REQUIRETLS)


class ReportsTests(PolicyCase):
    """What TLSRPT counts."""

    async def test_p50_one_session_for_many_messages(self) -> None:
        """P50: a failure, then ten messages on one kept session: one failure, one success."""
        server = self.serve({"STARTTLS": [("220 go", Act.CLOSE)]})
        await self.deferred(route="verify")
        for number in range(10):
            await self.delivered(route="verify", number=number)
        self.assertEqual((self.reports.counted, server.connections), (["validation-failure", "success"], 2))

    async def test_kinds(self) -> None:
        """What each failure is called (RFC 8460 4.3); each counts once, also where mail then went in clear."""
        for script, more, route, kinds in (
            ({}, {"tls": False}, "may", ["starttls-not-supported"]),
            ({"STARTTLS": "454 no"}, {}, "may", ["starttls-not-supported"]),
            ({"STARTTLS": "554 no"}, {}, "verify", ["starttls-not-supported"]),
            ({}, {"certificate": AUTHORITY.issue("x.example")}, "verify", ["certificate-host-mismatch"]),
            ({}, {"certificate": AUTHORITY.issue("mx1.example.org", expired=True)}, "verify", ["certificate-expired"]),
            ({}, {"certificate": Authority.create().issue("mx1.example.org")}, "verify", ["certificate-not-trusted"]),
            ({"tls EHLO": "500 no"}, {}, "verify", ["success"]),
            ({}, {}, "none", []),
        ):
            self.reports.counted.clear()
            await self.afresh()
            self.serve(script, **more)
            await self.deliver(route=route)
            self.assertEqual(self.reports.counted, kinds, (script, more, route))

    async def test_left_out(self) -> None:
        """A host to which nothing may be sent counts too, though no connection was made."""
        self.serve()
        refusal = transient("4.7.5", "TLSA lookup error for mx1.example.org:25 (SERVFAIL)", scope=Scope.SITE)
        self.owed.changed = lambda demand: attrs.evolve(demand, refusal=refusal)
        await self.deferred()
        self.assertEqual(self.reports.counted, ["dnssec-invalid"])

    async def test_left_out_once(self) -> None:
        """Jobs that ask at the same time are one look-up's worth of log lines and failures, however many they are."""
        self.serve()
        refusal = transient("4.7.5", "TLSA lookup error for mx1.example.org:25 (SERVFAIL)", scope=Scope.SITE)
        self.owed.changed = lambda demand: attrs.evolve(demand, refusal=refusal)
        waiting: list[Deferred[list[Target]]] = [Deferred() for _ in range(5)]
        deliveries = []
        for hosts in waiting:
            self.hops.answers["example.org"] = hosts
            deliveries.append(self.deliver())
        for hosts in waiting:
            hosts.callback(self.hops.targets)
        for delivery in deliveries:
            self.assertEqual((await delivery).outcomes[0].reply.enhanced, "4.7.5")
        self.assertEqual(self.reports.counted, ["dnssec-invalid"])

    async def test_a_stop_is_no_failure(self) -> None:
        """A handshake that our own stop cuts is not counted."""
        server = self.serve({"STARTTLS": "220 go", "client hello": Act.STALL}, tls=False, extensions=("STARTTLS",))
        delivery = self.deliver()
        while not server.verbs(1)[-1:] == ["STARTTLS"]:
            await self.turn()
        await self.relay.stopService()
        await delivery
        self.assertEqual(self.reports.counted, [])
