"""What the DNS says of a client: names both ways, lists, and servers that fail, are silent or lie."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.receiving import Access, Dnsbl
from mta.config.units import Seconds
from mta.dns.answer import Answer
from mta.interfaces import IMailResolver
from mta.receive.inquiry import NAME_TIME, NAMES, TEXT_TIME, Inquiries, Inquiry
from mta.testing.dns import FakeResolver
from tests.receive.door import FakeLog

CLIENT = ip_address("192.0.2.9")
POINTER = "9.2.0.192.in-addr.arpa"
RCPT = frozenset({"rcpt"})


@implementer(IMailResolver)
class SlowResolver:
    """Answers when told."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str], Deferred[Answer]] = {}

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        """See IMailResolver."""
        self.asked[name, rdtype] = Deferred()
        return self.asked[name, rdtype]

    def say(self, name: str, rdtype: str, *records: Any) -> None:
        """Answer a question."""
        self.asked.pop((name, rdtype)).callback(Answer(name, rdtype, "NOERROR" if records else "NXDOMAIN", records=records))


class InquiryCase(SynchronousTestCase):
    """A resolver out of a dictionary."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = FakeLog()

    def tearDown(self) -> None:
        self.assertEqual([], self.clock.getDelayedCalls(), "a timer was left")

    def inquiries(self, resolver: Any, *lists: Dnsbl, names: frozenset[str] = frozenset()) -> Inquiries:
        """Asks that resolver."""
        return Inquiries(Access(dnsbl=lists), names, resolver=resolver, clock=self.clock, log=self.log)

    def ask(self, records: Mapping[str, Any], *lists: Dnsbl, trusted: bool = False, **fail: Any) -> Inquiry:
        """Everything about the client."""
        self.resolver = FakeResolver(records, **fail)
        return self.inquiries(self.resolver, *lists, names=RCPT).begin(CLIENT, trusted)


class NameTests(InquiryCase):
    """Reverse DNS."""

    def test_confirmed(self) -> None:
        """A name counts when it leads back; the first that does."""
        records = {
            POINTER: {"PTR": ["liar.example", "mx.example"]},
            "liar.example": {"A": ["192.0.2.10"]},
            "mx.example": {"A": ["192.0.2.1", "192.0.2.9"]},
        }
        inquiry = self.ask(records)
        self.assertEqual(("mx.example", False), (inquiry.client_name, inquiry.client_name_failed))
        self.assertIsNone(inquiry.until("rcpt", lists=True))

    def test_v6(self) -> None:
        """By AAAA, in any spelling."""
        client = ip_address("2001:db8::9")
        records = {client.reverse_pointer: {"PTR": ["mx.example"]}, "mx.example": {"AAAA": ["2001:DB8:0::9"]}}
        self.assertEqual("mx.example", self.inquiries(FakeResolver(records), names=RCPT).begin(client, False).client_name)

    def test_unknown(self) -> None:
        """No pointer, one that leads elsewhere or nowhere, one that is no name."""
        for records in (
            {},
            {POINTER: {"PTR": ["mx.example"]}},
            {POINTER: {"PTR": ["mx.example"]}, "mx.example": {"A": ["192.0.2.8"]}},
            {POINTER: {"PTR": ["a b.example"]}, "a b.example": {"A": ["192.0.2.9"]}},
        ):
            inquiry = self.ask(records)
            self.assertEqual(("unknown", False), (inquiry.client_name, inquiry.client_name_failed), records)

    def test_failed(self) -> None:
        """Nobody knows: said so, be it the pointer or the name behind it."""
        inquiry = self.ask({}, fail={POINTER: "SERVFAIL"})
        self.assertEqual(("unknown", True), (inquiry.client_name, inquiry.client_name_failed))
        inquiry = self.ask({POINTER: {"PTR": ["mx.example"]}}, fail={"mx.example": "TIMEOUT"})
        self.assertEqual(("unknown", True), (inquiry.client_name, inquiry.client_name_failed))

    def test_a_hundred_names(self) -> None:
        """Only the first few are looked at."""
        self.ask({POINTER: {"PTR": [f"n{number}.example" for number in range(100)]}})
        self.assertEqual(NAMES + 1, self.resolver.asked.total())

    def test_too_late(self) -> None:
        """After its time the name is unknown, and an answer changes nothing."""
        inquiry = self.inquiries(SlowResolver(), names=RCPT).begin(CLIENT, False)
        waiting = inquiry.until("rcpt", lists=False)
        assert waiting is not None
        self.assertEqual("", inquiry.client_name)
        self.clock.advance(NAME_TIME)
        self.successResultOf(waiting)
        self.assertEqual(("unknown", True), (inquiry.client_name, inquiry.client_name_failed))

    def test_nobody_waits_where_nobody_asks(self) -> None:
        """Only at the stages that need the name."""
        resolver = SlowResolver()
        inquiry = self.inquiries(resolver, names=RCPT).begin(CLIENT, False)
        self.assertIsNone(inquiry.until("connect", lists=True))
        inquiry.leave()

    def test_a_bug_is_no_name(self) -> None:
        """Whatever breaks on the way, the answer comes, and it is not a yes."""
        self.patch(FakeResolver, "query", lambda self, name, rdtype: 1 / 0)
        inquiry = self.ask({})
        self.assertEqual(("unknown", True), (inquiry.client_name, inquiry.client_name_failed))


class ListTests(InquiryCase):
    """DNSBL."""

    A, B = Dnsbl("a.example", 2), Dnsbl("b.example", -1, timeout=Seconds(2.0))
    HIT = {"A": ["127.0.0.2"]}

    def test_hits(self) -> None:
        """Each list's score where it has the client."""
        inquiry = self.ask({"9.2.0.192.a.example": self.HIT, "8.2.0.192.b.example": self.HIT}, self.A, self.B)
        self.assertEqual({"a.example": 2}, inquiry.lists)
        self.assertEqual([], self.log.named("dnsbl"))

    def test_trusted(self) -> None:
        """Is not looked up."""
        inquiry = self.ask({"9.2.0.192.a.example": self.HIT}, self.A, trusted=True)
        self.assertEqual({}, inquiry.lists)
        self.assertNotIn(("9.2.0.192.a.example", "A"), self.resolver.asked)

    def test_lists_everybody(self) -> None:
        """A list that has 127.0.0.1 is not believed, and told once; when it is well again, that too."""
        records = {"9.2.0.192.a.example": self.HIT, "1.0.0.127.a.example": self.HIT}
        asking = self.inquiries(FakeResolver(records), self.A)
        for _ in range(3):
            self.assertEqual({}, asking.begin(CLIENT, False).lists)
        del records["1.0.0.127.a.example"]
        self.assertEqual({"a.example": 2}, asking.begin(CLIENT, False).lists)
        self.assertEqual(
            [("dead", "it lists everybody"), ("alive", None)],
            [(line["status"], line["reason"]) for line in self.log.named("dnsbl")],
        )

    def test_cannot_be_tested(self) -> None:
        """Whether it lists everybody cannot be told: it is not believed, and that is told."""
        records = {"9.2.0.192.a.example": self.HIT}
        inquiry = self.ask(records, self.A, fail={"1.0.0.127.a.example": "SERVFAIL"})
        self.assertEqual({}, inquiry.lists)
        self.assertIn("SERVFAIL", str(self.log.named("dnsbl")[0]["reason"]))

    def test_refuses_us(self) -> None:
        """127.255.255.254 is no hit, it is trouble."""
        inquiry = self.ask({"9.2.0.192.a.example": {"A": ["127.255.255.254"]}}, self.A)
        self.assertEqual({}, inquiry.lists)
        self.assertIn("127.255.255.254", str(self.log.named("dnsbl")[0]["reason"]))

    def test_fails(self) -> None:
        """SERVFAIL scores nothing, and is told."""
        inquiry = self.ask({}, self.A, fail={"9.2.0.192.a.example": "SERVFAIL"})
        self.assertEqual({}, inquiry.lists)
        self.assertEqual("dead", self.log.named("dnsbl")[0]["status"])

    def test_silent(self) -> None:
        """All are asked at the same time; who waits is let go with the slowest list's time, those that answered count."""
        resolver = SlowResolver()
        asking = self.inquiries(resolver, self.A, self.B)
        inquiry = asking.begin(CLIENT, False)
        self.assertEqual(2, len(resolver.asked))
        waiting = inquiry.until("rcpt", lists=True)
        assert waiting is not None
        self.assertIsNone(inquiry.until("rcpt", lists=False))
        resolver.say("9.2.0.192.a.example", "A", "127.0.0.2")
        resolver.say("1.0.0.127.a.example", "A")
        self.assertNoResult(waiting)
        self.clock.advance(2.0)
        self.successResultOf(waiting)
        self.assertEqual({"a.example": 2}, inquiry.lists)
        [line] = self.log.named("dnsbl")
        self.assertEqual(("b.example", "no answer in time"), (line["zone"], line["reason"]))

    def test_leaves(self) -> None:
        """A client that goes leaves no timer, and no list is called dead for it; a question that was given up is not answered."""
        inquiry = self.inquiries(SlowResolver(), self.A, names=RCPT).begin(CLIENT, False)
        waiting = inquiry.until("rcpt", lists=True)
        assert waiting is not None
        failed = waiting.addErrback(lambda failure: None)
        waiting.cancel()
        inquiry.leave()
        self.assertEqual(([], None), (self.log.named("dnsbl"), self.successResultOf(failed)))

    def test_given_up(self) -> None:
        """Who no longer waits is not called."""
        resolver = SlowResolver()
        inquiry = self.inquiries(resolver, self.A).begin(CLIENT, False)
        waiting = inquiry.until("rcpt", lists=True)
        assert waiting is not None
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        resolver.say("9.2.0.192.a.example", "A")
        self.assertIsNone(inquiry.until("rcpt", lists=True))


