"""DANE, and MTA-STS beside it, with real handshakes over loopback: DNS out of a dictionary, demands by `mta.tls.demand`.

Rows P10 to P24, P37, P38, P44, C49 and H35 of docs/tls.md from the TLSA record to the mail that went, or did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred, succeed

from mta.config.settings import Dns, Settings, TlsPolicyEntry
from mta.envelope import Flag, Outcome
from mta.relay.service import RelayService
from mta.testing.dns import FakeResolver
from mta.testing.peers import ScriptedServer
from mta.testing.pki import Authority, Issued
from mta.tls.demand import Demands
from mta.tls.mtasts import Mode, StsPolicy
from tests.relay.world import ISSUED, RelayCase

ROGUE = Authority.create("nobody trusts this one")
UNTRUSTED = ROGUE.issue("mx1.example.org", "mx2.example.org")
WRONG = ROGUE.issue("wrong.example.net", expired=True)
HOUR = 3600.0


def tlsa(issued: Issued, usage: int = 3, selector: int = 1, at: int = 0) -> tuple[int, int, int, bytes]:
    """The record, by SHA-256, for one certificate of a chain."""
    certificate = x509.load_pem_x509_certificates(issued.certificate_pem)[at]
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    data = key if selector else certificate.public_bytes(Encoding.DER)
    return usage, selector, 1, sha256(data).digest()


class Policies:
    """MTA-STS policies out of a dictionary."""

    def __init__(self) -> None:
        self.policies: dict[str, StsPolicy] = {}

    def policy(self, domain: str) -> Deferred[StsPolicy | None]:
        return succeed(self.policies.get(domain))

    def until(self, domain: str) -> float:
        return float("inf")


class DaneCase(RelayCase):
    """Hosts with TLSA records, all of them in secure zones unless a test says otherwise."""

    def setUp(self) -> None:
        super().setUp()
        self.records: dict[str, dict[str, list[Any]]] = {}
        self.resolver = FakeResolver(self.records, secure=True)
        self.policies = Policies()
        self.table: tuple[TlsPolicyEntry, ...] = ()
        self.dns = Dns(servers=("127.0.0.1:53",), trusted=True)

    def start(self, **tls_client: Any) -> RelayService:
        """With real demands; level dane, unless said otherwise."""
        tls_client.setdefault("level", "dane")
        settings = Settings(
            hostname="relay.example.com",
            data_dir=Path("/nowhere"),
            tls_client=attrs.evolve(self.tls_client, **tls_client),
            tls_policy=self.table,
            dns=self.dns,
        )
        demands = Demands(settings, self.resolver, self.policies, clock=self.reactor, log=self.log)  # type: ignore[arg-type]
        self.successResultOf(demands.start())
        self.owed = demands  # type: ignore[assignment]
        return super().start(**tls_client)

    def host(
        self,
        *records: tuple[int, int, int, bytes],
        issued: Issued = ISSUED,
        script: dict[str, Any] | None = None,
        secure: Sequence[bool] = (True, True),
        **options: Any,
    ) -> ScriptedServer:
        """The next host of the MX, with these TLSA records.  secure: its MX, its address."""
        server = self.serve(script, certificate=issued, **options)
        target = self.hops.targets[-1]
        vouched = {"mx_secure": secure[0], "address_secure": secure[1]}
        self.hops.targets[-1] = attrs.evolve(target, **vouched, canonical=target.name, domain="example.org")
        if records:
            self.records[self.owner()] = {"TLSA": list(records)}
        return server

    def owner(self, at: int = -1) -> str:
        """Where the TLSA records of a host are."""
        target = self.hops.targets[at]
        return f"_{target.port}._tcp.{target.name}"

    async def delivered(self, **facts: Any) -> Outcome:
        return await super().delivered(route="default", **facts)

    async def deferred(self, **facts: Any) -> Outcome:
        return await super().deferred(route="default", **facts)

    def said(self, outcome: Outcome) -> tuple[object, ...]:
        return outcome.facts["level"], outcome.facts["origin"], outcome.facts["verified"]


class DaneDeliveryTests(DaneCase):
    """The certificate is judged by the records."""

    async def test_p10_right(self) -> None:
        """P10: DANE-EE matches: verified, whatever name, dates and authority the leaf has."""
        for issued in (ISSUED, UNTRUSTED, WRONG):
            for selector in (0, 1):
                await self.afresh()
                server = self.host(tlsa(issued, selector=selector), issued=issued)
                self.assertEqual(self.said(await self.delivered()), ("dane", "dane", "verified"))
                self.assertTrue(server.messages[0].in_tls)

    async def test_p11_wrong(self) -> None:
        """P11: it does not match: QUIT inside TLS, the next host; none matches: deferred 4.7.5, never in clear."""
        bad = self.host(tlsa(UNTRUSTED))
        good = self.host(tlsa(ISSUED))
        await self.delivered()
        self.assertEqual((len(bad.messages), len(good.messages), bad.verbs(1)[-1], self.faults()), (0, 1, "tls QUIT", ["T7"]))
        self.records[self.owner()] = {"TLSA": [tlsa(UNTRUSTED)]}
        await self.relay_afresh()
        for _ in range(3):
            outcome = await self.deferred()
            self.assertEqual(outcome.reply.enhanced, "4.7.5")
            self.assertIn("matches no TLSA record", outcome.reply.text)
            self.reactor.shift += 2 * HOUR
        self.assertFalse([line for line in bad.commands if "MAIL" in line])

    async def relay_afresh(self) -> None:
        """A new relay, the same servers."""
        assert self.relay is not None
        await self.relay.stopService()
        self.start()

    async def test_p12_authority(self) -> None:
        """P12: DANE-TA with the MX host's name, the next hop's name, neither, and without the authority in the chain."""
        alone = attrs.evolve(UNTRUSTED, certificate_pem=UNTRUSTED.certificate_pem.partition(ROGUE.certificate_pem)[0])
        for issued, passes in (
            (ROGUE.issue("mx1.example.org"), True),
            (ROGUE.issue("example.org"), True),
            (ROGUE.issue("mx2.example.org"), False),
            (ROGUE.issue("mx1.example.org", expired=True), False),
            (alone, False),
        ):
            await self.afresh()
            server = self.host(tlsa(UNTRUSTED, 2, 0, at=1), issued=issued)
            if passes:
                self.assertEqual(self.said(await self.delivered())[0], "dane")
            else:
                self.assertEqual((await self.deferred()).reply.enhanced, "4.7.5")
            self.assertEqual(len(server.messages), passes)

    async def test_p13_p14_nobody_knows(self) -> None:
        """P13, P14: SERVFAIL and time-out: no connection is made; another host gets it; without one it is deferred."""
        for rcode in ("SERVFAIL", "TIMEOUT"):
            await self.afresh()
            first = self.host(tlsa(ISSUED))
            self.resolver.fail = {self.owner() + "/TLSA": rcode}
            outcome = await self.deferred()
            self.assertEqual(outcome.reply.enhanced, "4.7.5")
            self.assertIn("TLSA lookup error for mx1.example.org:", outcome.reply.text)
            self.reactor.shift += 10
            second = self.host(tlsa(ISSUED))
            await self.delivered()
            self.assertEqual((first.connections, len(second.messages)), (0, 1))

    async def test_p15_proof(self) -> None:
        """P15: with the proof the host counts as one without TLSA records."""
        server = self.host()
        self.resolver.fail = {self.owner() + "/TLSA": "TIMEOUT"}
        self.start(dane_nxdomain_proof=True)
        self.assertEqual(self.said(await self.delivered())[0], "may")
        self.assertEqual(len(server.messages), 1)

    async def test_p16_insecure_address(self) -> None:
        """P16: no TLSA question, and the mail goes at may."""
        self.host(tlsa(UNTRUSTED), secure=(True, False))
        self.assertEqual(self.said(await self.delivered())[0], "may")
        self.assertEqual([rdtype for _, rdtype in self.resolver.asked if rdtype == "TLSA"], [])

    async def test_p17_switched_off(self) -> None:
        """P17: dane = off for the domain: what P13 holds up is delivered."""
        self.table = (TlsPolicyEntry(("example.org",), dane="off", until="9999-01-01"),)
        self.host()
        self.resolver.fail = {self.owner() + "/TLSA": "SERVFAIL"}
        self.assertEqual(self.said(await self.delivered())[0], "may")

    async def test_p18_unusable(self) -> None:
        """P18: only usages 0 and 1: TLS with any certificate, never in clear; STARTTLS missing: the next host."""
        bare = self.host(tlsa(ISSUED, 1), offer_tls=False, script={"STARTTLS": "502 5.5.1 what?"})
        server = self.host(tlsa(ISSUED, 0), issued=WRONG)
        self.assertEqual(self.said(await self.delivered())[:2], ("encrypt", "dane"))
        self.assertEqual((bare.messages, server.messages[0].in_tls), ([], True))

    async def test_p19_insecure_mx(self) -> None:
        """P19: as the operator wants it, and never logged as verified."""
        for wish, said, record in (
            ("dane", ("dane", "dane", "half"), tlsa(UNTRUSTED)),
            ("encrypt", ("encrypt", "dane", "untrusted"), tlsa(WRONG)),
            ("may", ("may", "default", "untrusted"), tlsa(WRONG)),
        ):
            await self.afresh()
            await self.relay.stopService()
            self.start(dane_insecure_mx=wish)
            self.host(record, issued=UNTRUSTED, secure=(False, True))
            self.assertEqual(self.said(await self.delivered()), said)
        await self.afresh()
        self.host(tlsa(WRONG), issued=UNTRUSTED, secure=(False, True))
        await self.deferred()

    async def test_p20_alias(self) -> None:
        """P20: a secure CNAME into an insecure zone: TLSA and SNI at the original name."""
        server = self.host(tlsa(UNTRUSTED), issued=UNTRUSTED, secure=(True, False))
        target = self.hops.targets[0]
        self.hops.targets[0] = attrs.evolve(target, canonical="mx.cloud.example")
        self.records["mx1.example.org"] = {"CNAME": ["mx.cloud.example"]}
        self.assertEqual(self.said(await self.delivered()), ("dane", "dane", "verified"))
        self.assertEqual(len(server.messages), 1)

    async def test_p21_preference(self) -> None:
        """P21: the better MX first, though only the other has TLSA records."""
        first, second = self.host(), self.host(tlsa(ISSUED))
        await self.delivered()
        self.assertEqual((len(first.messages), second.connections), (1, 0))

    async def test_p22_rollover(self) -> None:
        """P22: two records, of which one matches."""
        self.host(tlsa(WRONG), tlsa(ISSUED))
        self.assertEqual(self.said(await self.delivered())[2], "verified")

    async def test_p23_dane_only(self) -> None:
        """P23: no TLSA record: nothing goes, no connection is made."""
        server = self.host()
        self.start(level="dane-only")
        self.assertEqual((await self.deferred()).reply.enhanced, "4.7.5")
        self.assertEqual(server.connections, 0)

    async def test_p24_resolver_that_does_not_validate(self) -> None:
        """P24: DANE is off, the log says so, and the mail goes at may."""
        self.resolver.secure = False
        server = self.host(tlsa(WRONG))
        self.assertEqual(self.said(await self.delivered())[0], "may")
        self.assertIn("dane_off", [name for name, *_ in self.log.events])
        self.assertEqual(len(server.messages), 1)


class TogetherTests(DaneCase):
    """What DANE has to do with everything else."""

    async def test_p37_sts_does_not_help(self) -> None:
        """P37: the chain and the name are right, the policy is satisfied, the TLSA record is wrong: it fails."""
        self.policies.policies["example.org"] = StsPolicy("id1", Mode.ENFORCE, ("mx1.example.org",), 86400)
        server = self.host(tlsa(WRONG))
        self.assertEqual((await self.deferred()).reply.enhanced, "4.7.5")
        self.assertEqual(server.messages, [])
        self.records.clear()
        self.reactor.shift += HOUR
        self.assertEqual(self.said(await self.delivered()), ("sts", "sts", "verified"))

    async def test_p38_one_host_two_domains(self) -> None:
        """P38: enforced for the one, nothing for the other: the one is held back, the other goes, over the same MX."""
        self.policies.policies["example.org"] = StsPolicy("id1", Mode.ENFORCE, ("mx1.example.org",), 86400)
        server = self.host(issued=UNTRUSTED, secure=(False, False))
        await self.deferred()
        self.assertEqual(self.said(await self.delivered(next_hop="two.example"))[0], "may")
        await self.deferred()
        self.assertEqual(len(server.messages), 1)

    async def test_p44_tls_required_no(self) -> None:
        """P44, H35: the message that waives TLS is delivered at may; other mail waits, and never rides on its connection."""
        server = self.host(tlsa(WRONG))
        outcome = await self.delivered(flags=Flag.TLS_REQUIRED_NO)
        self.assertEqual(self.said(outcome)[:2], ("may", "tls-required-no"))
        await self.deferred()
        self.records[self.owner()] = {"TLSA": [tlsa(ISSUED)]}
        self.reactor.shift += 400
        await self.delivered(flags=Flag.TLS_REQUIRED_NO)
        before = server.connections
        outcome = await self.delivered()
        self.assertEqual((outcome.facts["conn_use"], self.said(outcome)[0], server.connections), (1, "dane", before + 1))

    async def test_c49_never_clear(self) -> None:
        """C49: handshakes that fail for hours do not lead to clear text where there are TLSA records or an enforced policy."""
        policy = StsPolicy("id1", Mode.ENFORCE, ("mx1.example.org",), 86400)
        for records, policies in (((tlsa(ISSUED),), {}), ((tlsa(ISSUED, 0),), {}), ((), {"example.org": policy})):
            await self.afresh()
            self.policies.policies = policies
            server = self.host(*records, script={"STARTTLS": "220 go"}, tls=False, issued=None, extensions=("STARTTLS",))
            for _ in range(4):
                await self.deferred()
                self.reactor.shift += HOUR
            self.assertFalse([line for line in server.commands if "MAIL" in line])
            self.assertGreaterEqual(server.connections, 4)

    async def test_h36_records_that_change(self) -> None:
        """H36: a kept connection is judged by the records of today: rotated away, it is not used again."""
        server = self.host(tlsa(ISSUED))
        self.resolver.ttl = 0.0
        await self.delivered()
        self.assertEqual((await self.delivered()).facts["conn_use"], 2)
        self.records[self.owner()] = {"TLSA": [tlsa(WRONG)]}
        await self.deferred()
        self.assertEqual((len(server.messages), server.connections), (2, 2))
