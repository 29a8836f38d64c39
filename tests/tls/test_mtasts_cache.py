"""MTA-STS policies over time: what holds when, what is asked and fetched when, and what survives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mta.hints import MemoryHints
from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls.https import Https
from mta.tls.mtasts import Mode, Result, StsError, StsPolicy
from mta.tls.mtasts_cache import ASK_LEAST, POLICY, RETRY, StsPolicies
from mta.tls.mtasts_fetch import fetch_policy
from tests.tls.sts import NAME, WEEK, Case, JsonHints, Log, text
from tests.tls.web import Scripted, WebServer


class FoundTests(Case):
    """The first question for a domain."""

    def test_enforce(self) -> None:
        """P30: a policy in mode enforce is found, with its id, its hosts and its age, and the log says so."""
        expected = StsPolicy("1", Mode.ENFORCE, ("mx.example.test",), WEEK)
        self.assertEqual(self.policy(), expected)
        self.assertEqual(self.web.fetched, ["example.test"])
        fields = {"domain": "example.test", "id": "1", "mode": "enforce", "mx": "mx.example.test", "max_age": WEEK}
        self.assertEqual(self.log.events, [("sts-policy", fields)])

    def test_testing_and_none(self) -> None:
        """P31, P32: these modes are policies too, and say what they are."""
        for mode in (Mode.TESTING, Mode.NONE):
            self.web.says = text(mode)
            self.hints = JsonHints(self.clock)
            self.start()
            found = self.policy()
            assert found is not None
            self.assertIs(found.mode, mode)

    def test_no_record(self) -> None:
        """Without a record nothing is fetched, and nothing has failed."""
        for records in ({}, {NAME: {"TXT": ["v=spf1 -all"]}}, {NAME: {"TXT": ["v=STSv1; id=;"]}}):
            self.resolver.records = records
            self.start()
            self.assertIsNone(self.policy())
            self.assertIsNone(self.policies.failure("example.test"))
        self.assertEqual((self.web.fetched, self.log.events), ([], []))

    def test_two_records(self) -> None:
        """P36: two TXT records of ours are as good as none."""
        self.announce("v=STSv1; id=1;", "v=STSv1; id=2;")
        self.assertIsNone(self.policy())
        self.assertEqual(self.web.fetched, [])

    def test_only_domains(self) -> None:
        """Address literals, smarthosts and nonsense have no policy: nobody is asked."""
        for domain in ("[192.0.2.1]", "[mx.example.test]:587", "", ".", "a..b", "bücher.example", "x" * 300, "1.2.3.4"):
            self.assertIsNone(self.policy(domain))
            self.assertIsNone(self.successResultOf(self.policies.refetch(domain)))
        self.assertEqual(sum(self.resolver.asked.values()), 0)

    def test_one_spelling(self) -> None:
        """Case and the final dot do not make another domain."""
        self.assertEqual(self.policy("Example.TEST."), self.policy())
        self.assertEqual(self.asked(), 1)
        self.assertEqual(self.policies.until("EXAMPLE.test"), self.clock.seconds() + 600)

    def test_each_domain_its_own(self) -> None:
        """P38: enforce for one domain, none for another with the same hosts: neither has to do with the other."""
        self.assertIsNotNone(self.policy())
        self.assertIsNone(self.policy("other.test"))
        self.assertIsNotNone(self.policy())


class CachedTests(Case):
    """Later questions."""

    def setUp(self) -> None:
        super().setUp()
        self.policy()

    def test_within_the_ttl(self) -> None:
        """Neither DNS nor web is asked again before the record's TTL has passed; then DNS only."""
        self.clock.advance(599)
        self.policy()
        self.assertEqual((self.asked(), len(self.web.fetched)), (1, 1))
        self.clock.advance(1)
        self.policy()
        self.assertEqual((self.asked(), len(self.web.fetched)), (2, 1))

    def test_a_short_ttl(self) -> None:
        """However short the TTL, DNS is asked at most every two minutes."""
        self.resolver.ttl = 0
        self.start()
        self.policy()
        self.clock.advance(ASK_LEAST - 1)
        self.policy()
        self.assertEqual(self.asked(), 2)
        self.clock.advance(1)
        self.policy()
        self.assertEqual(self.asked(), 3)

    def test_a_new_id(self) -> None:
        """P34, H32: another id in the record fetches the policy anew; until then the old one holds."""
        self.announce("v=STSv1; id=2;")
        self.web.says = text("testing")
        self.assertEqual(getattr(self.policy(), "id", ""), "1")
        self.clock.advance(600)
        self.assertEqual(self.policy(), StsPolicy("2", Mode.TESTING, ("mx.example.test",), WEEK))
        self.assertEqual(self.log.names(), ["sts-policy", "sts-policy"])

    def test_dns_is_gone(self) -> None:
        """P33: who suppresses the record gains nothing: the cached policy holds for its max_age, and not longer."""
        for records, failing in (({}, {}), ({}, {NAME: "SERVFAIL"}), ({NAME: {"TXT": ["v=STSv1; id=1", "v=STSv1; id=2"]}}, {})):
            self.resolver.records, self.resolver.fail = records, failing
            self.clock.advance(3600)
            self.assertIsNotNone(self.policy())
        self.clock.advance(WEEK - 3 * 3600 - 1)
        self.assertIsNotNone(self.policy())
        self.clock.advance(1)
        self.assertIsNone(self.policy())
        self.assertEqual(len(self.web.fetched), 1)

    def test_expiry_is_not_missed(self) -> None:
        """A policy that ends before the record's TTL does is fetched again when it ends."""
        self.resolver.ttl, self.web.says = 86_400, text(max_age=1000)
        self.announce("v=STSv1; id=2;")
        self.clock.advance(600)
        self.policy()
        self.assertEqual(self.policies.until("example.test"), self.clock.seconds() + 1000)
        self.clock.advance(1000)
        self.assertIsNotNone(self.policy())
        self.assertEqual(len(self.web.fetched), 3)

    def test_max_age_of_nothing(self) -> None:
        """max_age 0 is never in force, and never makes a storm of fetches."""
        self.web.says = text(max_age=0)
        self.announce("v=STSv1; id=2;")
        self.clock.advance(600)
        for _ in range(3):
            self.assertIsNone(self.policy())
        self.assertEqual(len(self.web.fetched), 2)

    def test_a_restart(self) -> None:
        """The policy survives in the hints: found again although DNS and web are silent."""
        self.resolver.fail[NAME] = "TIMEOUT"
        self.start()
        self.assertEqual(self.policy(), StsPolicy("1", Mode.ENFORCE, ("mx.example.test",), WEEK))
        self.assertEqual(len(self.web.fetched), 1)

    def test_damaged_hints(self) -> None:
        """A hint that is not ours is as good as none; one from the future (the clock was set back) still expires."""
        good = self.hints.get(POLICY, "example.test")
        self.resolver.fail[NAME] = "TIMEOUT"
        for damage in (7, [], {}, {**good, "fetched": "x"}, {**good, "mode": "x"}, {"fetched": 1.0}):
            self.hints.put(POLICY, "example.test", damage, 9e9)
            self.start()
            self.assertIsNone(self.policy())
        self.hints.put(POLICY, "example.test", {**good, "fetched": 9e9}, 9e9)
        self.start()
        self.assertIsNotNone(self.policy())
        self.clock.advance(WEEK)
        self.assertIsNone(self.policy())

    def test_lost_hints(self) -> None:
        """The hints may be deleted at any time: what is in memory holds on."""
        self.policies._hints = MemoryHints(self.clock)
        self.clock.advance(3600)
        self.assertIsNotNone(self.policy())


