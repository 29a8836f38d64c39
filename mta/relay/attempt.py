"""One job on its way through the hosts of a next hop until every recipient has its answer for this time.

RFC 5321 4.2, 5.1.  A failure of the connection goes on with the next address, a reply settles the recipient it speaks of.
A kept connection that turns out dead costs nothing: the same address again, fresh, once, with no strike and nothing
noted (docs/tls.md).  After the final dot has left and no reply came nobody knows whether the message was taken (RFC 1047):
that is deferred and never repeated in the same attempt.  An attempt settles exactly once, whatever happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mta.config.settings import Handover
from mta.envelope import Flag, Job, Kind, Outcome, Settlement, Target
from mta.interfaces import IEventLog, IHandover
from mta.relay.connection import Conduct
from mta.relay.destination import Fault, Plan, Trouble, where
from mta.relay.handover import ReuseKey, Verdict
from mta.relay.session import Session
from mta.smtp import event
from mta.smtp.client import Transaction
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Level, Required

__all__ = ["Attempt", "Way", "Ways", "bug", "settle_all"]

KEY_FLAGS: Final = Flag.REQUIRETLS | Flag.TLS_REQUIRED_NO


@attrs.frozen(slots=True)
class Way:
    """What all jobs of one destination have in common."""

    route: str
    next_hop: str
    level: Level


class Ways:
    """What the attempts of one relay share; remembers requirement and reuse key of each way to each address."""

    _log = Logger()

    def __init__(
        self, conduct: Conduct, settings: Handover, sources: Mapping[int, str], handover: IHandover, log: IEventLog
    ) -> None:
        """sources: our own address for IPv4 (4) and IPv6 (6), where one is set."""
        self.conduct = conduct
        self.settings = settings
        self.events = log
        self.stopping = False
        self._sources = sources
        self._handover = handover
        self._known: dict[tuple[Way, Target, int], tuple[Required, ReuseKey]] = {}

    def source(self, target: Target) -> str:
        """The address to connect from, "" for any."""
        return self._sources.get(6 if ":" in target.address else 4, "")

    def demands(self, way: Way, target: Target, flags: int) -> tuple[Required, ReuseKey]:
        """What a delivery by this way to this address is owed, and with which others it may share a connection."""
        known = self._known.get((way, target, flags))
        if known is None:
            names = (target.name,)
            required = Required(way.level, target.name, target.address, target.port, way.next_hop, names)
            key = ReuseKey.of(required, route=way.route, source=self.source(target), hello=self.conduct.hello, flags=flags)
            if len(self._known) >= 1000:
                self._known.clear()
            known = self._known[way, target, flags] = required, key
        return known

    def verdict(self, session: Session) -> tuple[Verdict, str]:
        """The policy's word on a connection, asked once: it is pure.  An exception means QUIT."""
        if session.verdict is None:
            try:
                session.verdict = self._handover.verdict(session.required, session.achieved)
            except Exception:
                self._log.failure("the hand-over policy failed")
                session.verdict = Verdict.QUIT, "policy-failed"
        return session.verdict


