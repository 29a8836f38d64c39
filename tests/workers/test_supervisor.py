"""`mta.workers.supervisor`: start, stop and reload of workers that are none, on a Clock."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.config.mistake import ConfigError, Mistake
from mta.config.settings import Limits, Listen, Log, Service, Settings
from mta.control.log import GATHER
from mta.workers import supervisor as module
from mta.workers.child import PULSE, Child
from mta.workers.supervisor import PATIENCE, Supervisor
from tests.threads import ThreadedClock
from tests.workers.fakes import FakeProcess


class Reactor(ThreadedClock):
    """Runs from the start; its ports are ports that nobody reaches."""

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.stopped = 0

    def callWhenRunning(self, function: Callable[[], None]) -> None:
        function()

    def stop(self) -> None:
        self.stopped += 1


class Door:
    """The control socket."""

    is_open = False

    def __init__(self, commands: Any) -> None:
        self.commands = commands

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class SupervisorCase(SynchronousTestCase):
    """A supervisor of two, whose processes do what the test says."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.settings = Settings(
            hostname="mx.test",
            data_dir=self.folder / "data",
            service=Service(2),
            log=Log(file=str(self.folder / "log")),
            limits=Limits(connections=100),
        )
        self.file: Settings | Exception = self.settings  # what the configuration says now
        self.processes: list[FakeProcess] = []
        self.obeys = True
        self.ended: list[object] = []
        self.patch(module, "end", lambda reactor, log, reason: self.ended.append(reason))
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.supervisor = Supervisor(self.settings, self.reactor, self.reread, self.door, start=self.spawn)

    def door(self, commands: Any) -> Door:
        self.opening = Door(commands)
        return self.opening

    def reread(self) -> Settings:
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    def spawn(self, _: Any, child: Child, descriptors: Mapping[int, int]) -> None:
        self.processes.append(FakeProcess(child, self.obeys))

    def serve(self) -> None:
        """Started, and both are ready."""
        self.supervisor.startService()
        for process in self.processes:
            process.ready()

    def alive(self) -> list[FakeProcess]:
        return [process for process in self.processes if not process.is_over]

    def log(self) -> str:
        self.reactor.advance(GATHER)
        return (self.folder / "log").read_text()

    def reload(self, settings: Settings | Exception) -> Deferred[Any]:
        self.file = settings
        return self.supervisor.reload()


class LifeTests(SupervisorCase):
    """Start and stop."""

    def test_start(self) -> None:
        """A share of the settings each; the first that is ready opens the door, and says where we listen, once."""
        self.supervisor.startService()
        errands = [process.errand for process in self.processes]
        self.assertEqual([(0, 2, 50, 1), (1, 2, 50, 1)], [self.told(errand) for errand in errands])
        self.assertTrue((self.folder / "data/queue").is_dir())
        self.assertFalse(self.opening.is_open)
        self.processes[1].ready()
        self.assertTrue(self.opening.is_open)
        self.processes[0].ready()
        self.assertEqual([], self.ended)

    def told(self, errand: Any) -> tuple[int, int, int, int]:
        return errand.number, errand.workers, errand.settings.limits.connections, errand.settings.service.workers

    def test_one_cannot_start(self) -> None:
        """The other serves, it is tried again, and the log says why."""
        self.supervisor.startService()
        self.processes[0].ready()
        self.processes[1].says("mta: /d/queue/1.db: is damaged\n")
        self.processes[1].end(status=1)
        self.assertEqual([], self.ended)
        self.reactor.advance(1)
        self.assertEqual(1, self.processes[2].errand.number)
        self.assertIn('worker=1 status=ended reason="/d/queue/1.db: is damaged (status 1)" again_in=1.000', self.log())

    def test_none_can_start(self) -> None:
        """Then it ends, with the reason of the first: whoever started it must see it."""
        self.supervisor.startService()
        for number, process in enumerate(self.processes):
            process.says(f"mta: reason {number}\n")
            process.end(status=1)
        self.assertEqual(["reason 0 (status 1)"], self.ended)

    def test_no_data_directory(self) -> None:
        """It ends before anybody is started."""
        (self.folder / "data").write_text("a file")
        self.supervisor.startService()
        self.assertEqual(([], 1), (self.processes, len(self.ended)))
        self.assertIn("cannot write", str(self.ended[0]))

    def test_stop(self) -> None:
        """SIGTERM to all at once; who does not end is killed; only then is it over, and nothing is left on the clock."""
        self.obeys = False
        self.serve()
        stopped = self.supervisor.stopService()
        self.assertEqual([["TERM"], ["TERM"]], [process.signals for process in self.processes])
        self.processes[0].end()
        self.reactor.advance(PATIENCE - 1)
        self.assertNoResult(stopped)
        self.reactor.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(["TERM", "KILL"], self.processes[1].signals)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertFalse(self.opening.is_open)

    def test_stopped_before_it_began(self) -> None:
        """The first worker that is ready then opens nothing."""
        self.supervisor.startService()
        stopped = self.supervisor.stopService()
        self.successResultOf(stopped)
        self.assertEqual(([], False, []), (self.alive(), self.opening.is_open, self.ended))

    def test_reload_while_it_starts(self) -> None:
        """SIGHUP before anybody serves: it waits until somebody does, or the start would be taken for one that failed."""
        self.supervisor.startService()
        asked = self.reload(attrs.evolve(self.settings, limits=Limits(connections=10)))
        self.assertEqual(([[], []], []), ([process.signals for process in self.processes], self.ended))
        self.processes[0].ready()
        self.processes[0].answer_last({"ok": True})
        self.assertEqual(2, self.successResultOf(asked)["generation"])
        self.assertEqual([(0, 50), (1, 5)], [(p.errand.number, p.errand.settings.limits.connections) for p in self.alive()])
        self.processes[2].ready()
        self.assertEqual(([], True), (self.ended, self.opening.is_open))


