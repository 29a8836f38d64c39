"""`mta.tls.policy_table`: which entry of [[tls_policy]] holds for a next hop."""

from datetime import date

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import TlsPolicyEntry
from mta.tls.policy_table import PolicyTable, plain_name

TODAY = date(2026, 11, 22)


def table(*matches: tuple[str, ...], **more: str) -> PolicyTable:
    return PolicyTable([TlsPolicyEntry(match, level="encrypt", **more) for match in matches])


class PolicyTableTests(SynchronousTestCase):
    """The most specific pattern wins."""

    def found(self, entries: PolicyTable, next_hop: str, today: date = TODAY) -> str | None:
        entry = entries.entry(next_hop, today)
        return entry.match[0] if entry else None

    def test_domains(self) -> None:
        """The domain itself, then what is below the nearest one; a domain is not below itself."""
        entries = table((".org",), ("example.org",), (".example.org",), (".b.example.org",))
        for next_hop, expected in (
            ("example.org", "example.org"),
            ("a.example.org", ".example.org"),
            ("x.a.example.org", ".example.org"),
            ("b.example.org", ".example.org"),
            ("x.b.example.org", ".b.example.org"),
            ("other.org", ".org"),
            ("org", None),
            ("notexample.org", ".org"),
            ("example.net", None),
            ("[example.org]", None),
            ("[a.example.org]:25", None),
        ):
            self.assertEqual(self.found(entries, next_hop), expected, next_hop)

    def test_hosts(self) -> None:
        """With its port before any port; a host in brackets is no domain."""
        entries = table(("[mx.example.org]",), ("[mx.example.org]:587",), ("[192.0.2.1]",), ("[2001:db8::1]",))
        for next_hop, expected in (
            ("[mx.example.org]:587", "[mx.example.org]:587"),
            ("[mx.example.org]:25", "[mx.example.org]"),
            ("[MX.example.org]", "[mx.example.org]"),
            ("mx.example.org", None),
            ("[192.0.2.1]:2525", "[192.0.2.1]"),
            ("[IPv6:2001:db8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:26", "[2001:db8::1]"),
        ):
            self.assertEqual(self.found(entries, next_hop), expected, next_hop)

    def test_one_spelling(self) -> None:
        """Case, final dots and scripts make no difference."""
        entries = table(("Bücher.Example",), (".EXAMPLE.org.",))
        self.assertEqual(self.found(entries, "xn--bcher-kva.example"), "Bücher.Example")
        self.assertEqual(self.found(entries, "A.Example.ORG."), ".EXAMPLE.org.")
        self.assertEqual(plain_name("[IPv6:2001:DB8::1]:25"), "[2001:db8::1]:25")
        self.assertEqual(plain_name(".Bücher.Example"), ".xn--bcher-kva.example")

    def test_first_of_the_same(self) -> None:
        """The file's order decides between equal patterns."""
        entries = PolicyTable([TlsPolicyEntry(("example.org",), level="may"), TlsPolicyEntry(("example.org",), level="none")])
        found = entries.entry("example.org", TODAY)
        assert found is not None
        self.assertEqual(found.level, "may")

    def test_until(self) -> None:
        """P17: from its date on an entry is as if it were not there, and the next one holds."""
        entries = PolicyTable(
            [
                TlsPolicyEntry(("mail.mil",), dane="off", until="2027-01-01"),
                TlsPolicyEntry((".mil", "mail.mil"), level="encrypt"),
            ]
        )
        self.assertEqual(self.found(entries, "mail.mil", date(2026, 12, 31)), "mail.mil")
        self.assertEqual(self.found(entries, "mail.mil", date(2027, 1, 1)), ".mil")
        self.assertEqual(self.found(entries, "mail.mil", date(2100, 1, 1)), ".mil")

    def test_empty(self) -> None:
        """Nothing is there."""
        self.assertIsNone(PolicyTable([]).entry("example.org", TODAY))