class Attempt:
    """The owner of one session after another, until `done` fires."""

    _log = Logger()
    __slots__ = ("_done", "_flags", "_fresh", "_job", "_name", "_plan", "_sent", "_step", "_transaction", "_way", "_ways")

    def __init__(self, ways: Ways, way: Way, job: Job, name: str, done: Deferred[Settlement]) -> None:
        """name: the message's id as people see it."""
        message = job.message
        self._ways = ways
        self._way = way
        self._job = job
        self._name = name
        self._done = done
        self._transaction = Transaction(
            message.sender, tuple([claim.address for claim in job.claims]), message.size, message.flags
        )
        self._flags = message.flags & KEY_FLAGS
        self._fresh = False  # a kept connection was stale: no other is tried
        self._sent = 0.0

    def begin(self, plan: Plan) -> None:
        """Set out."""
        self._plan = plan
        self._go()

    def _go(self) -> None:
        """To the next address; a bug on the way defers the mail and is told to the log."""
        try:
            self._next()
        except Exception as error:
            self._log.failure("a delivery for {dest} failed to start", dest=self._job.dest)
            self._done.callback(settle_all(self._job, bug(error)))

    def _next(self) -> None:
        """To the next address, on a kept connection or a new one; or settle."""
        ways = self._ways
        step = self._plan.step(ways.conduct.reactor.seconds())
        if step is None or ways.stopping:
            self._settle_failed()
            return
        self._step = step
        required, key = ways.demands(self._way, step.target, self._flags)
        if not self._fresh:
            session = ways.conduct.pool.acquire(key, self._transaction)
            if session is not None:
                self._pick_up(session)
                return
        target = step.target
        Session(ways.conduct, step, required, key, self).connect(target.address, target.port, ways.source(target))

    def _pick_up(self, session: Session) -> None:
        if not session.verified_now():  # what it showed has expired since (docs/tls.md)
            session.quit()
            self._go()
            return
        test = self._ways.settings.rset_test
        idle = self._now() - session.idle_since
        self._transact(session, test == "always" or not session.clean or (test == "idle" and idle > 1))

    def _transact(self, session: Session, rset: bool) -> None:
        self._sent = self._now()
        session.transact(self, self._transaction, self._job, rset)

    def _now(self) -> float:
        now: float = self._ways.conduct.reactor.seconds()
        return now

    # ---- what sessions tell

    def ready(self, session: Session) -> None:
        """A new connection may be used."""
        reply = session.unfit(self._transaction)
        if reply is None:
            self._transact(session, rset=False)
            return
        verdict = self._release(session, accepted=True)
        self._settle([reply] * len(self._job.claims), Scope.MESSAGE, session, verdict)

    def transacted(self, session: Session, done: event.Transacted) -> None:
        """Every recipient has its reply."""
        taken = done.final is not None and done.final.is_positive
        if session.uses > 1:
            if not taken and not self._fresh and any(reply.code == 503 for reply in done.replies):
                session.quit()  # out of step: as good as dead
                self._again_fresh(session)
                return
            self._ways.conduct.pool.fine(session.key)
        elif session.achieved.version:
            self._plan.encrypted(self._step, self._now())
        replies: Sequence[Reply] = done.replies
        if not session.achieved.version and self._way.level is Level.MAY:
            replies = [_told_without_tls(reply) for reply in replies]
        verdict = self._release(session, taken or any(not 400 <= reply.code < 500 for reply in replies))
        whole = (done.final is not None and not taken) or (done.mail is not None and not done.mail.is_positive)
        self._settle(replies, Scope.MESSAGE if whole else Scope.RECIPIENT, session, verdict)

    def failed(self, session: Session, fault: Fault) -> None:
        """The connection came to nothing."""
        if fault.trouble is Trouble.BODY:
            self._settle([fault.reply] * len(self._job.claims), Scope.MESSAGE, session, ("quit", fault.trouble.value))
        elif session.uses > 1 and not self._fresh and not fault.unknown:
            self._again_fresh(session)
        elif self._ways.stopping and not session.uses:  # it was we who gave it up: no fault of anybody's
            self._settle_stopped()
        else:
            self._note(fault)
            self._plan.failed(self._step, fault, self._now())
            if fault.unknown:
                self._settle([fault.reply] * len(self._job.claims), Scope.SESSION, session, ("quit", fault.trouble.value))
            else:
                self._go()

    def _again_fresh(self, session: Session) -> None:
        self._ways.conduct.pool.stale(session.key)
        self._fresh = True
        self._go()

    def _note(self, fault: Fault) -> None:
        """A TLS fault is logged by itself: it may be mended by the next address and then be forgotten."""
        if fault.trouble.is_tls:
            fields = {
                "relay": where(self._step.target),
                "class": fault.trouble.value,
                "level": self._way.level.value,
                "reason": fault.reply.text,
            }
            self._ways.events.event("tls-fault", self._name, fields)

    # ---- the end

    def _release(self, session: Session, accepted: bool) -> tuple[str, str]:
        """Keep the connection for the next delivery, or say QUIT (docs/tls.md)."""
        if not session.usable:  # the peer said more than it was asked, or closes: not a word more
            session.drop()
            return "quit", "not-usable"
        if not accepted:  # every recipient got 4yz: other messages of ours would get it too (Exim's loop rule)
            session.quit()
            return "quit", "all-deferred"
        verdict, why = self._ways.verdict(session)
        if verdict is Verdict.KEEP:
            refusal = self._ways.conduct.pool.release(session)
            if not refusal:
                return "keep", why
            why = refusal
        session.quit()
        return "quit", why

    def _settle(self, replies: Sequence[Reply], scope: Scope, session: Session, verdict: tuple[str, str]) -> None:
        """Each recipient's outcome from its reply."""
        facts = self._facts(session, verdict)
        connect = session.ready_at - session.began if session.uses <= 1 and session.ready_at else 0.0
        transfer = self._now() - self._sent if self._sent else 0.0
        self._done.callback(
            Settlement(
                tuple(
                    [
                        Outcome(claim, _kind(reply), reply, scope, None, None, facts, connect, transfer)
                        for claim, reply in zip(self._job.claims, replies, strict=True)
                    ]
                )
            )
        )

    def _settle_failed(self) -> None:
        """No address is left, or the service stops."""
        plan, level = self._plan, self._way.level.value
        if not plan.tried:
            self._settle_stopped()
            return
        error = plan.verdict()
        facts = {"relay": where(self._step.target), "tls": "none", "level": level, "reason": error.reason}
        self._done.callback(settle_all(self._job, error, None, facts))

    def _settle_stopped(self) -> None:
        reply = Reply(451, "4.3.2", "The service stops")
        self._done.callback(settle_all(self._job, MailError(reply, "stopping", Scope.SESSION), Kind.GIVEN_BACK))

    def _facts(self, session: Session, verdict: tuple[str, str]) -> dict[str, object]:
        """For the log line (docs/operators.md, "The log")."""
        achieved = session.achieved
        facts: dict[str, object] = {
            "relay": where(session.step.target),
            "tls": ("kept" if session.uses > 1 else "new") if achieved.version else "none",
            "level": session.required.level.value,
            "conn_use": session.uses,
            "handover": verdict[0],
            "handover_why": verdict[1],
        }
        if achieved.version:
            facts["tls_version"] = achieved.version
            facts["cipher"] = achieved.cipher
            facts["verified"] = achieved.verified
        elif session.tls_why:
            facts["tls_why"] = session.tls_why
        return facts


def bug(error: BaseException | None) -> MailError:
    """Something of ours failed: the mail is deferred."""
    return MailError(Reply(451, "4.3.0", "Local error"), repr(error), Scope.MESSAGE)


def _told_without_tls(reply: Reply) -> Reply:
    """530 (RFC 3207 4) says that TLS is wanted, and not that the mail is not: TLS will be tried again."""
    return Reply(451, "4.7.5", f"TLS is wanted: {reply}") if reply.code == 530 else reply


def _kind(reply: Reply) -> Kind:
    if reply.is_positive:
        return Kind.DELIVERED
    return Kind.FAILED if reply.is_permanent else Kind.DEFERRED


def settle_all(job: Job, error: MailError, kind: Kind | None = None, facts: Mapping[str, object] | None = None) -> Settlement:
    """One outcome for all recipients; which, the error's reply decides unless `kind` is given."""
    kind = kind or _kind(error.reply)
    facts = facts if facts is not None else {"reason": error.reason}
    return Settlement(
        tuple(Outcome(claim, kind, error.reply, error.scope, retry_after=error.retry_after, facts=facts) for claim in job.claims)
    )
