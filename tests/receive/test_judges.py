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
from mta.receive.judges import IN_DOUBT, NO_NAME, STAGES, Judges, RuleJudge
from mta.receive.rules import Rules
from mta.status import MailError, permanent, transient
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


class DoubtTests(SynchronousTestCase):
    """A client whose name cannot be looked up now may be the one whom a rule in front speaks of."""

    def rules(self, *actions: str, by: tuple[str, ...] = ("*.partner.example",)) -> RuleJudge:
        """Rules on the name, the last on the network."""
        rules = [AccessRule(f"name{number}", action, "rcpt", client_name=by) for number, action in enumerate(actions[:-1])]
        network = AccessRule("network", actions[-1], "rcpt", client=(ip_network("192.0.2.0/24"),))
        return RuleJudge(Rules([*rules, network], HOME), FakeLog())

    def answer(self, judge: RuleJudge, **known: Any) -> Any:
        """What is answered to a client without a name, for now."""
        return judge.judge("rcpt", facts(client_name="unknown", client_name_failed=True, **known))

    def test_what_would_have_come_first(self) -> None:
        """accept before reject: he may be the partner, so come again; the same for all that ends in another way."""
        for first in ("accept", "hold", "defer"):
            for last in ("reject", "discard"):
                error = self.answer(self.rules(first, last))
                assert isinstance(error, MailError)
                self.assertEqual((NO_NAME, "rule network"), (error.reply, error.reason), (first, last))

    def test_certain(self) -> None:
        """Where the name is known, or would change nothing, the rule says what it says."""
        judge = self.rules("accept", "reject")
        for name in ("unknown", "mx.other.example"):
            self.assertEqual(550, judge.judge("rcpt", facts(client_name=name)).reply.code)
        for first, last in (("reject", "reject"), ("warn", "reject")):
            self.assertEqual(550, self.answer(self.rules(first, last)).reply.code, first)
        self.assertEqual(Ruling(Action.DISCARD, "rule network"), self.answer(self.rules("discard", "discard")))

    def test_what_loses_nothing(self) -> None:
        """Held, accepted and put off mail is not lost: these stand."""
        for last in ("accept", "hold"):
            self.assertEqual(Ruling(Action(last), "rule network"), self.answer(self.rules("accept", last)))
        self.assertEqual("4.7.1", self.answer(self.rules("accept", "defer")).reply.enhanced)

    def test_other_conditions(self) -> None:
        """A rule that could not match whatever the name is, or stands behind, makes no doubt."""
        partner = AccessRule("p", "accept", "rcpt", client_name=("partner.example",), sender=("partner.example",))
        no = AccessRule("no", "reject", "rcpt", client=(ip_network("192.0.2.0/24"),))
        for rules, sender, code in (
            ((partner, no), "s@a.org", 550),
            ((partner, no), "s@partner.example", 450),
            ((no, partner), "s@partner.example", 550),
        ):
            error = self.answer(RuleJudge(Rules(rules, HOME), FakeLog()), sender=sender)
            self.assertEqual(code, error.reply.code, (rules, sender))

    def test_those_behind(self) -> None:
        """A list or a policy that would not have been asked had the rule matched: what it refuses for good is put off."""
        soft = transient("4.7.1", "Later")
        network = {"client": "198.51.100.9"}  # the last rule is not for him
        for answer, wanted in (
            (NO, NO_NAME),
            (Action.DISCARD, NO_NAME),
            (Ruling(Action.DISCARD, "x"), NO_NAME),
            (soft, soft),
            (Action.HOLD, Action.HOLD),
            (None, None),
        ):
            for late in (False, True):
                behind = FakePolicy(rcpt=(lambda answer=answer: succeed(answer)) if late else answer)
                told = facts(client_name="unknown", client_name_failed=True, **network)
                verdict = Judges([self.rules("accept", "reject"), behind]).judge("rcpt", told)
                verdict = self.successResultOf(verdict) if late else verdict
                reply = verdict.reply if isinstance(verdict, MailError) and wanted is NO_NAME else verdict
                self.assertEqual(wanted, reply, (answer, late))
                self.assertEqual(1, len(behind.asked))

    def test_those_behind_raise(self) -> None:
        """Raised or failed is answered; a bug stays a bug."""
        told = facts(client_name="unknown", client_name_failed=True, client="198.51.100.9")
        for answer in (Failure(NO), lambda: fail(NO)):
            verdict = Judges([self.rules("accept", "reject"), FakePolicy(rcpt=answer)]).judge("rcpt", told)
            verdict = self.successResultOf(verdict) if isinstance(verdict, Deferred) else verdict
            self.assertEqual(NO_NAME, verdict.reply)
        late = Judges([self.rules("accept", "reject"), FakePolicy(rcpt=lambda: fail(ZeroDivisionError()))])
        self.failureResultOf(late.judge("rcpt", told), ZeroDivisionError)
        self.assertRaises(
            ZeroDivisionError,
            Judges([self.rules("accept", "reject"), FakePolicy(rcpt=ZeroDivisionError())]).judge,
            "rcpt",
            told,
        )

    def test_no_doubt_no_mark(self) -> None:
        """IN_DOUBT is said only where a rule that lets by was passed over for want of a name."""
        told: dict[str, Any] = {"client": "198.51.100.9", "client_name": "unknown"}
        self.assertIs(IN_DOUBT, self.rules("accept", "reject").judge("rcpt", facts(client_name_failed=True, **told)))
        self.assertIsNone(self.rules("accept", "reject").judge("rcpt", facts(**told)))
        self.assertIsNone(self.rules("reject", "reject").judge("rcpt", facts(client_name_failed=True, **told)))
