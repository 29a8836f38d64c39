"""Queue runs and modes: mail that is only stored, and is delivered together from time to time.

A run makes all waiting mail that is due deliverable once.  In two stages (Exim's `-qq`) it is first asked where each
destination leads; those that lead to the same mail servers then form a convoy, which goes over one connection as far as that
will do.  A destination sets out as soon as its own way is known: a name server that is slow holds up nobody else, and where
the way is not known the destination goes by itself and hears from its attempt why.  Mail that comes while a run is under way
waits for the next one where mail is only stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.settings import Queue
from mta.envelope import BOUNCE
from mta.interfaces import IDeliveryAgent, IEventLog, IQueue, ISites
from mta.queue.mode import Mode
from mta.queue.scheduler.convoy import Convoy
from mta.queue.scheduler.schedule import Scheduler

__all__ = ["Runs"]


class Runs:
    """Sets the scheduler's mode and begins runs.  pump: starts what may start."""

    PAGE: Final = 200  # lanes read at once: some ms of the writer's time
    ABREAST: Final = 20  # ways that are asked for at once
    _log = Logger()

    def __init__(
        self,
        queue: IQueue,
        scheduler: Scheduler,
        agents: Mapping[str, IDeliveryAgent],
        settings: Queue,
        *,
        load: Callable[[], float],
        now: Callable[[], int],
        pump: Callable[[], None],
        events: IEventLog,
    ) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self._agents = agents
        self._now = now
        self._pump = pump
        self._events = events
        self._mode = Mode(settings, load)
        self._every = int(settings.run_every * 1000)
        self._next = 0  # when the next run begins by itself
        self._running: Deferred[int] | None = None
        self._awaiting: list[Deferred[int]] = []  # who is told when it has ended
        self._closed = True
        self.watches = self._mode.watches

    def open(self, now: int) -> None:
        """The queue is open: the mode holds from now on, the clock of the runs begins."""
        self._closed = False
        self._next = now + self._every if self._every else 0
        self.observe(now)

    def close(self) -> None:
        """No run begins or goes on any more."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()

    def reconfigure(self, settings: Queue, now: int) -> None:
        """Another mode from now on, another interval; a run under way goes on."""
        self._mode.reconfigure(settings)
        self.watches = self._mode.watches
        every = int(settings.run_every * 1000)
        if every != self._every:
            self._every = every
            self._next = now + every if every else 0
        if not self._closed:
            self.observe(now)

    def observe(self, now: int) -> None:
        """Is mail only stored now?"""
        spools = self._mode.look(now)
        if spools is not self._scheduler.spooling:
            self._scheduler.spool(spools)
            self._events.event("mode", "", {"spool": "yes" if spools else "no"})

    def next_time(self) -> int:
        """When to call `tick`; 0: nothing is awaited."""
        return min((time for time in (self._next, self._mode.next_time()) if time), default=0)

    def tick(self, now: int) -> None:
        """Look at the load; begin the run whose time has come."""
        if self._mode.watches:
            self.observe(now)
        if self._next and self._next <= now:
            self._next = now + self._every
            self.run(True).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        if not self._closed:
            self._log.failure("a run failed", failure)

    def run(self, two_stage: bool) -> Deferred[int]:
        """Begin a run.  Fires with the number of destinations that take part, when all have set out.

        While one sets out a second one joins it: what it would deliver the first one does.
        """
        done: Deferred[int] = Deferred()
        self._awaiting.append(done)
        if len(self._awaiting) == 1:
            running = self._running = Deferred.fromCoroutine(self._run(two_stage))
            running.addBoth(self._ended)
        return done

    def _ended(self, result: int | Failure) -> None:
        """Each who asked has an answer of his own; nobody's cancel ends the run of another."""
        awaiting, self._awaiting, self._running = self._awaiting, [], None
        for done in awaiting:
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(result)

    async def _run(self, two_stage: bool) -> int:
        now = self._now()
        self._scheduler.begin_run(now)
        names = await self._due(now)
        self._events.event("run", "", {"destinations": len(names), "stages": 2 if two_stage else 1})
        if not two_stage:
            for name in names:
                self._scheduler.join(name, None)
            self._pump()
            return len(names)
        convoys: dict[str, Convoy] = {}
        ways = iter(names)
        walkers = [Deferred.fromCoroutine(self._send(ways, convoys)) for _ in range(min(self.ABREAST, len(names)))]
        await DeferredList(walkers, fireOnOneErrback=True, consumeErrors=True)
        return len(names)

    async def _due(self, now: int) -> list[str]:
        """The destinations with due rows in the file, made known to the scheduler."""
        names: dict[str, None] = {}
        after = ""
        while True:
            lanes = await self._queue.lanes(None, after, self.PAGE)
            self._scheduler.discovered(lanes, self._now())
            names.update((lane.dest, None) for lane in lanes if lane.due <= now and lane.dest != BOUNCE)
            if len(lanes) < self.PAGE:
                return list(names)
            after = lanes[-1].dest

    async def _send(self, ways: Iterator[str], convoys: dict[str, Convoy]) -> None:
        """One destination after the other, until none is left."""
        for name in ways:
            site = await self._site(name)
            self._scheduler.join(name, convoys.setdefault(site, Convoy()))
            self._pump()

    async def _site(self, name: str) -> str:
        agent = self._agents.get(name.partition(":")[0])
        if agent is not None and ISites.providedBy(agent):
            try:
                return f"{name.partition('/')[0]} {await ISites(agent).site(name) or name}"
            except Exception:
                if self._closed:
                    raise
                self._log.failure("where {dest} is brought to", dest=name)
        return name
