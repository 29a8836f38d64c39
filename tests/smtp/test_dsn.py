"""The parameters of delivery status notifications: read, refused, decoded, written (RFC 3461 4, RFC 6533 3)."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Notify
from mta.smtp import dsn
from mta.smtp.grammar import PARAMETER
from mta.status import MailError

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30)
beyond = st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs"]), min_size=1, max_size=10)

rets = st.sampled_from([0, int(Flag.RET_FULL), int(Flag.RET_HDRS)])
envids = st.none() | printable.map(dsn.to_xtext)
notifies = st.sampled_from([0, 1, *range(2, 16, 2)])
orcpts = st.one_of(
    st.tuples(st.sampled_from(["rfc822;", "x400;", "RFC822;", "unknown-type;"]), printable.map(dsn.to_xtext)).map("".join),
    st.tuples(beyond, st.sampled_from(["@x.test", "\\x{FC}", "\\x{2B}a"])).map(lambda parts: "utf-8;" + "".join(parts)),
)
wishes = st.tuples(notifies, st.none() | orcpts)


class ReadTests(SynchronousTestCase):
    """By the grammar, or 501 5.5.4."""

    def refused(self, parse, *values) -> None:
        for value in values:
            error = self.assertRaises(MailError, parse, value)
            self.assertEqual((501, "5.5.4"), (error.reply.code, error.reply.enhanced), value)

    def test_ret(self):
        """FULL or HDRS, in any letters."""
        for value, flag in (("FULL", Flag.RET_FULL), ("full", Flag.RET_FULL), ("Hdrs", Flag.RET_HDRS)):
            self.assertEqual(flag, dsn.parse_ret(value))
        self.refused(dsn.parse_ret, None, "", "BODY", "FULL,HDRS", "HDR\u017f")

    def test_envid(self):
        """At most 100 characters of xtext; what it stands for is printable."""
        for value in ("QQ314159", "a+3Db", "+20+09+7E", "x" * 100):
            self.assertEqual(value, dsn.parse_envid(value))
        self.refused(dsn.parse_envid, None, "", "x" * 101, "a+b", "a+3d", "a=b", "a b", "+0A", "+0D+0A", "+00", "+7F", "+FC", "ü")

    def test_notify(self):
        """NEVER alone, the others each at most once."""
        for value, bits in (
            ("NEVER", 1),
            ("never", 1),
            ("SUCCESS", 2),
            ("failure", 4),
            ("Delay,Success", 10),
            ("SUCCESS,FAILURE,DELAY", 14),
        ):
            self.assertEqual(bits, dsn.parse_notify(value))
        self.refused(dsn.parse_notify, None, "", ",", "SUCCESS,", "NEVER,NEVER", "NEVER,DELAY", "DELAY,NEVER", "DELAY,delay")
        self.refused(dsn.parse_notify, "SUCCESS, DELAY", "ALWAYS", "SUCCES\u017f")

    def test_orcpt(self):
        """A type, and xtext of at most 500 characters; for utf-8 the forms of RFC 6533."""
        for value in (
            "rfc822;Bob+2Bx@b.test",
            "X400;/c+3Dus/+20",
            "unknown;" + "x" * 492,
            "utf-8;b\\x{FC}b@b.test",
            "utf-8;bü@b.test",
            "UTF-8;\\x{1F600}\\x{10FFFF}",
        ):
            self.assertEqual(value, dsn.parse_orcpt(value))
        self.refused(
            dsn.parse_orcpt, None, "", "rfc822", "rfc822;", ";a@b.test", "rfc 822;a", "rfc822;a b", "rfc822;a+0A", "x" * 501
        )
        self.refused(dsn.parse_orcpt, "rfc822;ü@b.test", "rfc822;a=b", "rfc822;" + "x" * 494, "a;b;ü", "(x);b")
        self.refused(dsn.parse_orcpt, "utf-8;a+2B@b.test", "utf-8;a\\b", "utf-8;\\x{D800}", "utf-8;\\x{0A}", "utf-8;\\x{110000}")
        self.refused(dsn.parse_orcpt, "a=b;c", "utf-8;\\x{9F}", "utf-8;\\x{fc}", "utf-8;\\x{7F}", "utf-8;\x85", "utf-8;a=b")

    def test_orcpt_of_postfix(self):
        """Octets of UTF-8 in an rfc822 address, as Postfix has them, become the type utf-8; other octets are none."""
        for value, taken in (
            ("rfc822;gr+C3+BCn@b.test", "utf-8;grün@b.test"),
            ("RFC822;+F0+9F+98+80+2B+3D+5C@b.test", "utf-8;\U0001f600\\x{2B}\\x{3D}\\x{5C}@b.test"),
        ):
            self.assertEqual(taken, dsn.parse_orcpt(value))
            self.assertEqual(taken, dsn.parse_orcpt(taken))
        self.assertEqual(" ORCPT=utf-8;gr\\x{FC}n@b.test", dsn.rcpt_parameters("a@b.test", 0, "utf-8;grün@b.test", False))
        self.refused(
            dsn.parse_orcpt, "rfc822;gr+FCn@b.test", "rfc822;+C2+85@b.test", "rfc822;\xc3\xbc@b.test", "rfc822;+C3+BC+0A"
        )
        self.refused(dsn.parse_orcpt, "rfc822;+ED+A0+80", "rfc822;+C3+BC=", "x;gr+C3+BCn@b.test", "rfc822;+00", "rfc822;+7F")

    @settings(deadline=None, max_examples=150)
    @given(st.text(max_size=40) | st.text("NEVRSUCFAILDY,;+=x{}0123456789@\\ ", max_size=40))
    def test_garbage(self, value):
        """Nothing but MailError; what is taken fits into one parameter of a command line."""
        for parse in (dsn.parse_ret, dsn.parse_envid, dsn.parse_notify, dsn.parse_orcpt):
            try:
                parse(value)
            except MailError:
                continue
            self.assertIsNotNone(PARAMETER.fullmatch(b"X=" + value.encode()))


class DecodeTests(SynchronousTestCase):
    """What a report shows."""

    @settings(deadline=None, max_examples=100)
    @given(printable)
    def test_xtext(self, text):
        """There and back; nothing but harmless characters in between."""
        encoded = dsn.to_xtext(text)
        self.assertIsNotNone(dsn.XTEXT.fullmatch(encoded))
        self.assertEqual(text, dsn.from_xtext(encoded))
        self.assertEqual(encoded, dsn.parse_envid(encoded) if len(encoded) <= 100 else encoded)

    def test_original_recipient(self):
        """Decoded by its type; in seven bits where the report has no more."""
        for orcpt, utf8, shown in (
            ("rfc822;Bob+2Bx@b.test", False, ("rfc822", "Bob+x@b.test")),
            ("utf-8;b\\x{FC}b\\x{2B}@b.test", True, ("utf-8", "büb+@b.test")),
            ("utf-8;b\\x{FC}b\\x{2B}@b.test", False, ("utf-8", "b\\x{FC}b\\x{2B}@b.test")),
            ("UTF-8;bü@b.test", False, ("UTF-8", "b\\x{FC}@b.test")),
            ("utf-8;\\x{D800}", True, ("utf-8", "\\x{D800}")),
            ("garbage", False, ("garbage", "")),
        ):
            self.assertEqual(shown, dsn.original_recipient(orcpt, utf8))


class WriteTests(SynchronousTestCase):
    """What the next server is told."""

    def test_mail(self):
        """RET and ENVID where they were given."""
        self.assertEqual("", dsn.mail_parameters(0, None))
        self.assertEqual(" RET=FULL", dsn.mail_parameters(int(Flag.RET_FULL | Flag.SMTPUTF8), ""))
        self.assertEqual(" RET=HDRS ENVID=a+3D", dsn.mail_parameters(int(Flag.RET_HDRS), "a+3D"))

    def test_rcpt(self):
        """NOTIFY and ORCPT as they were given; an ORCPT is made only for somebody who has asked for reports."""
        for wish, words in (
            ((0, None), ""),
            ((1, None), " NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c.test"),
            ((14, "rfc822;X+2BY"), " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;X+2BY"),
            ((0, "rfc822;x@y"), " ORCPT=rfc822;x@y"),
            ((4, "utf-8;ü@y"), " NOTIFY=FAILURE ORCPT=utf-8;\\x{FC}@y"),
        ):
            self.assertEqual(words, dsn.rcpt_parameters("a+b@c.test", *wish, False))
        self.assertEqual(" NOTIFY=DELAY ORCPT=utf-8;ü@y", dsn.rcpt_parameters("a@c.test", 8, "utf-8;ü@y", True))
        self.assertEqual(" NOTIFY=DELAY ORCPT=utf-8;ü\\x{2B}b@c.test", dsn.rcpt_parameters("ü+b@c.test", 8, None, True))

    @settings(deadline=None, max_examples=150)
    @given(st.text(max_size=30), st.integers(-1, 20), st.text(max_size=30), st.booleans())
    def test_no_command_is_smuggled(self, envid, notify, orcpt, utf8):
        """X14: whatever a stored value says, it stays in its place; without SMTPUTF8 it is ASCII."""
        words = dsn.mail_parameters(0, envid) + dsn.rcpt_parameters("a@c.test", notify, orcpt, utf8)
        for word in words.split(" ")[1:]:
            self.assertIsNotNone(PARAMETER.fullmatch(word.encode()))
        self.assertIsNone(re.search(r"[\r\n\0]", words))
        self.assertTrue(utf8 or words.isascii())


class BothTests(SynchronousTestCase):
    """RFC 3461 4.1: a recipient that is named twice gets one copy."""

    def test_both(self):
        """Every report that either wish asks for; none given means FAILURE and DELAY, NEVER adds nothing."""
        never, success, failure, delay = (int(word) for word in (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY))
        for first, second, wanted in (
            (0, 0, 0),
            (never, never, never),
            (never, success, success),
            (success, 0, success | failure | delay),
            (failure, delay, failure | delay),
            (never, 0, failure | delay),
        ):
            self.assertEqual((wanted, wanted), (dsn.both(first, second), dsn.both(second, first)))
