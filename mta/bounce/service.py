"""The agent of the destination "bounce:": tells senders what became of their mail (RFC 3461 5.2, RFC 5321 6.1).

A job is recipients of one message: failed ones, and delivered ones whose sender wanted to know.  They become one report
of failures and one of successes, which go back to the queue in the settlement that removes the recipients: the queue
stores the ones and removes the others in one transaction (queue law R5), so a crash leaves both or neither.  No report is
made of mail with the null reverse-path, nor where NOTIFY says so, nor over the limit of an address: what is dropped has
its line in the log (`removed`, with the reason).  The postmaster gets copies where he is named; a copy that fails is
dropped, so nothing goes in circles.  No room on disk, or a body that cannot be read, defers: a report owed stays owed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mta.bounce.notice import Occasion
from mta.bounce.original import HEAD_LIMIT
from mta.bounce.quota import Quota
from mta.bounce.report import Report, build_report
from mta.bounce.status_part import Action, Fate, fate_at_bounce
from mta.config.settings import Dsn
from mta.envelope import Claim, Flag, Job, Kind, Message, NewMessage, NewRecipient, Notify, Outcome, Settlement
from mta.interfaces import IAccept, IBodyReader, IBodySink, IDeliveryAgent, IEventLog
from mta.status import MailError, Reply, Scope

if TYPE_CHECKING:
    from mta.queue.state import Overdue

__all__ = ["COPY", "BounceAgent"]

COPY = "postmaster"  # the source (NewMessage.source) of a copy: it makes no further ones

_REPORTED = Reply(250, "2.0.0", "reported to the sender")
_DROPPED = Reply(250, "2.0.0", "dropped, nobody is told")
_TROUBLE = Reply(451, "4.3.0", "the report could not be made")
_NEVER = int(Notify.NEVER)
_FAILURE = int(Notify.FAILURE)
_DELAY = int(Notify.DELAY)

_Facts: TypeAlias = dict[str, object]


class _Told:
    """What comes of one job, or of one warning."""

    __slots__ = ("facts", "sinks", "spawn")

    def __init__(self) -> None:
        self.facts: dict[int, _Facts] = {}  # of each claim, for the log
        self.sinks: list[IBodySink] = []
        self.spawn: list[NewMessage] = []

    def note(self, fates: Sequence[Fate], facts: _Facts) -> None:
        """Of all these."""
        self.facts.update((fate.claim.id, facts) for fate in fates)

    def abort(self) -> None:
        """Nothing of it shall be."""
        for sink in self.sinks:
            sink.abort()


@implementer(IDeliveryAgent)
class BounceAgent:
    """Reports.  dsn, lifetime: may be set anew by `reconfigure`, for the reports to come.

    now: ms since the epoch.  random: that many unforeseeable bytes.  name_of: a message's id as people see it.
    lifetime: ms that a report may wait in the queue.  open_body: a reader of a message's body.
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
        open_body: Callable[[int], IBodyReader],
        dsn: Dsn,
        lifetime: int,
    ) -> None:
        self._hostname = hostname
        self._accept = accept
        self._now = now
        self._random = random
        self._events = log
        self._name_of = name_of
        self._open_body = open_body
        self._dsn = dsn
        self._lifetime = lifetime
        self._quota = Quota(dsn.per_sender_hour)

    def reconfigure(self, dsn: Dsn, lifetime: int) -> None:
        """Other settings; what was counted of this hour stays counted."""
        self._dsn, self._lifetime = dsn, lifetime
        self._quota.limit = dsn.per_sender_hour

    def deliver(self, job: Job) -> Deferred[Settlement]:
        """Settle all claims of the job, with the reports among what is to be stored.  Never errbacks."""
        return Deferred.fromCoroutine(self._deliver(job))

    def delayed(self, overdue: Overdue) -> Deferred[Settlement]:
        """The warning that mail still waits, to be stored with the mark that it was made; nothing where none is wanted.

        Errbacks with a MailError when it cannot be made now.
        """
        return Deferred.fromCoroutine(self._delayed(overdue))

    # ---- what is told of a job

    async def _deliver(self, job: Job) -> Settlement:
        told = _Told()
        try:
            await (self._tell(job, told) if job.message.sender else self._double(job, told))
        except MailError as error:
            told.abort()
            return _deferred(job, error.reply, error.reason or "no report", error.retry_after)
        except Exception as error:
            told.abort()
            self._log.failure("a report could not be made")
            return _deferred(job, _TROUBLE, f"no report: {error}")
        return self._made(told, (_done(claim, told.facts[claim.id]) for claim in job.claims))

    async def _tell(self, job: Job, told: _Told) -> None:
        """The sender, of failures and of successes, as he asked for it (RFC 3461 5.2.2, 5.2.3, 5.2.6)."""
        fates = [fate_at_bounce(claim, job.message) for claim in job.claims]
        failed = tuple(fate for fate in fates if fate.action is Action.FAILED and _wants(fate.claim, _FAILURE))
        arrived = tuple(fate for fate in fates if fate.action is not Action.FAILED)
        told.note(fates, {"reason": "notify"})  # but for those that follow
        if not (failed or arrived):
            return
        message = job.message
        whole = bool(failed) and self._returns_all(message)
        original = await _read(message, job.body, job.open_body, message.size if whole else 0)
        whole = whole and len(original) == message.size
        if arrived:
            await self._report(Report(Occasion.SUCCESS, message.sender, message, arrived, original), told)
        if failed:
            await self._report(Report(Occasion.FAILURE, message.sender, message, failed, original, whole), told)

    async def _report(self, report: Report, told: _Told) -> None:
        """To the sender; of a failure the postmaster gets a copy, header only."""
        name = await self._write(report, told)
        facts: _Facts = {"report": name} if name else {"reason": "rate"}
        postmaster = self._dsn.postmaster
        if name and report.occasion is Occasion.FAILURE and postmaster and postmaster.lower() != report.to.lower():
            copy = Report(Occasion.COPY, postmaster, report.message, report.fates, report.original)
            facts["copy"] = await self._write(copy, told) or "rate"
        told.note(report.fates, facts)

    async def _double(self, job: Job, told: _Told) -> None:
        """A report, or other mail with the null reverse-path: nobody but the postmaster is told (RFC 3461 5.2)."""
        message = job.message
        facts: _Facts = {"reason": "double bounce"}
        fates = tuple(fate_at_bounce(claim, message) for claim in job.claims)
        failed = tuple(fate for fate in fates if fate.action is Action.FAILED)
        if failed and self._dsn.postmaster and message.source != COPY:
            original = await _read(message, job.body, job.open_body, 0)
            name = await self._write(Report(Occasion.DOUBLE, self._dsn.postmaster, message, failed, original), told)
            facts["copy"] = name or "rate"
        told.note(fates, {"reason": "null sender"})
        told.note(failed, facts)

    async def _delayed(self, overdue: Overdue) -> Settlement:
        message, told = overdue.message, _Told()
        outdated = 0 < message.deliver_by <= self._now()
        fates = tuple(Fate(claim, Action.DELAYED, outdated) for claim in overdue.claims if _wants(claim, _DELAY))
        if not fates or not message.sender:
            return Settlement(())
        try:
            original = await _read(message, None, partial(self._open_body, message.id), 0)
            name = await self._write(Report(Occasion.DELAY, message.sender, message, fates, original), told)
        except BaseException:
            told.abort()
            raise
        if not name:
            fields = {"to": message.sender, "reason": "rate", "what": "delay warning"}
            self._events.event("removed", self._name_of(message.id), fields)
        return self._made(told)

    # ---- one report

    async def _write(self, report: Report, told: _Told) -> str:
        """Its name, its body safe in the queue's keeping; "" where the address has had too many."""
        now = self._now()
        if not self._quota.allows(report.to, now):
            return ""
        sink = self._accept.create_body(1)
        told.sinks.append(sink)
        data = build_report(
            report,
            hostname=self._hostname,
            queue_id=self._name_of(report.message.id),
            report_id=sink.name,
            now=now,
            token=self._random(16).hex(),
        )
        if (paused := sink.write(data)) is not None:
            await paused
        body = await sink.finish()
        own = report.occasion in (Occasion.COPY, Occasion.DOUBLE)
        spawn = NewMessage(
            id=sink.id,
            sender="",
            recipients=(NewRecipient(report.to, notify=_NEVER),),  # RFC 3461 6.1
            body=body,
            prefix=b"",
            created=now,
            expires=now + self._lifetime,
            source=COPY if own else "dsn",
            flags=_flags(report, data),
        )
        told.spawn.append(spawn)
        return sink.name

    def _returns_all(self, message: Message) -> bool:
        """RFC 3461 4.3; RFC 8689 5: never of a message with REQUIRETLS.  Where RET was not given we return the header."""
        return message.flags & (Flag.RET_FULL | Flag.REQUIRETLS) == Flag.RET_FULL and message.size <= self._dsn.return_size

    def _made(self, told: _Told, outcomes: Iterable[Outcome] = ()) -> Settlement:
        """All is told.  Only now it counts, and not for long if it cannot be stored: it is made again then."""
        now = self._now()
        for message in told.spawn:
            self._quota.count(message.recipients[0].address, now)
        return Settlement(tuple(outcomes), tuple(told.spawn), partial(self._undo, told) if told.spawn else None)

    def _undo(self, told: _Told) -> None:
        told.abort()
        now = self._now()
        for message in told.spawn:
            self._quota.take_back(message.recipients[0].address, now)


