"""One job on its way through the hosts of a next hop until every recipient has its answer for this time.

RFC 5321 4.2, 5.1.  A failure of the connection goes on with the next address, a reply settles the recipient it speaks of.
A kept connection that turns out dead costs nothing: the same address again, fresh, once, with no strike and nothing
noted (docs/tls.md).  After the final dot has left and no reply came nobody knows whether the message was taken (RFC 1047):
that is deferred and never repeated in the same attempt.  What a server takes that offers no DSN is confirmed to a sender
who asked for it (RFC 3461 5.2.2), and so is what he wants traced (RFC 2852 4.1.4).  A message that a server may not take as it
is, is looked at first, while the connection waits (fit.py).  An attempt settles exactly once, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.envelope import Job, Kind, Notify, Outcome, Settlement
from mta.relay.destination import Fault, Plan, Trouble, where
from mta.relay.fit import Fit, by_value, fitted, is_plain, is_traced, wants_look, without_receiver
from mta.relay.handover import Verdict
from mta.relay.look import look
from mta.relay.outcome import bug, fit_facts, kind_of, left_out, session_facts, settle_all, told_without_tls
from mta.relay.pool import Pool
from mta.relay.session import Session
from mta.relay.site import Site
from mta.relay.way import Ways
from mta.smtp import event
from mta.smtp.client import Transaction
from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.survey import Findings
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Level

__all__ = ["Attempt"]

_SUCCESS = int(Notify.SUCCESS)
_NEVER = int(Notify.NEVER)


class Attempt:
    """The owner of one session after another, until `done` fires."""

    _log: ClassVar[Logger] = Logger()
    __slots__ = (
        "_done",
        "_findings",
        "_fit",
        "_fresh",
        "_job",
        "_looking",
        "_name_of",
        "_now",
        "_ours",
        "_plan",
        "_sent",
        "_site",
        "_step",
        "_traced",
        "_transaction",
        "_waiting",
        "_ways",
    )

    def __init__(self, ways: Ways, job: Job, name_of: Callable[[int], str], done: Deferred[Settlement]) -> None:
        """name_of: a message's id as people see it."""
        message = job.message
        self._ways = ways
        self._now: Callable[[], float] = ways.conduct.reactor.seconds
        self._job = job
        self._name_of = name_of
        self._done = done
        self._transaction = Transaction(
            message.sender,
            tuple([claim.address for claim in job.claims]),
            message.size,
            message.flags,
            message.envid,
            tuple([(claim.notify, claim.orcpt) for claim in job.claims]),
            message.priority,
        )
        self._fit = Fit(self._transaction)  # as the server has got it that was asked last
        self._findings: Findings | None = None
        self._looking: Deferred[Findings] | None = None
        self._waiting: tuple[Session, bool] | None = None  # for what is found, and whether with RSET
        self._ours = 0  # of Notify: what the server will not tell the sender, so that we must
        self._traced = False  # he wants to hear that it went on
        self._fresh = False  # a kept connection was stale: no other is tried
        self._sent = 0.0

    def begin(self, plan: Plan, site: Site | None = None) -> None:
        """Set out, or give the mail back where the site's rate does not let it go now."""
        self._plan = plan
        self._site = site
        if site is not None and (wait := site.wait(self._job.dest, self._now())):
            self._settle_over(wait)
        else:
            self._go()

    def _go(self) -> None:
        """To the next address; a bug on the way defers the mail and is told to the log."""
        try:
            self._next()
        except Exception as error:
            self._log.failure("a delivery for {dest} failed to start", dest=self._job.dest)
            self._finish(settle_all(self._job, bug(error)))

    def _next(self) -> None:
        """To the next address, on a kept connection or a new one; or settle."""
        ways = self._ways
        pool = ways.conduct.pool
        step = self._plan.step(self._now())
        if step is None:
            self._settle_failed()
            return
        if pool.stopping:
            self._settle_stopped()
            return
        self._step = step
        if not self._fresh and self._pick_up(pool):
            return
        target, site = step.target, self._site
        if site is not None and (away := site.delay(self._job.dest, self._now())):
            self._settle_failed() if self._plan.tried else self._settle_over(away)
            return
        try:
            session = ways.session(step, self)
        except MailError as error:  # our own certificate or ciphers: it is never tried without them
            self._lost(Fault(Trouble.T0, error.reply))
        else:
            if site is not None:
                site.joined(session)
            session.connect(target.address, target.port, ways.source(target))

    def _pick_up(self, pool: Pool) -> bool:
        """On a kept connection, if there is one that gives what is owed today (docs/tls.md)."""
        candidate = self._step.candidate
        while (session := pool.acquire(candidate.key, self._transaction)) is not None:
            session.kept = True
            try:
                if not session.falls_short(candidate.required):
                    self._ways.conduct.tally.reused += 1
                    self._resume(session)
                    return True
            except Exception:
                session.quit()  # it is in nobody's hands
                raise
            session.quit()
        return False

    def _resume(self, session: Session) -> None:
        if session.restarts:
            session.restart(self)
            return
        test = self._ways.settings.rset_test
        rset = test == "always" or not session.clean or (test == "idle" and self._now() - session.idle_since > 1)
        self._transact(session, rset)

    def _transact(self, session: Session, rset: bool) -> None:
        """The transaction, as this server takes it."""
        transaction, extensions, message = self._transaction, session.machine.extensions, self._job.message
        if message.deliver_by:
            transaction = attrs.evolve(transaction, by=by_value(message, int(self._now() * 1000)))
        if is_plain(transaction, extensions):
            self._send(session, Fit(transaction), rset)
            return
        session.hold(self)
        if "SMTPUTF8" not in extensions and not message.prefix.isascii():
            self._job = attrs.evolve(self._job, message=attrs.evolve(message, prefix=without_receiver(message.prefix)))
        eightbit = self._ways.eightbit
        if self._findings is None and wants_look(transaction, extensions, eightbit):
            self._waiting = session, rset
            self._look()
            return
        fit = fitted(transaction, extensions, self._findings, eightbit)
        if isinstance(fit, Reply):
            self._refuse(session, fit)
        else:
            self._send(session, fit, rset)

    def _look(self) -> None:
        """Once in an attempt, however many servers want it; who waits for it then may be another than now."""
        if self._looking is None:
            self._looking = Deferred.fromCoroutine(look(self._job))
            self._looking.addCallbacks(self._looked, self._unseen)

    def _looked(self, findings: Findings) -> None:
        self._findings = findings
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        try:
            self._transact(*waiting)
        except Exception as error:
            self._log.failure("a delivery for {dest} failed to start", dest=self._job.dest)
            waiting[0].quit()
            self._finish(settle_all(self._job, bug(error)))

    def _unseen(self, failure: Failure) -> None:
        """The body cannot be read: nobody needs to be asked for more."""
        self._looking = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._refuse(waiting[0], Reply(451, "4.3.0", f"The body cannot be read: {failure.value}"))

    def _send(self, session: Session, fit: Fit, rset: bool) -> None:
        self._fit = fit
        self._sent = self._now()
        theirs = "DSN" in session.machine.extensions or not self._job.message.sender  # RFC 3461 5.2.1, 5.2
        self._ours = 0 if theirs else _SUCCESS
        self._traced = is_traced(self._job.message, session.machine.extensions)
        session.transact(self, fit.transaction, self._job, rset, None if fit.plan is None else Conversion(fit.plan))

    # ---- what sessions tell

    def ready(self, session: Session) -> None:
        """A new connection may be used."""
        reply = session.unfit(self._transaction)
        if reply is None:
            self._transact(session, rset=False)
            return
        if reply.enhanced == "5.7.30":  # RFC 8689 4.2.1: another host may support REQUIRETLS
            session.quit()
            self._lost(Fault(Trouble.REQUIRETLS, reply))
            return
        self._refuse(session, reply)

    def _refuse(self, session: Session, reply: Reply) -> None:
        """The message cannot go to this server, nor to others; the connection is still good."""
        self._fit = Fit(self._transaction)
        verdict = self._release(session, accepted=True)
        self._settle([reply] * len(self._job.claims), Scope.MESSAGE, session, verdict)

    def transacted(self, session: Session, done: event.Transacted) -> None:
        """Every recipient has its reply."""
        taken = done.final is not None and done.final.is_positive
        if session.kept:
            if not taken and any(reply.code == 503 for reply in done.replies):
                session.quit()  # out of step: as good as dead
                self._again_fresh(session)
                return
            self._ways.conduct.pool.fine(session.key)
        elif session.achieved.version:
            self._plan.encrypted(self._step, self._now())
        replies: Sequence[Reply] = done.replies
        if not session.achieved.version and session.required.level is Level.MAY:
            if done.mail is not None and done.mail.code == 530 and self._plan.wanted(self._step):
                session.quit()
                self._fresh = True
                self._go()
                return
            replies = [told_without_tls(reply) for reply in replies]
        verdict = self._release(session, taken or any(not 400 <= reply.code < 500 for reply in replies))
        whole = (done.final is not None and not taken) or (done.mail is not None and not done.mail.is_positive)
        self._settle(replies, Scope.MESSAGE if whole else Scope.RECIPIENT, session, verdict, session.step.target.name)

    def failed(self, session: Session, fault: Fault) -> None:
        """The connection came to nothing."""
        self._waiting = None
        if fault.trouble is Trouble.BODY:
            self._settle_as(fault, Scope.MESSAGE, session)
        elif fault.unknown:
            self._note(fault)
            self._plan.failed(self._step, fault, self._now())
            self._settle_as(fault, Scope.SESSION, session)
        elif self._ways.conduct.pool.stopping and (session.kept or not session.uses):  # it was we who gave it up
            self._settle_stopped()
        elif session.misled:  # the same address again: with a full handshake it may do, and only then is it the host's fault
            self._note(fault)
            self._go()
        elif session.kept:
            self._again_fresh(session)
        else:
            self._lost(fault)

    def _lost(self, fault: Fault) -> None:
        """On to what follows."""
        self._note(fault)
        self._plan.failed(self._step, fault, self._now())
        self._go()

    def _again_fresh(self, session: Session) -> None:
        pool = self._ways.conduct.pool
        pool.stale(session.key)
        if session.takes_down:
            pool.learn(session.key, "stale")
        self._fresh = True
        self._go()

    def _note(self, fault: Fault) -> None:
        """A TLS fault is logged by itself: it may be mended by the next address and then be forgotten."""
        self._ways.conduct.tally.faults[fault.trouble.value] += 1
        if fault.trouble.is_tls:
            required = self._step.required
            fields = {
                "relay": where(self._step.target),
                "class": fault.trouble.value,
                "level": required.level.value,
                "origin": required.origin,
                "reason": fault.reply.text,
            }
            self._ways.events.event("tls-fault", self._name_of(self._job.message.id), fields)

    # ---- the end

    def _release(self, session: Session, accepted: bool) -> tuple[str, str]:
        """Keep the connection for the next delivery, or say QUIT (docs/tls.md)."""
        if not session.usable:  # the peer said more than it was asked, or closes: not a word more
            session.abandon()
            return "quit", "not-usable"
        if not accepted:  # every recipient got 4yz: other messages of ours would get it too (Exim's loop rule)
            session.quit()
            return "quit", "all-deferred"
        verdict, why = self._ways.verdict(session)
        pool, refusal = self._ways.conduct.pool, ""
        if verdict is Verdict.KEEP:
            refusal = pool.release(session)
            if not refusal:
                return "keep", why
        elif verdict is Verdict.CLEAR:
            refusal = pool.refusal(session, self._now())  # before, for QUIT is better said inside TLS
            if not refusal:
                session.take_down()
                return "clear", why
        session.quit()
        return "quit", refusal or why

    def _settle(
        self, replies: Sequence[Reply], scope: Scope, session: Session, verdict: tuple[str, str], host: str | None = None
    ) -> None:
        """Each recipient's outcome from its reply.  host: whose replies they are, None for ours."""
        self._ways.conduct.tally.verdicts[verdict[0]] += 1
        facts = session_facts(session, verdict)
        connect = session.ready_at - session.began if session.ready_at and not session.kept else 0.0
        transfer = self._now() - self._sent if self._sent else 0.0
        fit, claims = self._fit, self._job.claims
        facts |= fit_facts(fit)
        inside = claims if fit.places is None else [claims[place] for place in fit.places]
        outcomes = [
            Outcome(claim, kind_of(reply, self._owed(claim.notify)), reply, scope, None, None, facts, connect, transfer, host)
            for claim, reply in zip(inside, replies, strict=True)
        ]
        if fit.places is not None:
            outcomes += left_out(self._job, fit, scope, facts)
        self._finish(Settlement(tuple(outcomes)))

    def _owed(self, notify: int) -> bool:
        """Is a sender who wished so to hear from us that the server has taken it?"""
        return bool(notify & self._ours) or (self._traced and not notify & _NEVER)

    def _finish(self, settlement: Settlement) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        self._done.callback(settlement)

    def _settle_as(self, fault: Fault, scope: Scope, session: Session) -> None:
        """All that were in the transaction alike."""
        replies = [fault.reply] * len(self._fit.transaction.recipients)
        self._settle(replies, scope, session, ("quit", fault.trouble.value))

    def _settle_failed(self) -> None:
        """No address is left."""
        plan = self._plan
        blamed = plan.blamed
        facts = {"relay": where(blamed.target), "tls": "none", "level": blamed.required.level.value}
        self._finish(settle_all(self._job, plan.verdict(), None, {**facts, "origin": blamed.required.origin}))

    def _settle_over(self, wait: float) -> None:
        """A limit of the site: not tried, no attempt is counted."""
        reply = Reply(451, "4.4.5", "The limits of the site are reached, not tried")
        self._finish(settle_all(self._job, MailError(reply, "site-limit", Scope.SESSION, wait), Kind.GIVEN_BACK))

    def _settle_stopped(self) -> None:
        reply = Reply(451, "4.3.2", "The service stops")
        self._finish(settle_all(self._job, MailError(reply, "stopping", Scope.SESSION), Kind.GIVEN_BACK))
