"""Paths: what is accepted, what is refused and how, and that parsing never rewrites."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.address import NULL_PATH, Path, parse_address, parse_path
from mta.status import MailError

ATEXT = "abcXYZ0189!#$%&'*+-/=?^_`{|}~"
atoms = st.text(st.sampled_from(ATEXT), min_size=1, max_size=8)
dot_strings = st.lists(atoms, min_size=1, max_size=4).map(".".join)
quoted = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
labels = st.from_regex(r"\A[a-zA-Z0-9_]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9_])?\Z")
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
literals = st.one_of(st.ip_addresses(v=4).map("[{}]".format), st.ip_addresses(v=6).map("[IPv6:{}]".format))
unicode_names = st.sampled_from(["bücher.test", "例え.test", "straße.example"])
paths = st.builds(Path, st.one_of(dot_strings, quoted, st.just("jürgen")), st.one_of(domains, literals, unicode_names))


class GoodPathTests(SynchronousTestCase):
    def check(self, data: bytes, local: str, domain: str, utf8: bool = False) -> Path:
        """With nothing behind, with something behind, and no proper beginning is a path."""
        path, rest = parse_path(data, utf8)
        self.assertEqual((Path(local, domain), b""), (path, rest))
        self.assertEqual((path, b" SIZE=1>"), parse_path(data + b" SIZE=1>", utf8))
        for end in range(len(data)):
            self.assertRaises(MailError, parse_path, data[:end], utf8)
        return path

    def test_mailbox(self):
        """The plain case; the domain's letters are kept, the key has none of them."""
        path = self.check(b"<Joe.User+tag@Example.ORG>", "Joe.User+tag", "Example.ORG")
        self.assertEqual("Joe.User+tag@Example.ORG", path.address)
        self.assertEqual("example.org", path.domain_key)
        self.assertTrue(path.is_ascii)

    def test_null(self):
        """The null reverse-path."""
        self.assertEqual("", self.check(b"<>", "", "").address)
        self.assertEqual(NULL_PATH, parse_address(""))

    def test_postmaster(self):
        """RFC 5321 4.5.1: in any letters, without a domain; nobody else is."""
        self.assertEqual("PostMaster", self.check(b"<PostMaster>", "PostMaster", "").address)
        self.assertRaises(MailError, parse_path, b"<joe>", True)

    def test_source_route(self):
        """RFC 5321 appendix C: accepted and ignored."""
        self.check(b"<@a.test,@b.test:joe@c.test>", "joe", "c.test")

    def test_quoted(self):
        """Quoting goes where it is not needed, and stays where it is."""
        self.assertEqual("joe@c.test", self.check(b'<"joe"@c.test>', "joe", "c.test").address)
        self.assertEqual('"a b"@c.test', self.check(b'<"a\\ b"@c.test>', "a b", "c.test").address)
        self.assertEqual('"a\\"\\\\>@b"@c.test', self.check(b'<"a\\"\\\\>@b"@c.test>', 'a"\\>@b', "c.test").address)
        self.assertEqual('""@c.test', self.check(b'<""@c.test>', "", "c.test").address)
        self.assertEqual('".."@c.test', self.check(b'<".."@c.test>', "..", "c.test").address)

    def test_literal(self):
        """RFC 5321 4.1.3."""
        self.assertEqual("[192.0.2.1]", self.check(b"<j@[192.0.2.1]>", "j", "[192.0.2.1]").domain_key)
        self.assertEqual("[ipv6:2001:db8::1]", self.check(b"<j@[IPv6:2001:DB8::1]>", "j", "[IPv6:2001:DB8::1]").domain_key)

    def test_utf8(self):
        """RFC 6531: kept as given, with A-labels for the DNS."""
        path, rest = parse_path("<jürgen@Bücher.test> X".encode(), True)
        self.assertEqual(("jürgen@Bücher.test", b" X"), (path.address, rest))
        self.assertEqual("xn--bcher-kva.test", path.domain_key)
        self.assertFalse(path.is_ascii)

    def test_limits_are_inclusive(self):
        """RFC 5321 4.5.3.1.1 to 3: 64, 255, 256."""
        for local, domain in (("a" * 64, "b.test"), ("a", ".".join(["b" * 49] * 5)), ("a" * 63, "b." * 93 + "test")):
            self.assertEqual(f"{local}@{domain}", parse_address(f"{local}@{domain}").address)

    @settings(deadline=None, max_examples=150)
    @given(paths)
    def test_round_trip(self, path):
        """parse(serialise(x)) == x, for all paths."""
        self.assertEqual(path, parse_address(path.address))
        self.assertEqual((path, b"\0"), parse_path(b"<" + path.address.encode() + b">\0", utf8=True))


