"""Extension lists: what we offer and what we understand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.extension import KEYWORDS, offer, parameters_of, parse_extensions, size_limit
from mta.smtp.options import ReceiverOptions
from mta.status import Reply


class ExtensionTests(SynchronousTestCase):
    def parse(self, *lines: str) -> dict[str, str]:
        return parse_extensions(Reply(250, "", "\n".join(("mx.test", *lines))))

    def offered(self, secure: bool = False, **options: object) -> dict[str, str]:
        return dict(offer(ReceiverOptions("mx.test", **options), secure))

    def test_offer(self):
        """S01: STARTTLS once and without parameters, or not at all."""
        usual = ("PIPELINING", "SIZE", "8BITMIME", "CHUNKING", "ENHANCEDSTATUSCODES", "LIMITS", "DSN", "SMTPUTF8", "STARTTLS")
        found = self.offered(max_size=1000, starttls=True)
        self.assertEqual(usual, tuple(found))
        self.assertEqual(("1000", ""), (found["SIZE"], found["STARTTLS"]))
        self.assertNotIn("STARTTLS", self.offered())
        self.assertNotIn("STARTTLS", self.offered(secure=True, starttls=True))

    def test_offer_more(self):
        """S20, P40: the mechanisms on one line, in our order; REQUIRETLS; neither unless it is given."""
        found = self.offered(secure=True, auth=("LOGIN", "PLAIN"), requiretls=True)
        self.assertEqual([("AUTH", "LOGIN PLAIN"), ("REQUIRETLS", "")], list(found.items())[-2:])
        self.assertNotIn("REQUIRETLS", self.offered(requiretls=True))
        self.assertEqual("SMTPUTF8", list(self.offered(secure=True))[-1])

    def test_limits(self):
        """RFC 9422: what is limited, and nothing where nothing is."""
        self.assertEqual("RCPTMAX=7 MAILMAX=6", self.offered(max_recipients=7, max_transactions=6)["LIMITS"])
        self.assertEqual("RCPTMAX=7", self.offered(max_recipients=7, max_transactions=0)["LIMITS"])
        self.assertEqual("RCPTMAX=999999", self.offered(max_recipients=10**6, max_transactions=0)["LIMITS"])
        self.assertNotIn("LIMITS", self.offered(max_recipients=0, max_transactions=0))

    def test_binarymime(self):
        """RFC 3030 3: BINARYMIME needs CHUNKING, and BODY, which is 8BITMIME's."""
        self.assertIn("BINARYMIME", self.offered(binarymime=True))
        for keyword in ("CHUNKING", "8BITMIME", "BINARYMIME"):
            self.assertNotIn("BINARYMIME", self.offered(binarymime=True, withhold=frozenset({keyword})))

    def test_terms(self):
        """RFC 2852 2, 4865 3, 6710 2: only where they are switched on, with our limits."""
        self.assertEqual(("", "60"), tuple(self.offered(deliver_by=least)["DELIVERBY"] for least in (0, 60)))
        found = self.offered(future_release=3600, now=lambda: 0.0, mt_priority=True)
        self.assertEqual(("3600 1970-01-01T01:00:00Z", ""), (found["FUTURERELEASE"], found["MT-PRIORITY"]))
        self.assertEqual(set(), {"DELIVERBY", "FUTURERELEASE", "MT-PRIORITY"} & set(self.offered()))

    def test_withhold(self):
        """Each keyword can be withheld; what it brings is known by name."""
        everything = {
            "auth": ("PLAIN",),
            "requiretls": True,
            "binarymime": True,
            "deliver_by": 1,
            "future_release": 1,
            "mt_priority": True,
        }
        for secure in (False, True):
            full = self.offered(secure, starttls=True, now=lambda: 0.0, **everything)
            for keyword in KEYWORDS:
                left = self.offered(secure, starttls=True, now=lambda: 0.0, withhold=frozenset({keyword}), **everything)
                gone = {keyword, "BINARYMIME"} if keyword in ("CHUNKING", "8BITMIME") else {keyword}
                self.assertEqual(set(full) - gone, set(left))
        self.assertEqual({"RET", "ENVID", "NOTIFY", "ORCPT", "SIZE"}, parameters_of({"DSN", "SIZE", "PIPELINING"}))

    def test_we_understand_what_we_offer(self):
        """parse(offer) has every keyword."""
        offered = self.offered(max_size=1000, starttls=True, auth=("PLAIN", "LOGIN"))
        found = self.parse(*(f"{keyword} {words}".rstrip() for keyword, words in offered.items()))
        self.assertEqual(offered, found)
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
