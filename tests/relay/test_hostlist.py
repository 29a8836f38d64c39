"""Host lists: every kind of item, Exim's rules for lists, and what is refused (H03, H04)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.relay.hostlist import HostList


def match(strings: str | tuple[str, ...], name: str = "mx.example.org", address: str = "192.0.2.1") -> bool:
    """One question to one list."""
    return HostList.parse((strings,) if isinstance(strings, str) else strings).match(name, address)


class ItemTests(SynchronousTestCase):
    """H03: one item at a time."""

    def test_everything_and_nothing(self) -> None:
        """H03: `*` is every host, the empty list none."""
        self.assertTrue(match("*"))
        self.assertFalse(match(()))
        self.assertFalse(match(""))

    def test_names(self) -> None:
        """H03: names in any case and with a final dot, the whole name only."""
        self.assertTrue(match("mx.example.org"))
        self.assertTrue(match("MX.Example.ORG."))
        self.assertFalse(match("example.org"))
        self.assertFalse(match("mx.example.org", name="notmx.example.org"))
        self.assertTrue(match("b\u00fccher.example", name="xn--bcher-kva.example"))

    def test_tails(self) -> None:
        """H03: `*.tail` and `.tail` are the names below, at any depth, and not the tail itself."""
        for item in ("*.example.org", ".example.org"):
            self.assertTrue(match(item))
            self.assertTrue(match(item, name="a.b.example.org"))
            self.assertFalse(match(item, name="example.org"))
            self.assertFalse(match(item, name="badexample.org"))

    def test_regular_expressions(self) -> None:
        """H03: `^` begins one; case does not count."""
        self.assertTrue(match(r"^mx\d*\.example", name="mx12.example.net"))
        self.assertTrue(match(r"^MX\."))
        self.assertFalse(match(r"^x\."))

    def test_addresses_and_networks(self) -> None:
        """H03: IPv4 and IPv6, alone and as networks; an IPv4 address that came by IPv6 is the IPv4 address."""
        self.assertTrue(match("192.0.2.1"))
        self.assertFalse(match("192.0.2.2"))
        self.assertTrue(match("192.0.2.0/24"))
        self.assertTrue(match("192.0.2.77/24"))
        self.assertTrue(match("192.0.2.0/24", address="::ffff:192.0.2.9"))
        self.assertTrue(match("2001:db8::/32", address="2001:db8::5"))
        self.assertTrue(match("2001:db8::5", address="2001:DB8:0:0::5"))
        self.assertFalse(match("2001:db8::/32", address="2001:db9::5"))
        self.assertFalse(match("0.0.0.0/0", address="2001:db8::5"))

    def test_names_and_addresses_do_not_mix(self) -> None:
        """H04: a name item never matches an address, a pattern over names neither, though a literal's name is its text."""
        self.assertFalse(match(r"^192\.0\.2\.1$", name="192.0.2.1"))
        self.assertFalse(match("mx.example.org", name="192.0.2.1"))
        self.assertTrue(match("192.0.2.1", name="192.0.2.1"))
        self.assertTrue(match("*", name="192.0.2.1"))


class ListTests(SynchronousTestCase):
    """H03: several items."""

    def test_first_match_decides(self) -> None:
        """H03: order counts, `!` says no."""
        self.assertFalse(match(("!mx.example.org", "*")))
        self.assertTrue(match(("*", "!mx.example.org")))
        self.assertTrue(match(("!other.example", "*")))

    def test_last_negated_rule(self) -> None:
        """H03: when nothing matches the answer is no, but yes if the last item is negated."""
        self.assertTrue(match("!other.example"))
        self.assertFalse(match("!mx.example.org"))
        self.assertFalse(match(("!other.example", "third.example")))
        self.assertTrue(match(("third.example", "!other.example")))

    def test_exim_strings(self) -> None:
        """H03: `:` between items, another separator behind `<`, a doubled one for itself, blanks and empty items nothing."""
        self.assertTrue(match("a.example : mx.example.org"))
        self.assertFalse(match("!mx.example.org : *"))
        self.assertTrue(match("<; 2001:db8::/32 ; !*.bad.example", address="2001:db8::1"))
        self.assertFalse(match("<; 192.0.2.7 ; 2001:db8::/32"))
        self.assertTrue(match("192.0.2.7 : 2001::db8::::/32", address="2001:db8::1"))
        self.assertTrue(match(" : mx.example.org : "))
        self.assertTrue(match(("a.example:b.example", "mx.example.org")))
        self.assertTrue(match("!2001:db8::1"))

    def test_bad_items_are_quoted(self) -> None:
        """H03: the error names the item; nothing bad is taken for a name."""
        bad = (
            "mx_.example!",
            "a b",
            "300.1.1.1",
            "10.0.0.0/33",
            "^(",
            "mx.*.example",
            "exa*",
            "!",
            "1.2.3",
            "-a.example",
            "a..b",
        )
        for item in bad:
            error = self.assertRaises(ValueError, HostList.parse, ("good.example", item))
            self.assertIn(item.strip(), str(error))

    def test_what_is_not_built_yet_says_so(self) -> None:
        """`@[]`, `+named` and `/file` are known, and refused as what they are."""
        for item in ("@[]", "+relays", "/etc/mta/hosts", "!+relays"):
            error = self.assertRaises(ValueError, HostList.parse, (item,))
            self.assertIn("not built yet", str(error))
            self.assertIn(item, str(error))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.text(alphabet="a.*!:^<;/0129(]@ \u00fc-", max_size=12), max_size=4), st.text(max_size=10))
    def test_any_text_is_a_list_or_a_value_error(self, strings: list[str], name: str) -> None:
        """No text ends in another exception, and whatever parses can be asked."""
        try:
            hosts = HostList.parse(strings)
        except ValueError:
            return
        hosts.match(name, "192.0.2.1")
        hosts.match(name, "junk")
