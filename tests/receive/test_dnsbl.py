"""Names in lists, which answers count, and what scores lead to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.config.receiving import Access, Dnsbl
from mta.receive.dnsbl import MAX_TEXT, DnsblJudge, clean_name, clean_text, hits, listed_as, refuses_us
from mta.status import MailError
from tests.receive.test_rules import facts


class ListTests(SynchronousTestCase):
    """RFC 5782."""

    def test_names(self) -> None:
        """IPv4 backwards, IPv6 by nibbles; 127.0.0.1 is what no list has."""
        self.assertEqual("9.2.0.192.bl.example", listed_as(ip_address("192.0.2.9"), "bl.example"))
        v6 = listed_as(ip_address("2001:db8::1"), "bl.example")
        self.assertEqual(("1.0.0.0.", ".8.b.d.0.1.0.0.2.bl.example", 64 + 10), (v6[:8], v6[-27:], len(v6)))
        self.assertEqual("1.0.0.127.bl.example", clean_name("bl.example"))

    def test_what_counts(self) -> None:
        """127.0.0.0/8 but for 127.0.0.1 and 127.255.255.0/24; never an address from elsewhere, whatever `answers` says."""
        usual = Dnsbl("bl.example")
        for answer, wanted in (
            ("127.0.0.2", True),
            ("127.1.2.3", True),
            ("127.0.0.1", False),
            ("127.255.255.254", False),
            ("203.0.113.80", False),
        ):
            self.assertIs(wanted, hits((answer,), usual), answer)
        everything = Dnsbl("bl.example", answers=(ip_network("0.0.0.0/0"),))
        self.assertFalse(hits(("203.0.113.80", "127.255.255.1", "127.0.0.1"), everything))
        narrow = Dnsbl("bl.example", answers=(ip_network("127.0.0.4/30"),))
        self.assertEqual([True, False], [hits((answer,), narrow) for answer in ("127.0.0.5", "127.0.0.2")])
        self.assertTrue(hits(("127.0.0.2", "127.0.0.5"), narrow))
        self.assertEqual([True, False], [refuses_us((answer,)) for answer in ("127.255.255.252", "127.0.0.2")])


class TextTests(SynchronousTestCase):
    """What a list says of its hit is a stranger's text."""

    def test_clean(self) -> None:
        """One line of printable ASCII; whatever else is in it is replaced."""
        for record, wanted in (
            (b"Blocked, see https://bl.example/?ip=192.0.2.9", "Blocked, see https://bl.example/?ip=192.0.2.9"),
            (b"a\r\n250 2.0.0 Ok\r\n", "a 250 2.0.0 Ok"),
            (b"  a \t\0 b\x7f", "a b"),
            (b"gr\xfc\xc3\x9fe", "gr???e"),
            (b"\r\n \0", ""),
            (b"", ""),
            (b"x" * 300, "x" * MAX_TEXT),
        ):
            self.assertEqual(wanted, clean_text(record), record)

    @hypothesis_settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=400))
    def test_any_bytes(self, record: bytes) -> None:
        """Never a control character, never more than is wanted."""
        text = clean_text(record)
        self.assertTrue(text.isascii() and (text.isprintable()) and len(text) <= MAX_TEXT and text == text.strip())


