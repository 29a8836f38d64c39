"""How an attempt tells what it came to: outcomes out of replies, and the facts for the log's delivery line.

RFC 5321 4.2.1 (what a reply means), docs/operators.md "The log".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mta.envelope import NO_FACTS, Job, Kind, Outcome, Settlement
from mta.relay.destination import where
from mta.relay.fit import Fit
from mta.smtp.command import BINARYMIME
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Achieved, Level, Required

if TYPE_CHECKING:
    from mta.relay.session import Session

__all__ = ["bug", "fit_facts", "kind_of", "left_out", "session_facts", "settle_all", "told_without_tls", "verified"]

_NOT_YET = Reply(451, "4.5.3", "More recipients than the server takes in one transaction, not tried yet")


def kind_of(reply: Reply, owed: int | bool = 0) -> Kind:
    """What becomes of a recipient that was answered so.  owed: where its sender is to hear from us of a success."""
    if reply.is_positive:
        return Kind.CONFIRMED if owed else Kind.DELIVERED
    return Kind.FAILED if reply.is_permanent else Kind.DEFERRED


def settle_all(job: Job, error: MailError, kind: Kind | None = None, facts: Mapping[str, object] = NO_FACTS) -> Settlement:
    """One outcome for all recipients; which, the error's reply decides unless `kind` is given."""
    kind = kind or kind_of(error.reply)
    facts = {**facts, "reason": error.reason}
    return Settlement(
        tuple(Outcome(claim, kind, error.reply, error.scope, retry_after=error.retry_after, facts=facts) for claim in job.claims)
    )


def left_out(job: Job, fit: Fit, scope: Scope, facts: Mapping[str, object]) -> list[Outcome]:
    """Of the recipients that were in no transaction: those whom this server never takes, and those whose turn comes at once."""
    inside = fit.places if fit.places is not None else range(len(job.claims))
    outcomes = []
    for place, claim in enumerate(job.claims):
        if place in fit.refused:
            outcomes.append(Outcome(claim, Kind.FAILED, fit.refused[place], scope, facts=facts))
        elif place not in inside:
            outcomes.append(Outcome(claim, Kind.GIVEN_BACK, _NOT_YET, scope, retry_after=0.0, facts=facts))
    return outcomes


def fit_facts(fit: Fit) -> dict[str, object]:
    """What the delivery line says of the body."""
    facts: dict[str, object] = {"bdat": "yes"} if fit.transaction.flags & BINARYMIME else {}
    return {**facts, "converted": fit.converted} if fit.converted else facts


def bug(error: BaseException | None) -> MailError:
    """Something of ours failed: the mail is deferred."""
    return MailError(Reply(451, "4.3.0", "Local error"), repr(error), Scope.MESSAGE)


def told_without_tls(reply: Reply) -> Reply:
    """530 (RFC 3207 4) says that TLS is wanted, and not that the mail is not: TLS will be tried again."""
    return Reply(451, "4.7.5", f"TLS is wanted: {reply}") if reply.code == 530 else reply


def session_facts(session: Session, verdict: tuple[str, str]) -> dict[str, object]:
    """What the delivery line says of the connection."""
    achieved, required = session.achieved, session.required
    told = session.told
    if told is None or told[0] is not required or told[1] is not achieved:  # a kept connection is told of again and again
        told = session.told = required, achieved, _lasting(session)
    facts = {
        **told[2],
        "tls": _tls(session),
        "conn_use": session.uses,
        "handover": verdict[0],
        "handover_why": verdict[1],
    }
    if achieved.resumed and facts["tls"] != "kept":
        facts["tls_resumed"] = "yes"
    return facts


def _lasting(session: Session) -> dict[str, object]:
    """What is the same for every delivery on it."""
    achieved, required = session.achieved, session.required
    facts: dict[str, object] = {
        "relay": where(session.step.target),
        "level": required.level.value,
        "origin": required.origin,
    }
    if achieved.version:
        facts["tls_version"] = achieved.version
        facts["cipher"] = achieved.cipher
        facts["verified"] = verified(required, achieved)
    elif session.tls_why:
        facts["tls_why"] = session.tls_why
    return facts


def _tls(session: Session) -> str:
    if not session.achieved.version:
        return "none"
    if session.restarted:
        return "restarted"
    return "kept" if session.kept else "new"


def verified(required: Required, achieved: Achieved) -> str:
    """What the certificate was worth, in Postfix's words; "half" for a TLSA match of a host that an insecure MX named."""
    pinned = required.tlsa or required.level is Level.FINGERPRINT
    if not pinned or not achieved.chain or achieved.match_error:
        return achieved.verified
    return "half" if required.half else "verified"
