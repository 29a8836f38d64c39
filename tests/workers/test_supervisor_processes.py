"""Two workers as users have them: real processes on loopback, killed, stopped and started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from mta.queue.ids import node_of, parse_id
from tests.peers.peers import wait_for
from tests.peers.server import ROOT, TWISTD
from tests.workers.crew import LOCAL, SPOOL, CrewCase, Traffic, is_alive, shared


class MailTests(CrewCase):
    """Mail goes through all of them."""

    def test_each_message_once(self) -> None:
        """Both take connections, ids are all different and say the worker, every message is delivered once.

        Workers have the port in common and nothing else: no end of a pipe by which one would not notice an end.  The
        supervisor is killed: the workers notice, end in order, and let the next ones begin.  Stopped, all end.
        """
        self.start(2)
        self.assertEqual({0, 1}, set(self.workers()))
        pids = list(self.workers().values())
        (port,) = shared(*pids)
        self.assertEqual({port}, {name for name in shared(self.mta.pid, pids[0]) if name.startswith("socket:")})
        ids: dict[str, str] = {}
        for round in range(5):
            ids |= {f"{name}r{round}": id for name, id in self.send_each(10).items()}
            if {node_of(parse_id(id)) for id in ids.values()} == {0, 1}:
                break
        self.assertEqual({0, 1}, {node_of(parse_id(id)) for id in ids.values()})
        self.assertEqual(len(ids), len(set(ids.values())))
        wait_for(lambda: len(self.stored()) >= len(ids), "the mail")
        self.assertEqual(1, len(self.mta.log("listening")))
        self.assertTrue(
            {"hints.db", "hints.1.db", "spool", "spool.1"} <= {path.name for path in (self.folder / "data").iterdir()}
        )
        self.mta.kill9()
        wait_for(lambda: not any(is_alive(pid) for pid in pids), "the end of the workers")
        self.assertEqual({"0", "1"}, {entry.fields["worker"] for entry in self.mta.log("stopped")})
        self.start(2)
        pids = list(self.workers().values())
        self.mta.stop()
        self.assertEqual([], [pid for pid in pids if is_alive(pid)])
        self.assertEqual((4, len(ids)), (len(self.mta.log("stopped")), len(self.stored())))
        self.assertFalse((self.folder / "data/control.sock").exists())

    def test_a_worker_is_killed(self) -> None:
        """kill -9 while mail flows: whatever was answered arrives, the others serve on, and it comes back."""
        self.start(2)
        traffic = Traffic(self)
        traffic.flows(10)
        os.kill(self.workers()[1], signal.SIGKILL)
        traffic.flows(10)
        wait_for(lambda: self.ready() == 3, "the worker's return")
        traffic.flows(10)
        traffic.end()
        self.assertEqual([], traffic.refused)
        (ended,) = [entry for entry in self.mta.log("worker") if entry.fields["status"] == "ended"]
        self.assertEqual(("1", "ended by signal 9"), (ended.fields["worker"], ended.fields["reason"]))
        wait_for(lambda: set(traffic.answered) <= set(self.stored()), "all that was answered")


class ProcessTests(CrewCase):
    """What twistd makes of it."""

    def test_daemon_on_asyncio(self) -> None:
        """In the background, on asyncio's reactor: the pid file names the supervisor, SIGTERM ends all, no zombie is seen."""
        self.mta.more = f"{LOCAL}[service]\nworkers = 2\n"
        config = self.mta.configure()
        twistd = [sys.executable, "-c", TWISTD, "--reactor", "asyncio", "--pidfile", "mta.pid", "--logfile", "twistd.log"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [*twistd, "mta", "--config", str(config)]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, timeout=60)
        wait_for((self.folder / "mta.pid").exists, "the pid file")
        pid = int((self.folder / "mta.pid").read_text())
        self.addCleanup(self.kill, pid)
        wait_for(lambda: self.ready() == 2, "the workers", 60)
        self.assertEqual({0, 1}, set(self.workers(pid)))
        ids = self.send_each(4)
        wait_for(lambda: len(self.stored()) == len(ids), "the mail")
        os.kill(self.workers(pid)[0], signal.SIGKILL)
        wait_for(lambda: self.ready() == 3, "the worker's return")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual([True, True], [is_alive(int(child)) for child in children])
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_alive(pid), "the end")
        self.assertEqual([], [child for child in children if is_alive(int(child))])
        self.assertFalse((self.folder / "mta.pid").exists())

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def test_a_broken_queue(self) -> None:
        """The worker that has it cannot start, and the log says why; the other serves; `mta queue` and a backup say who is missing."""
        queue = self.folder / "data/queue"
        queue.mkdir(parents=True)
        (queue / "1.db").write_bytes(b"no database" * 1000)
        self.mta.more = f"{LOCAL}{SPOOL}[service]\nworkers = 2\n"
        self.mta.start()
        wait_for(lambda: self.reasons(), "the reason")
        self.assertIn("1.db", self.reasons()[0])
        ids = self.send_each(2)
        listed = self.command("queue", "list", "--json")
        self.assertEqual(["not all of the queue: worker 1 does not run"], listed.stderr.splitlines())
        self.assertEqual(sorted(ids.values()), [json.loads(line)["id"] for line in listed.stdout.splitlines()])
        backup = self.command("queue", "backup", str(self.folder / "copy"))
        self.assertEqual((1, True), (backup.returncode, "worker 1" in backup.stderr))
        self.assertFalse((self.folder / "copy").exists())
        self.mta.stop()
        (queue / "1.db").unlink()
        self.start(2, LOCAL + SPOOL)
        held = self.command("queue", "hold", "--all")
        self.assertEqual("2 recipient(s) held\n", held.stdout)
        self.assertEqual(0, self.command("queue", "backup", str(self.folder / "copy")).returncode)
        self.assertEqual(["0", "1"], sorted(path.name for path in (self.folder / "copy").iterdir()))

    def reasons(self) -> list[str]:
        """Why workers have ended."""
        return [entry.fields["reason"] for entry in self.mta.log("worker") if entry.fields["status"] == "ended"]

    def test_none_can_start(self) -> None:
        """It ends with status 1, and says why."""
        queue = self.folder / "data/queue"
        queue.mkdir(parents=True)
        for node in (0, 1):
            (queue / f"{node}.db").write_bytes(b"no database" * 1000)
        self.mta.more = f"{LOCAL}[service]\nworkers = 2\n"
        error = self.assertRaises(RuntimeError, self.mta.start)
        self.assertIn("ended with status 1", str(error))
        self.assertRegex(self.mta.output(), r"mta: .*0\.db.*\(status 1\)")