class ReloadTests(SupervisorCase):
    """Reloads within the processes."""

    def limits(self, connections: int) -> Settings:
        return attrs.evolve(self.settings, limits=Limits(connections=connections))

    def test_one_after_the_other(self) -> None:
        """The second is asked when the first has done it; each gets its share; who asked hears the generation."""
        self.serve()
        asked = self.reload(self.limits(10))
        first, second = self.processes
        self.assertEqual(["reopen", "reload"], [request["command"] for _, request in first.requests])
        self.assertEqual(["reopen"], [request["command"] for _, request in second.requests])
        self.assertEqual(5, first.requests[-1][1]["settings"].limits.connections)
        first.answer_last({"ok": True, "generation": 2, "restart": ()})
        self.assertNoResult(asked)
        second.answer_last({"ok": True, "generation": 2, "restart": ()})
        self.assertEqual({"generation": 2, "restart": ()}, self.successResultOf(asked))
        self.assertIn("event=reload", self.log())

    def test_mistake(self) -> None:
        """All is as it was, nobody is asked, but the logs are opened anew."""
        self.serve()
        asked = self.reload(ConfigError([Mistake("mta.toml", 7, "dns.attempts", "at least 1")]))
        self.assertEqual({"ok": False, "mistakes": ["mta.toml:7: dns.attempts: at least 1"]}, self.successResultOf(asked))
        self.assertEqual([["reopen"], ["reopen"]], [[r["command"] for _, r in p.requests] for p in self.processes])

    def test_the_second_does_not_want_it(self) -> None:
        """The first goes back, and so does whoever is started later."""
        self.serve()
        asked = self.reload(self.limits(10))
        first, second = self.processes
        first.answer_last({"ok": True})
        second.answer_last({"ok": False, "mistakes": ["cannot be read: key.pem"]})
        self.assertEqual(50, first.requests[-1][1]["settings"].limits.connections)
        first.answer_last({"ok": True})
        second.answer_last({"ok": True})
        self.assertEqual({"ok": False, "mistakes": ["cannot be read: key.pem"]}, self.successResultOf(asked))
        second.end(signal=11)
        self.reactor.advance(1)
        self.assertEqual(50, self.processes[2].errand.settings.limits.connections)

    def test_one_does_not_run(self) -> None:
        """A worker that cannot start hinders no reload: it begins by the new settings."""
        self.serve()
        self.processes[0].end(status=1)
        asked = self.reload(self.limits(10))
        self.assertEqual((0, 5), (self.processes[2].errand.number, self.processes[2].errand.settings.limits.connections))
        self.processes[1].answer_last({"ok": True})
        self.assertEqual(2, self.successResultOf(asked)["generation"])
        self.assertEqual(1, len([p for p in self.alive() if p.errand.number == 0]))

    def test_one_ends_meanwhile(self) -> None:
        """Then nothing was reloaded: the others go back, and it is said."""
        self.serve()
        asked = self.reload(self.limits(10))
        self.processes[0].answer_last({"ok": True})
        self.processes[1].end(signal=9)
        self.processes[0].answer_last({"ok": True})
        self.assertEqual({"ok": False, "mistakes": ["worker 1 has ended"]}, self.successResultOf(asked))
        self.assertEqual(50, self.processes[-1].errand.settings.limits.connections)

    def test_one_does_not_answer(self) -> None:
        """One that hangs: it is refused, and said; the others go back, and it is replaced by who begins with the old settings."""
        self.obeys = False
        self.serve()
        asked = self.reload(self.limits(10))
        first, second = self.processes
        first.answer_last({"ok": True})
        self.reactor.advance(PULSE)
        first.answer_last({"ok": True})
        self.reactor.advance(PULSE)
        first.answer_last({"ok": True})  # with the old ones
        self.assertEqual((["TERM"], 50), (second.signals, first.requests[-1][1]["settings"].limits.connections))
        self.reactor.advance(PATIENCE)
        self.assertEqual({"ok": False, "mistakes": ["worker 1 does not answer"]}, self.successResultOf(asked))
        self.assertEqual([(0, 50), (1, 50)], [(p.errand.number, p.errand.settings.limits.connections) for p in self.alive()])
        self.assertEqual(["TERM", "KILL"], second.signals)

    def test_what_stays(self) -> None:
        """Data directory and log are those of the start, for everybody; it is said that they have changed."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, data_dir=Path("/other"), log=Log(format="json")))
        for process in self.processes:
            settings = process.requests[-1][1]["settings"]
            self.assertEqual((self.settings.data_dir, self.settings.log), (settings.data_dir, settings.log))
            process.answer_last({"ok": True})
        self.assertEqual(("data_dir", "log"), self.successResultOf(asked)["restart"])


class RenewTests(SupervisorCase):
    """Reloads by processes that take the places of others."""

    def test_what_is_read_at_the_start(self) -> None:
        """Another hostname: one is stopped, another started; when it serves, the next."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, hostname="other.test"))
        self.assertEqual([True, False], [process.is_over for process in self.processes[:2]])
        self.assertEqual((0, "other.test"), (self.processes[2].errand.number, self.processes[2].errand.settings.hostname))
        self.processes[2].ready()
        self.assertTrue(self.processes[1].is_over)
        self.processes[3].ready()
        self.assertEqual({"generation": 2, "restart": ()}, self.successResultOf(asked))

    def test_more(self) -> None:
        """Two become three: shares are smaller, all know how many they are."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, service=Service(3)))
        for number in (2, 3, 4):
            self.processes[number].ready()
        self.successResultOf(asked)
        self.assertEqual([(0, 3), (1, 3), (2, 3)], [(p.errand.number, p.errand.workers) for p in self.alive()])

    def test_fewer(self) -> None:
        """Two become one: the second ends first, so that its mail can be taken up; it does not come back."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, service=Service(1)))
        self.processes[2].ready()
        self.successResultOf(asked)
        self.reactor.advance(100)
        self.assertEqual([(0, 1)], [(p.errand.number, p.errand.workers) for p in self.alive()])

    def test_cannot_be_renewed(self) -> None:
        """The first that does not start by the new settings is put back, nobody else is touched."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, hostname="other.test"))
        self.processes[2].says("mta: no\n")
        self.processes[2].end(status=1)
        self.assertEqual({"ok": False, "mistakes": ["no (status 1)"]}, self.successResultOf(asked))
        self.assertEqual([1, 0], [process.errand.number for process in self.alive()])
        self.assertEqual("mx.test", self.alive()[1].errand.settings.hostname)

    def test_stopped_meanwhile(self) -> None:
        """A stop ends the reload: nobody is started behind it."""
        self.obeys = False
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, hostname="other.test"))
        stopped = self.supervisor.stopService()
        for process in self.processes:
            process.end()
        self.successResultOf(stopped)
        self.assertEqual(False, self.successResultOf(asked)["ok"])
        self.assertEqual(([], 2), (self.alive(), len(self.processes)))

    def test_stopped_while_more_come(self) -> None:
        """The same where others are added."""
        self.serve()
        asked = self.reload(attrs.evolve(self.settings, service=Service(4)))
        self.processes[2].ready()
        self.processes[3].ready()
        self.assertEqual(2, self.processes[4].errand.number)
        self.successResultOf(self.supervisor.stopService())
        self.assertEqual(False, self.successResultOf(asked)["ok"])
        self.assertEqual(([], 5), (self.alive(), len(self.processes)))

    def test_ports(self) -> None:
        """A new port is opened before anybody is renewed, one that is gone is closed behind; refused, it is closed again."""
        sockets = self.supervisor._sockets = Ports()  # type: ignore[assignment]
        self.serve()
        new = attrs.evolve(self.settings, listen=(Listen("tcp:25"),))
        asked = self.reload(new)
        self.assertEqual(["bind tcp:25"], sockets.calls)
        self.processes[2].ready()
        self.processes[3].ready()
        self.successResultOf(asked)
        self.assertEqual(["bind tcp:25", "keep tcp:25"], sockets.calls)
        self.assertIn("endpoint=tcp:25", self.log())
        asked = self.reload(self.settings)
        self.processes[4].end(status=1)
        self.assertEqual(False, self.successResultOf(asked)["ok"])
        self.assertEqual(["tcp:25"], sockets.endpoints)


class Ports:
    """As `Sockets`, without sockets."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self.calls: list[str] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", 25) for _ in self.endpoints]

    def missing(self, listens: Any) -> list[str]:
        return [listen.endpoint for listen in listens if listen.endpoint not in self.endpoints]

    def bind(self, endpoints: list[str]) -> None:
        self.calls += [f"bind {endpoint}" for endpoint in endpoints]
        self.endpoints += endpoints

    async def drop(self, endpoints: list[str]) -> None:
        self.calls += [f"drop {endpoint}" for endpoint in endpoints]

    async def keep(self, listens: Any) -> None:
        self.endpoints = [listen.endpoint for listen in listens]
        self.calls += [f"keep {endpoint}" for endpoint in self.endpoints]

    async def close(self) -> None:
        self.endpoints = []

    def handed(self, listens: Any) -> tuple[tuple[Any, ...], dict[int, int]]:
        return (), {}
