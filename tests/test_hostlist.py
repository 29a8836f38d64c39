"""Host lists: every kind of item, Exim's rules for lists, and what is refused (H03, H04)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.hostlist import HostList, HostLists


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

    def test_our_own_addresses(self) -> None:
        """H03: `@[]` is whatever address we listen on when the question is asked."""
        own = {"192.0.2.9"}
        hosts = HostList.parse(("@[]",), HostLists(own=own))
        self.assertTrue(hosts.match("mx.example.org", "192.0.2.9"))
        self.assertTrue(hosts.match("mx.example.org", "::ffff:192.0.2.9"))
        self.assertFalse(hosts.match("mx.example.org", "192.0.2.10"))
        own.add("192.0.2.10")
        self.assertTrue(hosts.match("mx.example.org", "192.0.2.10"))
        self.assertFalse(match("@[]"))

    def test_named_lists(self) -> None:
        """H03: `+name` stands for a list, with its own order and negations; in a list of lists too."""
        lists = HostLists({"ours": ("!bad.example.org", "*.example.org"), "all": ("+ours", "192.0.2.0/24")})
        hosts = HostList.parse(("+all",), lists)
        self.assertTrue(hosts.match("mx.example.org", "198.51.100.1"))
        self.assertFalse(hosts.match("bad.example.org", "198.51.100.1"))
        self.assertTrue(hosts.match("other.example", "192.0.2.1"))
        self.assertFalse(HostList.parse(("!+ours", "*"), lists).match("mx.example.org", "192.0.2.1"))

    def test_files(self) -> None:
        """H03: `/file` has one item a line, and comments."""
        files = {"/etc/mta/hosts": "# ours\nmx.example.org\n\n2001:db8::/32  # a network\n!*.bad.example : *.example\n"}
        hosts = HostList.parse(("/etc/mta/hosts",), HostLists(read=files.__getitem__))
        self.assertTrue(hosts.match("mx.example.org", "192.0.2.1"))
        self.assertTrue(hosts.match("x.example", "2001:db8::1"))
        self.assertTrue(hosts.match("x.example", "192.0.2.1"))
        self.assertFalse(hosts.match("x.bad.example", "192.0.2.1"))

    def test_what_cannot_be_looked_up(self) -> None:
        """H03: an unknown name, a circle, a file that is not there or not allowed are mistakes that name the item."""

        def missing(path: str) -> str:
            raise FileNotFoundError(2, "No such file or directory")

        lists = HostLists({"a": ("+b",), "b": ("+a",), "bad": ("300.1.1.1",)}, read=missing)
        for item, why in (
            ("+relays", "no [[hostlist]] has this name"),
            ("!+relays", "no [[hostlist]] has this name"),
            ("+a", "a part of itself"),
            ("+bad", "not an IP address"),
            ("/etc/mta/hosts", "No such file"),
        ):
            error = self.assertRaises(ValueError, HostList.parse, (item,), lists)
            self.assertIn(why, str(error))
            self.assertIn(item, str(error))
        self.assertIn("cannot be named here", str(self.assertRaises(ValueError, HostList.parse, ("/x",))))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.text(alphabet="a.*!:^<;/0129([]@+ \u00fc-", max_size=12), max_size=4), st.text(max_size=10))
    def test_any_text_is_a_list_or_a_value_error(self, strings: list[str], name: str) -> None:
        """No text ends in another exception, and whatever parses can be asked."""
        try:
            hosts = HostList.parse(strings)
        except ValueError:
            return
        hosts.match(name, "192.0.2.1")
        hosts.match(name, "junk")


ADDRESS = st.sampled_from(["10.0.0.0", "10.0.0.1", "10.0.0.130", "10.1.0.0", "192.0.2.1", "2001:db8::", "2001:db8::1", "::1"])
NETWORK = st.builds(
    lambda text, length: str(ip_network(f"{text}/{min(length, 32) if ':' not in text else length}", strict=False)),
    ADDRESS,
    st.sampled_from([0, 8, 9, 16, 25, 31, 32, 64, 127, 128]),
)
ITEM = st.builds("{}{}".format, st.sampled_from(["", "!"]), NETWORK | st.just("*") | st.sampled_from(["+a", "+b"]))


class NetworksTests(SynchronousTestCase):
    """A list of addresses alone, as the networks that it comes to."""

    def networks(self, *strings: str, **named: tuple[str, ...]) -> list[str]:
        """As text."""
        return [str(network) for network in HostList.parse(strings, HostLists(named)).networks()]

    def test_networks(self) -> None:
        """Each once; what a negated item in front has taken away is not among them; the end of a list as ever."""
        for strings, wanted in (
            (("10.0.0.0/8", "10.1.0.0/16", "2001:db8::1"), ["10.0.0.0/8", "2001:db8::1/128"]),
            (("!10.0.0.0/9", "10.0.0.0/8"), ["10.128.0.0/9"]),
            (("10.0.0.0/8", "!10.0.0.0/9", "10.0.0.0/7"), ["10.0.0.0/7"]),
            (("!10.0.0.1", "10.0.0.0/30"), ["10.0.0.0/32", "10.0.0.2/31"]),
            (("!128.0.0.0/1",), ["0.0.0.0/1", "::/0"]),
            (("*",), ["0.0.0.0/0", "::/0"]),
            (("!+a", "10.0.0.0/24"), ["10.0.0.128/25"]),
            ((), []),
        ):
            self.assertEqual(wanted, self.networks(*strings, a=("10.0.0.0/25",)), strings)

    def test_what_is_no_address(self) -> None:
        """A name cannot be told by its address: the item is quoted, wherever it stands."""
        for item in ("mx.example.org", "*.example.org", "^mx", "@[]", "!mx.example.org"):
            for strings, named in (((item,), {}), (("10.0.0.0/8", "+n"), {"n": ("192.0.2.1", item)})):
                error = self.assertRaises(ValueError, self.networks, *strings, **named)
                self.assertIn(repr(item), str(error))
                self.assertIn("addresses and networks are wanted", str(error))

    def test_many(self) -> None:
        """A thousand exceptions cost no minute."""
        holes = [f"!10.{number >> 6}.{(number & 63) * 4}.1" for number in range(1000)]
        self.assertLess(len(self.networks(*holes, "10.0.0.0/8")), 30_000)

    @settings(deadline=None, max_examples=150)
    @given(
        *(st.lists(ITEM.filter(lambda item: not item.endswith(("+a", "+b"))), max_size=3) for _ in "ab"),
        st.lists(ITEM, max_size=5),
    )
    def test_as_asked(self, a: list[str], b: list[str], strings: list[str]) -> None:
        """An address is in the networks exactly when the list says yes to it."""
        hosts = HostList.parse(strings, HostLists({"a": tuple(a), "b": tuple(b)}))
        networks = hosts.networks()
        for text in (
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.129",
            "10.200.0.1",
            "11.0.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "2001:db9::",
            "::1",
        ):
            inside = any(ip_address(text) in network for network in networks)
            self.assertEqual(hosts.match(text, text), inside, (strings, a, b, text))
