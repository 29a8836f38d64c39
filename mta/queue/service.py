"""The queue's service: the one meeting place of all rooms.  It accepts messages and has them delivered.

Provides `IAccept`.  `intake.py` is the way in, `dispatch.py` the way out, the scheduler between them decides, the engine
(`IQueue`) keeps.  Here are its life and its clock: one timer for everything that waits for a time (retries, blocks, slow
commits, the sweep of every minute), never one for each message.

Start: the engine is opened, what it knows of destinations is read before the first message is admitted, then all waiting
rows are found; `ready` fires, or says why not.  Open no port before it has.  Stop: nothing new begins, what runs is
awaited for at most 30 seconds and settled, then the engine is closed; what was not settled waits for the next start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import Settings
from mta.envelope import BOUNCE, Claim, Measure, NewMessage
from mta.interfaces import IAccept, IBodySink, IDeliveryAgent, IEventLog, IMeasured, IQueue, IRouter
from mta.queue.dispatch import Dispatch
from mta.queue.filing import filed
from mta.queue.ids import id_text
from mta.queue.intake import Intake
from mta.queue.lifetime import expire
from mta.queue.rerouting import Rerouting
from mta.queue.run import Runs
from mta.queue.scheduler.schedule import Scheduler
from mta.queue.state import Alteration, DestState, Lane, Selector, State, SweepReport
from mta.queue.walk import Walk
from mta.queue.warning import Report, Warnings
from mta.status import MailError

__all__ = ["QueueService"]

SWEEP = 60_000  # ms between two sweeps
MORE = 1_000  # ms to the next bite of a sweep
BITE = 500  # recipients altered at once
PATIENCE = 30  # seconds that running jobs get when we stop


@implementer(IAccept, IMeasured)
class QueueService(Service):
    """agents: by the name in front of a destination's colon; "bounce" must be among them.  now: ms since the epoch.

    warn: makes the warning that mail is late (`[dsn] delay_warning`); without it nobody is warned.
    """

    _logger = Logger()

    def __init__(
        self,
        queue: IQueue,
        router: IRouter,
        agents: Mapping[str, IDeliveryAgent],
        settings: Settings,
        *,
        reactor: IReactorTime,
        log: IEventLog,
        random: Random,
        now: Callable[[], int] | None = None,
        load: Callable[[], float] = lambda: os.getloadavg()[0],
        warn: Report | None = None,
    ) -> None:
        self.queue = queue
        self._router = router
        self.ready: Deferred[None] | None = None
        self._reactor = reactor
        self._now = now or (lambda: int(reactor.seconds() * 1000))
        self._events = log
        self._scheduler = Scheduler(settings.concurrency, settings.queue.active_limit, settings.retry, settings.destination)
        self._dispatch = Dispatch(
            queue,
            agents,
            self._scheduler,
            file=self._filed,
            is_stray=self._is_stray,
            random=random,
            now=self._now,
            events=log,
            rearm=self._rearm,
        )
        self._intake = Intake(queue, router, self._scheduler, self._dispatch, settings.queue, now=self._now, rearm=self._rearm_at)
        self._runs = Runs(
            queue, self._scheduler, agents, settings.queue, load=load, now=self._now, pump=self._dispatch.pump, events=log
        )
        self._walk = Walk(queue, self._found)
        told: dict[str, Any] = {"waiting": self._waits, "now": self._now, "log": log}
        self._rerouting = Rerouting(queue, router, **told)
        self._warnings = Warnings(queue, warn, file=self._filed, lifetime=self._lifetime, **told) if warn is not None else None
        self._delay_warning(settings)
        self._timer: IDelayedCall | None = None
        self._timer_at = 0  # ms
        self._ticking = False
        self._next_sweep = 0
        self._sweeping = self._expiring = False
        self._started = False
        self._opened: Deferred[None] = Deferred()  # never fails: the attempt to open has ended

    def reconfigure(self, settings: Settings, router: IRouter) -> None:
        """Other limits, retries and routes from now on.  Mail that waits is routed anew; what is in flight, when it waits."""
        self._router = router
        self._rerouting.use(router)
        self._delay_warning(settings)
        self._scheduler.reconfigure(settings.concurrency, settings.queue.active_limit, settings.retry, settings.destination)
        self._runs.reconfigure(settings.queue, self._now())
        self._intake.reconfigure(router, settings.queue)
        self._dispatch.pump()
        if self._started:
            self._begin(self._rerouting.run(), "routing anew")

    def _lifetime(self, dest: str) -> float:
        """Seconds that mail is kept for a destination."""
        own = self._scheduler.lifetime
        return max(self._kept, own(dest) if own is not None else 0.0)

    def _delay_warning(self, settings: Settings) -> None:
        self._kept = settings.retry.queue_lifetime
        if self._warnings is not None:
            self._warnings.age = int(settings.dsn.delay_warning * 1000)

    def _filed(self, message: NewMessage, at: int) -> NewMessage:
        return filed(message, self._router.route, at)

    def _is_stray(self, claims: Sequence[Claim]) -> bool:
        """Mail that the routes of now send elsewhere is not delivered; what moves it comes soon."""
        is_stray = self._rerouting.is_stray(claims)
        if is_stray:
            self._sweep_soon()
        return is_stray

    def _waits(self, dest: str, lane: int, due: int, now: int) -> None:
        """Something waits there now."""
        self._scheduler.waiting(dest, lane, due, now)
        self._dispatch.pump()

    # IAccept

    @property
    def pressure(self) -> float:
        """See IAccept."""
        return self._intake.pressure

    def create_body(self, recipients: int) -> IBodySink:
        """See IAccept."""
        return self._intake.create_body(recipients)

    def accept(self, message: NewMessage) -> Deferred[int]:
        """See IAccept."""
        if self._runs.watches:
            self._runs.observe(self._now())
            self._rearm()
        return self._intake.accept(message)

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        yield "mta_queue_pressure", (), self.pressure
        for part in (self._intake, self._scheduler, self._dispatch.tally):
            yield from part.measures()

    # Life

    def startService(self) -> None:
        """Open the queue; `ready` tells when, or why not."""
        super().startService()  # type: ignore[no-untyped-call]
        self.ready = self.open()

    def open(self) -> Deferred[None]:
        """Called once, by `startService`.  Errbacks with the engine's MailError when the queue cannot be opened."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        try:
            await self.queue.start()
            self._started = True
            now = self._now()
            for held in self.queue.flights.held:
                fields = {"dest": held.dest, "recipients": held.recipients, "strikes": held.strikes}
                self._events.event("held", id_text(held.message), fields)
            self._scheduler.restore(await self.queue.destinations(), now)
            is_late = not self.queue.recovered.called  # asked before the walk, which may be past what then waits
            await self._walk.whole()
            self._next_sweep = now + SWEEP
            self._runs.open(now)
            self._intake.open = self._dispatch.running = bool(self.running)
            self._tick()
            self._begin(self._rerouting.run(), "routing anew")
            if is_late:
                self.queue.recovered.addCallback(self._recovered)
        finally:
            self._opened.callback(None)

    def _recovered(self, _: object) -> None:
        """There is room on the disk now: what the last process had taken waits, and goes at once."""
        self._begin(self._rerouting.run(), "routing anew")
        self._begin(self._walk.whole(), "a walk through the queue")

    def stopService(self) -> Deferred[None]:
        """Fires when everything is settled and the engine is closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.ready is None:
            return
        await self._opened
        if not self._started:
            return
        self._started = False
        self._runs.close()
        drained = self._dispatch.stop()
        patience = self._reactor.callLater(PATIENCE, drained.cancel)
        drained.addErrback(self._impatient)
        await drained
        if patience.active():
            patience.cancel()
        self._intake.open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        await self.queue.stop()

    def _impatient(self, _: Failure) -> None:
        self._logger.warn("jobs still run after {seconds} s: their mail is delivered again", seconds=PATIENCE)

    # The clock

    def _rearm(self) -> None:
        """Something may be due earlier than it was."""
        times = (self._scheduler.next_time(), self._dispatch.next_time(), self._runs.next_time())
        for time in times:
            if time and time < self._timer_at:
                self._rearm_at(time)

    def _rearm_at(self, time: int) -> None:
        if self._ticking or self._timer is None or time >= self._timer_at:
            return
        self._timer_at = time
        self._timer.reset(max(time - self._now(), 1) / 1000)

    def _tick(self) -> None:
        """Everything whose time has come.  Trouble in one turn is logged by the reactor and does not stop the clock."""
        self._timer, self._ticking = None, True
        now = self._now()
        following = now + MORE
        try:
            following = self._due(now)
        finally:
            self._ticking = False
            self._timer_at = following
            self._timer = self._reactor.callLater(max(following - now, 1) / 1000, self._tick)

    def _due(self, now: int) -> int:
        """Do what is due; returns when something is due next."""
        self._scheduler.advance(now)
        self._dispatch.tick(now)
        self._runs.tick(now)
        if now >= self._next_sweep:
            self._sweep(now)
        self._dispatch.pump()
        deadline = self._intake.tick(now)  # the last: an agent may have brought mail meanwhile
        times = (self._next_sweep, deadline, self._scheduler.next_time(), self._dispatch.next_time(), self._runs.next_time())
        return min(time for time in times if time)

    # The sweep

    def _sweep(self, now: int) -> None:
        """What is too old goes to the bounce; destinations without mail are forgotten; nothing waits unseen."""
        self._next_sweep = now + SWEEP
        for name in self._scheduler.tidy(now):
            self.queue.mark(name, clear=True).addErrback(self._trouble, "a destination's record")
        self._begin(self._walk.some(), "a walk through the queue")
        self._begin(self._rerouting.run(), "routing anew")
        if self._warnings is not None:
            self._begin(self._warnings.run(), "delay warnings")
        if self._scheduler.lifetime is not None and not self._expiring:
            self._begin(self._outlived(now), "what has outlived its destination")
        if not self._sweeping:
            self._sweeping = True
            swept = self.queue.sweep(now)
            swept.addBoth(self._swept)
            swept.addErrback(self._trouble, "a sweep")

    def _swept(self, report: SweepReport | Failure) -> Deferred[None] | Failure | None:
        self._sweeping = False
        if isinstance(report, Failure):
            return report
        if report.more:
            self._sweep_soon()
        return self._expired(report.expired)

    def _sweep_soon(self) -> None:
        self._next_sweep = min(self._next_sweep, self._now() + MORE)
        self._rearm_at(self._next_sweep)

    async def _outlived(self, now: int) -> None:
        self._expiring = True
        try:
            if late := self._scheduler.outlived(now):  # the next sweep finds them in the file, not claimed again so soon
                self._dispatch.give_back(late, now + 2 * SWEEP)
            if (found := self._expired(await expire(self.queue, self._scheduler, now))) is not None:
                await found
        finally:
            self._expiring = False

    def _expired(self, count: int) -> Deferred[None] | None:
        if not count:
            return None
        self._dispatch.tally.expired += count
        self._events.event("expired", "", {"recipients": count})
        return self.queue.lanes(BOUNCE).addCallback(self._found)

    def _found(self, lanes: list[Lane]) -> None:
        self._scheduler.discovered(lanes, self._now())
        self._dispatch.pump()

    def _begin(self, work: Coroutine[Deferred[Any], Any, object], what: str) -> None:
        Deferred.fromCoroutine(work).addErrback(self._trouble, what)

    def _trouble(self, failure: Failure, what: str) -> None:
        if not self._started and isinstance(failure.value, MailError):
            return  # the queue was closed under it
        self._logger.failure("{what} failed", failure, what=what)

    # The operator

    def run(self, two_stage: bool = True) -> Deferred[int]:
        """Deliver all mail that is due, once, also while new mail is only stored; in two stages it goes grouped by host.

        Fires with the number of destinations when all have set out.
        """
        return self._runs.run(two_stage)

    def suspend(self, dest: str, why: str = "") -> Deferred[DestState]:
        """Nothing goes to a destination until `resume`, whatever comes for it is stored.  Durable when it fires."""
        if returned := self._scheduler.suspend(dest):
            self._dispatch.give_back(returned)
        self._events.event("suspended", "", {"dest": dest, "reason": why or None})
        return self.queue.mark(dest, why=why, suspended=True)

    def resume(self, dest: str) -> Deferred[DestState]:
        """A suspension ends, a block with it: the destination is probed at once."""
        self._scheduler.resume(dest)
        self._events.event("resumed", "", {"dest": dest})
        self._dispatch.pump()
        return self.queue.mark(dest, suspended=False, clear=True)

    def flush(self, dest: str | None = None) -> Deferred[int]:
        """Try everything that waits now, of one destination or of all; blocks end.  Fires with the number of recipients."""
        return Deferred.fromCoroutine(self._flush(dest))

    async def _flush(self, dest: str | None) -> int:
        selector = Selector(dest=dest, state=State.WAITING)
        total, after = await self.queue.alter(selector, Alteration.RETRY, self._now(), BITE)
        while after:
            count, after = await self.queue.alter(selector, Alteration.RETRY, self._now(), BITE, after)
            total += count
        self._scheduler.unblock(dest)
        await self._discover(dest)
        return total

    def reroute(self, selector: Selector, after: int = 0, limit: int = BITE) -> Deferred[tuple[int, int]]:
        """Route anew some of those recipients that nobody has: how many were moved, and 0 or the `after` to go on with."""
        return Deferred.fromCoroutine(self._rerouting.bite(selector, after, limit))

    def adopted(self) -> Deferred[None]:
        """Mail of another queue has come into ours: it is routed anew, and found."""
        return Deferred.fromCoroutine(self._adopted())

    async def _adopted(self) -> None:
        await self._rerouting.doubt()
        self._begin(self._rerouting.run(), "routing anew")
        await self._discover(None)

    def discover(self, dest: str | None = None) -> Deferred[None]:
        """Find at once what an operator's act has made due, of one destination or of all."""
        return Deferred.fromCoroutine(self._discover(dest))

    async def _discover(self, dest: str | None) -> None:
        if dest is not None:
            self._found(await self.queue.lanes(dest))
            return
        await self._walk.whole()
