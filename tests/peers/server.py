"""Our own server as a process of its own: `twistd -n mta --config FILE`, started, killed and read from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs

from mta.control.log import GATHER
from mta.testing.logs import Entry, read_log
from tests.peers.peers import wait_for
from tests.ports import free_port

START_TIMEOUT = 60.0  # seconds; the machine of the tests may be busy
TWISTD = "from twisted.scripts.twistd import run; run()"
ROOT = Path(__file__).resolve().parent.parent.parent

SETTINGS = """\
hostname = "mta.test"
data_dir = "data"
local_domains = ["local.test"]

[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
tls = "{listen_tls}"

[log]
file = "events.log"

{more}
"""


def relay_to(port: int, *, match: str = "*", tls: str = "may") -> str:
    """A [[route]] to a port of this machine."""
    return f'[[route]]\nmatch = ["{match}"]\nrelay = "[127.0.0.1]:{port}"\ntls = "{tls}"\n'


@attrs.define
class MtaProcess:
    """One server in a folder; its configuration, queue and log outlive the process.

    more: tables added to SETTINGS.  tls: certificate and key to offer STARTTLS with.  before: words in front of the command.
    program: in Python; it must run twistd.
    """

    directory: Path
    more: str = ""
    tls: tuple[Path, Path] | None = None
    port: int = attrs.field(factory=free_port)
    before: tuple[str, ...] = ()
    program: str = TWISTD
    _process: subprocess.Popen[bytes] | None = None
    _heard: int = 0  # how often it had said that it listens, before this start

    def configure(self) -> Path:
        """Write mta.toml."""
        listen_tls, more = "none", self.more
        if self.tls is not None:
            listen_tls = "starttls"
            more = f'[tls]\ncertificate = "{self.tls[0]}"\nkey = "{self.tls[1]}"\n\n{more}'
        path = self.directory / "mta.toml"
        path.write_text(SETTINGS.format(port=self.port, listen_tls=listen_tls, more=more))
        return path

    def start(self) -> None:
        """Start, and wait until the log says that it listens."""
        command = [*self.before, sys.executable, "-c", self.program, "-n", "--pidfile=", "mta", "--config", str(self.configure())]
        self._heard = self.count("listening")
        with open(self.directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        wait_for(self._listens, "the server", START_TIMEOUT)

    def stop(self) -> None:
        """SIGTERM, and wait for the orderly end.  May be called when it is down."""
        status = self._end(signal.SIGTERM)
        if status not in (0, -signal.SIGTERM):  # twistd dies of the signal that ended it
            raise RuntimeError(f"ended with status {status}: {self.output()}")

    def kill9(self) -> None:
        """What a power switch does to a process."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Up again, on the same port and the same queue."""
        self.start()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """It has been started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    def log(self, *events: str) -> list[Entry]:
        """The log so far, or its lines of some events; what the server has said just now is written a moment later."""
        time.sleep(2 * GATHER)
        path = self.directory / "events.log"
        return [entry for entry in read_log(path) if not events or entry.event in events] if path.exists() else []

    def count(self, event: str) -> int:
        """How often an event was logged; cheaper than reading the lines."""
        path = self.directory / "events.log"
        return path.read_bytes().count(f" event={event} ".encode()) if path.exists() else 0

    def wait_for_event(self, event: str, count: int = 1, timeout: float = 60) -> list[Entry]:
        """The lines of an event, once there are that many."""
        wait_for(lambda: self.count(event) >= count, f"{count} lines of {event}", timeout)
        return self.log(event)

    def output(self) -> str:
        """What it wrote to stdout and stderr."""
        return (self.directory / "output").read_text(errors="replace")[-4000:]

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with status {self._process.returncode}: {self.output()}")
        return self.count("listening") > self._heard

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
