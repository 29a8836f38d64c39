"""Who is asked about a client and its mail: the operator's rules, then an embedder's policy, one after the other.

`mta.interfaces.IPolicy`, docs/embedding.md.  The judges of a stage are asked in order, the first that answers anything but
None has decided, and nobody is asked behind it.  An answer may be a value, a Deferred or a coroutine; as long as all of
them are values no Deferred is made.  What a judge raises is the caller's to turn into 451: it is never a yes.

No mail is lost because the DNS does not answer.  Where the client's name could not be looked up, 450 4.7.25 takes the place
of every end that cannot be undone (refused for good, thrown away) if the rule that decides asks for the name, or if a rule
in front that does, and whose other conditions hold, might have let the mail by (accept, hold, defer) and so kept the
one that decides, a rule or a judge behind the rules, from being asked.  Whatever keeps the mail stands: accept, hold, defer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import iscoroutine
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.envelope import Action, Ruling
from mta.interfaces import IEventLog, IPolicy
from mta.receive.rules import Kind, Rule, Rules
from mta.status import MailError, Reply

__all__ = ["IN_DOUBT", "NO_NAME", "STAGES", "Judges", "RuleJudge"]

STAGES: Final = frozenset({"connect", "helo", "auth", "starttls", "mail", "rcpt", "data", "end"})

NO_NAME: Final = Reply(450, "4.7.25", "Your host name cannot be looked up now, try again later")  # RFC 7372 3.3

IN_DOUBT: Final = object()  # a judge's answer: nothing to say, but it might have let this mail by

_LETS_BY: Final = frozenset({Kind.ACCEPT, Kind.HOLD, Kind.DEFER})
_ENDS: Final = frozenset({Kind.REJECT, Kind.DISCARD})  # for good
_ACTIONS: Final = {Kind.ACCEPT: Action.ACCEPT, Kind.HOLD: Action.HOLD, Kind.DISCARD: Action.DISCARD}


class Judges:
    """The chain.  stages: at which anybody is asked.

    A judge with an attribute `stages` (a set of their names) is asked at these alone, any other at all of them.
    """

    __slots__ = ("_at", "stages")

    def __init__(self, judges: Iterable[IPolicy]) -> None:
        at: dict[str, list[IPolicy]] = {}
        for judge in judges:
            for stage in getattr(judge, "stages", STAGES):
                at.setdefault(stage, []).append(judge)
        self._at = {stage: tuple(asked) for stage, asked in at.items()}
        self.stages = frozenset(self._at)

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
        """The first answer but None, or a Deferred of it."""
        return _ask(self._at.get(stage, ()), stage, facts)


def _ask(judges: tuple[IPolicy, ...], stage: str, facts: Mapping[str, Any]) -> Any:
    for number, judge in enumerate(judges, 1):
        answer = judge.judge(stage, facts)
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        if isinstance(answer, Deferred):
            return answer.addCallback(_answered, judges[number:], stage, facts)
        if answer is IN_DOUBT:
            return _ask_in_doubt(judges[number:], stage, facts)
        if answer is not None:
            return _value(answer)
    return None


def _answered(answer: Any, judges: tuple[IPolicy, ...], stage: str, facts: Mapping[str, Any]) -> Any:
    """Who answers late is waited for: those behind him are asked only when he has nothing to say."""
    return _ask(judges, stage, facts) if answer is None else answer


def _ask_in_doubt(judges: tuple[IPolicy, ...], stage: str, facts: Mapping[str, Any]) -> Any:
    """Those behind who might not have been asked: what they refuse for good is put off."""
    try:
        answer = _ask(judges, stage, facts)
    except MailError as error:
        return _put_off(error)
    return answer.addBoth(_put_off) if isinstance(answer, Deferred) else _put_off(answer)


def _put_off(answer: Any) -> Any:
    verdict = answer.value if isinstance(answer, Failure) and isinstance(answer.value, MailError) else answer
    if isinstance(verdict, MailError):
        return MailError(NO_NAME, verdict.reason or str(verdict.reply)) if verdict.reply.is_permanent else verdict
    ruling = Ruling(verdict, "policy") if isinstance(verdict, Action) else verdict
    if isinstance(ruling, Ruling) and ruling.action is Action.DISCARD:
        return MailError(NO_NAME, ruling.reason)
    return verdict


def _value(answer: Any) -> Any:
    """A failure that was answered is one that was raised."""
    if isinstance(answer, Failure):
        answer.raiseException()
    return answer


@implementer(IPolicy)
class RuleJudge:
    """[[access.rule]].  Each rule that matches has its line in the log."""

    __slots__ = ("_log", "_rules", "stages")

    def __init__(self, rules: Rules, log: IEventLog) -> None:
        self._rules = rules
        self._log = log
        self.stages = rules.stages

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
        """See IPolicy; IN_DOUBT where no rule matches, and one that lets by would, for all we know."""
        for rule in self._rules.matching(stage, facts):
            self._log.event("rule", "", _told(rule, stage, facts))
            if rule.kind is not Kind.WARN:
                return _answer(rule, rule.kind in _ENDS and self._in_doubt(stage, facts, rule))
        return IN_DOUBT if self._passed_over(stage, facts, None) else None

    def _in_doubt(self, stage: str, facts: Mapping[str, Any], rule: Rule) -> bool:
        return facts["client_name_failed"] and (rule.asks_name or self._passed_over(stage, facts, rule))

    def _passed_over(self, stage: str, facts: Mapping[str, Any], decides: Rule | None) -> bool:
        """A rule in front of the one that decides would let this mail by if the client has the right name."""
        if not facts["client_name_failed"]:
            return False
        return any(rule.kind in _LETS_BY for rule in self._rules.but_for_the_name(stage, facts, decides))


def _answer(rule: Rule, in_doubt: bool) -> MailError | Ruling:
    """in_doubt: see the head of the file."""
    why, action = f"rule {rule.name}", _ACTIONS.get(rule.kind)
    if in_doubt:
        return MailError(NO_NAME, why)
    return MailError(rule.reply, why) if action is None else Ruling(action, why)


def _told(rule: Rule, stage: str, facts: Mapping[str, Any]) -> dict[str, object]:
    return {
        "rule": rule.name,
        "action": rule.kind.value,
        "stage": stage,
        "client": facts["client"],
        "client_name": facts["client_name"] or None,
        "helo": facts["helo"] or None,
        "account": facts["account"] or None,
        "from": facts.get("sender"),
        "to": facts.get("recipient"),
    }
