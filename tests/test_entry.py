"""What twistd calls, and what of the house is imported for it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from twisted.application.service import IService
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.entry import Options, makeService
from mta.process import Process
from mta.workers.supervisor import Supervisor

SMALLEST = 'hostname = "a.test"\ndata_dir = "data"\n[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'

MADE = """
import sys
from mta.entry import Options, makeService

options = Options()
options.parseOptions(["--config", sys.argv[1]])
print("\\n".join(sys.modules))
print()
makeService(options)
print("\\n".join(sys.modules))
"""


def write(test: TestCase | SynchronousTestCase, text: str) -> Path:
    """A configuration file."""
    path = Path(test.mktemp()).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class EntryTests(TestCase):
    """`Options` and `makeService`."""

    def setUp(self) -> None:
        self.patch(gc, "freeze", lambda: None)  # what other tests have left behind is to be collected

    def options(self, text: str, *more: str) -> Options:
        options = Options()
        options.parseOptions(["--config", str(write(self, text)), *more])
        return options

    def test_a_service(self) -> None:
        """A good configuration gives an IService, and nothing is opened yet."""
        options = self.options(SMALLEST, "--set", "limits.message_size=1MiB")
        service = makeService(options)
        self.assertTrue(IService.providedBy(service))
        self.assertIsInstance(service, Process)
        self.assertFalse((Path(options["config"]).parent / "data").exists())

    def test_workers(self) -> None:
        """More than one: a supervisor; nothing is opened yet, nobody is started."""
        options = self.options(SMALLEST + "[service]\nworkers = 2\n")
        self.assertIsInstance(makeService(options), Supervisor)

    def test_mistakes_end_the_process(self) -> None:
        """Every mistake at once, status 1."""
        options = self.options('hostnmae = "a.test"\ndata_dir = 7\n')
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertEqual(1, caught.exception.code)

    def test_check(self) -> None:
        """--check says ok, status 0."""
        options = self.options('hostname = "a.test"\ndata_dir = "data"\n', "--check")
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertEqual(0, caught.exception.code)

    def test_unknown_option(self) -> None:
        """usage says so."""
        self.assertRaises(UsageError, Options().parseOptions, ["--nonsense"])

    def test_garbage_is_collected_afterwards(self) -> None:
        """The collector waits for the end of the start, whichever way that goes, and then leaves alone what was imported."""
        frozen = []
        self.patch(gc, "freeze", lambda: frozen.append(gc.isenabled()))
        makeService(self.options(SMALLEST))
        self.assertTrue(gc.isenabled())
        self.assertRaises(SystemExit, makeService, self.options("nonsense"))
        self.assertTrue(gc.isenabled())
        self.assertEqual([False, False], frozen)


class ImportTests(SynchronousTestCase):
    """A start is imports: what nobody has asked for is not among them."""

    def modules(self, text: str) -> tuple[set[str], set[str]]:
        """Those there are when twistd has read its command line, and when the service is made."""
        command = [sys.executable, "-c", MADE, str(write(self, text))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)})
        self.assertEqual("", done.stderr)
        before, _, after = done.stdout.partition("\n\n")
        return set(before.split()), set(after.split())

    def test_the_smallest_configuration(self) -> None:
        """One server that knows no logins, has no left-over queues, shows no metrics."""
        before, after = self.modules(SMALLEST)
        self.assertEqual({"mta", "mta.entry"}, {name for name in before if name.split(".")[0] == "mta"})
        self.assertNotIn("attrs", before)
        self.assertIn("mta.receive.service", after)
        unwanted = {
            "argon2",
            "mta.cli",
            "mta.control.metrics_site",
            "mta.queue.carry.archive",
            "mta.queue.memory",
            "mta.queue.sqlite.move",
            "mta.receive.auth.dovecot",
            "mta.receive.auth.passwords",
            "mta.relay.probe",
            "mta.smtp.secret",
            "mta.testing",
            "mta.workers.supervisor",
            "passlib",
            "rich_click",
            "tarfile",
            "twisted.web.server",
        }
        self.assertEqual(set(), unwanted & after)

    def test_a_supervisor(self) -> None:
        """It serves nobody, so the rooms that do are not its own: its workers begin the sooner."""
        _, after = self.modules(SMALLEST + "[service]\nworkers = 2\n")
        self.assertIn("mta.workers.supervisor", after)
        rooms = {"bounce", "deliver", "dns", "receive", "relay", "route", "service"}
        self.assertEqual(set(), {name for name in after if name.startswith("mta.") and name.split(".")[1] in rooms})
        self.assertEqual(set(), {"mta.queue.service", "mta.tls.client", "dns"} & after)

    def test_what_is_asked_for(self) -> None:
        """The same test finds what the other two do not: here it is wanted."""
        passwords = Path(self.mktemp()).absolute()
        passwords.parent.mkdir(parents=True, exist_ok=True)
        passwords.touch(0o600)
        passwords.write_text("user:{PLAIN}secret\n")
        _, after = self.modules(f'{SMALLEST}[auth]\npasswords = "{passwords}"\n')
        self.assertLessEqual({"mta.receive.auth.passwords", "mta.smtp.secret"}, after)
        self.assertNotIn("mta.receive.auth.dovecot", after)
