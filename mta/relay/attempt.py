"""One job on its way through the hosts of a next hop until every recipient has its answer for this time.

RFC 5321 4.2, 5.1.  A failure of the connection goes on with the next address, a reply settles the recipient it speaks of.
A kept connection that turns out dead costs nothing: the same address again, fresh, once, with no strike and nothing
noted (docs/tls.md).  After the final dot has left and no reply came nobody knows whether the message was taken (RFC 1047):
that is deferred and never repeated in the same attempt.  What a server takes that offers no DSN is confirmed to a sender
who asked for it (RFC 3461 5.2.2).  An attempt settles exactly once, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mta.envelope import Job, Kind, Notify, Outcome, Settlement
from mta.relay.destination import Fault, Plan, Trouble, where
from mta.relay.handover import Verdict
from mta.relay.outcome import bug, kind_of, session_facts, settle_all, told_without_tls
from mta.relay.pool import Pool
from mta.relay.session import Session
from mta.relay.site import Site
from mta.relay.way import Ways
from mta.smtp import event
from mta.smtp.client import Transaction
from mta.status import MailError, Reply, Scope
from mta.tls.policy import Level

__all__ = ["Attempt"]

_SUCCESS = int(Notify.SUCCESS)


class Attempt:
    """The owner of one session after another, until `done` fires."""

    _log = Logger()
    __slots__ = ("_done", "_fresh", "_job", "_name", "_now", "_ours", "_plan", "_sent", "_site", "_step", "_transaction", "_ways")

    def __init__(self, ways: Ways, job: Job, name: str, done: Deferred[Settlement]) -> None:
        """name: the message's id as people see it."""
        message = job.message
        self._ways = ways
        self._now: Callable[[], float] = ways.conduct.reactor.seconds
        self._job = job
        self._name = name
        self._done = done
        self._transaction = Transaction(
            message.sender,
            tuple([claim.address for claim in job.claims]),
            message.size,
            message.flags,
            message.envid,
            tuple([(claim.notify, claim.orcpt) for claim in job.claims]),
        )
        self._ours = 0  # of Notify: what the server will not tell the sender, so that we must
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
            self._done.callback(settle_all(self._job, bug(error)))

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
        self._sent = self._now()
        theirs = "DSN" in session.machine.extensions or not self._job.message.sender  # RFC 3461 5.2.1, 5.2
        self._ours = 0 if theirs else _SUCCESS
        session.transact(self, self._transaction, self._job, rset)

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
        if fault.trouble is Trouble.BODY:
            self._settle([fault.reply] * len(self._job.claims), Scope.MESSAGE, session, ("quit", fault.trouble.value))
        elif fault.unknown:
            self._note(fault)
            self._plan.failed(self._step, fault, self._now())
            self._settle([fault.reply] * len(self._job.claims), Scope.SESSION, session, ("quit", fault.trouble.value))
        elif self._ways.conduct.pool.stopping and (session.kept or not session.uses):  # it was we who gave it up
            self._settle_stopped()
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
        if fault.trouble.is_tls:
            required = self._step.required
            fields = {
                "relay": where(self._step.target),
                "class": fault.trouble.value,
                "level": required.level.value,
                "origin": required.origin,
                "reason": fault.reply.text,
            }
            self._ways.events.event("tls-fault", self._name, fields)

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
        facts = session_facts(session, verdict)
        connect = session.ready_at - session.began if session.ready_at and not session.kept else 0.0
        transfer = self._now() - self._sent if self._sent else 0.0
        owed = self._ours
        self._done.callback(
            Settlement(
                tuple(
                    [
                        Outcome(
                            claim, kind_of(reply, claim.notify & owed), reply, scope, None, None, facts, connect, transfer, host
                        )
                        for claim, reply in zip(self._job.claims, replies, strict=True)
                    ]
                )
            )
        )

    def _settle_failed(self) -> None:
        """No address is left."""
        plan = self._plan
        blamed = plan.blamed
        facts = {"relay": where(blamed.target), "tls": "none", "level": blamed.required.level.value}
        self._done.callback(settle_all(self._job, plan.verdict(), None, {**facts, "origin": blamed.required.origin}))

    def _settle_over(self, wait: float) -> None:
        """A limit of the site: not tried, no attempt is counted."""
        reply = Reply(451, "4.4.5", "The limits of the site are reached, not tried")
        self._done.callback(settle_all(self._job, MailError(reply, "site-limit", Scope.SESSION, wait), Kind.GIVEN_BACK))

    def _settle_stopped(self) -> None:
        reply = Reply(451, "4.3.2", "The service stops")
        self._done.callback(settle_all(self._job, MailError(reply, "stopping", Scope.SESSION), Kind.GIVEN_BACK))
