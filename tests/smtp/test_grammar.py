"""The grammar: sizes as RFC 5321 has them, classes with their borders."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import grammar


class GrammarTests(SynchronousTestCase):
    def test_sizes(self):
        """RFC 5321 4.5.3.1: no limit is below what every server must take."""
        self.assertEqual((64, 255, 256), (grammar.MAX_LOCAL_PART, grammar.MAX_DOMAIN, grammar.MAX_PATH))
        self.assertEqual((512, 1000), (grammar.MAX_REPLY_LINE, grammar.MAX_TEXT_LINE))
        self.assertGreaterEqual(grammar.MAX_COMMAND_LINE, 512 + 26 + 17 + 10)

    def test_dot_string(self):
        """Atoms between single dots."""
        for good in ("a", "a.b", "a+b=c!#$%&'*/?^_`{|}~-", "ü", "1"):
            self.assertTrue(grammar.DOT_STRING.fullmatch(good), good)
        for bad in ("", ".", "a.", ".a", "a..b", "a b", "a@b", 'a"', "a\x7f", "a\x00", "a\x85"):
            self.assertFalse(grammar.DOT_STRING.fullmatch(bad), bad)

    def test_domain(self):
        """Labels do not begin or end with a hyphen; underscores are in use."""
        for good in ("a", "a.b", "a-b.c", "a--b", "_dmarc.a_b.test", "1.2", "xn--bcher-kva.test", "bücher.test"):
            self.assertTrue(grammar.DOMAIN.fullmatch(good), good)
        for bad in ("", "a.", ".a", "-a", "a-", "a-.b", "a..b", "a b", "a\n"):
            self.assertFalse(grammar.DOMAIN.fullmatch(bad), bad)

    def test_hello_name_is_harmless_in_a_header(self):
        """X17: nothing that means something in a Received line."""
        for good in (b"a.test", b"[192.0.2.1]", b"[IPv6:::1]", b"under_score", b"localhost"):
            self.assertTrue(grammar.HELLO_NAME.fullmatch(good), good)
        for bad in (b"", b"a b", b"a(b", b"a)b", b"a;b", b"<a>", b'"a"', b"a\\b", b"a,b", b"\xc3\xbc", b"a\tb", b"a\x7f"):
            self.assertFalse(grammar.HELLO_NAME.fullmatch(bad), bad)

    def test_control(self):
        """Every C0 and C1 control but HT."""
        found = {chr(c) for c in range(256) if grammar.CONTROL.search(chr(c))}
        self.assertEqual({chr(c) for c in (*range(9), *range(10, 32), *range(127, 160))}, found)

    def test_no_pattern_is_slow(self):
        """Long near-misses are refused in linear time."""
        started = time.process_time()
        for text in ("<" + "a." * 1000 + "@", "<a@" + "a-" * 1000, "<" + "@a," * 700, '<"' + "\\a" * 1000, "<a@" + "a" * 2000):
            self.assertIsNone(grammar.PATH.match(text))
        self.assertLess(time.process_time() - started, 0.5)
