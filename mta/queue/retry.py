"""When a recipient is tried again, and when it is given up (pure).

RFC 5321 4.5.4.1: after a transient failure the client waits, tries again and gives up after some days.  The delay begins
at `minimal_backoff`, doubles with every attempt up to `maximal_backoff` and is spread by up to 10 %, so that the mail of
one bad hour does not come back in step: 300, 600, 1200, 2400, 4000, 4000 ... seconds with the usual settings, never less:
who comes back to a greylister of 300 s after 299 is refused once more.  An agent that knows better says so with
`retry_after`.  The last attempt is made when the message expires; if that is deferred too, the recipient has failed.  A
bounce that is owed never expires: it is tried until it is stored; so is the report of a success.  All times are ms since
the epoch, `roll` is a random number in [0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

from mta.config.settings import Retry
from mta.envelope import BOUNCE, Claim, Kind, Outcome
from mta.status import Reply, Scope

__all__ = ["EXPIRED", "GATHER", "HOURLY", "NEVER_TRIED", "TURN", "UNTRIED", "backoff", "conclude", "dead_for", "given_up"]

EXPIRED = "message has expired"
NEVER_TRIED = f"451 4.4.7 {EXPIRED}"  # the reply told of a recipient that expired before any attempt (RFC 3463 3.5)
GATHER = 2_000  # ms: a failed recipient waits for its siblings, so that one bounce reports all of them
UNTRIED = 1_000  # ms: what an agent gives back is not offered to it again in the same breath
TURN = 100  # ms: nor before that when it said so itself; a rate loses nothing by that, see mta.rate.SLACK
HOURLY = 3_600_000  # ms: how often a destination is tried that has been dead for longer than mail lives
DOUBLINGS = 32  # more make no difference
Waits = Sequence[float]  # the ladder of a [[destination]]


def backoff(attempts: int, retry: Retry, roll: float, waits: Waits = ()) -> int:
    """ms to wait when an attempt has failed before which there were already `attempts` others.

    waits: seconds, one by one, in place of the doubling; the last one is repeated.
    """
    if waits:
        seconds: float = waits[min(attempts, len(waits) - 1)]
    else:
        seconds = min(retry.minimal_backoff * 2.0 ** min(attempts, DOUBLINGS), retry.maximal_backoff)
    return int(seconds * (1000 + 100 * roll))


def dead_for(fails: int, first_fail: int, now: int, retry: Retry, roll: float, waits: Waits = ()) -> int:
    """ms for which a dead destination is left alone; fails: how often it was found dead before."""
    if now - first_fail > retry.queue_lifetime * 1000:
        return HOURLY
    return backoff(fails, retry, roll, waits)


def conclude(outcome: Outcome, expires: int, now: int, retry: Retry, roll: float, waits: Waits = ()) -> Outcome:
    """What finally becomes of a claim: the agent's outcome with its `due`, or FAILED where time has run out."""
    kind = outcome.kind
    if kind is Kind.DELIVERED:
        return outcome
    owed = outcome.claim.dest == BOUNCE
    if kind is Kind.GIVEN_BACK:
        return _changed(outcome, kind, outcome.reply, now + _until_turn(outcome.retry_after))
    if not owed and (kind is Kind.FAILED or kind is Kind.CONFIRMED):
        return _changed(outcome, kind, outcome.reply, now + GATHER)
    if owed:  # "failed" would put it where it is: it stays owed and is tried again
        return _changed(outcome, Kind.DEFERRED, outcome.reply, now + _delay(outcome, retry, roll))
    if expires <= now:
        return _changed(outcome, Kind.FAILED, _expired(outcome.reply), now + GATHER)
    due = outcome.due if outcome.due is not None else now + _delay(outcome, retry, roll, waits)
    return _changed(outcome, kind, outcome.reply, min(due, expires))


def given_up(claim: Claim) -> Outcome:
    """Of a recipient that is not tried any more: what was said last stays the reason."""
    said = claim.last_reply or NEVER_TRIED
    code, _, text = said.partition(" ")
    reply = Reply(int(code), "", text) if code.isdecimal() and code.isascii() else Reply(451, "4.4.7", said)
    return Outcome(claim, Kind.FAILED, reply, Scope.MESSAGE, facts={"reason": EXPIRED}, host=claim.last_host)


def _delay(outcome: Outcome, retry: Retry, roll: float, waits: Waits = ()) -> int:
    return _wished(outcome, backoff(outcome.claim.attempts, retry, roll, waits))


def _until_turn(seconds: float | None) -> int:
    """Who comes a moment before his turn is given back once more: rounded up, and `now` was rounded down."""
    return UNTRIED if seconds is None else max(int(seconds * 1000) + 2, TURN)


def _wished(outcome: Outcome, usual: int) -> int:
    """The agent's wish; at least a second, for a wish of 0 would spin."""
    return usual if outcome.retry_after is None else max(int(outcome.retry_after * 1000), UNTRIED)


def _expired(reply: Reply) -> Reply:
    """RFC 3463 3.5, X.4.7: the code of the actual problem is kept where there is one."""
    return Reply(reply.code, reply.enhanced or "4.4.7", f"{EXPIRED}; the last attempt said: {reply.text}")


def _changed(outcome: Outcome, kind: Kind, reply: Reply, due: int) -> Outcome:
    return Outcome(
        outcome.claim,
        kind,
        reply,
        outcome.scope,
        due,
        outcome.retry_after,
        outcome.facts,
        outcome.connect,
        outcome.transfer,
        outcome.host,
    )