class TextTests(InquiryCase):
    """What a list says of its hit (RFC 5782 2.1)."""

    A = Dnsbl("a.example", 2)
    NAME = "9.2.0.192.a.example"

    def text(self, inquiry: Inquiry) -> Any:
        """Ask for it."""
        return self.successResultOf(Deferred.fromCoroutine(inquiry.text("a.example")))

    def test_once(self) -> None:
        """Asked when wanted, and once for a client; the first text that is one."""
        inquiry = self.ask({self.NAME: {"A": ["127.0.0.2"], "TXT": ["\r\n", "spam\r\nseen"]}}, self.A)
        self.assertEqual(0, self.resolver.asked[self.NAME, "TXT"])
        self.assertEqual(["spam seen"] * 2, [self.text(inquiry), self.text(inquiry)])
        self.assertEqual(1, self.resolver.asked[self.NAME, "TXT"])

    def test_none(self) -> None:
        """No record, a server that fails, a resolver that breaks: no text, and asked once."""
        records = {self.NAME: {"A": ["127.0.0.2"]}}
        self.assertEqual("", self.text(self.ask(records, self.A)))
        inquiry = self.ask(records, self.A, fail={f"{self.NAME}/TXT": "SERVFAIL"})
        self.assertEqual(["", ""], [self.text(inquiry), self.text(inquiry)])
        self.assertEqual(1, self.resolver.asked[self.NAME, "TXT"])
        for broken in (lambda self, name, rdtype: fail(ZeroDivisionError()), lambda self, name, rdtype: 1 / 0):
            inquiry = self.ask(records, self.A)
            self.patch(self.resolver, "query", broken.__get__(self.resolver))
            self.assertEqual("", self.text(inquiry))

    def test_too_late(self) -> None:
        """After its time there is none, and it is not asked for again."""
        resolver = SlowResolver()
        inquiry = self.inquiries(resolver, self.A).begin(CLIENT, trusted=True)
        text = Deferred.fromCoroutine(inquiry.text("a.example"))
        self.clock.advance(TEXT_TIME)
        self.assertEqual(("", ""), (self.successResultOf(text), self.text(inquiry)))

    def test_given_up(self) -> None:
        """Who waited goes: no timer is left, and that is no answer."""
        text = Deferred.fromCoroutine(self.inquiries(SlowResolver(), self.A).begin(CLIENT, trusted=True).text("a.example"))
        text.cancel()
        self.failureResultOf(text, CancelledError)


class SilentTests(InquiryCase):
    """Lists of which nobody knows whether they have the client."""

    A, GOOD = Dnsbl("a.example", 2), Dnsbl("good.example", -1)

    def test_silent(self) -> None:
        """SERVFAIL to the question or to the test, or no answer; not a list that is no good."""
        hit, name, test = {"A": ["127.0.0.2"]}, "9.2.0.192.good.example", "1.0.0.127.good.example"
        for records, failing, wanted in (
            ({}, {name: "SERVFAIL"}, True),
            ({name: hit}, {test: "TIMEOUT"}, True),
            ({name: hit, test: hit}, {}, False),
            ({name: {"A": ["127.255.255.254"]}}, {}, False),
            ({name: hit}, {}, False),
            ({}, {}, False),
        ):
            inquiry = self.ask(records, self.A, self.GOOD, fail=failing)
            self.assertEqual({"good.example": -1} if wanted else {}, inquiry.silent, (records, failing))

    def test_too_late(self) -> None:
        """No answer in time."""
        inquiry = self.inquiries(SlowResolver(), self.GOOD).begin(CLIENT, False)
        self.clock.advance(self.GOOD.timeout)
        self.assertEqual({"good.example": -1}, inquiry.silent)
