"""The way in: a message is routed, a place in memory is kept for it, it is made durable, and only then it is accepted.

RFC 1047: between our commit and the client's reading of "250" both own the message.  Nothing happens in between but the
answer.  A commit that takes longer than `accept_deadline` is answered 451, for a client that waits on would time out and
send again anyway.  What the queue had not begun to write then is never written; what it had begun is delivered if the
commit succeeds after all (and perhaps again, from the client's repeat): at least once.  What fails while storing gives
the kept places back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.settings import Queue
from mta.envelope import Claim, Measure, NewMessage, NewRecipient
from mta.interfaces import IBodySink, IQueue, IRouter
from mta.queue.filing import filed
from mta.queue.scheduler.schedule import Scheduler
from mta.queue.space import Space
from mta.status import MailError, transient

if TYPE_CHECKING:
    from mta.queue.dispatch import Dispatch

__all__ = ["Intake"]

SAMPLE = 100  # ms: one commit in so many counts, not every message of a batch
MEMORY = 5_000  # ms for which commit times are remembered when nothing is committed


class _Accept:
    """A message on its way to disk."""

    __slots__ = ("admitted", "asked", "message", "result")

    def __init__(self, message: NewMessage, asked: int, result: Deferred[int]) -> None:
        self.message = message
        self.asked = asked
        self.admitted: list[str] = []  # destinations in whose memory a place is kept
        self.result: Deferred[int] | None = result  # None: it was told that it took too long

    def is_wanted(self) -> bool:
        """Does the client still wait?  The queue asks before it writes, in its own thread."""
        return self.result is not None


class Intake:
    """Accepts messages.  rearm: called with the time (ms) at which `tick` is wanted."""

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        queue: IQueue,
        router: IRouter,
        scheduler: Scheduler,
        dispatch: Dispatch,
        settings: Queue,
        *,
        now: Callable[[], int],
        rearm: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._router = router
        self._scheduler = scheduler
        self._dispatch = dispatch
        self._deadline = int(settings.accept_deadline * 1000)
        self._now = now
        self._rearm = rearm
        self._space = Space(queue.room, settings.free_space)
        self._accepting: dict[int, _Accept] = {}  # in the order of their begin
        self._watched = False  # `tick` will be called in time for the next that takes too long
        self._commit = 0.0  # how long commits take, ms, smoothed
        self._sampled = 0
        self._messages = self._recipients = self._bytes = 0  # stored
        self.open = False

    def reconfigure(self, router: IRouter, settings: Queue) -> None:
        """Other routes and another deadline from now on, for what is being stored too."""
        self._router = router
        self._deadline = int(settings.accept_deadline * 1000)
        self._space.limit = settings.free_space
        if self._accepting:
            self._rearm(self._now())

    @property
    def pressure(self) -> float:
        """The largest of: recipients in memory of the limit, the queue's own, the disk's, commits of a second, the oldest commit
        of half its deadline."""
        scheduler = self._scheduler
        now = self._now()
        pressure = max(scheduler.active / scheduler.active_limit, self._queue.pressure, self._space.pressure(now))
        if 0 <= now - self._sampled < MEMORY:
            pressure = max(pressure, self._commit / 1000)
        for oldest in self._accepting.values():
            return max(pressure, (now - oldest.asked) * 2 / self._deadline)
        return pressure

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        yield "mta_accepted_messages_total", (), self._messages
        yield "mta_accepted_recipients_total", (), self._recipients
        yield "mta_accepted_bytes_total", (), self._bytes

    def create_body(self, recipients: int) -> IBodySink:
        """See IAccept."""
        if not self.open:
            raise _closed()
        if self.pressure > 1:
            raise transient("4.3.1", "insufficient system resources", code=452, reason="the queue or the disk is full or slow")
        return self._queue.create_body(recipients)

    def accept(self, message: NewMessage) -> Deferred[int]:
        """See IAccept."""
        if not self.open:
            return fail(_closed())
        now = self._now()
        try:
            message = filed(message, self._router.route, now, self._scheduler.lifetime)
        except MailError:
            return fail()
        except Exception:
            self._log.failure("a message cannot be routed")
            return fail(_trouble())
        result: Deferred[int] = Deferred()
        entry = _Accept(message, now, result)
        if not self._watched:
            self._watched = True
            self._rearm(now + self._deadline)
        self._accepting[message.id] = entry
        self._enqueue(entry)
        return result

    def _enqueue(self, entry: _Accept) -> None:
        scheduler, admitted = self._scheduler, entry.admitted

        def admit(recipient: NewRecipient) -> bool:
            if recipient.due > entry.asked or not scheduler.admit(recipient.dest, recipient.lane):
                return False
            admitted.append(recipient.dest)
            return True

        try:
            stored = self._queue.enqueue([entry.message], admit, entry.is_wanted)
        except Exception:
            stored = fail()
        stored.addCallbacks(self._stored, self._not_stored, callbackArgs=(entry,), errbackArgs=(entry,))

    def _stored(self, claims: list[Claim], entry: _Accept) -> None:
        now = self._now()
        self._ended(entry, now)
        message, scheduler = entry.message, self._scheduler
        if len(claims) != len(entry.admitted):  # a repeat: it is stored already, and on its way
            self._refund(entry, claims)
        if len(claims) != len(message.recipients) and not message.hold:
            mine = {claim.id for claim in claims}
            for id, recipient in enumerate(message.recipients, message.id + 1):
                if id not in mine:
                    scheduler.waiting(recipient.dest, recipient.lane, recipient.due, now)
        self._messages += 1
        self._recipients += len(message.recipients)
        self._bytes += message.body.size
        if entry.result is not None:
            entry.result.callback(message.id)  # "250" before anything else
        self._dispatch.take(claims, now)

    def _not_stored(self, failure: Failure, entry: _Accept) -> None:
        self._ended(entry, self._now())
        self._refund(entry, ())
        known = isinstance(failure.value, MailError)
        if not known:
            self._log.failure("a message could not be stored", failure)
        if entry.result is not None:
            entry.result.errback(failure if known else _trouble())

    def _ended(self, entry: _Accept, now: int) -> None:
        self._accepting.pop(entry.message.id, None)
        if not 0 <= now - self._sampled < SAMPLE:  # below 0: the clock was put back
            self._commit += (max(now - entry.asked, 0) - self._commit) / 8
            self._sampled = now

    def _refund(self, entry: _Accept, claims: Sequence[Claim]) -> None:
        unused = entry.admitted.copy()
        for claim in claims:
            unused.remove(claim.dest)
        for dest in unused:
            self._scheduler.refund(dest)

    def tick(self, now: int) -> int:
        """Answer those that take too long.  Returns when to come again (ms), 0: nothing is awaited."""
        self._watched = True
        for id, entry in list(self._accepting.items()):
            if entry.asked + self._deadline > now:
                return entry.asked + self._deadline
            if entry.result is None:
                continue
            result, entry.result = entry.result, None
            self._log.warn("message {id} is not on disk after {seconds} s: 451", id=id, seconds=(now - entry.asked) / 1000)
            result.errback(transient("4.3.0", "cannot store the message in time", reason="accept_deadline"))
        self._watched = False
        return 0


def _closed() -> MailError:
    return transient("4.3.2", "the queue is not open")


def _trouble() -> MailError:
    return transient("4.3.0", "cannot accept the message now")
