"""What is known before anybody connects: hosts, TLSA records, MTA-STS, TLSRPT, and what is owed at each level."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from mta.config.settings import Dns, TlsPolicyEntry
from mta.hints import MemoryHints
from mta.relay.probe.survey import Survey, Surveyor
from mta.route.hosts import NextHops
from mta.status import MailError
from mta.testing.dns import FakeResolver
from mta.tls.policy import Level
from tests.relay.probe.case import MX, ProbeCase, no_policy

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmax_age: 86400\r\n"
TLSA = {"_25._tcp.mx.example.test": {"TLSA": [(3, 1, 1, b"x" * 32)]}}


class SurveyCase(ProbeCase):
    """Asks about example.test, on port 25."""

    def setUp(self) -> None:
        super().setUp()
        self.port = 25

    async def survey(
        self,
        next_hop: str = "example.test",
        resolver: FakeResolver | None = None,
        fetch: Callable[[str], Deferred[bytes]] = no_policy,
        given: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Survey:
        settings = self.settings(**changes)
        resolver = resolver or self.resolver()
        clock = Clock()
        hops = NextHops(resolver, random=Random(1), port=25)
        surveyor = Surveyor(
            settings, resolver, hops, fetch, MemoryHints(clock), clock=clock, today=date(2026, 1, 1), given=given or {}
        )
        return await surveyor.survey(next_hop)


class DnsTests(SurveyCase):
    """What DNS says."""

    async def test_all_of_it(self) -> None:
        """MX, its verdict, the addresses, TLSA records, where reports go."""
        survey = await self.survey(resolver=self.resolver(records=TLSA))
        assert survey.mx is not None
        self.assertEqual(([each.host for each in survey.mx.records], survey.mx.secure), ([MX], True))
        self.assertEqual([demand.target.address for demand in survey.demands], ["127.0.0.1"])
        self.assertEqual((survey.dane_off, survey.reports), ("", ("mailto:reports@example.test",)))
        found = survey.tlsa[MX, 25]
        self.assertEqual((found.base_domain, [record.usage for record in found.records]), (MX, [3]))

    async def test_dane_off(self) -> None:
        """Name servers that are not believed: DANE is off, the reason is known, no TLSA record is asked for."""
        resolver = self.resolver(records=TLSA)
        survey = await self.survey(resolver=resolver, dns=Dns(servers=("192.0.2.53",)))
        self.assertEqual(survey.dane_off, "[dns] trusted is false")
        self.assertEqual([name for name, rdtype in resolver.asked if rdtype == "TLSA"], [])

    async def test_t03_silent_tlsa(self) -> None:
        """T03: a TLSA lookup that times out is shown as that, and nothing is sent there where DANE holds."""
        resolver = self.resolver(fail={"_25._tcp.mx.example.test/TLSA": "TIMEOUT"})
        survey = await self.survey(resolver=resolver, given={"level": "dane"})
        self.assertIn("TIMEOUT", survey.tlsa[MX, 25].error)
        (demand,) = survey.demands
        assert demand.refusal is not None
        self.assertIn("TLSA", demand.refusal.reply.text)
        (other,) = survey.levels[Level.VERIFY]
        self.assertIsNone(other.refusal)

    async def test_no_host(self) -> None:
        """A domain that does not exist, and a lookup that fails: what a delivery would be told."""
        for next_hop, fail, permanent in (("nothing.test", {}, True), ("example.test", {"example.test/MX": "SERVFAIL"}, False)):
            with self.assertRaises(MailError) as refused:
                await self.survey(next_hop, self.resolver(fail=fail))
            self.assertEqual(refused.exception.reply.is_permanent, permanent)

    async def test_bracketed(self) -> None:
        """A host in brackets has no MX and no policy; an address literal is asked nothing at all."""
        survey = await self.survey("[mx.example.test]:25")
        self.assertEqual((survey.mx, survey.sts), (None, None))
        self.assertEqual([demand.target.name for demand in survey.demands], [MX])
        survey = await self.survey("[127.0.0.1]:2525")
        self.assertEqual([(demand.target.address, demand.target.port) for demand in survey.demands], [("127.0.0.1", 2525)])
        self.assertEqual(survey.reports, ())


class OwedTests(SurveyCase):
    """What is owed."""

    async def test_levels(self) -> None:
        """Every level but fingerprint, for which there is no fingerprint; dane by the TLSA record, others without it."""
        survey = await self.survey(resolver=self.resolver(records=TLSA))
        self.assertEqual(set(survey.levels), set(Level) - {Level.FINGERPRINT})
        owed = {level: demands[0].required.level for level, demands in survey.levels.items() if demands[0].refusal is None}
        self.assertEqual((owed[Level.DANE], owed[Level.DANE_ONLY]), (Level.DANE, Level.DANE_ONLY))
        self.assertEqual((owed[Level.MAY], owed[Level.VERIFY], owed[Level.NONE]), (Level.MAY, Level.VERIFY, Level.NONE))
        self.assertNotIn(Level.STS, owed)

    async def test_sts(self) -> None:
        """A policy in mode enforce is known and rules; one that cannot be fetched has its fault."""
        records = {"_mta-sts.example.test": {"TXT": ["v=STSv1; id=20260101"]}}
        survey = await self.survey(resolver=self.resolver(records=records), fetch=lambda domain: succeed(POLICY))
        assert survey.sts is not None
        self.assertEqual((survey.sts.id, survey.demands[0].required.level), ("20260101", Level.STS))
        survey = await self.survey(resolver=self.resolver(records=records))
        self.assertEqual((survey.sts, str(survey.sts_fault)), (None, "sts-policy-fetch-error: no such host"))

    async def test_what_was_given(self) -> None:
        """Level and keys of the command line hold over the entry that the configuration has, whose other keys stay."""
        entry = TlsPolicyEntry(match=(".test",), level="encrypt", min="TLSv1.3", until="2026-01-02")
        survey = await self.survey(given={"level": "verify", "names": ("n.example",)}, tls_policy=(entry,))
        required = survey.demands[0].required
        self.assertEqual(
            (required.level, required.names, required.parameters.min_version), (Level.VERIFY, ("n.example",), "TLSv1.3")
        )
        late = attrs.evolve(entry, until="2026-01-01")
        survey = await self.survey(tls_policy=(late,))
        self.assertEqual(survey.demands[0].required.level, Level.MAY)
        pins = {"level": "fingerprint", "fingerprints": ("00" * 32,)}
        self.assertIn(Level.FINGERPRINT, (await self.survey(given=pins)).levels)