class FailedTests(Case):
    """Fetches that fail."""

    def test_nothing_cached(self) -> None:
        """P33: no policy, the mail goes; the failure is a fact for the report and a line in the log."""
        for result in (Result.FETCH, Result.WEBPKI):
            self.web.says = StsError(result, "because")
            self.start()
            self.assertIsNone(self.policy())
            failure = self.policies.failure("example.test")
            assert failure is not None
            self.assertEqual((failure.result, failure.detail), (result, "because"))
        fields = {"domain": "example.test", "result": "sts-policy-fetch-error", "reason": "because", "cached": "none"}
        self.assertEqual(self.log.events[0], ("sts-fault", fields))

    def test_in_doubt(self) -> None:
        """There may be a policy that could not be had: the lookup failed, or the fetch; not where there is no record."""
        self.resolver.fail = {NAME: "TIMEOUT"}
        self.assertIsNone(self.policy())
        self.assertTrue(self.policies.in_doubt("Example.Test."))
        self.resolver.fail = {}
        self.web.says = StsError(Result.FETCH, "refused")
        self.successResultOf(self.policies.refetch("example.test"))
        self.assertTrue(self.policies.in_doubt("example.test"))
        self.clock.advance(300.0)
        self.web.says = text()
        self.successResultOf(self.policies.refetch("example.test"))
        self.assertFalse(self.policies.in_doubt("example.test"))
        self.assertFalse(self.policies.in_doubt("other.test"))

    def test_an_invalid_policy(self) -> None:
        """P34: a text that is no policy is sts-policy-invalid, and does not replace the cached one."""
        self.policy()
        self.announce("v=STSv1; id=2;")
        self.web.says = b"<html>"
        self.clock.advance(600)
        self.assertEqual(getattr(self.policy(), "id", ""), "1")
        self.assertIs(getattr(self.policies.failure("example.test"), "result", None), Result.INVALID)
        self.assertEqual(self.log.events[-1][1]["cached"], "1 enforce")

    def test_five_minutes(self) -> None:
        """A failed fetch is not repeated for five minutes (3.3), whoever asks; then it is, long TTL or not."""
        self.resolver.ttl = 86_400
        self.web.says = StsError(Result.FETCH, "because")
        self.policy()
        self.clock.advance(RETRY - 1)
        self.policy()
        self.successResultOf(self.policies.refetch("example.test"))
        self.assertEqual(len(self.web.fetched), 1)
        self.clock.advance(1)
        self.web.says = text()
        self.assertIsNotNone(self.policy())
        self.assertIsNone(self.policies.failure("example.test"))

    def test_a_bug(self) -> None:
        """Whatever else a fetch throws is logged, and the mail goes on."""
        self.web.says = ZeroDivisionError()
        self.assertIsNone(self.policy())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.web.says = text()
        self.clock.advance(RETRY)
        self.assertIsNotNone(self.policy())


