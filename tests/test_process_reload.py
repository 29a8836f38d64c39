"""`mta.process`: reloads that are asked for while one runs, by SIGHUP and by the control socket, become one behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from mta.config.mistake import ConfigError, Mistake
from mta.config.settings import Settings
from mta.control.socket import Command
from mta.process import Process
from mta.service import Reloaded
from tests.threads import ThreadedClock


class Served:
    """A server that is told of settings, and takes its time; `queue` and `log` as far as a Process wants them."""

    def __init__(self) -> None:
        self.queue = self.log = self
        self.reopened = 0
        self.running: list[tuple[Settings, Deferred[Reloaded]]] = []
        self.events: list[object] = []
        self.measured: list[object] = []

    def reopen(self) -> None:
        self.reopened += 1

    def event(self, name: str, queue_id: str, fields: Any) -> None:
        self.events.append((name, fields["status"]))

    def reload(self, settings: Settings) -> Deferred[Reloaded]:
        done: Deferred[Reloaded] = Deferred()
        self.running.append((settings, done))
        return done


class ReloadTests(SynchronousTestCase):
    """`Process.reload`."""

    def setUp(self) -> None:
        self.reactor = ThreadedClock(eager=False)
        self.served = Served()
        self.file: Any = self.settings("first.test")  # what the configuration file says
        self.process = Process(lambda: self.served, self.reactor, self.reread, self.door)  # type: ignore[arg-type, return-value]

    def door(self, commands: Mapping[str, Command]) -> Any:
        """None that opens: the commands are called."""
        self.commands = commands

    def settings(self, hostname: str) -> Settings:
        return Settings(hostname=hostname, data_dir=Path("/nowhere"))

    def reread(self) -> Settings:
        """Reads the file as it is now."""
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    def told(self) -> list[str]:
        """The names by which the server was told to serve, in order."""
        return [settings.hostname for settings, _ in self.served.running]

    def finish(self) -> None:
        """The running reload is done."""
        self.served.running[-1][1].callback(Reloaded(len(self.served.running) + 1, ()))

    def test_one_more_behind_the_running_one(self) -> None:
        """However many come while one runs, the files are read once more, after all of them came; the log is reopened at each."""
        first = self.process.reload()
        self.reactor.work()
        later = [self.process.reload() for _ in range(50)]
        self.file = self.settings("second.test")
        self.assertEqual((self.told(), self.reactor.waiting, self.served.reopened), (["first.test"], [], 51))
        self.finish()
        self.assertEqual(self.successResultOf(first), {"generation": 2, "restart": ()})
        for each in later:
            self.assertNoResult(each)
        self.reactor.work()
        self.assertEqual((self.told(), self.reactor.waiting), (["first.test", "second.test"], []))
        self.finish()
        self.assertEqual([self.successResultOf(each)["generation"] for each in later], [3] * 50)
        self.assertEqual(self.reactor.waiting, [])

    def test_asked_while_the_files_are_read(self) -> None:
        """A reload that has begun to read may have read what was changed since: who asks then gets the answer of the next."""
        first = self.process.reload()
        asked = ensureDeferred(self.commands["reload"]({}))
        self.reactor.work()
        self.finish()
        self.assertEqual(self.successResultOf(first)["generation"], 2)
        self.assertNoResult(asked)
        self.reactor.work()
        self.finish()
        self.assertEqual(self.successResultOf(asked)["generation"], 3)

    def test_each_hears_of_his_own(self) -> None:
        """A mistake is told to those whose reload found it, and to no other; the next is not held up by it."""
        self.file = ConfigError([Mistake("mta.toml", 7, "dns.attempts", "at least 1")])
        bad = self.process.reload()
        also = self.process.reload()
        self.reactor.work()
        self.assertEqual(self.successResultOf(bad)["ok"], False)
        self.file = self.settings("mended.test")
        self.reactor.work()
        self.finish()
        self.assertEqual(self.successResultOf(also), {"generation": 2, "restart": ()})
        self.assertEqual(self.served.events, [("reload", "refused")])

    def test_asked_by_who_hears_the_answer(self) -> None:
        """A caller who asks again from his answer gets one more, after those that were waiting."""
        again: list[Deferred[Any]] = []
        self.process.reload().addCallback(lambda _: again.append(self.process.reload()))
        waiting = self.process.reload()
        self.reactor.work()
        self.finish()
        self.reactor.work()
        self.finish()
        self.assertEqual((self.successResultOf(waiting)["generation"], self.successResultOf(again[0])["generation"]), (3, 3))
        self.assertEqual((len(self.told()), self.reactor.waiting), (2, []))

    def test_who_no_longer_waits(self) -> None:
        """An answer that was cancelled keeps nobody else from his, and the next reload comes."""
        self.process.reload()
        gone, here = self.process.reload(), self.process.reload()
        gone.cancel()
        self.failureResultOf(gone)
        for _ in range(2):
            self.reactor.work()
            self.finish()
        self.assertEqual(self.successResultOf(here)["generation"], 3)
        self.process.reload()
        self.assertEqual(len(self.reactor.waiting), 1)