class JudgeTests(SynchronousTestCase):
    """`DnsblJudge`."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.texts: dict[str, str] = {}
        self.lists: tuple[Dnsbl, ...] = ()

    async def text(self, zone: str) -> str:
        """What a list says."""
        self.asked.append(zone)
        return self.texts.get(zone, "")

    def judge(self, lists: dict[str, int], reject: int = 3, defer: int = 0, **known: Any) -> MailError | None:
        """What is said to a client on these lists."""
        made = self.lists or tuple(Dnsbl(zone, score or 1) for zone, score in lists.items())
        judge = DnsblJudge(Access(dnsbl_reject=reject, dnsbl_defer=defer, dnsbl=made))
        answer = judge.judge("rcpt", facts(dnsbl=lists, dnsbl_text=self.text, **known))
        return None if answer is None else self.successResultOf(Deferred.fromCoroutine(answer))

    def test_text(self) -> None:
        """The heaviest list's own words, asked for only where the client is refused."""
        self.texts = {"a.example": "spam seen", "b.example": "see https://b.example"}
        error = self.judge({"a.example": 1, "b.example": 2, "good.example": -1}, reject=2)
        assert error is not None
        wanted = "550 5.7.1 Client host [192.0.2.9] is listed by a.example, b.example: see https://b.example"
        self.assertEqual(wanted, str(error.reply))
        self.assertEqual(["b.example"], self.asked)
        self.judge({"a.example": 1})
        self.judge({"a.example": 9}, trusted=True)
        self.assertEqual(["b.example"], self.asked)

    def test_text_of_the_operator(self) -> None:
        """Its placeholders are filled, once: what a list says is no text of ours."""
        self.lists = (Dnsbl("a.example", 3, text="Go to https://fix.example/{client}?l={zone} ({txt})"), Dnsbl("b.example", 3))
        for text, wanted in (("bad {client}", "bad {client}"), ("", "listed by a.example")):
            self.texts = {"a.example": text}
            error = self.judge({"b.example": 3, "a.example": 3})
            assert error is not None
            self.assertEqual(f"Go to https://fix.example/192.0.2.9?l=a.example ({wanted})", error.reply.text)
        self.lists = (Dnsbl("a.example", 3, text="Not you"),)
        self.asked.clear()
        error = self.judge({"a.example": 3})
        assert error is not None
        self.assertEqual(("550 5.7.1 Not you", []), (str(error.reply), self.asked))

    def test_a_good_list_that_is_silent(self) -> None:
        """It might take off enough: then the client is put off, and not refused for good."""
        for silent, code in (
            ({"good.example": -1}, 450),
            ({"worse.example": 5}, 550),
            ({"good.example": -1, "w.example": 9}, 450),
        ):
            error = self.judge({"a.example": 3}, dnsbl_silent=silent)
            assert error is not None
            self.assertEqual(code, error.reply.code, silent)
        error = self.judge({"a.example": 5}, dnsbl_silent={"good.example": -1})
        assert error is not None
        self.assertEqual(550, error.reply.code)

    def test_scores(self) -> None:
        """They are added up; good lists take off."""
        self.assertIsNone(self.judge({"a.example": 2}))
        error = self.judge({"a.example": 2, "b.example": 1})
        assert error is not None
        self.assertEqual("550 5.7.1 Client host [192.0.2.9] is listed by a.example, b.example", str(error.reply))
        self.assertEqual("dnsbl score 3: a.example, b.example", error.reason)
        self.assertIsNone(self.judge({"a.example": 3, "good.example": -1}))

    def test_put_off(self) -> None:
        """From a lower score on; 0 is never."""
        error = self.judge({"a.example": 2}, defer=2)
        assert error is not None
        self.assertEqual((450, "4.7.1"), (error.reply.code, error.reply.enhanced))
        self.assertIsNone(self.judge({"a.example": 99}, reject=0))

    def test_exempt(self) -> None:
        """Who may relay, who has logged in, and the postmaster's mail."""
        bad = {"a.example": 9}
        for known in (
            {"trusted": True},
            {"account": "ann"},
            {"recipient": "Postmaster"},
            {"recipient": "postmaster@example.org"},
        ):
            self.assertIsNone(self.judge(bad, **known), known)
        self.assertIsNotNone(self.judge(bad, recipient="postmasters@example.org"))

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(-3, 3)), st.integers(0, 4), st.integers(0, 4))
    def test_never_less_for_more(self, lists: dict[str, int], reject: int, defer: int) -> None:
        """The answer follows the sum alone."""
        error = self.judge(lists, reject, defer)
        score = sum(lists.values())
        wanted = 550 if reject and score >= reject else 450 if defer and score >= defer else None
        self.assertEqual(wanted if lists else None, error and error.reply.code)
