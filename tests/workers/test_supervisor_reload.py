"""Reloads with workers, real processes: nobody is refused while they go from one to the next."""

from __future__ import annotations

import os
import signal
import smtplib
import socket

from tests.peers.peers import wait_for
from tests.ports import free_port
from tests.workers.crew import LOCAL, CrewCase, Traffic


class ReloadTests(CrewCase):
    """`mta reload` and SIGHUP."""

    def reload(self, more: str, workers: int) -> tuple[int, str]:
        self.mta.more = f"{more}[service]\nworkers = {workers}\n"
        self.mta.configure()
        done = self.command("reload")
        return done.returncode, done.stdout + done.stderr

    def test_under_traffic(self) -> None:
        """Other settings, then a new port and one more worker: they hold at the end, and no connection is refused."""
        self.start(2)
        traffic = Traffic(self)
        self.addCleanup(traffic.end)
        traffic.flows(5)
        first = self.workers()
        self.assertEqual((0, "generation 2 of the configuration is in force\n"), self.reload(LOCAL + "[limits]\nerrors = 7\n", 2))
        self.assertEqual(first, self.workers())
        port = free_port()
        more = f'{LOCAL}[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\ntls = "none"\n\n'
        self.assertEqual((0, "generation 3 of the configuration is in force\n"), self.reload(more, 3))
        self.assertEqual({0, 1, 2}, set(self.workers()))
        self.assertEqual(set(), set(first.values()) & set(self.workers().values()))
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            self.assertEqual(250, client.ehlo()[0])
        traffic.flows(5)
        traffic.end()
        self.assertEqual([], traffic.refused)
        wait_for(lambda: set(traffic.answered) <= set(self.stored()), "all that was answered")
        self.assertEqual(sorted(set(self.stored())), self.stored())

    def test_mistakes(self) -> None:
        """One that the supervisor sees, and one that only a worker does: all stays as it was; SIGHUP begins a new log."""
        self.start(2)
        before = self.workers()
        status, output = self.reload(LOCAL + "[limits]\nerrors = 0\n", 2)
        self.assertEqual(1, status)
        self.assertIn("limits.errors: at least 1", output)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            status, output = self.reload(f'{LOCAL}[[listen]]\nendpoint = "{endpoint}"\n\n', 2)
        self.assertEqual((1, True), (status, "Address already in use" in output))
        self.assertEqual(before, self.workers())
        self.reload(LOCAL, 2)
        self.assertEqual(before, self.workers())
        log = self.folder / "events.log"
        log.rename(self.folder / "old.log")
        os.kill(self.mta.pid, signal.SIGHUP)
        wait_for(log.exists, "the new log")
        self.send_each(8)
        wait_for(lambda: len(self.stored()) == 8, "the mail")