class RefetchTests(Case):
    """Before mail fails for good because of a policy."""

    def test_the_same_id(self) -> None:
        """The policy is fetched although its id is the same (5.1; ids are forgotten), once in five minutes."""
        self.policy()
        self.web.says = text("none")
        self.clock.advance(RETRY)
        refetched = self.successResultOf(self.policies.refetch("example.test"))
        self.assertIs(getattr(refetched, "mode", None), Mode.NONE)
        self.successResultOf(self.policies.refetch("example.test"))
        self.assertEqual(len(self.web.fetched), 2)

    def test_it_fails(self) -> None:
        """Then the cached policy still rules."""
        self.policy()
        self.web.says = StsError(Result.FETCH, "because")
        self.clock.advance(RETRY)
        self.assertEqual(self.successResultOf(self.policies.refetch("example.test")), self.policy())

    def test_nothing_known(self) -> None:
        """For a domain that was never asked for it is a first question."""
        self.assertIsNotNone(self.successResultOf(self.policies.refetch("example.test")))


class TogetherTests(Case):
    """Many questions at once, and the end."""

    def setUp(self) -> None:
        super().setUp()
        self.web.says = None  # answers when the test says so

    def test_one_fetch(self) -> None:
        """Who asks for the same domain at the same time shares one fetch; who gives up takes nothing from the others."""
        asked = [self.policies.policy("example.test") for _ in range(3)] + [self.policies.refetch("example.test")]
        asked[1].cancel()
        self.failureResultOf(asked[1])
        self.assertEqual((self.asked(), len(self.web.waiting)), (1, 1))
        self.web.waiting[0].callback(text())
        self.assertEqual({getattr(self.successResultOf(each), "id", "") for each in (asked[0], *asked[2:])}, {"1"})

    def test_close(self) -> None:
        """At the stop who waits gets what is cached, nothing is fetched any more, and no failure is claimed."""
        waits = self.policies.policy("example.test")
        self.successResultOf(self.policies.close())
        self.assertIsNone(self.successResultOf(waits))
        self.assertIsNone(self.policy())
        self.assertIsNone(self.successResultOf(self.policies.refetch("example.test")))
        self.assertEqual((len(self.web.fetched), self.log.events), (1, []))
        self.successResultOf(self.policies.close())

    def test_close_while_the_web_says_stopped(self) -> None:
        """A fetch that ends with an error of its own when it is given up is no failure of the domain either."""

        def stopped(_: object) -> None:
            waiting.errback(StsError(Result.FETCH, "stopped"))

        waiting: Deferred[bytes] = Deferred(stopped)
        self.policies._fetch = lambda domain: waiting
        waits = self.policies.policy("example.test")
        self.successResultOf(self.policies.close())
        self.assertIsNone(self.successResultOf(waits))
        self.assertEqual(self.log.events, [])

    def test_memory_is_bounded(self) -> None:
        """Beyond the limit the domain used longest ago goes, but never one that somebody waits for; policies come back."""
        self.resolver.records = {f"_mta-sts.d{n}.test": {"TXT": ["v=STSv1; id=1;"]} for n in range(20)}
        self.start(limit=3)
        waits = self.policies.policy("d0.test")
        self.web.says = text()
        for n in range(1, 20):
            self.policy(f"d{n}.test")
        self.assertEqual(list(self.policies._known), ["d0.test", "d18.test", "d19.test"])
        self.assertEqual(len(self.policies._roster), 3)
        self.web.waiting[0].callback(text())
        self.assertIsNotNone(self.successResultOf(waits))
        self.resolver.fail["_mta-sts.d5.test"] = "TIMEOUT"
        self.assertIsNotNone(self.policy("d5.test"))


class RealTests(TestCase):
    """The whole way, over HTTPS."""

    timeout = 20

    async def test_policy(self) -> None:
        """P30, P35: found over a real HTTPS server of a private authority; with another's certificate there is none."""
        clock, authority = Clock(), Authority.create()
        trust = Path(self.mktemp())
        trust.write_bytes(authority.certificate_pem)
        resolver = FakeResolver({NAME: {"TXT": ["v=STSv1; id=1;"]}, "mta-sts.example.test": {"A": ["127.0.0.1"]}})

        def answer(request: Any) -> bytes:
            request.setHeader("content-type", "text/plain")
            return text()

        for issuer, found in ((authority, True), (Authority.create("stranger"), False)):
            server = WebServer(reactor, Scripted(answer), issuer.issue("mta-sts.example.test"))
            https = Https(reactor, resolver, [trust], port=server.port)
            policies = StsPolicies(resolver, partial(fetch_policy, https), MemoryHints(clock), clock, Log())
            try:
                self.assertEqual(await policies.policy("example.test") is not None, found)
                failure = policies.failure("example.test")
                self.assertEqual(failure and failure.result, None if found else Result.WEBPKI)
            finally:
                await server.stop()
