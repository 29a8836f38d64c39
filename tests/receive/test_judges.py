"""The chain of judges, and the operator's rules as the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.receiving import AccessRule
from mta.envelope import Action, Ruling
from mta.interfaces import IPolicy
from mta.receive.judges import STAGES, Judges, RuleJudge
from mta.receive.rules import Rules
from mta.status import MailError, permanent
from tests.receive.door import FakeLog, FakePolicy
from tests.receive.test_rules import HOME, facts

NO = permanent("5.7.1", "Not you")


class JudgesTests(SynchronousTestCase):
    """`Judges`."""

    def chain(self, *answers: Any) -> tuple[Judges, list[FakePolicy]]:
        """Judges that answer so at RCPT."""
        judges = [FakePolicy(rcpt=answer) for answer in answers]
        return Judges(judges), judges

    def test_the_first_answer_decides(self) -> None:
        """Nobody is asked behind it."""
        for answer in (NO, Action.ACCEPT, Action.HOLD, Ruling(Action.DISCARD, "x")):
            judges, asked = self.chain(None, answer, NO)
            self.assertIs(answer, judges.judge("rcpt", {}))
            self.assertEqual([["rcpt"], ["rcpt"], []], [judge.asked for judge in asked])

    def test_values_make_no_deferred(self) -> None:
        """Not when all of them answer at once."""
        self.patch(Deferred, "__init__", None)
        judges, _ = self.chain(None, None, None)
        self.assertIsNone(judges.judge("rcpt", {}))

    def test_late_answers(self) -> None:
        """A Deferred or a coroutine is waited for before the next is asked, wherever in the chain."""

        async def nothing() -> None:
            return None

        thinking: Deferred[Any] = Deferred()
        judges, asked = self.chain(lambda: thinking, lambda: nothing(), None, lambda: succeed(NO), None)
        answer = judges.judge("rcpt", {})
        self.assertNoResult(answer)
        self.assertEqual([], asked[1].asked)
        thinking.callback(None)
        self.assertIs(NO, self.successResultOf(answer))
        self.assertEqual([1, 1, 1, 1, 0], [len(judge.asked) for judge in asked])

    def test_failures(self) -> None:
        """Raised, failed or answered as a Failure, at once or behind somebody slow: nobody is asked behind it."""

        async def broken() -> None:
            raise ZeroDivisionError

        for answer in (ZeroDivisionError(), Failure(ZeroDivisionError()), lambda: fail(ZeroDivisionError()), lambda: broken()):
            judges, asked = self.chain(lambda: succeed(None), answer, None)
            self.failureResultOf(judges.judge("rcpt", {}), ZeroDivisionError)
            self.assertEqual([], asked[2].asked)
        judges, _ = self.chain(Failure(ZeroDivisionError()))
        self.assertRaises(ZeroDivisionError, judges.judge, "rcpt", {})

    def test_cancel(self) -> None:
        """Whoever thinks at the time is told, behind others too."""
        cancelled: list[object] = []
        judges, _ = self.chain(lambda: succeed(None), lambda: Deferred(cancelled.append), None)
        answer = judges.judge("rcpt", {})
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(1, len(cancelled))

    def test_stages(self) -> None:
        """Who names his stages is asked at these alone, who does not at all."""

        @implementer(IPolicy)
        class Choosy:
            stages = frozenset({"mail"})

            def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
                return stage

        self.assertEqual(frozenset({"mail"}), Judges([Choosy()]).stages)
        self.assertIsNone(Judges([Choosy()]).judge("rcpt", {}))
        self.assertEqual(STAGES, Judges([Choosy(), FakePolicy()]).stages)
        self.assertEqual(frozenset(), Judges([]).stages)


class RuleJudgeTests(SynchronousTestCase):
    """`RuleJudge`."""

    def setUp(self) -> None:
        self.log = FakeLog()

    def judge(self, *rules: AccessRule, **known: Any) -> Any:
        """What the rules answer at RCPT."""
        return RuleJudge(Rules(rules, HOME), self.log).judge("rcpt", facts(**known))

    def test_answers(self) -> None:
        """Each action, with the rule's name for a reason."""
        for action in ("accept", "hold", "discard"):
            self.assertEqual(Ruling(Action(action), "rule r"), self.judge(AccessRule("r", action, "rcpt")))
        for action, code in (("reject", 550), ("defer", 450)):
            error = self.judge(AccessRule("r", action, "rcpt"))
            assert isinstance(error, MailError)
            self.assertEqual((code, "rule r"), (error.reply.code, error.reason))

    def test_log(self) -> None:
        """A line for each that matched, with its name; one that warns does nothing else."""
        network = (ip_network("192.0.2.0/24"),)
        rules = [AccessRule("odd", "warn", "rcpt", client=network), AccessRule("no", "reject", "rcpt", sender=("b.org",))]
        self.assertIsNone(self.judge(*rules))
        [line] = self.log.named("rule")
        self.assertEqual(("odd", "warn", "rcpt", "192.0.2.9"), tuple(line[key] for key in ("rule", "action", "stage", "client")))
        self.assertEqual(("s@a.org", "r@example.org"), (line["from"], line["to"]))

    def test_nothing_is_lost_by_a_doubt(self) -> None:
        """Where the name cannot be looked up now, what would be refused or thrown away by it is put off."""
        for action in ("reject", "discard"):
            rule = AccessRule(
                "nameless", action, "rcpt", client_name=("unknown",), reply="550 5.7.25 No name" * (action == "reject")
            )
            sure = self.judge(rule, client_name="unknown")
            self.assertTrue(isinstance(sure, Ruling) or sure.reply.code == 550)
            error = self.judge(rule, client_name="unknown", client_name_failed=True)
            self.assertEqual((450, "4.7.25"), (error.reply.code, error.reply.enhanced))
