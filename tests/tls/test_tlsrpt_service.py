"""TLSRPT as a service: kept over a restart, sent once a day, tried again, dropped at last; never in a delivery's way."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mta.config.settings import Relay, Settings, Tlsrpt
from mta.hints import HintsFile, MemoryHints
from mta.interfaces import ITlsReports
from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls import tlsrpt_service
from mta.tls.https import Https, HttpsError, Page
from mta.tls.mtasts import Result, StsError
from mta.tls.tlsrpt_service import DAY, SPREAD, TlsReports
from tests.test_hints_file import Events
from tests.threads import ThreadedClock
from tests.tls.test_tlsrpt import check_structure, required, sts
from tests.tls.web import Scripted, WebServer

NOON = 1_795_521_600.0  # 2026-11-24T12:00:00Z
MIDNIGHT = NOON + 43_200
RUA = {"TXT": ["v=TLSRPTv1; rua=https://reports.test/in"]}


class Posts:
    """Stands where `Https` stands.  answers: statuses or errors, one for each post, the last for all further ones."""

    def __init__(self) -> None:
        self.answers: list[Any] = [200]
        self.sent: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.running: list[Deferred[Page]] = []

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Deferred[Page]:
        self.sent.append((url, headers, json.loads(gzip.decompress(body))))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            return succeed(Page(answer, "", b""))
        if answer is None:
            stalled: Deferred[Page] = Deferred(lambda asked: asked.errback(HttpsError("stopped")))
            self.running.append(stalled)
            return stalled
        return fail(answer)


class Case(SynchronousTestCase):
    """A service at noon of a day, over a clock, a zone and an HTTPS client that a test plays."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOON)
        self.zone: dict[str, Any] = {"_smtp._tls.company-y.example": RUA}
        self.resolver = FakeResolver(self.zone)
        self.posts = Posts()
        self.log = Events()
        self.hints: Any = MemoryHints(self.clock)
        self.reports = self.started()

    def started(self, **more: Any) -> TlsReports:
        settings = Settings("mta.test", Path("/nowhere"), **more)
        reports = TlsReports(settings, self.hints, self.resolver, self.posts, reactor=self.clock, log=self.log, random=Random(1))
        reports.startService()
        self.addCleanup(self.stopped, reports)
        return reports

    def stopped(self, reports: TlsReports) -> None:
        if reports.running:
            self.successResultOf(reports.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def logged(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.log if event == name]

    def to(self, seconds: float) -> None:
        """Let time pass until then, not in one leap."""
        while self.clock.seconds() < seconds:
            self.clock.advance(min(300.0, seconds - self.clock.seconds()))


class SendingTests(Case):
    """What is sent, and when."""

    def test_once_a_day(self) -> None:
        """4.1: the counts of a UTC day go out once, at a random time of the first four hours of the next."""
        verifyObject(ITlsReports, self.reports)
        self.reports.failed(sts(), "certificate-expired", "it ended yesterday")
        self.reports.succeeded(sts())
        self.to(MIDNIGHT)
        self.reports.succeeded(sts())  # is of the next day already
        self.assertEqual(self.posts.sent, [])
        self.to(MIDNIGHT + SPREAD)
        [(url, headers, document)] = self.posts.sent
        self.assertEqual((url, headers), ("https://reports.test/in", {"Content-Type": "application/tlsrpt+gzip"}))
        check_structure(self, document)
        self.assertEqual(document["organization-name"], "mta.test")
        self.assertEqual(document["contact-info"], "postmaster@mta.test")
        self.assertEqual(document["date-range"]["start-datetime"], "2026-11-24T00:00:00Z")
        summary = document["policies"][0]["summary"]
        self.assertEqual(summary, {"total-successful-session-count": 1, "total-failure-session-count": 1})
        self.to(MIDNIGHT + 86_400 - 1)
        self.assertEqual(len(self.posts.sent), 1)
        self.to(MIDNIGHT + 86_400 + SPREAD)
        self.assertEqual(len(self.posts.sent), 2)
        self.assertEqual(len(self.logged("tlsrpt_sent")), 2)

    def test_spread(self) -> None:
        """Two servers do not send at the same moment."""
        times = set()
        for seed in range(20):
            self.reports._random = Random(seed)
            times.add(self.reports._until_daily() - 43_200)
        self.assertEqual(len(times), 20)
        self.assertTrue(all(0 < time <= SPREAD for time in times))

    def test_who_is_told(self) -> None:
        """A domain without a record, or with an address for mail alone, gets nothing; its counts are forgotten."""
        self.zone["_smtp._tls.mail.example"] = {"TXT": ["v=TLSRPTv1; rua=mailto:tls@mail.example"]}
        self.zone["_smtp._tls.both.example"] = {"TXT": ["v=TLSRPTv1; rua=mailto:tls@both.example,https://both.example/r"]}
        for domain in ("none.example", "mail.example", "both.example"):
            self.reports.succeeded(required(next_hop=domain))
        self.to(MIDNIGHT + SPREAD)
        self.assertEqual([url for url, _, _ in self.posts.sent], ["https://both.example/r"])
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-24"), [])
        self.assertEqual(len(self.logged("tlsrpt_not_by_mail")), 1)

    def test_settings(self) -> None:
        """[tlsrpt] says who sends it, and our own address goes along where it is configured; enabled = false does nothing."""
        self.stopped(self.reports)
        relay = Relay(source_address=("2001:db8::7", "192.0.2.7"))
        reports = self.started(tlsrpt=Tlsrpt(organization="We", contact="tls@we.test"), relay=relay)
        reports.failed(sts(), "certificate-expired", "")
        self.to(MIDNIGHT + SPREAD)
        [(_, _, document)] = self.posts.sent
        self.assertEqual((document["organization-name"], document["contact-info"]), ("We", "tls@we.test"))
        self.assertEqual(document["policies"][0]["failure-details"][0]["sending-mta-ip"], "192.0.2.7")
        self.stopped(reports)
        off = self.started(tlsrpt=Tlsrpt(enabled=False))
        off.succeeded(sts())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-25"), [])

    def test_one_address_is_enough(self) -> None:
        """Of several addresses each is tried, and one 2xx is enough."""
        self.zone["_smtp._tls.company-y.example"] = {"TXT": ["v=TLSRPTv1; rua=https://a.test/,https://b.test/"]}
        self.posts.answers = [HttpsError("down"), 204]
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + 86_400)
        self.assertEqual([url for url, _, _ in self.posts.sent], ["https://a.test/", "https://b.test/"])
        self.assertEqual(self.logged("tlsrpt_sent")[0]["refused"], "https://a.test/: down")


