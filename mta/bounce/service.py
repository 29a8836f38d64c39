"""The agent of the destination "bounce:": reports failed recipients to the sender of their message.

A job is the failed recipients of one message.  They become one report (report.py), which goes back to the queue in the
settlement that removes them: the queue stores the one and removes the others in one transaction (queue law R5), so a
crash leaves both or neither.  A message with the null reverse-path is never reported (RFC 5321 6.1): what failed is
dropped with a log line.  No room on disk, or a body that cannot be read, defers: a bounce owed stays owed.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mta.bounce.report import HEAD_LIMIT, build_report
from mta.envelope import Claim, Flag, Job, Kind, NewMessage, NewRecipient, Outcome, Settlement
from mta.interfaces import IAccept, IDeliveryAgent, IEventLog
from mta.status import MailError, Reply, Scope

__all__ = ["BounceAgent"]

_REPORTED = Reply(250, "2.0.0", "reported to the sender")
_DROPPED = Reply(250, "2.0.0", "double bounce: dropped")
_TROUBLE = Reply(451, "4.3.0", "the report could not be made")


@implementer(IDeliveryAgent)
class BounceAgent:
    """Reports failed recipients.

    now: ms since the epoch.  random: that many unforeseeable bytes.  name_of: a message's id as people see it.
    lifetime: ms that a report may wait in the queue; may be set anew for the reports to come.
    """

    _log = Logger()

    def __init__(
        self,
        hostname: str,
        accept: IAccept,
        *,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        log: IEventLog,
        name_of: Callable[[int], str],
        lifetime: int,
    ) -> None:
        self._hostname = hostname
        self._accept = accept
        self._now = now
        self._random = random
        self._events = log
        self._name_of = name_of
        self.lifetime = lifetime

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """Settle all claims of the job, with the report among what is to be stored.  Never errbacks."""
        return Deferred.fromCoroutine(self._deliver(job))

    async def _deliver(self, job: Job) -> Settlement:
        if not job.message.sender:
            return self._drop(job)
        try:
            report, name = await self._report(job)
        except MailError as error:
            return _settlement(job.claims, Kind.DEFERRED, error.reply, {"reason": error.reason or "no report"}, error.retry_after)
        except Exception as error:
            self._log.failure("a report could not be made")
            return _settlement(job.claims, Kind.DEFERRED, _TROUBLE, {"reason": f"no report: {error}"})
        return _settlement(job.claims, Kind.DELIVERED, _REPORTED, {"report": name}, spawn=(report,))

    def _drop(self, job: Job) -> Settlement:
        """A report, or other mail with the null reverse-path, that failed itself."""
        for claim in job.claims:
            fields = {"to": claim.address, "reason": "double bounce", "reply": claim.last_reply or ""}
            self._events.event("removed", self._name_of(job.message.id), fields)
        return _settlement(job.claims, Kind.DELIVERED, _DROPPED, {"reason": "double bounce"})

    async def _report(self, job: Job) -> tuple[NewMessage, str]:
        """The report, its body safe in the queue's keeping, and its name."""
        message, now = job.message, self._now()
        head = await _read_head(job)
        sink = self._accept.create_body(1)
        try:
            report = build_report(
                message,
                job.claims,
                head,
                hostname=self._hostname,
                queue_id=self._name_of(message.id),
                report_id=sink.name,
                now=now,
                token=self._random(16).hex(),
            )
            if (paused := sink.write(report)) is not None:
                await paused
            body = await sink.finish()
        except BaseException:
            sink.abort()
            raise
        flags = Flag(0) if report.isascii() else Flag.EIGHTBITMIME
        if not message.sender.isascii():
            flags |= Flag.SMTPUTF8  # RFC 6531 3.2: the address of the envelope and of To needs it
        flags |= Flag(message.flags) & Flag.REQUIRETLS  # RFC 8689 5: what must not be read on the way there, nor on the way back
        recipient = NewRecipient(message.sender)
        spawn = NewMessage(sink.id, "", (recipient,), body, b"", now, now + self.lifetime, source="dsn", flags=int(flags))
        return spawn, sink.name


async def _read_head(job: Job) -> bytes:
    """The beginning of the message, as far as its headers can reach into a report."""
    head = job.message.prefix
    if job.body is not None:
        return head + job.body[:HEAD_LIMIT]
    reader = job.open_body()
    try:
        while len(head) < HEAD_LIMIT and b"\r\n\r\n" not in head and (piece := await reader.read()):
            head += piece
    finally:
        reader.close()
    return head


def _settlement(
    claims: tuple[Claim, ...],
    kind: Kind,
    reply: Reply,
    facts: dict[str, object],
    retry_after: float | None = None,
    spawn: tuple[NewMessage, ...] = (),
) -> Settlement:
    outcomes = (Outcome(claim, kind, reply, Scope.MESSAGE, retry_after=retry_after, facts=facts) for claim in claims)
    return Settlement(tuple(outcomes), spawn)
