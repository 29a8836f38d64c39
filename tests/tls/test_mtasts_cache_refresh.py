"""MTA-STS policies are fetched anew in the background, and any order of events keeps the promises of the cache."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.tls.mtasts import Result, StsError
from mta.tls.mtasts_cache import DAY, POLICY, REFRESH_AGAIN, RETRY, StsRefresh
from tests.tls.sts import NAME, WEEK, Case, text

EVENTS = ("ask", "refetch", "refresh", "record", "no record", "web fails", "web works", "restart")


class RefreshTests(Case):
    """`StsRefresh` and `refresh_due`."""

    def setUp(self) -> None:
        super().setUp()
        self.policy()
        self.run_service()

    def run_service(self) -> None:
        self.service = StsRefresh(self.policies, self.clock, every=600)
        self.service.startService()

    def tearDown(self) -> None:
        self.successResultOf(self.service.stopService())
        super().tearDown()

    def pump(self, seconds: float) -> None:
        self.clock.pump([600.0] * int(seconds // 600))

    def test_daily(self) -> None:
        """A policy is fetched every day, with the same id and without any mail, and so never expires (10.2)."""
        self.pump(DAY - 600)
        self.assertEqual(len(self.web.fetched), 1)
        self.pump(600)
        self.assertEqual(len(self.web.fetched), 2)
        self.pump(2 * WEEK)
        self.assertEqual(len(self.web.fetched), 16)
        self.resolver.fail[NAME] = "TIMEOUT"
        self.assertIsNotNone(self.policy())
        self.assertEqual(self.log.names(), ["sts-policy"])

    def test_mail_does_not_wait(self) -> None:
        """While a slow policy host is asked, what is cached is given at once, unless the record announces another policy."""
        policy = self.policy()
        self.web.says = None
        for record, waits in (("v=STSv1; id=1;", False), ("v=STSv1; id=2;", True)):
            self.announce(record)
            self.clock.advance(DAY)
            refreshing = self.policies.refresh_due()
            asked = self.policies.policy("example.test")
            if waits:
                self.assertNoResult(asked)
            else:
                self.assertEqual(self.successResultOf(asked), policy)
            self.web.waiting.pop().callback(text())
            self.successResultOf(refreshing)
        self.assertEqual(getattr(self.successResultOf(asked), "id", ""), "2")

    def test_a_refresh_fails(self) -> None:
        """It is said in the log and tried again every hour, and the policy holds until it expires; then it is let go."""
        self.web.says = StsError(Result.FETCH, "because")
        self.pump(DAY + 3 * REFRESH_AGAIN)
        self.assertEqual(self.log.names(), ["sts-policy"] + 4 * ["sts-fault"])
        self.assertEqual(self.log.events[-1][1]["cached"], "1 enforce")
        self.pump(WEEK)
        self.assertEqual(self.policies._roster, {})
        fetched = len(self.web.fetched)
        self.pump(WEEK)
        self.assertEqual(len(self.web.fetched), fetched)

    def test_the_record_is_gone(self) -> None:
        """Without a record the policy is not prolonged (8.3)."""
        self.resolver.records = {}
        self.pump(WEEK + DAY)
        self.assertEqual(len(self.web.fetched), 1)
        self.assertIsNone(self.policy())

    def test_after_a_restart(self) -> None:
        """The hints know the domains too: after a restart policies are refreshed though no mail asks for them."""
        self.pump(1200)
        self.successResultOf(self.service.stopService())
        self.start()
        self.run_service()
        self.pump(DAY)
        self.assertEqual(len(self.web.fetched), 2)

    def test_mode_none(self) -> None:
        """What demands nothing is not refreshed."""
        self.announce("v=STSv1; id=2;")
        self.web.says = text("none")
        self.clock.advance(600)
        self.policy()
        self.pump(3 * DAY)
        self.assertEqual(len(self.web.fetched), 2)

    def test_many_at_once(self) -> None:
        """A slow policy host does not hold up the others, and not all are asked at once."""
        self.resolver.records = {f"_mta-sts.d{n}.test": {"TXT": ["v=STSv1; id=1;"]} for n in range(30)}
        for n in range(30):
            self.policy(f"d{n}.test")
        self.web.says, self.web.fetched = None, []
        self.pump(DAY)
        self.assertEqual(len(self.web.waiting), 5)
        for waiting in self.web.waiting[1:]:
            waiting.callback(text())
        self.assertEqual(len(self.web.waiting), 9)
        for _ in range(30):
            for waiting in self.web.waiting[1:]:
                if not waiting.called:
                    waiting.callback(text())
        self.assertEqual(len(self.web.waiting), 30)

    def test_damaged_hints(self) -> None:
        """A hint that is no policy is passed over."""
        self.hints.put(POLICY, "other.test", 7, 9e9)
        self.hints.put(POLICY, "no domain", {}, 9e9)
        self.pump(DAY)
        self.assertEqual(self.web.fetched, 2 * ["example.test"])

    def test_stop_while_fetching(self) -> None:
        """The service ends at once, and nothing is left on the clock."""
        self.web.says = None
        self.pump(DAY)
        self.assertEqual(len(self.web.waiting), 1)


class AnyOrderTests(Case):
    """Whatever happens in whatever order."""

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.one_of(st.integers(1, 2 * int(DAY)), st.sampled_from(EVENTS)), max_size=30))
    def test_promises(self, events: list[int | str]) -> None:
        """X21: a policy once fetched holds for its max_age; a failed fetch waits five minutes; nothing errbacks or is left."""
        self.setUp()
        failed_at = rules_until = float("-inf")
        for event in ["ask", *events, "ask"]:
            now, before = self.clock.seconds(), len(self.web.fetched)
            match event:
                case int():
                    self.clock.advance(event)
                case "record":
                    self.announce(f"v=STSv1; id={len(self.web.fetched)};")
                case "no record":
                    self.resolver.records = {}
                case "web fails":
                    self.web.says = StsError(Result.FETCH, "because")
                case "web works":
                    self.web.says = text(max_age=100_000)
                case "restart":
                    self.start()
                    failed_at = float("-inf")  # what failed is not kept over a restart
                case "refresh":
                    self.successResultOf(self.policies.refresh_due())
                case "refetch":
                    self.successResultOf(self.policies.refetch("example.test"))
                case _:
                    found = self.policy()
                    self.assertTrue(found is not None or now >= rules_until)
            fetched = len(self.web.fetched) - before
            self.assertTrue(fetched == 0 or (fetched == 1 and now >= failed_at + RETRY))
            if fetched and isinstance(self.web.says, StsError):
                failed_at = now
            elif fetched:
                rules_until = now + (100_000 if b"100000" in self.web.says else WEEK)
        self.assertEqual(self.flushLoggedErrors(), [])
