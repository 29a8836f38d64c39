"""`mta.route.table`: first match wins, whatever the index does, and templates never leave their folder."""

import os.path
from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import RouteAuth, RouteEntry, Settings
from mta.route.table import DEFAULT, RouteTable, is_safe, maildir_paths, maildir_template

LOCAL = ("example.org", "B\u00fccher.example")


def table(*matches, local_domains=LOCAL):
    """A table whose routes are named 0, 1, 2 ..."""
    routes = tuple(
        RouteEntry(match=(match,) if isinstance(match, str) else match, relay="[relay.test]", name=str(n))
        for n, match in enumerate(matches)
    )
    return RouteTable(Settings(hostname="mx.example.org", data_dir="/nowhere", local_domains=local_domains, route=routes))


class AuthTests(SynchronousTestCase):
    """Credentials of a route."""

    def routed(self, auth):
        entries = (RouteEntry(match=("*",), relay="[relay.test]", auth=auth), RouteEntry(match=("x.test",), relay="[x.test]"))
        return RouteTable(Settings(hostname="mx.example.org", data_dir="/nowhere", route=entries))

    def test_by_name(self):
        """They are found by the name that the route gets in the file's order; a route without has none."""
        auth = RouteAuth("me", Path("/etc/mta/password"))
        self.assertEqual(self.routed(auth).auth, {"route1": auth})
        self.assertEqual(self.routed(None).auth, {})

    def test_digest(self):
        """Another user, file or set of mechanisms is another table."""
        auth = RouteAuth("me", Path("/etc/mta/password"))
        others = [
            attrs.evolve(auth, **{key: value}) for key, value in (("user", "you"), ("mechanisms", ("PLAIN",)), ("clear", True))
        ]
        others += [attrs.evolve(auth, password_file=Path("/etc/mta/other")), None]
        self.assertEqual(len({self.routed(each).digest for each in (auth, *others)}), 6)


class FindTests(SynchronousTestCase):
    """Which entry."""

    def names(self, routes, *addresses):
        """The name of the entry for each address."""
        found = [routes.find(*address.rsplit("@", 1)) for address in addresses]
        return [entry and entry.name for entry in found]

    def test_exact_domain(self):
        """A domain is itself, in any case, and nothing below it."""
        routes = table("Other.Example")
        self.assertEqual(self.names(routes, "a@other.example", "a@x.other.example"), ["0", "_mx"])

    def test_below_a_domain(self):
        """*.domain is what is below, at any depth, and not itself."""
        routes = table("*.other.example")
        found = self.names(routes, "a@x.other.example", "a@y.x.other.example", "a@other.example", "a@another.example")
        self.assertEqual(found, ["0", "0", "_mx", "_mx"])

    def test_everything(self):
        """* is every domain, local ones too."""
        self.assertEqual(self.names(table("*"), "a@x.test", "a@example.org"), ["0", "0"])

    def test_local(self):
        """The local domains, by their A-labels."""
        self.assertEqual(self.names(table("local"), "a@example.org", "a@xn--bcher-kva.example"), ["0", "0"])

    def test_address(self):
        """One address, its local part in any case."""
        self.assertEqual(
            self.names(table("John@Other.example"), "john@other.example", "JOHN@other.example", "j@other.example"),
            ["0", "0", "_mx"],
        )

    def test_u_label_patterns(self):
        """A pattern in U-labels means the A-labels."""
        routes = table("*.b\u00fccher.test", "info@stra\u00dfe.test")
        self.assertEqual(self.names(routes, "a@x.xn--bcher-kva.test", "info@xn--strae-oqa.test"), ["0", "1"])

    def test_first_match_wins(self):
        """By the order of the file, not by how exact a pattern is."""
        self.assertEqual(self.names(table("*", "x.test", "a@x.test"), "a@x.test"), ["0"])
        self.assertEqual(self.names(table("a@x.test", "x.test", "*"), "a@x.test", "b@x.test", "b@y.test"), ["0", "1", "2"])
        self.assertEqual(self.names(table(("y.test", "*.test"), "x.test"), "a@x.test"), ["0"])

    def test_default(self):
        """What no entry speaks of goes to its MX; its name cannot be an operator's."""
        self.assertIs(table().find("a", "x.test"), DEFAULT)
        self.assertFalse(DEFAULT.name[0].isalnum())

    def test_local_never_goes_to_mx(self):
        """A local domain without a route has none."""
        self.assertIsNone(table().find("a", "example.org"))
        self.assertIs(table().find("a", "x.example.org"), DEFAULT)

    def test_listed_addresses(self):
        """The domains whose addresses are listed one by one are known."""
        routes = table("a@example.org")
        self.assertTrue(routes.names_mailboxes_of("example.org"))
        self.assertFalse(routes.names_mailboxes_of("xn--bcher-kva.example"))

    DOMAINS = ("a.test", "b.test", "x.a.test", "y.x.a.test", "example.org")
    PATTERNS = ("local", "*", "a.test", "b.test", "*.test", "*.a.test", "*.x.a.test", "u@a.test", "u@example.org", "example.org")

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3), max_size=6),
        st.sampled_from(DOMAINS),
        st.sampled_from("uv"),
    )
    def test_against_reading_the_file(self, entries, domain, local):
        """The index finds what somebody finds who reads the file from its top."""

        def matches(pattern):
            return (
                pattern == "*"
                or (pattern == "local" and domain == "example.org")
                or pattern in (domain, f"{local}@{domain}")
                or (pattern[:2] == "*." and domain.endswith(pattern[1:]))
            )

        expected = next((str(n) for n, patterns in enumerate(entries) if any(map(matches, patterns))), None)
        found = table(*map(tuple, entries)).find(local, domain)
        if expected is None:
            self.assertEqual(found, None if domain == "example.org" else DEFAULT)
        else:
            self.assertEqual(found.name, expected)


