"""Delay warnings: the sender hears, once, that mail still waits (RFC 3461 4.1 and 5.2.5): when it has waited for `[dsn]
delay_warning`, or at the time that he has named himself (RFC 2852, mode N), which is then the only one, unless the mail would
be given up before.  Mail that was put off (RFC 4865) waits since its release.

Every minute the messages whose time has come are asked from the queue; the reporter makes the warning, and the queue stores
it and the mark "warned" in one transaction, so that no crash makes it two or none.  A walk goes on where the last one ended,
in the order of age (which is that of the ids) or of the named times; once an hour all is looked through again: for what was
held or put off (RFC 4865), and for warnings that could not be made.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mta.envelope import NewMessage, Settlement
from mta.interfaces import IEventLog, IQueue
from mta.queue.filing import PUT_OFF
from mta.queue.ids import id_at, id_text
from mta.queue.state import Overdue, Place
from mta.status import MailError

__all__ = ["Report", "Warnings"]

BITE = 20  # messages whose headers are in memory at once
HOUR = 3_600_000  # ms

Report = Callable[[Overdue], Deferred[Settlement]]


class Warnings:
    """report: makes the warning, or nothing where it is not wanted after all; no outcomes.  file: fills in where it goes.

    waiting: told where something waits now.  now: ms.  age: ms after which a sender is warned who has named no time, 0: never.
    lifetime: seconds that mail is kept for a destination.
    """

    _log = Logger()

    def __init__(
        self,
        queue: IQueue,
        report: Report,
        *,
        file: Callable[[NewMessage, int], NewMessage],
        waiting: Callable[[str, int, int, int], None],
        lifetime: Callable[[str], float],
        now: Callable[[], int],
        log: IEventLog,
    ) -> None:
        self._queue = queue
        self._report = report
        self._file = file
        self._waiting = waiting
        self._lifetime = lifetime
        self._now = now
        self._events = log
        self._running = False
        self._after = 0  # the id up to which all has been looked at
        self._place: Place = (0, 0)  # and the place among the named times
        self._round = 0  # when that began (ms)
        self.age = 0

    async def run(self) -> None:
        """Warn of all that is late and has not been warned of."""
        if self._running:
            return
        self._running = True
        try:
            await self._walk(self._now())
        finally:
            self._running = False

    async def _walk(self, now: int) -> None:
        if not 0 <= now - self._round < HOUR:
            self._after, self._place, self._round = 0, (0, 0), now
        while late := await self._queue.overdue_by(now, self._place, BITE):
            for overdue in late:
                await self._warn(overdue)
                self._place = overdue.place
        if self.age:
            await self._walk_by_age(now - self.age)

    async def _walk_by_age(self, before: int) -> None:
        while late := await self._queue.overdue(before, self._after, BITE):
            for overdue in late:
                if self._began(overdue) < before:
                    await self._warn(overdue)
                self._after = overdue.message.id
        self._after = max(self._after, id_at(before) - 1)

    def _began(self, overdue: Overdue) -> int:
        """When it began to wait: at its receipt or release, with which its lifetime began (RFC 4865 4.2.3)."""
        message, claims = overdue.message, overdue.claims
        if not message.flags & PUT_OFF:
            return message.created
        first = min(claim.due for claim in claims) if all(claim.attempts == 0 for claim in claims) else 0
        return max(message.expires - int(max(self._lifetime(claim.dest) for claim in claims) * 1000), first)

    async def _warn(self, overdue: Overdue) -> None:
        message, name = overdue.message, id_text(overdue.message.id)
        made, stored = Settlement(()), False
        try:
            made = await self._report(overdue)
            now = self._now()
            spawn = [self._file(new, now) for new in made.spawn]
            stored = await self._queue.warn(message.id, spawn)
        except MailError as error:  # no room, or no way to the sender just now: within the hour
            self._log.warn("no delay warning for {id} now: {why}", id=name, why=str(error))
            return
        except Exception:
            self._log.failure("the delay warning for {id}", id=name)
            return
        finally:
            if not stored and made.undone is not None:
                made.undone()
        if not stored:
            return
        fields = {"from": message.sender, "recipients": len(overdue.claims), "reports": len(spawn)}
        self._events.event("warned", name, fields)
        for new in spawn:
            for to in new.recipients:
                self._waiting(to.dest, to.lane, to.due, now)
