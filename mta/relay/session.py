"""One conversation with a mail server: once it is negotiated, any number of transactions, for any number of owners.

RFC 5321 3.3.  Bodies go out in one write when they are at hand, else with back-pressure.  Whoever picks up a kept
connection asks first whether it still gives what he is owed (`falls_short`).  While it idles it has no owner, and whatever
the peer then says or does drops it without a word.  How it gets so far: `negotiation`.  Failures: `connection`.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from mta.envelope import Job
from mta.relay.body import BodyFeed
from mta.relay.connection import Conduct, Owner, Phase
from mta.relay.destination import Fault, Step, Trouble
from mta.relay.handover import ReuseKey, Verdict
from mta.relay.negotiation import Negotiation, told
from mta.smtp import event
from mta.smtp.client import Transaction
from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.entity import Odd
from mta.status import Reply
from mta.tls.policy import Achieved, Required, judge

__all__ = ["Session"]


class Session(Negotiation):
    """See the module.  verdict: the hand-over policy's, once it was asked.

    takes_down: its TLS can be taken down and started again; restarted: that was done at least once.  No but for a `Takedown`.
    """

    takes_down = False
    restarted = False

    def __init__(self, conduct: Conduct, step: Step, owner: Owner) -> None:
        super().__init__(conduct, step, owner)
        key = step.candidate.key
        self.key: ReuseKey = key if self._tls is None else key.showing(self._tls.certificate)
        self.verdict: tuple[Verdict, str] | None = None
        self.told: tuple[Required, Achieved, dict[str, object]] | None = None  # what the log says of it, and for which these was
        self.clean = True  # no transaction is open at the server
        self.idle_since = 0.0
        self._feed: BodyFeed | None = None
        self._job: Job | None = None
        self._conversion: Conversion | None = None

    def falls_short(self, required: Required) -> str:
        """Why what was achieved once is not what a delivery is owed now, "" when it is."""
        if required is not self.required:
            self.required, self.verdict = required, None
        if required.level.verifies:
            self.achieved = self._conduct.tls.again(required, self.achieved)
        if self.achieved.authenticated != required.sasl:
            return "other credentials"
        return judge(required, self.achieved)

    @property
    def restarts(self) -> bool:
        """TLS was taken down: STARTTLS comes before the next transaction."""
        return False

    def take_down(self) -> None:
        """The verdict is CLEAR: take TLS down, then idle in clear text."""
        raise NotImplementedError

    def restart(self, owner: Owner) -> None:
        """Start TLS again for the next delivery; `ready` or `failed` follows."""
        raise NotImplementedError

    @property
    def usable(self) -> bool:
        """May another transaction follow?"""
        return self._phase is Phase.READY and self.machine.is_idle

    def unfit(self, transaction: Transaction) -> Reply | None:
        """Why this server cannot take that message."""
        return self.machine.unfit(transaction)

    def hold(self, owner: Owner) -> None:
        """It is picked up, and has to wait a moment for its transaction; `failed` may follow."""
        self._owner = owner
        self._phase = Phase.READY
        self._deadline.set(self._conduct.timeouts.data_block)

    def transact(
        self, owner: Owner, transaction: Transaction, job: Job, rset: bool, conversion: Conversion | None = None
    ) -> None:
        """Send a message; `transacted` or `failed` follows.

        rset: ask first whether the peer is still there.  conversion: what makes the message fit for it.
        """
        self._owner = owner
        self._job = job
        self._conversion = conversion
        self._phase = Phase.TRANSACTION
        self.uses += 1
        self.clean = False
        self.machine.transact(transaction, rset)
        self._turn()

    def _reset_answered(self, happened: event.ResetAnswered) -> None:
        if not happened.reply.is_positive:
            self._give_up(Fault(Trouble.LOST, told("RSET was answered", happened.reply)), cut=True)

    def _body_wanted(self, happened: event.BodyWanted) -> None:
        """Body and final dot leave in one write when the body is at hand, else piece by piece."""
        job, machine = self._job, self.machine
        if job is None:
            return
        if job.body is not None and self._conversion is None:
            machine.send_body(job.message.prefix + job.body)
            machine.end_body()
            return
        if job.body is not None:
            self._body_piece(job.message.prefix + job.body)
            self._body_end()
            return
        self._body_piece(job.message.prefix)
        if self.leaving:
            return
        self._feed = BodyFeed(job.open_body(), self._body_piece, self._body_end, self._body_unreadable)
        self.transport.registerProducer(self._feed, True)
        self._feed.resumeProducing()

    def _body_piece(self, piece: bytes) -> None:
        if self._conversion is not None:
            try:
                piece = self._conversion.convert(piece)
            except Odd as error:
                self._spoil(error)
                return
        self.machine.send_body(piece)
        self._turn()

    def _body_end(self) -> None:
        conversion = self._conversion
        self._loosen()
        if conversion is not None:
            try:
                self.machine.send_body(conversion.finish())
            except Odd as error:
                self._spoil(error)
                return
        self.machine.end_body()
        self._turn()

    def _body_unreadable(self, failure: Failure) -> None:
        self._spoil(failure.value)

    def _spoil(self, error: BaseException | None) -> None:
        """DATA cannot be taken back: cut the connection, so that the server drops what it has (RFC 5321 4.1.1.4)."""
        self._give_up(Fault(Trouble.BODY, Reply(451, "4.3.0", f"The body cannot be read: {error}")), cut=True)

    def _loosen(self) -> None:
        feed, self._feed, self._job, self._conversion = self._feed, None, None, None
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

    def park(self, now: float) -> None:
        """It idles from now on: no owner, no time limit of its own."""
        self._owner = None
        self._phase = Phase.IDLE
        self.idle_since = now
        self._deadline.clear()

    def _quit_answered(self, happened: event.QuitAnswered) -> None:
        self._close()


Session.actions = {
    event.Greeted: Session._greeted,
    event.HelloAnswered: Session._hello_answered,
    event.StartTlsAnswered: Session._starttls_answered,
    event.AuthAnswered: Session._auth_answered,
    event.ResetAnswered: Session._reset_answered,
    event.BodyWanted: Session._body_wanted,
    event.Transacted: Session._transacted,
    event.Ended: Session._ended,
    event.Broken: Session._broken,
    event.QuitAnswered: Session._quit_answered,
}