class DigestTests(SynchronousTestCase):
    """It changes when the way of mail changes, and only then."""

    def test_same(self):
        """Equal settings, equal digest; the order of local domains is no difference but for the first."""
        self.assertEqual(table("*").digest, table("*").digest)
        three = ("a.test", "b.test", "c.test"), ("a.test", "c.test", "b.test")
        self.assertEqual(*(table("*", local_domains=each).digest for each in three))

    def test_different(self):
        """Any pattern, order, domain or relay."""
        digests = {
            table().digest,
            table("*").digest,
            table("local").digest,
            table("local", "*").digest,
            table("*", "local").digest,
            table("*", local_domains=()).digest,
            table("*", local_domains=("example.net",)).digest,
        }
        self.assertEqual(len(digests), 7)

    def test_names_by_position(self):
        """An entry without a name gets the number of its place."""
        routes = (RouteEntry(("a.test",), relay="[r.test]"), RouteEntry(("b.test",), relay="[r.test]"))
        found = RouteTable(Settings(hostname="h.test", data_dir="/nowhere", route=routes))
        self.assertEqual([found.find("x", domain).name for domain in ("a.test", "b.test")], ["route1", "route2"])

    def test_home_and_relays(self):
        """What a bare postmaster means, and what the operator wrote."""
        self.assertEqual(table().home, "example.org")
        self.assertEqual(table(local_domains=()).home, "mx.example.org")
        self.assertEqual(table("*").relays, {"[relay.test]"})


class MaildirTests(SynchronousTestCase):
    """From a template to a path."""

    def test_template(self):
        """Only of entries that deliver."""
        self.assertEqual(maildir_template(RouteEntry(("local",), deliver="maildir:/var/mail/{user}")), "/var/mail/{user}")
        self.assertIsNone(maildir_template(RouteEntry(("local",), relay="[r.test]")))

    def test_paths(self):
        """As it came, then in lower case; one path where these are the same."""
        self.assertEqual(
            maildir_paths("/m/{domain}/{user}", "John", "example.org"), ("/m/example.org/John", "/m/example.org/john")
        )
        self.assertEqual(maildir_paths("/m/{domain}/{user}", "john", "example.org"), ("/m/example.org/john",))
        self.assertEqual(maildir_paths("/m/all", "John", "example.org"), ("/m/all",))

    def test_placeholders_in_the_address(self):
        """They are names like any other."""
        self.assertEqual(maildir_paths("/m/{domain}/{user}", "{domain}", "d.test"), ("/m/d.test/{domain}",))

    def test_unsafe(self):
        """What leaves the folder, hides, or speaks to a terminal."""
        for name in (
            "",
            ".",
            "..",
            "a..b",
            ".hidden",
            "a/b",
            "/etc",
            "../x",
            "a\0b",
            "a\nb",
            "a\x7f",
            "a\x1b[2J",
            "a\x85",
            "a\u202e",
            "\ud800",
        ):
            self.assertFalse(is_safe(name), repr(name))

    def test_safe(self):
        """Ordinary and less ordinary names."""
        for name in (
            "john",
            "john.doe",
            "j+tag",
            "o'neil",
            "a b",
            "a\\b",
            "j\u00f6rg",
            "\u7528\u6237",
            "{user}",
            "~",
            "-rf",
            "[192.0.2.1]",
        ):
            self.assertTrue(is_safe(name), repr(name))

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=12))
    def test_never_outside(self, local):
        """Whatever passes is exactly one name in the folder."""
        if is_safe(local):
            for path in maildir_paths("/m/{domain}/{user}", local, "d.test"):
                self.assertEqual(os.path.dirname(os.path.normpath(path)), "/m/d.test")