class BadPathTests(SynchronousTestCase):
    def refused(self, data: bytes, utf8: bool = True) -> str:
        error = self.assertRaises(MailError, parse_path, data, utf8)
        self.assertNotIn(data.decode("utf-8", "replace")[1:-1], str(error), "a reply never says what the client said")
        return f"{error.reply.code} {error.reply.enhanced}"

    def test_syntax(self):
        """501 5.1.3, whatever it is."""
        for text in (
            b"joe@c.test",
            b" <joe@c.test>",
            b"<joe@c.test",
            b"<joe@>",
            b"<@c.test>",
            b"<@c.test:>",
            b"<joe@c.test.>",
            b"<joe@.c.test>",
            b"<joe@c..test>",
            b"<a..b@c.test>",
            b"<.a@c.test>",
            b"<a.@c.test>",
            b"<a b@c.test>",
            b"<a@b@c.test>",
            b"<a@-c.test>",
            b"<a@c-.test>",
            b'<"a@c.test>',
            b'<"a"b@c.test>',
            b"<a@[192.0.2]>",
            b"<a@[192.0.2.256]>",
            b"<a@[IPv6:::g]>",
            b"<a@[X:1]>",
            b"<a@[]>",
            b"<a\tb@c.test>",
            b"<a\x01@c.test>",
            b'<"\x01"@c.test>',
            b'<"a\x7f"@c.test>',
            b"<\xff@c.test>",
            b"<a@\xc3>",
            "<a\x85@c.test>".encode(),
            "<a@xn--a\u0378.test>".encode(),
            b"<joe>",
            b'<"">',
            b"<a@" + b"b" * 64 + b".test>",
            ("<a@" + "ü" * 63 + ".test>").encode(),
        ):
            self.assertEqual("501 5.1.3", self.refused(text), text)

    def test_sizes(self):
        """RFC 5321 4.5.3.1.10: too long a path is 501; a source route does not count."""
        for local, domain in ((b"a" * 65, b"b.test"), (b"a", b"b." * 126 + b"test"), (b"a" * 64, b"b." * 93 + b"test")):
            self.assertEqual("501 5.1.3", self.refused(b"<" + local + b"@" + domain + b">"))
        self.assertEqual("501 5.1.3", self.refused(("<" + "ü" * 33 + "@b.test>").encode()))
        self.assertEqual("b.test", parse_path(b"<@" + b"r." * 200 + b"test:a@b.test>", False)[0].domain)

    def test_utf8_without_smtputf8(self):
        """RFC 6531 3.5: 553 5.6.7, in either part."""
        self.assertEqual("553 5.6.7", self.refused("<jürgen@c.test>".encode(), utf8=False))
        self.assertEqual("553 5.6.7", self.refused("<j@bücher.test>".encode(), utf8=False))

    def test_address_with_something_behind(self):
        """parse_address takes the whole text or nothing."""
        for text in ("a@b.test> X", "<a@b.test>", "a@b.test ", "\ud800@b.test", "a@b.test\r\n"):
            self.assertRaises(MailError, parse_address, text)

    @settings(deadline=None, max_examples=200)
    @given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)), st.booleans())
    def test_garbage(self, data, utf8):
        """Anything is a path or a MailError, with brackets as without."""
        for text in (data, b"<" + data + b">", b"<a@" + data + b">"):
            try:
                path, _ = parse_path(text, utf8)
            except MailError:
                continue
            self.assertEqual(path, parse_address(path.address))
            self.assertEqual(path.domain_key, path.domain_key.lower(), "and it has a key")