class RetryTests(Case):
    """5.5: when it does not work."""

    def test_again(self) -> None:
        """A refusal, a redirect, an error or a failed lookup is tried again later, with the same report."""
        self.posts.answers = [500, 302, HttpsError("no answer in 60 s"), 201]
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + 86_400)
        self.assertEqual(len(self.posts.sent), 4)
        self.assertEqual(len({json.dumps(document) for _, _, document in self.posts.sent}), 1)
        self.assertEqual(len(self.logged("tlsrpt_sent")), 1)
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-24"), [])

    def test_lookup_fails(self) -> None:
        """Nobody knows whether a report is wanted: asked again."""
        self.resolver.fail["_smtp._tls.company-y.example"] = "SERVFAIL"
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + SPREAD)
        self.assertEqual(self.posts.sent, [])
        self.resolver.fail.clear()
        self.to(MIDNIGHT + SPREAD + 86_400)
        self.assertEqual(len(self.posts.sent), 1)

    def test_dropped(self) -> None:
        """After a day of growing delays it is dropped, with one line that says why."""
        self.posts.answers = [503]
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + 3 * 86_400)
        [dropped] = self.logged("tlsrpt_dropped")
        self.assertEqual(dropped["reason"], "https://reports.test/in: HTTP status 503")
        self.assertEqual((dropped["domain"], dropped["day"]), ("company-y.example", "2026-11-24"))
        self.assertTrue(5 <= len(self.posts.sent) <= 10, len(self.posts.sent))
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-24"), [])
        self.assertEqual(self.logged("tlsrpt_sent"), [])

    def test_one_does_not_stop_others(self) -> None:
        """A value that a damaged file gave costs its own report only; a peer that stalls holds up nobody else."""
        self.hints.put("tlsrpt 2026-11-24", "broken.example", {"x": 1}, MIDNIGHT + 86_400)
        self.zone["_smtp._tls.broken.example"] = self.zone["_smtp._tls.stalls.example"] = RUA
        self.posts.answers = [None, 200]
        self.reports.succeeded(sts(next_hop="stalls.example"))
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + SPREAD)
        self.assertEqual(len(self.posts.sent), 2)
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-24"), ["stalls.example"])

    def test_stop_on_the_way(self) -> None:
        """A stop ends what is on its way; what was not sent is sent after the next start, soon."""
        self.posts.answers = [None]
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + SPREAD)
        self.stopped(self.reports)
        self.assertEqual(len(self.posts.sent), 1)
        self.posts.answers = [200]
        self.started()
        self.to(MIDNIGHT + SPREAD + 600)
        self.assertEqual(len(self.posts.sent), 2)
        self.assertEqual(len(self.logged("tlsrpt_sent")), 1)

    def test_stop_in_a_lookup(self) -> None:
        """The same while DNS is asked."""
        self.resolver.query = lambda name, rdtype: Deferred()  # type: ignore[method-assign]
        self.reports.succeeded(sts())
        self.to(MIDNIGHT + SPREAD)
        self.stopped(self.reports)
        self.assertEqual(self.hints.keys("tlsrpt 2026-11-24"), ["company-y.example"])


