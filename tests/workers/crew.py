"""Real processes for the tests of workers: one supervisor in a folder, its workers by their numbers, mail in and out."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import smtplib
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.peers.peers import wait_for
from tests.peers.server import ROOT, MtaProcess

LOCAL = '[[route]]\nmatch = "local"\ndeliver = "maildir:mail"\n\n'
SPOOL = '[queue]\nmode = "spool"\n\n'
QUEUED = re.compile(rb"[0-9A-HJKMNP-TV-Z]{13}")


class CrewCase(SynchronousTestCase):
    """Everything that was started is gone after the test."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.mta = MtaProcess(self.folder)
        self.addCleanup(self.end)

    def end(self) -> None:
        """Workers end when their supervisor does; none may be left."""
        workers = list(self.workers().values()) if self.mta.is_running else []
        self.mta.kill9()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self, workers: int, more: str = LOCAL) -> None:
        """With so many."""
        self.mta.more = f"{more}[service]\nworkers = {workers}\n"
        before = self.ready()
        self.mta.start()
        if workers > 1:
            wait_for(lambda: self.ready() == before + workers, f"{workers} workers", 60)

    def ready(self) -> int:
        """How often a worker has become ready."""
        return len([entry for entry in self.mta.log("worker") if entry.fields["status"] == "ready"])

    def workers(self, supervisor: int = 0) -> dict[int, int]:
        """Number and pid of those that run."""
        found = {}
        pid = supervisor or self.mta.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if b"mta.worker" in words:
                    found[int(words[words.index(b"mta.worker") + 1])] = int(child)
        return found

    def client(self) -> smtplib.SMTP:
        """A connection that has said EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.mta.port, local_hostname="client.test", timeout=60)
        client.ehlo()
        return client

    def send(self, client: smtplib.SMTP, name: str, size: int = 100) -> str:
        """A message; its queue id."""
        client.mail("from@a.test")
        client.rcpt(f"{name}@local.test")
        status, said = client.data(f"Subject: {name}\r\n\r\n".encode() + (b"x" * 70 + b"\r\n") * (size // 72 + 1))
        if status != 250:
            raise smtplib.SMTPDataError(status, said)
        found = QUEUED.search(said)
        assert found is not None, said
        return found[0].decode()

    def send_each(self, count: int) -> dict[str, str]:
        """So many connections at the same time, a message on each: the id of each name."""
        clients = [self.client() for _ in range(count)]
        ids = {}
        for number, client in enumerate(clients):
            ids[f"m{number}"] = self.send(client, f"m{number}")
        for client in clients:
            client.quit()
        return ids

    def stored(self) -> list[str]:
        """Subjects of what was delivered."""
        names = []
        for path in (self.folder / "mail/new").glob("*"):
            match = re.search(rb"^Subject: (\S+)", path.read_bytes(), re.M)
            names.append(match[1].decode() if match else "?")
        return sorted(names)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`mta WORDS -c mta.toml`."""
        command = [sys.executable, "-m", "mta", *words, "-c", str(self.folder / "mta.toml")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=environment)


class Traffic:
    """Mail that flows, each message on a connection of its own, until it is told to end.

    answered: the names of those that got 250.  refused: connections that nobody took.  broken: those that ended in the middle.
    """

    def __init__(self, case: CrewCase, senders: int = 3) -> None:
        self.answered: list[str] = []
        self.refused: list[BaseException] = []
        self.broken: list[BaseException] = []
        self._case = case
        self._over = False
        self._threads = [Thread(target=self._run, args=(number,)) for number in range(senders)]
        for thread in self._threads:
            thread.start()

    def _run(self, sender: int) -> None:
        number = 0
        while not self._over:
            name = f"s{sender}n{number}"
            number += 1
            try:
                client = self._case.client()
            except ConnectionRefusedError as error:
                self.refused.append(error)
                time.sleep(0.02)
                continue
            except (OSError, smtplib.SMTPException) as error:
                self.broken.append(error)
                continue
            try:
                self._case.send(client, name)
                self.answered.append(name)
                client.quit()
            except (OSError, smtplib.SMTPException) as error:
                self.broken.append(error)
            finally:
                client.close()

    def flows(self, count: int, timeout: float = 30) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.answered) + count
        wait_for(lambda: len(self.answered) >= wanted, f"{count} more messages", timeout)

    def end(self) -> None:
        """No more."""
        self._over = True
        for thread in self._threads:
            thread.join()


def shared(*pids: int) -> set[str]:
    """The pipes and sockets that all these processes have a descriptor of."""
    of = [{os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()} for pid in pids]
    return {name for name in set.intersection(*of) if name.startswith(("pipe:", "socket:"))}


def is_alive(pid: int) -> bool:
    """The process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def fields(entry: Any) -> dict[str, str]:
    """Of a log line."""
    return dict(entry.fields)
