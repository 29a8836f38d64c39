"""How an attempt tells what it came to: outcomes out of replies, and the facts for the log's delivery line.

RFC 5321 4.2.1 (what a reply means), docs/operators.md "The log".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mta.envelope import NO_FACTS, Job, Kind, Outcome, Settlement
from mta.relay.destination import where
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Achieved, Level, Required

if TYPE_CHECKING:
    from mta.relay.session import Session

__all__ = ["bug", "kind_of", "session_facts", "settle_all", "told_without_tls", "verified"]


def kind_of(reply: Reply, owed: int = 0) -> Kind:
    """What becomes of a recipient that was answered so.  owed: not 0 where its sender is to hear from us of a success."""
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


def bug(error: BaseException | None) -> MailError:
    """Something of ours failed: the mail is deferred."""
    return MailError(Reply(451, "4.3.0", "Local error"), repr(error), Scope.MESSAGE)


def told_without_tls(reply: Reply) -> Reply:
    """530 (RFC 3207 4) says that TLS is wanted, and not that the mail is not: TLS will be tried again."""
    return Reply(451, "4.7.5", f"TLS is wanted: {reply}") if reply.code == 530 else reply


def session_facts(session: Session, verdict: tuple[str, str]) -> dict[str, object]:
    """What the delivery line says of the connection."""
    achieved, required = session.achieved, session.required
    facts: dict[str, object] = {
        "relay": where(session.step.target),
        "tls": _tls(session),
        "level": required.level.value,
        "origin": required.origin,
        "conn_use": session.uses,
        "handover": verdict[0],
        "handover_why": verdict[1],
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
