"""Extension lists: what we offer and what we understand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.extension import offer, parse_extensions, size_limit
from mta.status import Reply


class ExtensionTests(SynchronousTestCase):
    def parse(self, *lines: str) -> dict[str, str]:
        return parse_extensions(Reply(250, "", "\n".join(("mx.test", *lines))))

    def test_offer(self):
        """S01: STARTTLS once and without parameters, or not at all."""
        self.assertEqual(
            ("PIPELINING", "SIZE 1000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "STARTTLS"), offer(1000, True)
        )
        self.assertNotIn("STARTTLS", offer(1000, False))

    def test_offer_more(self):
        """S20, P40: the mechanisms on one line, in our order; REQUIRETLS; neither unless it is given."""
        self.assertEqual(("SMTPUTF8", "AUTH PLAIN LOGIN", "REQUIRETLS"), offer(1, False, ("PLAIN", "LOGIN"), True)[-3:])
        self.assertEqual("SMTPUTF8", offer(1, False, (), False)[-1])
        found = self.parse(*offer(1, True, ("CRAM-MD5", "PLAIN"), True))
        self.assertEqual(("CRAM-MD5 PLAIN", ""), (found["AUTH"], found["REQUIRETLS"]))

    def test_we_understand_what_we_offer(self):
        """parse(offer) has every keyword."""
        found = self.parse(*offer(1000, True))
        self.assertEqual({"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "STARTTLS"}, set(found))
        self.assertEqual(1000, size_limit(found))

    def test_keywords(self):
        """C11: with parameters, in lower case; a longer word is another word."""
        self.assertEqual({"STARTTLS": "SSLv3 TLSv1"}, self.parse("STARTTLS SSLv3 TLSv1"))
        self.assertEqual({"STARTTLS": ""}, self.parse("starttls"))
        self.assertNotIn("STARTTLS", self.parse("XSTARTTLS", "XXXXXXXA", "STARTTLSX", " STARTTLS", "START TLS"))

    def test_unknown_lines(self):
        """A47: AUTH= and other lines that are no keywords are ignored; the first of two counts."""
        self.assertEqual({"AUTH": "PLAIN"}, self.parse("AUTH=LOGIN", "", "@#!", "ü", "AUTH PLAIN", "AUTH LOGIN"))

    def test_first_line_is_a_greeting(self):
        """The server's name is no extension."""
        self.assertEqual({}, parse_extensions(Reply(250, "", "STARTTLS")))

    def test_size_limit(self):
        """RFC 1870: a number, or nothing is known."""
        for text, limit in (("10", 10), ("0", 0), ("", 0), ("x", 0), ("-5", 0), ("1 2", 0), ("²", 0), ("9" * 21, 0)):
            self.assertEqual(limit, size_limit({"SIZE": text}), text)
        self.assertEqual(0, size_limit({}))

    @settings(deadline=None, max_examples=100)
    @given(st.text(max_size=200))
    def test_anything(self, text):
        """Any text gives a list, with keywords in upper case."""
        found = parse_extensions(Reply(250, "", text))
        self.assertEqual([keyword.upper() for keyword in found], list(found))
        size_limit(found)
