"""Findings in lines: everything that was found is there, and nothing that a server says can move a terminal's cursor."""

from __future__ import annotations

from hashlib import sha256

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Answer, Mx, Tlsa
from mta.envelope import Target
from mta.relay.probe.finding import Finding, Handover, Result
from mta.relay.probe.survey import Survey
from mta.relay.probe.text import finding_lines, survey_lines
from mta.status import Reply
from mta.testing.pki import Authority
from mta.tls.mtasts import Mode, StsError, StsPolicy
from mta.tls.mtasts import Result as StsResult
from mta.tls.policy import Achieved, Level, Required
from mta.tls.tlsa import Found

TARGET = Target("mx.example.test", "192.0.2.1", 25, address_secure=True)
REQUIRED = Required(Level.VERIFY, "mx.example.test", "192.0.2.1", 25, "example.test", ("mx.example.test",), sni="mx.example.test")
SURVEY = Survey(
    "example.test",
    Answer("example.test", "MX", "NOERROR", True, (Mx(10, "mx.example.test"),)),
    (),
    {},
    "",
    {("mx.example.test", 25): Found(0.0, (Tlsa(3, 1, 1, b"\xab\xcd"),), "mx.example.test")},
    StsPolicy("2026", Mode.TESTING, ("mx.example.test", "*.example.net"), 86400),
    None,
    ("mailto:r@example.test",),
)


class SurveyTests(SynchronousTestCase):
    """`survey_lines`."""

    def test_everything(self) -> None:
        """MX with its verdict, the policy, where reports go."""
        lines = list(survey_lines(SURVEY))
        self.assertEqual(
            lines,
            [
                "example.test",
                "  MX 10 mx.example.test (DNSSEC: secure)",
                "  MTA-STS testing, id 2026, max_age 86400, mx mx.example.test *.example.net",
                "  TLSRPT mailto:r@example.test",
            ],
        )

    def test_nothing(self) -> None:
        """No MX, no policy and why, no reports, no DANE and why."""
        fault = StsError(StsResult.FETCH, "bad\x1b[2J host")
        bare = attrs.evolve(
            SURVEY,
            mx=Answer("example.test", "MX", "NOERROR"),
            sts=None,
            sts_fault=fault,
            reports=(),
            dane_off="[dns] trusted is false",
        )
        self.assertEqual(
            list(survey_lines(bare))[1:],
            [
                "  MX none (DNSSEC: not secure): the domain itself is its host",
                "  MTA-STS none",
                "  MTA-STS fault sts-policy-fetch-error: bad?[2J host",
                "  TLSRPT none",
                "  DANE off: [dns] trusted is false",
            ],
        )


class FindingTests(SynchronousTestCase):
    """`finding_lines`."""

    def finding(self, **changes: object) -> Finding:
        return attrs.evolve(Finding(TARGET, REQUIRED), **changes)

    def test_everything(self) -> None:
        """From the TLSA record to the result, in the order in which it happened."""
        issued = Authority.create().issue("mx.example.test", "192.0.2.1")
        leaf, authority = x509.load_pem_x509_certificates(issued.certificate_pem)
        chain = tuple([each.public_bytes(Encoding.DER) for each in (leaf, authority)])
        finding = self.finding(
            greeting=Reply(220, "", "mx ESMTP\nready"),
            clear={"SIZE": "100", "STARTTLS": ""},
            starttls=Reply(220, "2.0.0", "go"),
            achieved=Achieved("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, chain=chain, chain_error="self-signed", names_ok=True),
            inside={},
            again="TLSv1.3, the same certificate",
            levels=[("may", "reached")],
            handover=Handover([("RSET", "250 ok")], True, False),
        )
        finding.ends(Result.MISSED, "certificate not trusted")
        lines = list(finding_lines(finding, SURVEY))
        self.assertEqual(lines[0], "mx.example.test[192.0.2.1]:25 (address DNSSEC: secure)")
        for line in (
            "TLSA _25._tcp.mx.example.test: 3 1 1 abcd",
            "owed verify (by default), names mx.example.test, SNI mx.example.test",
            "greeting 220 mx ESMTP ready",
            "EHLO SIZE 100, STARTTLS",
            "STARTTLS 220 2.0.0 go",
            "TLS TLSv1.3 TLS_AES_256_GCM_SHA384 (256 bits)",
            "certificate 0 CN=mx.example.test",
            "certificate 0 issuer CN=mta test CA",
            "certificate 0 names mx.example.test, 192.0.2.1",
            "certificate self-signed; a name that is looked for is in it",
            "EHLO in TLS no extensions",
            "again TLSv1.3, the same certificate",
            "level may         reached",
            "hand-over RSET: 250 ok",
            "hand-over keep yes, clear no: keep (hosts_pass_tls)",
            "result not reached: certificate not trusted",
        ):
            self.assertIn(f"  {line}", lines)
        self.assertIn(sha256(chain[0]).hexdigest(), "".join(lines))
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        self.assertIn(f"  certificate 0 from {begin:%Y-%m-%d} to {end:%Y-%m-%d}", lines)
        self.assertEqual([line for line in lines if "certificate 1" in line], [])
        self.assertTrue([line for line in finding_lines(finding, SURVEY, chain=True) if "certificate 1 CN=mta test CA" in line])

    def test_t03_tlsa(self) -> None:
        """T03: records that nobody could look up are told from none."""
        failed = Found(0.0, base_domain="mx.example.test", error="_25._tcp.mx.example.test TLSA: TIMEOUT")
        for found, words in (
            (failed, "lookup failed: _25._tcp.mx.example.test TLSA: TIMEOUT"),
            (Found(0.0), "none that is secure"),
        ):
            survey = attrs.evolve(SURVEY, tlsa={("mx.example.test", 25): found})
            self.assertIn(f"  TLSA _25._tcp.mx.example.test: {words}", list(finding_lines(self.finding(), survey)))
        without = attrs.evolve(SURVEY, tlsa={}, dane_off="why")
        self.assertEqual([line for line in finding_lines(self.finding(), without) if "TLSA" in line], [])

    def test_nothing(self) -> None:
        """A server that never said anything has what is owed, and the result."""
        self.assertEqual(
            [line.split()[0] for line in finding_lines(self.finding(), SURVEY)][1:],
            ["TLSA", "owed", "result"],
        )

    def test_odd_certificates(self) -> None:
        """None at all, and one that cannot be read."""
        for chain, words in (((), "certificate none was shown"), ((b"junk",), "certificate 0 cannot be read")):
            finding = self.finding(achieved=Achieved("TLSv1.2", "AES128-SHA", 128, chain=chain))
            self.assertIn(words, "\n".join(finding_lines(finding, SURVEY)))

    def test_control_characters(self) -> None:
        """What a server says is shown without what moves a cursor."""
        finding = self.finding(greeting=Reply(220, "", "\x1b]0;title\x07 \x9b2J"), clear={"X": "\x08"})
        finding.ends(Result.MISSED, "said \x1b[1m")
        self.assertFalse([char for line in finding_lines(finding, SURVEY) for char in line if not char.isprintable()])
