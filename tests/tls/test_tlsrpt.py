"""TLSRPT without I/O: records, result types, counting, and the report against the structure of RFC 8460."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Tlsa
from mta.testing.pki import Authority
from mta.tls.dane import match
from mta.tls.policy import Achieved, Level, Required, judge
from mta.tls.tlsrpt import (
    MAX_FAILURES,
    MAX_POLICIES,
    MAX_STRINGS,
    MAX_TEXT,
    RESULT_TYPES,
    Tally,
    packed,
    policy_domain,
    report,
    report_addresses,
    report_id,
    result_type,
    testing_fault,
)

STS = ("version: STSv1", "mode: enforce", "mx: *.mail.company-y.example", "max_age: 86400")
TESTING = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
DAY = datetime(2016, 4, 1, tzinfo=UTC)


def required(**more: Any) -> Required:
    """What is owed to one host of company-y.example."""
    host = more.pop("host", "mx1.mail.company-y.example")
    facts = {"level": Level.MAY, "address": "203.0.113.56", "port": 25, "next_hop": "company-y.example", "names": (host,)}
    return Required(host=host, **{**facts, **more})


def sts(**more: Any) -> Required:
    return required(**{"level": Level.STS, "origin": "sts", "policy": STS, "evidence": "sts:1:enforce", **more})


def check_structure(case: SynchronousTestCase, document: dict[str, Any]) -> None:
    """RFC 8460 4.4: every key is known and of its type, what is always there is there, and the sums are right."""
    case.assertEqual(set(document), {"organization-name", "date-range", "contact-info", "report-id", "policies"})
    case.assertEqual(set(document["date-range"]), {"start-datetime", "end-datetime"})
    for moment in document["date-range"].values():
        datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")
    for under in document["policies"]:
        case.assertLessEqual(set(under), {"policy", "summary", "failure-details"})
        policy, summary = under["policy"], under["summary"]
        case.assertIn(policy["policy-type"], ("tlsa", "sts", "no-policy-found"))
        case.assertLessEqual({"policy-type", "policy-string", "policy-domain"}, set(policy))
        case.assertEqual("mx-host" in policy, policy["policy-type"] == "sts")
        case.assertTrue(all(isinstance(text, str) for text in [*policy["policy-string"], *policy.get("mx-host", [])]))
        case.assertEqual(set(summary), {"total-successful-session-count", "total-failure-session-count"})
        failed = 0
        for detail in under.get("failure-details", []):
            known = {"sending-mta-ip", "receiving-mx-hostname", "receiving-ip", "failure-reason-code"}
            case.assertLessEqual(set(detail), known | {"result-type", "failed-session-count"})
            case.assertIn(detail["result-type"], RESULT_TYPES)
            failed += detail["failed-session-count"]
        case.assertEqual(failed, summary["total-failure-session-count"])


class RecordTests(SynchronousTestCase):
    """RFC 8460 3: the TXT record."""

    def test_addresses(self) -> None:
        """mailto and https, one or more, with blanks wherever the grammar has them."""
        for text, wanted in {
            b"v=TLSRPTv1;rua=mailto:reports@example.com": ("mailto:reports@example.com",),
            b"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt;": ("https://reporting.example.com/v1/tlsrpt",),
            b"v=TLSRPTv1 ; rua=mailto:a@b.c , https://d.e/f": ("mailto:a@b.c", "https://d.e/f"),
            b"v=TLSRPTv1;\trua=HTTPS://d.e/f?x=1&y=2;x-new=whatever it says": ("HTTPS://d.e/f?x=1&y=2",),
            b"v=TLSRPTv1; ext=1; rua=ftp://a.b/, https://c.d/": ("https://c.d/",),
            b"v=TLSRPTv1; rua=https://a.b/; rua=https://c.d/": ("https://a.b/",),
        }.items():
            self.assertEqual(report_addresses([text]), wanted, text)

    def test_none(self) -> None:
        """Other records are passed over; two of ours, a broken one or an insecure scheme mean none."""
        good = b"v=TLSRPTv1; rua=mailto:a@b.c"
        self.assertEqual(report_addresses([b"v=spf1 -all", good, b"v=TLSRPTv2; rua=x"]), ("mailto:a@b.c",))
        for texts in (
            [], [good, good], [b"v=TLSRPTv1"], [b"v=TLSRPTv1;"], [b"v=TLSRPTv1; rua"], [b"v=TLSRPTv1; rua="],
            [b"v=tlsrptv1; rua=mailto:a@b.c"], [b" v=TLSRPTv1; rua=mailto:a@b.c"], [b"v=TLSRPTv1; rua=http://a.b/"],
            [b"v=TLSRPTv1; rua=https://a.b/\r\nX: 1"], [b"v=TLSRPTv1; rua=https://a.b/\xfc"], [b"v=TLSRPTv1;; rua=mailto:a@b.c"],
        ):  # fmt: skip
            self.assertEqual(report_addresses(texts), (), texts)

    def test_bounded(self) -> None:
        """A record cannot make us send everywhere, nor cost us time."""
        self.assertEqual(len(report_addresses([b"v=TLSRPTv1; rua=" + b",".join(b"https://a.b/%d" % n for n in range(100))])), 4)
        self.assertEqual(report_addresses([b"v=TLSRPTv1; rua=https://a.b/" + b"x" * 2000]), ())
        self.assertEqual(report_addresses([b"v=TLSRPTv1; rua=" + b"," * 60_000 + b"\x00"]), ())

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"v=TLSRPTv1;" + tail)), max_size=3)
    )
    def test_anything(self, texts: list[bytes]) -> None:
        """Any bytes are read without an error, and only addresses of the two schemes come out."""
        for address in report_addresses(texts):
            self.assertTrue(address.lower().startswith(("mailto:", "https://")))
            self.assertTrue(address.isascii() and address.isprintable())


class ResultTypeTests(SynchronousTestCase):
    """RFC 8460 4.3."""

    def test_negotiation(self) -> None:
        """4.3.1: what the server does not offer or refuses, and what breaks later."""
        for trouble in ("T1", "T2", "T3", "T4"):
            self.assertEqual(result_type(trouble, "502 not here"), "starttls-not-supported")
        for trouble in ("T5", "T6", "T8", "T9", "T10", "policy", "T7"):
            self.assertEqual(result_type(trouble, "whatever"), "validation-failure")
        # an alert about our own certificate is none about theirs
        self.assertEqual(result_type("T6", "sslv3 alert: certificate has expired"), "validation-failure")

    def test_certificates(self) -> None:
        """4.3.1: the words of `judge` and of DANE mean what the report says."""
        shown = Achieved(version="TLSv1.3", chain=(b"x",))
        verify = required(level=Level.VERIFY)
        for achieved, wanted in (
            (attrs.evolve(shown, names_ok=True, chain_error="unable to get local issuer certificate"), "certificate-not-trusted"),
            (attrs.evolve(shown, names_ok=True, chain_error="certificate has expired"), "certificate-expired"),
            (attrs.evolve(shown, names_ok=False), "certificate-host-mismatch"),
            (attrs.evolve(shown, chain=()), "validation-failure"),
        ):
            self.assertEqual(result_type("T7", judge(verify, achieved)), wanted)
        self.assertEqual(result_type("T7", judge(required(level=Level.DANE_ONLY), shown)), "tlsa-invalid")
        leaf = Authority.create().certificate_pem  # whatever it is, nothing matches it
        self.assertEqual(result_type("T7", match([Tlsa(3, 1, 1, b"x" * 32)], [leaf], [], 0.0)), "validation-failure")

    def test_policies(self) -> None:
        """4.3.2: why no connection was made; a result type itself is given back."""
        for reason, wanted in {
            "TLSA lookup error for mx.example.org:25 (SERVFAIL)": "dnssec-invalid",
            "level dane-only, and there are no secure TLSA records for mx.example.org:25": "dane-required",
            "level dane-only, and no TLSA record for mx.example.org:25 is usable": "tlsa-invalid",
            "the MTA-STS policy of example.org does not know the host mx.example.org": "validation-failure",
            **{each: each for each in RESULT_TYPES},
        }.items():
            self.assertEqual(result_type("policy", reason), wanted)

    def test_mode_testing(self) -> None:
        """RFC 8461 5: what would have failed under mode enforce is found, though the level owes nothing."""
        tested = required(policy=TESTING, evidence="sts:1:testing")
        good = Achieved(version="TLSv1.3", chain=(b"x",), names_ok=True)
        self.assertEqual(testing_fault(tested, good), "")
        for bound, achieved, wanted in (
            (tested, attrs.evolve(good, names_ok=False), "certificate-host-mismatch"),
            (tested, attrs.evolve(good, chain_error="certificate has expired"), "certificate-expired"),
            (attrs.evolve(tested, host="mx.elsewhere.example"), good, "validation-failure"),
        ):
            self.assertEqual(result_type("T7", testing_fault(bound, achieved)), wanted)
        bad = attrs.evolve(good, names_ok=False)
        for other in (required(), sts(), required(policy=("junk",)), attrs.evolve(tested, tlsa=(Tlsa(3, 1, 1, b"x"),))):
            self.assertEqual(testing_fault(other, bad), "")


class TallyTests(SynchronousTestCase):
    """4.2: counting."""

    def test_kept_session(self) -> None:
        """P50: one failure, then one new session that carries ten messages: 1 success, 1 failure (who hands the session on
        does not count, `succeeded` is for handshakes; the other half is the relay's)."""
        tally = Tally()
        tally.failed(sts(), "certificate-expired", "")
        tally.succeeded(sts())
        [under] = tally.plain.values()
        self.assertEqual(under["summary"], {"total-successful-session-count": 1, "total-failure-session-count": 1})

    def test_policy_types(self) -> None:
        """4.4: TLSA records, the policy's lines, or none; a tested policy is one; DANE goes before MTA-STS."""
        record = Tlsa(3, 1, 1, bytes(range(32)))
        dane = required(
            level=Level.DANE, origin="dane", tlsa=(record,), sni="mx1.company-y.example", evidence="dane:1", policy=STS
        )
        tally = Tally()
        for each in (
            dane,
            sts(),
            required(policy=TESTING, evidence="sts:1:testing"),
            required(),
            required(level=Level.VERIFY, origin="route"),
        ):
            self.assertTrue(tally.succeeded(each))
        policies = [under["policy"] for under in tally.plain.values()]
        self.assertEqual([policy["policy-type"] for policy in policies], ["tlsa", "sts", "sts", "no-policy-found"])
        text = "3 1 1 " + bytes(range(32)).hex()
        self.assertEqual(policies[0], {"policy-type": "tlsa", "policy-string": [text], "policy-domain": "mx1.company-y.example"})
        self.assertEqual(policies[1]["policy-string"], list(STS))
        self.assertEqual(policies[1]["mx-host"], ["*.mail.company-y.example"])
        self.assertEqual(
            policies[3], {"policy-type": "no-policy-found", "policy-string": [], "policy-domain": "company-y.example"}
        )
        self.assertEqual([under["summary"]["total-successful-session-count"] for under in tally.plain.values()], [1, 1, 1, 2])

    def test_two_domains_one_host(self) -> None:
        """P38: two domains with one MX, one with a policy, one without: each has its own counts (KumoMTA #484; the deliveries
        themselves are the relay's)."""
        first, second = Tally(), Tally()
        first.failed(sts(), "certificate-host-mismatch", "")
        second.succeeded(required(next_hop="company-z.example"))
        self.assertEqual([under["policy"]["policy-domain"] for under in first.plain.values()], ["company-y.example"])
        self.assertEqual([under["policy"]["policy-domain"] for under in second.plain.values()], ["company-z.example"])

    def test_same_failures_are_one_row(self) -> None:
        """Failures that differ in nothing are counted together, others apart; an unknown type is the general one."""
        tally = Tally()
        for _ in range(3):
            tally.failed(sts(), "certificate-expired", "")
        tally.failed(sts(host="mx2.mail.company-y.example"), "certificate-expired", "")
        tally.failed(sts(), "made-up", "why")
        [under] = tally.plain.values()
        rows = [(row["result-type"], row["failed-session-count"]) for row in under["failure-details"].values()]
        self.assertEqual(rows, [("certificate-expired", 3), ("certificate-expired", 1), ("validation-failure", 1)])
        self.assertEqual(tally.rows, 4)

    def test_bounded(self) -> None:
        """What strangers say cannot make it grow: policies, failures, lines and their length have limits, counts go on."""
        tally = Tally()
        for number in range(200):
            tally.failed(sts(host=f"mx{number}.test"), "certificate-expired", "x" * 5000)
        [under] = tally.plain.values()
        self.assertEqual(len(under["failure-details"]), MAX_FAILURES + 1)
        self.assertEqual(under["summary"]["total-failure-session-count"], 200)
        self.assertEqual(under["failure-details"]["certificate-expired"]["failed-session-count"], 200 - MAX_FAILURES)
        self.assertEqual(max(len(row.get("failure-reason-code", "")) for row in under["failure-details"].values()), MAX_TEXT)
        counted = [tally.succeeded(sts(evidence=f"sts:{number}", policy=("mx: " + "a" * 500,) * 99)) for number in range(50)]
        self.assertEqual(counted.count(True), MAX_POLICIES - 1)
        policy = list(tally.plain.values())[-1]["policy"]
        self.assertEqual((len(policy["policy-string"]), len(policy["policy-string"][0])), (MAX_STRINGS, MAX_TEXT))

    def test_no_room(self) -> None:
        """Without room nothing new is kept, what is known counts on."""
        tally = Tally()
        self.assertFalse(tally.succeeded(sts(), room=False))
        self.assertEqual(tally.plain, {})
        tally.succeeded(sts())
        self.assertTrue(tally.succeeded(sts(), room=False))
        self.assertTrue(tally.failed(sts(), "certificate-expired", "detail", room=False))
        self.assertEqual(tally.rows, 2)

    def test_plain(self) -> None:
        """It goes through JSON and back, and counts on."""
        tally = Tally()
        tally.failed(sts(), "certificate-expired", "x")
        again = Tally(json.loads(json.dumps(tally.plain)))
        again.failed(sts(), "certificate-expired", "x")
        [under] = again.plain.values()
        self.assertEqual([row["failed-session-count"] for row in under["failure-details"].values()], [2])

    def test_damaged(self) -> None:
        """What a damaged file gives is left out, piece by piece."""
        tally = Tally()
        tally.failed(sts(), "certificate-expired", "x")
        [(key, good)] = tally.plain.items()
        bad_row = {**good, "failure-details": {"x": {"result-type": "x"}}}
        bad = (1, None, {}, {**good, "summary": {}}, {**good, "policy": {}}, {**good, "failure-details": []}, bad_row)
        mixed = {key: good, **{str(number): value for number, value in enumerate(bad)}}
        self.assertEqual(Tally(mixed).plain, tally.plain)
        for plain in (None, [], 7, "text"):
            self.assertEqual(Tally(plain).plain, {})

    def test_domains(self) -> None:
        """1.1: whose report it is: the next hop's domain, a smarthost's own name, nobody for an address."""
        for next_hop, wanted in {
            "Example.ORG.": "example.org", "[mx.example.org]": "mx.example.org", "[mx.example.org]:587": "mx.example.org",
            "[192.0.2.1]:25": "", "[2001:db8::1]": "", "[ipv6:2001:db8::1]": "", "büro.example": "", "": "",
        }.items():  # fmt: skip
            self.assertEqual(policy_domain(next_hop), wanted)


class ReportTests(SynchronousTestCase):
    """4.4: the report."""

    def example(self) -> dict[str, Any]:
        """The sessions of appendix B."""
        tally = Tally()
        under_test = required(policy=TESTING, evidence="sts:1:testing")
        for _ in range(5326):
            tally.succeeded(under_test)
        for _ in range(100):
            tally.failed(under_test, "certificate-expired", "", "198.51.100.62")
        for _ in range(200):
            tally.failed(attrs.evolve(under_test, host="mx2.mail.company-y.example"), "starttls-not-supported", "", "2001:db8::1")
        backup = attrs.evolve(under_test, host="mx-backup.mail.company-y.example", address="203.0.113.58")
        for _ in range(3):
            tally.failed(backup, "validation-failure", "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED", "198.51.100.62")
        return report(tally, "5065427c-23d3-47ca-b6e0-946ea0e8c4be", DAY, "Company-X", "sts-reporting@company-x.example")

    def test_as_in_the_rfc(self) -> None:
        """Appendix B, field by field (what is not known is left out)."""
        document = self.example()
        check_structure(self, document)
        policies = document.pop("policies")
        self.assertEqual(
            document,
            {
                "organization-name": "Company-X",
                "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
                "contact-info": "sts-reporting@company-x.example",
                "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
            },
        )
        [under] = policies
        self.assertEqual(
            under["policy"],
            {
                "policy-type": "sts",
                "policy-string": list(TESTING),
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
        )
        self.assertEqual(under["summary"], {"total-successful-session-count": 5326, "total-failure-session-count": 303})
        self.assertEqual(
            under["failure-details"],
            [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "starttls-not-supported",
                    "receiving-mx-hostname": "mx2.mail.company-y.example",
                    "receiving-ip": "203.0.113.56",
                    "failed-session-count": 200,
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "receiving-ip": "203.0.113.58",
                    "failed-session-count": 3,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                },
            ],
        )

    def test_packed(self) -> None:
        """5.2: gzip of JSON, the same bytes for the same report."""
        document = self.example()
        self.assertEqual(json.loads(gzip.decompress(packed(document))), document)
        self.assertEqual(packed(document), packed(self.example()))

    def test_without_failures(self) -> None:
        """No empty list of failures."""
        tally = Tally()
        tally.succeeded(required())
        document = report(tally, report_id("company-y.example", DAY, "mta.test"), DAY, "", "")
        check_structure(self, document)
        self.assertNotIn("failure-details", document["policies"][0])
        self.assertEqual(document["report-id"], "2016-04-01.company-y.example@mta.test")
        of_worker = report_id("company-y.example", DAY, "mta.test", 1)
        self.assertEqual(
            of_worker, "2016-04-01+1.company-y.example@mta.test", "that of worker 0, or of a server that is alone, is another"
        )
