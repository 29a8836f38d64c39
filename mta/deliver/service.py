"""The agent that delivers to Maildirs on this machine.

A job runs from its first recipient to its last in one of a few threads of the agent's own, started and stopped with the
service: a slow disk never holds up the reactor, and a job costs one hop however many recipients it has.
One outcome for each claim, never an errback: what is delivered is confirmed where its sender asked for that (RFC 3461
5.2.3), an unknown mailbox fails (5.1.1), a loop fails (5.4.6), and so does what no mailbox can hold (content.py); trouble with
the disk or the body defers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mta.deliver.content import Content
from mta.deliver.maildir import Maildir, base_name, explain, loops, trace_lines
from mta.envelope import Claim, Job, Kind, Notify, Outcome, Settlement
from mta.interfaces import IDeliveryAgent
from mta.status import MailError, Reply, Scope, permanent, transient

__all__ = ["MaildirAgent"]

HEAD_LIMIT = 262_144  # bytes searched for Delivered-To

_STORED = Reply(250, "2.0.0", "delivered to the mailbox")
_REPEATED = Reply(250, "2.0.0", "delivered to the mailbox by an earlier attempt")
_STOPPING = Reply(421, "4.3.2", "shutting down")
_SUCCESS = int(Notify.SUCCESS)


@implementer(IDeliveryAgent)
class MaildirAgent:
    """Delivers each recipient to its Maildir.

    reactor: time and threads are wanted of it.  mailbox: the directory of an address, or None where there is no such
    mailbox; asked in a thread, so it may look at the disk; may be set anew for the jobs to come.  A directory it names is
    made when it is missing, so where a Maildir must exist already it is `mailbox` that answers None.
    """

    _log = Logger()

    def __init__(self, reactor: Any, mailbox: Callable[[str], str | None], *, hostname: str, threads: int = 4) -> None:
        self._reactor = reactor
        self.mailbox = mailbox
        self._hostname = hostname
        self._threads = threads
        self._pool: ThreadPool | None = None
        self._started = 0  # ms since the epoch: a message accepted before may have been delivered before, too
        self._jobs = 0
        self._idle: Deferred[None] = Deferred()  # fires in `stop`, or when the last job after it is over

    def start(self) -> None:
        """Begin to take jobs."""
        self._started = int(self._reactor.seconds() * 1000)
        self._idle = Deferred()
        self._pool = ThreadPool(0, self._threads, name="maildir")
        self._pool.start()

    def stop(self) -> Deferred[None]:
        """Take no more; fires when the running jobs are over and the threads have ended."""
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        self._idle.addCallback(lambda _: pool.stop())
        if not self._jobs:
            self._idle.callback(None)
        return self._idle

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """One outcome for each claim.  Never errbacks."""
        if self._pool is None:
            return succeed(Settlement(tuple(Outcome(claim, Kind.GIVEN_BACK, _STOPPING) for claim in job.claims)))
        self._jobs += 1
        settled: Deferred[Settlement] = Deferred()
        deferToThreadPool(self._reactor, self._pool, self._run, job).addCallback(self._over, settled)
        return settled

    def _over(self, settlement: Settlement, settled: Deferred[Settlement]) -> None:
        settled.callback(settlement)  # whoever waits for it acts before `stop` goes on
        self._jobs -= 1
        if self._pool is None and not self._jobs:
            self._idle.callback(None)

    # ---- in a thread

    def _run(self, job: Job) -> Settlement:
        content = Content(self._reactor, job)
        return Settlement(tuple(self._attempt(job, claim, content) for claim in job.claims))

    def _attempt(self, job: Job, claim: Claim, content: Content) -> Outcome:
        """One recipient, whatever happens."""
        began = self._reactor.seconds()
        facts, scope = {"relay": "maildir"}, Scope.RECIPIENT
        try:
            reply = _STORED if self._store(job, claim, content) else _REPEATED
            kind = Kind.CONFIRMED if claim.notify & _SUCCESS and job.message.sender else Kind.DELIVERED  # RFC 3461 5.2.3
        except Exception as error:
            trouble = self._trouble(error)
            kind, reply = Kind.FAILED if trouble.reply.is_permanent else Kind.DEFERRED, trouble.reply
            scope = trouble.scope
            if trouble.reason:
                facts["reason"] = trouble.reason
        if content.converted:
            facts["converted"] = content.converted
        return Outcome(claim, kind, reply, scope, facts=facts, transfer=self._reactor.seconds() - began)

    def _trouble(self, error: Exception) -> MailError:
        """What an exception means for the recipient; one that nobody foresaw is logged with its traceback."""
        if isinstance(error, MailError):
            return error
        if isinstance(error, OSError):
            return explain(error)
        self._reactor.callFromThread(self._log.failure, "local delivery", Failure(error))  # type: ignore[no-untyped-call]
        return transient("4.3.0", "local delivery failed", reason=f"{type(error).__name__}: {error}")

    def _store(self, job: Job, claim: Claim, content: Content) -> bool:
        """Put the message into the recipient's mailbox.  False: an earlier attempt has done so."""
        path = self.mailbox(claim.address)
        if path is None:
            raise permanent("5.1.1", "no such mailbox here", scope=Scope.RECIPIENT)
        message = job.message
        with closing(content.pieces()) as pieces:
            head = b""
            for piece in pieces:
                head += piece
                if b"\r\n\r\n" in piece or len(head) >= HEAD_LIMIT:
                    break
            if loops(head, claim.address):
                raise permanent("5.4.6", "mail loop: already delivered to this address", code=554, scope=Scope.RECIPIENT)
            maildir = Maildir(path)
            maildir.prepare()
            base = base_name(message.created, claim.id, self._hostname)
            if (claim.attempts or message.created < self._started) and maildir.find(base):
                return False
            letter = maildir.begin(base)
            try:
                letter.write(trace_lines(message.sender, claim.address))
                letter.write(head)
                for piece in pieces:
                    letter.write(piece)
                return letter.store()
            except BaseException:
                letter.abort()
                raise
