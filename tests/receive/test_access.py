"""Who may send where: the rule that keeps the server from being an open relay."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Access, RouteEntry
from mta.receive.access import AccessRules, client_address
from mta.smtp.address import Path, parse_address
from tests.receive.door import SETTINGS


class AccessRulesTests(SynchronousTestCase):
    """`AccessRules`."""

    def setUp(self) -> None:
        self.rules = AccessRules.of(SETTINGS)

    def refused(self, address: str, client: str = "203.0.113.9") -> bool:
        """Is the recipient refused to this client?"""
        trusted = self.rules.trusts(client_address(client))
        reply = self.rules.refusal(trusted, parse_address(address))
        self.assertIn(reply and (reply.code, reply.enhanced), (None, (550, "5.7.1")))
        return reply is not None

    def test_strangers(self) -> None:
        """A stranger reaches the local and the relayed domains in any case of letters, and nothing else."""
        self.assertFalse(self.refused("user@example.org"))
        self.assertFalse(self.refused("user@Example.ORG"))
        self.assertFalse(self.refused("user@friend.example"))
        self.assertTrue(self.refused("user@example.net"))

    def test_no_way_around(self) -> None:
        """Subdomains, names that end alike, percent signs, quoted and routed addresses and literals open nothing."""
        for address in (
            "user@sub.example.org",
            "user@badexample.org",
            "user%example.org@example.net",
            '"user@example.org"@example.net',
            "@example.org:user@example.net",
            "user@[192.0.2.7]",
        ):
            self.assertTrue(self.refused(address), address)

    def test_percent_stays_ours(self) -> None:
        """What stands before the last @ is the local part: it is ours to deliver or to refuse, never a route."""
        self.assertFalse(self.refused("user%example.net@example.org"))

    def test_postmaster(self) -> None:
        """<postmaster> without a domain is ours (RFC 5321 4.5.1)."""
        self.assertIsNone(self.rules.refusal(False, Path("Postmaster", "")))

    def test_trusted(self) -> None:
        """A client in relay_from sends to anybody, its neighbour does not."""
        self.assertFalse(self.refused("user@example.net", "192.0.2.200"))
        self.assertFalse(self.refused("user@example.net", "::ffff:192.0.2.200"))
        self.assertTrue(self.refused("user@example.net", "192.0.3.1"))
        self.assertTrue(self.refused("user@example.net", "2001:db8::1"))

    def test_no_address(self) -> None:
        """A client without an address (a UNIX socket) is not trusted, even by a list of all addresses."""
        everybody = Access(relay_from=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
        self.assertFalse(AccessRules.of(attrs.evolve(SETTINGS, access=everybody)).trusts(client_address("/run/mta.sock")))

    def test_no_route_opens_the_server(self) -> None:
        """Routes for everybody and for one domain change nothing: strangers are refused as before."""
        routes = (RouteEntry(("example.net",), relay="[192.0.2.1]"), RouteEntry(("*",), relay="smarthost.example"))
        self.rules = AccessRules.of(attrs.evolve(SETTINGS, route=routes))
        self.assertTrue(self.refused("user@example.net"))
        self.assertTrue(self.refused("user@smarthost.example"))

    def test_international(self) -> None:
        """A domain in U-labels and the same in A-labels are one, in the configuration and in RCPT."""
        self.rules = AccessRules.of(attrs.evolve(SETTINGS, local_domains=("Bücher.example", "例.example.")))
        self.assertFalse(self.refused("user@xn--bcher-kva.example"))
        self.assertFalse(self.refused("user@BÜCHER.example"))
        self.assertFalse(self.refused("user@xn--fsq.example"))

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True))
    def test_only_listed_domains(self, domain: str) -> None:
        """Whatever the domain, a stranger reaches it only when it is on a list."""
        self.assertEqual(self.refused(f"user@{domain}"), domain not in ("example.org", "friend.example"))


class ClientAddressTests(SynchronousTestCase):
    """`client_address`."""

    def test_forms(self) -> None:
        """Mapped addresses are unwrapped, zones dropped, anything else is no address."""
        self.assertEqual(str(client_address("::ffff:192.0.2.1")), "192.0.2.1")
        self.assertEqual(str(client_address("fe80::1%eth0")), "fe80::1")
        self.assertEqual(str(client_address("2001:db8::1")), "2001:db8::1")
        self.assertIsNone(client_address(""))
        self.assertIsNone(client_address("local"))