def _wants(claim: Claim, word: int) -> bool:
    """Does the sender want to hear of it?  Who said nothing hears of failures and delays (RFC 3461 4.1)."""
    return not claim.notify or bool(claim.notify & word)


def _flags(report: Report, data: bytes) -> int:
    flags = Flag(0) if data.isascii() else Flag.EIGHTBITMIME
    if not report.to.isascii():
        flags |= Flag.SMTPUTF8  # RFC 6531 3.2: the address of the envelope and of To needs it
    # RFC 8689 5: what must not be read on the way there, nor on the way back
    return int(flags | Flag(report.message.flags) & Flag.REQUIRETLS)


async def _read(message: Message, body: bytes | None, open_body: Callable[[], IBodyReader], whole: int) -> bytes:
    """The message's beginning, as far as its header can reach into a report; all of it up to `whole` bytes."""
    head = message.prefix
    limit = whole or HEAD_LIMIT
    if body is not None:
        return head + (body if whole else body[:HEAD_LIMIT])
    reader = open_body()
    pieces = [head]
    size = len(head)
    try:
        while size < limit and (whole or b"\r\n\r\n" not in pieces[-1]) and (piece := await reader.read()):
            pieces.append(piece)
            size += len(piece)
    finally:
        reader.close()
    return b"".join(pieces)


def _done(claim: Claim, facts: _Facts) -> Outcome:
    return Outcome(claim, Kind.DELIVERED, _REPORTED if "report" in facts else _DROPPED, Scope.MESSAGE, facts=facts)


def _deferred(job: Job, reply: Reply, reason: str, retry_after: float | None = None) -> Settlement:
    outcomes = (
        Outcome(claim, Kind.DEFERRED, reply, Scope.MESSAGE, retry_after=retry_after, facts={"reason": reason})
        for claim in job.claims
    )
    return Settlement(tuple(outcomes))
