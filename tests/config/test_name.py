"""The syntax of names, each function by a table of right and wrong; and agreement with the rooms that use them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config import name
from mta.dns.servers import parse_server


class NameTests(SynchronousTestCase):
    """Right ones give None, wrong ones a text."""

    def check(self, fault_in: object, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
        for text in right:
            self.assertIsNone(fault_in(text), text)
        for text in wrong:
            self.assertIsInstance(fault_in(text), str, text)

    def test_domains(self) -> None:
        """Letters, digits, "-" and "_"; U-labels; not addresses, not patterns."""
        right = ("example.org", "a", "a_b.example", "xn--bcher-kva.example", "bücher.example", "x" * 63 + ".org", "1.example")
        wrong = (
            "",
            ".",
            "a..b",
            "a b",
            "example.org.",
            "*.a",
            "a@b",
            "127.0.0.1",
            "-a.org",
            "a-.org",
            "x" * 64,
            "a." * 130 + "b",
            "a\n.b",
        )
        self.check(name.domain_fault, right, wrong)
        self.assertEqual("a domain name is wanted, not 'a b'", name.domain_fault("a b"))

    def test_hostname(self) -> None:
        """Fully qualified (RFC 5321 2.3.5), A-labels, no underscore."""
        self.check(
            name.hostname_fault, ("mx1.example.org", "localhost.localdomain"), ("mx1", "a_b.org", "", "[127.0.0.1]", "10.0.0.1")
        )
        self.assertEqual("a full host name is wanted, like mx1.example.org, not 'mx1'", name.hostname_fault("mx1"))
        self.assertEqual(
            "a host name in A-labels is wanted; did you mean 'mx.xn--bcher-kva.de'?", name.hostname_fault("mx.bücher.de")
        )

    def test_next_hops(self) -> None:
        """A domain, or a host in brackets with or without port."""
        right = (
            "example.org",
            "[mx.example.org]",
            "[mx.example.org]:587",
            "[192.0.2.1]:25",
            "[IPv6:2001:db8::1]",
            "[2001:db8::1]:2525",
        )
        wrong = ("", "[]", "[a b]", "[a]:", "[a]:0", "[a]:65536", "[a]:x", "[a", "a]", "[[a]]", "[a]:٣")
        self.check(name.next_hop_fault, right, wrong)
        self.assertEqual(
            "a port is for a host in brackets (no MX lookup); did you mean '[mx.org]:25'?", name.next_hop_fault("mx.org:25")
        )
        self.assertEqual("an address is written in brackets; did you mean '[192.0.2.1]'?", name.next_hop_fault("192.0.2.1"))
        self.assertEqual("an address is written in brackets; did you mean '[::1]'?", name.next_hop_fault("::1"))

    def test_patterns(self) -> None:
        """What [[route]] may match."""
        right = ("local", "*", "example.org", "*.example.org", "user@example.org", '"a b"@example.org', "bücher.example")
        wrong = ("", "*.", "*@example.org@", "@example.org", "user@", "a b", "*.*.org", "user@*", "a*b")
        self.check(name.pattern_fault, right, wrong)

    def test_ports(self) -> None:
        """Whole numbers in range, plain digits."""
        self.check(name.port_fault, ("1", "25", "65535"), ("", "0", "65536", "-1", "+5", "2 5", "٣", "1" * 5000))

    def test_servers_agree_with_the_resolver(self) -> None:
        """The check of dns.servers says yes exactly where the resolver's parser does."""
        for text in (
            "127.0.0.1", "127.0.0.1:53", "::1", "[::1]", "[::1]:5353", "fe80::1%lo", "localhost", "", "127.0.0.1:", "127.0.0.1:0",
            "1.2.3", "[::1]:x", "[::1]:99999", "[127.0.0.1]:53", "127.0.0.1:53:1", "a:53",
        ):  # fmt: skip
            self.assertEqual(accepts(parse_server, text), name.server_fault(text) is None, text)

    def test_destinations(self) -> None:
        """What [[tls_policy]] may match, as next hops are written."""
        right = ("example.org", ".example.org", "[mx.example.org]", "[mx.example.org]:587", "[192.0.2.1]:25", "bücher.example")
        wrong = ("", ".", "*", "*.example.org", "example.org:25", "192.0.2.1", "[", "[a]:0", "a b", "user@example.org", "..a")
        self.check(name.destination_fault, right, wrong)
        self.assertEqual("names below a domain are written '.a.org' here, not '*.a.org'", name.destination_fault("*.a.org"))
        self.assertIn("did you mean '[a.org]:25'?", str(name.destination_fault("a.org:25")))

    def test_references(self) -> None:
        """Names that certificates are compared with."""
        self.check(name.reference_fault, ("mx.example.org", "nexthop", "dot-nexthop", "hostname"), ("", "a b", "*", "a@b"))

    def test_addresses(self) -> None:
        """A mailbox with a domain."""
        self.check(name.address_fault, ("user@example.org", '"a b"@a.org'), ("", "user", "@a.org", "user@a b", "user@*"))


def accepts(parse: object, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
