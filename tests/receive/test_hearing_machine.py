"""Any judges, any answers, in any order and at any time: no message gets in that one of them has refused, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Action, Ruling
from mta.status import MailError, Reply, permanent, transient
from tests.receive.door import DoorCase, FakePolicy

STAGES = ("connect", "helo", "mail", "rcpt", "data", "end")
LINES = {
    "helo": b"EHLO client.example\r\n",
    "mail": b"MAIL FROM:<s@client.example>\r\n",
    "rcpt": b"RCPT TO:<user@example.org>\r\n",
    "data": b"DATA\r\n",
    "end": b"Subject: x\r\n\r\nbody\r\n.\r\n",
}
FINE = (None, Action.ACCEPT)
OF_MAIL = (Action.HOLD, Ruling(Action.DISCARD, "x"))
BAD = (
    permanent("5.7.1", "No"),
    transient("4.7.1", "No"),
    "yes",
    True,
    250,
    MailError(Reply(250, "2.0.0", "Ok")),
    ZeroDivisionError(),
)
ANSWER = st.sampled_from([*FINE, *FINE, *OF_MAIL, *BAD])
HOW = st.sampled_from(["value", "deferred", "coroutine", "never"])


class HearingMachineTests(SynchronousTestCase):
    """A whole message under a policy that answers anything."""

    @hypothesis_settings(deadline=None, max_examples=150)
    @given(st.fixed_dictionaries({stage: st.tuples(ANSWER, HOW) for stage in STAGES}))
    def test_no_open_door(self, answers: dict[str, tuple[Any, str]]) -> None:
        """It is stored, held or thrown away exactly as the answers say; each command has had one reply."""
        talk = _Talk("runTest")
        talk.setUp()
        try:
            talk.run_all(self, answers)
        finally:
            talk.tearDown()
            self.flushLoggedErrors(ZeroDivisionError)


class _Talk(DoorCase):
    def runTest(self) -> None:
        """Driven from outside."""

    def run_all(self, case: SynchronousTestCase, answers: dict[str, tuple[Any, str]]) -> None:
        waiting: list[tuple[Deferred[Any], Any]] = []
        self.begin(policy=FakePolicy(**{stage: _thinking(waiting, *answer) for stage, answer in answers.items()}))
        session, wire = self.connect()
        self._settle(waiting)
        for line in LINES.values():
            if wire.disconnecting:
                break
            wire.clear()
            session.dataReceived(line)
            self._settle(waiting)
            replies = [row for row in wire.value().decode().splitlines() if row[3:4] == " "]
            case.assertEqual(1, len(replies), (line, replies))
            if replies[0][0] not in "23":
                break
        wanted = _outcome(answers)
        case.assertEqual(1 if wanted in ("stored", "held") else 0, len(self.accept.accepted), wanted)
        case.assertEqual(wanted == "discarded", bool(self.log.named("discarded")))
        if wanted in ("stored", "held"):
            case.assertEqual(wanted == "held", bool(self.accept.accepted[0].hold))

    def _settle(self, waiting: list[tuple[Deferred[Any], Any]]) -> None:
        """Those who think have thought; who never answers has had his time."""
        while waiting:
            deferred, answer = waiting.pop()
            if answer is not _NEVER:
                deferred.callback(answer)
            else:
                self.clock.pump([1.0] * 302)


_NEVER = object()


def _thinking(waiting: list[tuple[Deferred[Any], Any]], answer: Any, how: str) -> Any:
    """An answer of FakePolicy."""

    def later() -> Deferred[Any]:
        waiting.append((Deferred(), _NEVER if how == "never" else answer))
        return waiting[-1][0]

    async def coroutine() -> Any:
        return await later()

    ways: dict[str, Callable[[], Any]] = {"deferred": later, "never": later, "coroutine": coroutine}
    if how == "value" or isinstance(answer, ZeroDivisionError):
        return answer
    return ways[how]


def _outcome(answers: dict[str, tuple[Any, str]]) -> str:
    """What the answers come to."""
    held = discarded = False
    for stage in STAGES:
        answer, how = answers[stage]
        if how == "never" and not isinstance(answer, ZeroDivisionError):
            return "refused"
        if any(answer is fine for fine in FINE):
            continue
        if any(answer is action for action in OF_MAIL) and stage not in ("connect", "helo"):
            held = held or answer is OF_MAIL[0]
            discarded = discarded or answer is OF_MAIL[1]
            continue
        return "refused"
    return "discarded" if discarded else "held" if held else "stored"
