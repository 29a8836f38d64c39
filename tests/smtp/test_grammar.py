"""The grammar: sizes as RFC 5321 has them, classes with their borders."""

from __future__ import annotations

import re
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import grammar

# The same, class by class as RFC 5321 and RFC 6531 list them.
UTF8 = "\u00a0-\ud7ff\ue000-\U0010ffff"
ATEXT = rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{UTF8}]"
LET_DIG = f"[A-Za-z0-9_{UTF8}]"
DOT_STRING = rf"{ATEXT}+(?:\.{ATEXT}+)*"
SUB_DOMAIN = f"{LET_DIG}+(?:-+{LET_DIG}+)*"
DOMAIN = rf"{SUB_DOMAIN}(?:\.{SUB_DOMAIN})*"
QUOTED = rf'"(?:[ !#-\[\]-~{UTF8}]|\\[ -~])*"'
LITERAL = r"\[[0-9A-Za-z:.]+\]"
LISTED = {
    "DOT_STRING": re.compile(DOT_STRING),
    "DOMAIN": re.compile(DOMAIN),
    "PATH": re.compile(f"<(?:(?:@{DOMAIN}(?:,@{DOMAIN})*:)?({DOT_STRING}|{QUOTED})(?:@({DOMAIN}|{LITERAL}))?)?>"),
}
BORDERS = (0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF)
PIECES = [*'aZ09_-.@,:<>[]"\\ +(;=~\x7f\x00\x85\xa0ü€\ud800\U0010ffff', "<a", "@b", "@b:", '"', "\\a", "[1.2]", ">"]


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

    def test_every_class_is_as_listed(self):
        """What is said by its absence is what the RFCs list: every code point up to the kana, and every border beyond."""
        for name, (before, behind) in {"DOT_STRING": ("", ""), "DOMAIN": ("", ""), "PATH": ('<"', '">')}.items():
            ours, listed = getattr(grammar, name), LISTED[name]
            for code in (*range(0x3040), *BORDERS):
                text = f"{before}{chr(code)}{behind}"
                self.assertEqual(bool(listed.fullmatch(text)), bool(ours.fullmatch(text)), (name, hex(code)))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
    @example("a-.b")
    @example("a--b.c-d")
    @example("<@a-b,@c.d:e@f-g.h>")
    @example("<@a-:b@c>")
    def test_every_expression_is_as_listed(self, text):
        """The same texts match, to the same end and with the same groups."""
        for name, listed in LISTED.items():
            for each in (text, f"<{text}>", f"<a@{text}>", f"<{text}@a>", f"<@{text}:a@b>"):
                found, wanted = getattr(grammar, name).match(each), listed.match(each)
                self.assertEqual(wanted and (wanted.span(), wanted.groups()), found and (found.span(), found.groups()), each)

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
