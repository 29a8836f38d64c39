"""One conversation with a mail server: greeting, EHLO, STARTTLS, EHLO again, and any number of transactions.

RFC 5321, RFC 3207, RFC 9422 (LIMITS).  Behind the 220 to STARTTLS stands a *fresh* machine: nothing that was said in
clear is known to it.  What a refusal of STARTTLS means is read from `destination.CONSEQUENCES`; whether the certificate
will do is `policy.judge`'s word.  Bodies go out in one write when they are at hand, else with back-pressure.  While it
idles it has no owner, and whatever the peer then says or does drops it without a word.  Failures: see `connection`.
"""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.envelope import Job
from mta.relay.body import BodyFeed
from mta.relay.connection import Conduct, Connection, Owner, Phase
from mta.relay.destination import CONSEQUENCES, Consequence, Fault, Step, Trouble
from mta.relay.handover import ReuseKey, Verdict
from mta.smtp import event
from mta.smtp.client import Sender, Transaction
from mta.status import Reply
from mta.tls.policy import Required, judge

__all__ = ["Session"]

TLS_TEXT = "Cannot start TLS: "


@implementer(IHandshakeListener)
class Session(Connection):
    """A connection made by the rules of `step`.

    required: what it is owed now: that of the step, then of whoever picked it up.
    """

    def __init__(self, conduct: Conduct, step: Step, owner: Owner) -> None:
        super().__init__(conduct, owner)
        self.step = step
        self.key: ReuseKey = step.candidate.key
        self.required: Required = step.candidate.required
        self.tls_why = "" if step.tls else "broken" if step.fallback else "level"  # why there is no TLS
        self.verdict: tuple[Verdict, str] | None = None  # the policy's, once it was asked
        self.clean = True  # no transaction is open at the server
        self.idle_since = 0.0
        self.ready_at = 0.0
        self.mail_max = 0  # transactions that the server takes in one connection, 0: it sets no limit
        self._feed: BodyFeed | None = None
        self._job: Job | None = None

    # ---- greeting and EHLO

    def _greeted(self, happened: event.Greeted) -> None:
        if not happened.reply.is_positive:
            self._give_up(Fault(Trouble.GREETING, _said("The greeting was", happened.reply)))
            return
        self._phase = Phase.HELLO
        self.machine.hello()

    def _hello_answered(self, happened: event.HelloAnswered) -> None:
        in_tls = self._phase is Phase.TLS_HELLO
        if not happened.reply.is_positive:
            trouble = Trouble.T8 if in_tls else Trouble.HELLO
            self._give_up(Fault(trouble, _said("EHLO was answered", happened.reply, "4.7.5" if in_tls else "")))
            return
        self.mail_max = _mail_max(happened.extensions.get("LIMITS", ""))
        if in_tls or not self.step.tls:
            self._become_ready()
        elif "STARTTLS" in happened.extensions or self._follows(Trouble.T1) is Consequence.ASK:
            self.machine.starttls()
            if self.machine.awaiting:  # else bytes lie behind the reply to EHLO, and Broken is on its way
                self._phase = Phase.STARTTLS
        else:
            self.tls_why = "not-offered"
            self._become_ready()

    def _become_ready(self) -> None:
        self._phase = Phase.READY
        self.ready_at = self._clock.seconds()
        if self._owner is not None:
            self._owner.ready(self)

    def _follows(self, trouble: Trouble) -> Consequence:
        return CONSEQUENCES[trouble, self.required.may_go_clear]

    # ---- TLS

    def _starttls_answered(self, happened: event.StartTlsAnswered) -> None:
        """Only 220 means "go on"; a proxy that answers 250 to everything is still in clear."""
        code = happened.reply.code
        if code == 220:
            self._handshake()
            return
        trouble = Trouble.T5 if code in (221, 421) else _REFUSALS.get(code // 100, Trouble.T4)
        if self._follows(trouble) is Consequence.CLEAR:
            self.tls_why = f"refused-{code}"
            self._become_ready()
        else:
            self._give_up(Fault(trouble, _said(f"{TLS_TEXT}STARTTLS was answered", happened.reply, "4.7.5")))

    def _handshake(self) -> None:
        self._phase = Phase.HANDSHAKE
        self.machine = Sender(self._conduct.hello, in_tls=True)
        self._deadline.set(self._conduct.starttls_timeout)
        self.write = self.transport.write
        self.transport.startTLS(self._conduct.tls.creator(self.required.sni))

    def handshakeCompleted(self) -> None:
        """TLS stands: is it good enough?  If not, QUIT is said inside it."""
        if self._phase is not Phase.HANDSHAKE:
            return
        self.achieved = self._conduct.tls.achieved(self.transport.getHandle(), self.required.names)
        if reason := judge(self.required, self.achieved):
            self._give_up(Fault(Trouble.T7, Reply(451, "4.7.5", f"{TLS_TEXT}{reason}")))
            return
        self._phase = Phase.TLS_HELLO
        self.machine.hello()
        self._turn()

    def falls_short(self, required: Required) -> str:
        """Why what was achieved once is not what a delivery is owed now, "" when it is."""
        if required.level.verifies and (error := self._conduct.tls.again(self.achieved)):
            return error
        if required is not self.required:
            self.required, self.verdict = required, None
        return ""

    # ---- transactions

    @property
    def usable(self) -> bool:
        """May another transaction follow?"""
        return self._phase is Phase.READY and self.machine.is_idle

    def unfit(self, transaction: Transaction) -> Reply | None:
        """Why this server cannot take that message."""
        return self.machine.unfit(transaction)

    def transact(self, owner: Owner, transaction: Transaction, job: Job, rset: bool) -> None:
        """Send a message; `transacted` or `failed` follows.  rset: ask first whether the peer is still there."""
        self._owner = owner
        self._job = job
        self._phase = Phase.TRANSACTION
        self.uses += 1
        self.clean = False
        self.machine.transact(transaction, rset)
        self._turn()

    def _reset_answered(self, happened: event.ResetAnswered) -> None:
        if not happened.reply.is_positive:
            self._give_up(Fault(Trouble.LOST, _said("RSET was answered", happened.reply)), cut=True)

    def _body_wanted(self, happened: event.BodyWanted) -> None:
        """Body and final dot leave in one write when the body is at hand, else piece by piece."""
        job, machine = self._job, self.machine
        if job is None:
            return
        if job.body is not None:
            machine.send_body(job.message.prefix + job.body)
            machine.end_body()
            return
        machine.send_body(job.message.prefix)
        self._feed = BodyFeed(job.open_body(), self._body_piece, self._body_end, self._body_unreadable)
        self.transport.registerProducer(self._feed, True)
        self._feed.resumeProducing()

    def _body_piece(self, piece: bytes) -> None:
        self.machine.send_body(piece)
        self._turn()

    def _body_end(self) -> None:
        self._loosen()
        self.machine.end_body()
        self._turn()

    def _body_unreadable(self, failure: Failure) -> None:
        """DATA cannot be taken back: cut the connection, so that the server drops what it has (RFC 5321 4.1.1.4)."""
        self._give_up(Fault(Trouble.BODY, Reply(451, "4.3.0", f"The body cannot be read: {failure.value}")), cut=True)

    def _loosen(self) -> None:
        feed, self._feed, self._job = self._feed, None, None
        if feed is not None:
            feed.stopProducing()
            if self._phase is not Phase.CLOSED:  # a transport that is gone has no place for producers any more
                self.transport.unregisterProducer()

    def _transacted(self, happened: event.Transacted) -> None:
        """The owner hears of it when all that came with it is read: bytes behind the last reply spoil the connection."""
        self._done = happened
        self._phase = Phase.READY
        self._loosen()

    def _report(self) -> None:
        done, self._done = self._done, None
        owner, self._owner = self._owner, None
        if done is not None and owner is not None:
            self.clean = done.final is not None and done.final.is_positive
            owner.transacted(self, done)

    def park(self) -> None:
        """It idles: no owner, no time limit of its own."""
        self._owner = None
        self._phase = Phase.IDLE
        self.idle_since = self._clock.seconds()
        self._deadline.clear()

    # ---- what the peer ends

    def _ended(self, happened: event.Ended) -> None:
        """421: the server closes."""
        if self._phase is Phase.STARTTLS:
            fault = Fault(Trouble.T5, _said(f"{TLS_TEXT}STARTTLS was answered", happened.reply, "4.7.5"))
        else:
            fault = Fault(Trouble.CLOSING, happened.reply)
        self._give_up(fault, cut=True)

    def _broken(self, happened: event.Broken) -> None:
        """Nothing that the peer says is read any more."""
        trouble = Trouble.BROKEN
        if self._phase is Phase.STARTTLS:
            # Garbage instead of a reply leaves the reply due; bytes behind it do not, and those were injected.
            trouble = Trouble.T5 if self.machine.awaiting else Trouble.T10
        elif self._phase is Phase.TLS_HELLO:
            trouble = Trouble.T8
        reply = Reply(451, "4.7.5" if trouble.is_tls else "4.5.0", f"Protocol error {self._phase.value}: {happened.reason}")
        self._give_up(Fault(trouble, reply, self.after_dot), cut=True)

    def _quit_answered(self, happened: event.QuitAnswered) -> None:
        self._close()


_REFUSALS = {4: Trouble.T2, 5: Trouble.T3}

Session.actions = {
    event.Greeted: Session._greeted,
    event.HelloAnswered: Session._hello_answered,
    event.StartTlsAnswered: Session._starttls_answered,
    event.ResetAnswered: Session._reset_answered,
    event.BodyWanted: Session._body_wanted,
    event.Transacted: Session._transacted,
    event.Ended: Session._ended,
    event.Broken: Session._broken,
    event.QuitAnswered: Session._quit_answered,
}


def _said(what: str, reply: Reply, enhanced: str = "") -> Reply:
    """A refusal of the connection, told as the transient failure that it is for the mail: other hosts may take it."""
    own = reply.enhanced if reply.enhanced.startswith("4") else "4.3.0"
    return Reply(451, enhanced or own, f"{what}: {reply}")


def _mail_max(limits: str) -> int:
    """MAILMAX out of the LIMITS extension (RFC 9422 4.1); 0 where there is none that can be read."""
    for limit in limits.upper().split():
        name, _, value = limit.partition("=")
        if name == "MAILMAX" and value.isascii() and value.isdigit():
            return int(value)
    return 0