class CountingTests(Case):
    """What is counted."""

    def test_restart(self) -> None:
        """A restart loses nothing: hints.db has the counts, and counting goes on from there."""
        self.stopped(self.reports)
        self.clock = ThreadedClock()
        self.clock.advance(NOON)
        path = Path(self.mktemp()) / "hints.db"
        for _ in range(2):
            self.hints = HintsFile(path, self.clock, self.log)
            self.successResultOf(self.hints.start())
            reports = self.started()
            reports.failed(sts(), "certificate-expired", "x")
            reports.succeeded(sts())
            self.successResultOf(reports.stopService())
            self.successResultOf(self.hints.stop())
        self.hints = HintsFile(path, self.clock, self.log)
        self.successResultOf(self.hints.start())
        reports = self.started()
        self.to(MIDNIGHT + SPREAD)
        [(_, _, document)] = self.posts.sent
        summary = document["policies"][0]["summary"]
        self.assertEqual(summary, {"total-successful-session-count": 2, "total-failure-session-count": 2})
        self.successResultOf(reports.stopService())
        self.successResultOf(self.hints.stop())

    def test_kept_session(self) -> None:
        """P50: a failure, then a session that is made once and kept for ten messages: the report says 1 and 1."""
        self.reports.failed(required(), "starttls-not-supported", "")
        self.reports.succeeded(required())  # the handshake; the nine deliveries after it tell nobody
        self.to(MIDNIGHT + SPREAD)
        [(_, _, document)] = self.posts.sent
        summary = document["policies"][0]["summary"]
        self.assertEqual(summary, {"total-successful-session-count": 1, "total-failure-session-count": 1})

    def test_no_policy_to_be_had(self) -> None:
        """4.3.2.2: while a domain's MTA-STS policy cannot be fetched, each session says so too, beside what came of it; where
        DANE rules nobody asks."""
        self.reports._sts_failure = {"company-y.example": StsError(Result.WEBPKI, "certificate has expired")}.get
        self.reports.succeeded(required())
        self.reports.succeeded(required(origin="dane", evidence="dane:x"))
        self.reports.succeeded(required(next_hop="other.example"))
        self.to(MIDNIGHT + SPREAD)
        [(_, _, document)] = self.posts.sent
        check_structure(self, document)
        failed, good, dane = document["policies"]
        self.assertEqual((failed["policy"]["policy-type"], failed["policy"]["policy-string"]), ("sts", []))
        [detail] = failed["failure-details"]
        self.assertEqual(
            (detail["result-type"], detail["failure-reason-code"]), ("sts-webpki-invalid", "certificate has expired")
        )
        self.assertEqual(good["summary"], {"total-successful-session-count": 1, "total-failure-session-count": 0})
        self.assertEqual((good["policy"]["policy-type"], dane["policy"]["policy-type"]), ("no-policy-found", "tlsa"))

    def test_bounded(self) -> None:
        """More domains or rows than there is room for are left out, and their number is logged at the day's end."""
        self.patch(tlsrpt_service, "MAX_DOMAINS", 3)
        self.patch(tlsrpt_service, "MAX_ROWS", 4)
        for number in range(5):
            self.reports.succeeded(required(next_hop=f"d{number}.example"))
        self.assertEqual(self.reports.uncounted, 2)
        for number in range(5):  # the second kind of failure has no row of its own any more
            self.reports.failed(required(next_hop="d0.example", host=f"mx{number}.d0.example"), "certificate-expired", "")
        self.reports.succeeded(sts(next_hop="d1.example"))
        self.assertEqual(self.reports.uncounted, 3)
        self.assertEqual(len(self.reports._tallies["d0.example"].plain.popitem()[1]["failure-details"]), 2)
        self.to(MIDNIGHT + SPREAD)
        self.assertEqual(self.logged("tlsrpt_uncounted"), [{"day": "2026-11-24", "sessions": 3}])
        self.assertEqual(self.reports.uncounted, 0)

    def test_addresses_are_nobody(self) -> None:
        """Mail to an address literal has no domain that could want a report."""
        self.reports.succeeded(required(next_hop="[192.0.2.1]"))
        self.assertEqual((self.reports._tallies, self.reports.uncounted), ({}, 0))

    def test_never_raises(self) -> None:
        """What goes wrong in counting is logged, and costs no delivery."""
        self.patch(self.hints, "put", lambda *arguments: 1 / 0)
        self.reports.succeeded(required())
        self.reports.failed(required(), "certificate-expired", "")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class RealTests(TestCase):
    """With a real HTTPS server on the loopback."""

    timeout = 20

    async def test_sent(self) -> None:
        """5.4: POST, media type, gzip; a server whose certificate is not for its name gets nothing."""
        authority = Authority.create()
        trust = Path(self.mktemp())
        trust.write_bytes(authority.certificate_pem)
        resource = Scripted(lambda request: b"thanks")
        server = WebServer(reactor, resource, authority.issue("reports.test"))
        zone = {
            "_smtp._tls.company-y.example": {"TXT": ["v=TLSRPTv1; rua=https://reports.test/in"]},
            "_smtp._tls.company-z.example": {"TXT": ["v=TLSRPTv1; rua=https://wrong.test/in"]},
            "reports.test": {"A": ["127.0.0.1"]},
            "wrong.test": {"A": ["127.0.0.1"]},
        }
        resolver, log, clock = FakeResolver(zone), Events(), Clock()
        clock.advance(NOON)
        hints = MemoryHints(clock)
        https = Https(reactor, resolver, [trust], port=server.port, private=True)
        settings = Settings("mta.test", Path("/nowhere"))
        reports = TlsReports(settings, hints, resolver, https, reactor=clock, log=log, random=Random(1))
        reports.startService()
        reports.failed(sts(), "certificate-expired", "")
        reports.succeeded(required(next_hop="company-z.example"))
        clock.advance(43_200 + SPREAD)
        while reports._round is not None:
            await deferLater(reactor, 0.01)
        await reports.stopService()
        await server.stop()
        [(method, path, headers, body)] = resource.requests
        self.assertEqual((method, path, headers.getRawHeaders("content-type")), (b"POST", b"/in", ["application/tlsrpt+gzip"]))
        document = json.loads(gzip.decompress(body))
        check_structure(self, document)
        self.assertEqual(document["report-id"], "2026-11-24.company-y.example@mta.test")
        kind = f"tlsrpt {(reports._today() - DAY):%Y-%m-%d}"
        self.assertEqual(hints.keys(kind), ["company-z.example"])
        self.assertEqual(clock.getDelayedCalls(), [])
