"""The process that twistd starts where `[service] workers` is more than 1: it watches the workers, and moves no mail itself.

It reads the configuration and binds the ports; each worker is a process of its own, with a queue file, hints and a share of
the limits (`shares.py`) of its own.  Who ends is started again, whoever asks through the control socket is answered for
all (`door.py`).  A reload goes from worker to worker, one at a time: within the process where that will do, by a process
that takes its place where ports, number or something that is read at the start has changed.  When one of them does not
take the new settings all go back to the old ones.  Log and data directory stay those of the start.

Start: it ends with status 1 when the configuration or a port is wrong, the data directory cannot be written, or none of the
workers can be started.  Stop: nobody listens any more, SIGTERM to all, SIGKILL after `PATIENCE`.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.config.at_start import kept
from mta.config.settings import Settings
from mta.control.log import EventLog
from mta.control.metrics import listed
from mta.control.reloads import Reloads
from mta.control.scrapes import Scrapes
from mta.control.socket import Answer, Command
from mta.control.vitals import Vitals
from mta.envelope import Measure
from mta.process import Door, end, give_up, mistakes_of, raise_file_limit, reason_of
from mta.queue.sqlite.still import make_folder
from mta.status import MailError, misconfigured, transient
from mta.workers.census import Census
from mta.workers.child import Child, spawn
from mta.workers.door import Commands
from mta.workers.frame import Errand
from mta.workers.post import Post, no_worker
from mta.workers.shares import share
from mta.workers.sockets import Sockets

__all__ = ["PATIENCE", "Supervisor"]

PATIENCE: Final = 55.0  # seconds for the orderly stop of a worker; systemd waits for 60
PINNED: Final = ("data_dir", "log")  # of the start, for all workers that are ever started

Step = Callable[[Post], Awaitable[None]]


class Supervisor(Service):
    """reread: reads the configuration anew, in a thread; ConfigError.  door: makes it, for these commands.

    start: starts the process of a worker, with these descriptors.
    """

    _bugs = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        reread: Callable[[], Settings],
        door: Callable[[Mapping[str, Command]], Door],
        *,
        start: Callable[[Any, Child, Mapping[int, int]], None] = spawn,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._reread = reread
        self._start = start
        self._log = EventLog(settings.log, reactor, reactor.seconds)
        self._sockets = Sockets(reactor)
        self._posts = [self._post(number) for number in range(settings.service.workers)]
        self._reloads = Reloads(self._reload)
        self._generation = 1
        self._opened: Deferred[None] = Deferred()  # a worker serves, and so the house is open
        commands = Commands(lambda: self._posts, reactor, self._log)
        self._census = Census(lambda: self._posts, self._measures, reactor)
        self._scrapes = Scrapes(self._census.page, reactor, self._log)
        self._began = 0.0
        own = {"reload": self._reload_asked, "metrics": self._metrics_asked}
        self._door = door({**own, **commands.table()})

    def _post(self, number: int) -> Post:
        return Post(number, self._reactor, self._launch, self._log, self._open)

    # -- start and stop

    def privilegedStartService(self) -> None:
        """Bind the ports; one that is in use ends the process here."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        raise_file_limit()
        try:
            self._sockets.bind(listen.endpoint for listen in self._settings.listen)
        except MailError as error:
            give_up(error)

    def startService(self) -> None:
        """Start the workers, when the reactor runs."""
        super().startService()  # type: ignore[no-untyped-call]
        self._began = self._reactor.seconds()
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        try:
            self._log.open()
            make_folder((self._settings.data_dir / "queue").absolute())
        except OSError as error:
            end(self._reactor, self._bugs, f"cannot write {error.filename}: {error.strerror}")
            return
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self.running:
            starting = DeferredList([post.start() for post in self._posts], consumeErrors=True)
            starting.addCallback(self._begun)

    def _begun(self, results: list[tuple[bool, Any]]) -> None:
        """Each has started, or has ended: one will do."""
        if self.running and not self._opened.called:
            failure: Failure = results[0][1]
            end(self._reactor, self._bugs, reason_of(failure))

    def _open(self) -> None:
        """A worker is ready: the first one opens the house."""
        if self._opened.called or not self.running:
            return
        self._announce(self._settings, 0)
        try:
            self._door.open()
        except MailError as error:
            end(self._reactor, self._bugs, error.reason or error)
        scraped = Deferred.fromCoroutine(self._scrapes.open(self._settings.metrics.listen))
        scraped.addErrback(lambda failure: end(self._reactor, self._bugs, reason_of(failure)))
        self._opened.callback(None)

    def _announce(self, settings: Settings, known: int) -> None:
        """Say which ports are open.  known: so many have been told of."""
        entries = {listen.endpoint: listen for listen in settings.listen}
        for endpoint, (address, port) in list(zip(self._sockets.endpoints, self._sockets.addresses, strict=True))[known:]:
            listen = entries[endpoint]
            tls = "none" if listen.tls == "starttls" and settings.tls.certificate is None else listen.tls
            what = {
                "service": "receive",
                "name": listen.name or None,
                "endpoint": endpoint,
                "address": address,
                "port": port,
                "tls": tls,
            }
            self._log.event("listening", "", what)

    def stopService(self) -> Deferred[None]:
        """Fires when no worker is left."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        closed = maybeDeferred(self._door.close)
        closed.addErrback(lambda failure: self._bugs.failure("the door of commands", failure))
        await closed
        await self._scrapes.close()
        await self._sockets.close()
        await DeferredList([post.stop(PATIENCE) for post in self._posts])
        self._log.close()

    # -- workers

    def _launch(self, number: int) -> Child:
        settings, workers = self._settings, self._settings.service.workers
        handed, descriptors = self._sockets.handed(settings.listen)
        module = type(self._reactor).__module__
        errand = Errand(share(settings, number, workers), number, workers, handed, module)
        child = Child(self._reactor, errand, lambda line: self._bugs.info("worker {number}: {line}", number=number, line=line))
        self._start(self._reactor, child, descriptors)
        return child

    # -- metrics

    async def _metrics_asked(self, _: Mapping[str, Any]) -> Answer:
        return {"page": {worker: listed(measures) for worker, measures in (await self._census.page()).items()}}

    def _measures(self) -> Iterator[Measure]:
        """Of this process."""
        yield "mta_start_time_seconds", (), self._began
        yield "mta_generation", (), self._generation
        for part in (self._reloads, self._log, Vitals()):
            yield from part.measures()

    # -- reload

    def reload(self) -> Deferred[Answer]:
        """As `process.Process.reload`, for all of them."""
        self._log.reopen()
        for post in self._posts:
            post.reopen()
        return self._reloads.ask()

    async def _reload_asked(self, _: Mapping[str, Any]) -> Answer:
        return await self.reload()

    async def _reload(self) -> Answer:
        await self._opened
        try:
            settings = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._reread)
            restart = await self._change(settings)
        except Exception as error:
            mistakes = mistakes_of(error, self._bugs)
        else:
            done = {"status": "done", "generation": self._generation, "restart": ",".join(restart) or None}
            self._log.event("reload", "", done)
            return {"generation": self._generation, "restart": restart}
        for mistake in mistakes:
            self._log.event("reload", "", {"status": "refused", "mistake": mistake})
        return {"ok": False, "mistakes": mistakes}

    async def _change(self, settings: Settings) -> tuple[str, ...]:
        """Serve by other settings: the keys that hold only after a restart.  MailError, and all is as it was."""
        old = self._settings
        restart = tuple(key for key in PINNED if getattr(settings, key) != getattr(old, key))
        settings = attrs.evolve(settings, **{key: getattr(old, key) for key in PINNED})
        known, missing = len(self._sockets.endpoints), self._sockets.missing(settings.listen)
        same = not missing and known == len(settings.listen) and not kept(old, settings)[1]
        scrapes = await self._scrapes.bind(settings.metrics.listen)
        try:
            self._sockets.bind(missing)
        except MailError:
            await self._scrapes.drop(scrapes)
            raise
        try:
            await self._roll(settings, self._reload_one if same else self._renew)
        except BaseException:
            await self._sockets.drop(missing)
            await self._scrapes.drop(scrapes)
            raise
        await self._scrapes.use(scrapes)
        self._announce(settings, known)
        await self._sockets.keep(settings.listen)
        self._generation += 1
        return restart

    async def _roll(self, settings: Settings, step: Step) -> None:
        """From worker to worker.  When one fails, all that were touched go back.  `step` acts by `self._settings`."""
        old, posts = self._settings, self._posts
        number = settings.service.workers
        stays, leaves, comes = posts[:number], posts[number:], [self._post(each) for each in range(len(posts), number)]
        self._settings = settings
        touched: list[Post] = []
        try:
            for post in leaves:  # first: what they had is adopted by those that stay
                touched.append(post)
                await post.stop(PATIENCE)
            self._posts = stays
            for post in stays:
                touched.append(post)
                await step(post)
            for post in comes:  # whoever cannot start is tried again, as at any other time
                self._go_on()
                self._posts = [*self._posts, post]
                await post.start().addErrback(no_worker)
        except Exception:
            self._settings = old
            await DeferredList([post.stop(PATIENCE) for post in comes])
            self._posts = posts
            for post in touched:
                await self._put_back(post, step)
            raise

    async def _put_back(self, post: Post, step: Step) -> None:
        try:
            await (step if post.is_ready else self._renew)(post)
        except MailError as error:  # it is tried again by its post
            self._log.event("worker", "", {"worker": post.number, "status": "not put back", "reason": error.reason})

    async def _reload_one(self, post: Post) -> None:
        """Within its process; one that does not serve begins with what holds now."""
        if not post.is_ready:
            await self._renew(post)
            return
        settings = share(self._settings, post.number, self._settings.service.workers)
        answer: Any = await post.ask({"command": "reload", "settings": settings})
        if not answer.get("ok"):
            raise misconfigured("; ".join(answer.get("mistakes") or [str(answer.get("error"))]))

    async def _renew(self, post: Post) -> None:
        """By another process; one that did not serve, for reasons of its own, need not serve now."""
        served = post.is_ready
        await post.stop(PATIENCE)
        self._go_on()
        if served:
            await post.start()
        else:
            post.try_again()

    def _go_on(self) -> None:
        """Nobody is started behind a stop.  MailError."""
        if not self.running:
            raise transient("4.3.2", "The service stops", reason="the server stops: the settings stay")
