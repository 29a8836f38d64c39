"""Real mail programs for the tests: Postfix, Exim and smtp-sink as servers, smtp-source and swaks as clients.

`make peers` installs them (install.sh).  A test that needs one calls `require`: it is skipped where the program is
missing, and fails instead when MTA_REQUIRE_PEERS=1, as on the machine that guards the project.  Everything listens on
127.0.0.1 on a free port, keeps to a folder of the test, and is gone after `stop`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.peers import configurations
from tests.ports import free_port

HERE = Path(__file__).resolve().parent
PREFIX = Path(os.environ.get("MTA_PEERS", "/opt/mta-peers"))
POSTFIX = PREFIX / "postfix"
EXIM = PREFIX / "exim"
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": str(POSTFIX / "usr/lib/postfix")}
START_TIMEOUT = 30.0  # seconds

_PROGRAMS = {
    "postfix": POSTFIX / "usr/sbin/postfix",
    "exim": EXIM / "usr/sbin/exim4",
    "sendmail": PREFIX / "sendmail/usr/libexec/sendmail/sendmail",
    "opensmtpd": PREFIX / "opensmtpd/usr/sbin/smtpd",
    "haproxy": PREFIX / "haproxy/usr/sbin/haproxy",
    "nsd": PREFIX / "nsd/usr/sbin/nsd",
    "unbound": PREFIX / "unbound/usr/sbin/unbound",
    "nodemailer": PREFIX / "nodemailer/node_modules/nodemailer",
    "smtp-sink": POSTFIX / "usr/sbin/smtp-sink",
    "smtp-source": POSTFIX / "usr/sbin/smtp-source",
}
_NEED_ROOT = {"postfix", "exim", "sendmail", "opensmtpd"}


class PeerMissing(Exception):
    """A program that the tests must have is not there: run `make peers`."""


def require(*names: str) -> None:
    """Skip the test, or fail it when MTA_REQUIRE_PEERS=1, unless all these programs can be used."""
    for name in names:
        path = _PROGRAMS.get(name)
        if not (path.exists() if path is not None else shutil.which(name)):
            _missing(f"{name} is not installed: make peers")
        if name in _NEED_ROOT and os.geteuid() != 0:
            _missing(f"{name} needs root for its namespaces")


def _missing(why: str) -> None:
    if os.environ.get("MTA_REQUIRE_PEERS") == "1":
        raise PeerMissing(why)
    raise SkipTest(why)


def wait_for(condition: Callable[[], object], what: str, timeout: float = START_TIMEOUT, every: float = 0.02) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(every)


class Server:
    """A program that listens on a port, started by its command line; may be stopped and started again."""

    def __init__(self, command: Sequence[str], directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.output = directory / "output"
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        """The process that was started; all others are below it."""
        assert self._process is not None
        return self._process.pid

    @property
    def maildir(self) -> Path:
        """Where it stores mail."""
        return self.directory / "mail/all"

    def stored(self) -> list[Path]:
        """The messages it has stored."""
        return [path for folder in ("new", "cur") for path in (self.maildir / folder).glob("*")]

    def run(self, *command: str) -> str:
        """Run a command where the server runs, in its namespaces, as root; give what it says.  CalledProcessError."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        enter = ["nsenter", "-t", children[0], "-m", "-p", *command]
        return subprocess.run(enter, check=True, capture_output=True, text=True, timeout=60, cwd="/").stdout

    def start(self) -> None:
        """Start, and wait until the port answers."""
        with open(self.output, "ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, f"{self._command[0]} on port {self.port}")
        except BaseException as error:
            self.stop()
            raise RuntimeError(f"{error}: {self.output.read_text(errors='replace')[-2000:]}") from error

    def stop(self) -> None:
        """End it at once, with all its processes.  May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # unshare --kill-child takes the namespace along
            process.wait()
            wait_for(lambda: not listens(self.port), f"port {self.port} to be free")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with status {self._process.returncode}")
        return listens(self.port)


def listens(port: int) -> bool:
    """Does anybody accept connections there?"""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def start_postfix(
    directory: Path,
    *,
    tls: tuple[Path, Path] | None = None,
    relay_to: int | None = None,
    processes: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> Server:
    """Postfix that stores mail for sink.test, and relays the rest to a port of this machine if one is given.

    tls: certificate and key.  processes: of its smtpd.  extra: further settings of main.cf.
    """
    require("postfix")
    port = free_port()
    configurations.postfix(directory, port, tls=tls, relay_to=relay_to, processes=processes, extra=extra or {})
    return Server(["bash", str(HERE / "postfix.sh"), str(directory)], directory, port)


def start_exim(
    directory: Path,
    *,
    tls: tuple[Path, Path] | None = None,
    user: tuple[str, str] | None = None,
    relay_to: int | None = None,
    more: str = "",
    transport: str = "",
) -> Server:
    """Exim that stores mail for sink.test, and relays the rest to a port of this machine if one is given.

    tls: certificate and key.  user: name and password that everybody must log in with, inside TLS.  more: further lines for
    the main section.  transport: further options of the transport to the next hop.
    """
    require("exim")
    port = free_port()
    configurations.exim(directory, port, tls=tls, user=user, relay_to=relay_to, more=more, transport=transport)
    return Server(["bash", str(HERE / "exim.sh"), str(directory)], directory, port)


def start_haproxy(directory: Path, to: int, *, bind: str = "", server: str = "send-proxy") -> Server:
    """HAProxy in TCP mode in front of a port of this machine.  bind and server: further words of these lines."""
    require("haproxy")
    port = free_port()
    directory.joinpath("haproxy.cfg").write_text(configurations.haproxy(port, to, bind, server))
    return Server([str(_PROGRAMS["haproxy"]), "-db", "-f", str(directory / "haproxy.cfg")], directory, port)


def smtp_sink(directory: Path, *options: str, store: bool = False, port: int | None = None, address: str = "127.0.0.1") -> Server:
    """smtp-sink, which has no TLS.  store: each message becomes a file in directory/mail/all/new."""
    require("smtp-sink")
    port = port or free_port()
    command = [str(_PROGRAMS["smtp-sink"]), *options]
    if os.geteuid() == 0:
        command += ["-u", "mtapeer"]
        directory.chmod(0o755)
    if store:
        new = directory / "mail/all/new"
        new.mkdir(parents=True, exist_ok=True)
        new.chmod(0o777)
        command += ["-d", f"{new}/%H%M%S."]
    return Server([*command, f"{address}:{port}", "1000"], directory, port)


def message(number: int = 1, *, lines: int = 20) -> bytes:
    """A message that is easily damaged: dots, 8-bit bytes, long and empty lines, blanks at the ends; starts with X-Start."""
    odd = [
        b".",
        b"..",
        b". dot and blank ",
        b"\t",
        b"",
        b"From the start",
        "grüße".encode(),
        b"\xff\xfe",
        b"x" * 990,
        b"--",
        b"=20=",
    ]
    body = b"\r\n".join([b"%d %s" % (number, b"." * (n % 7)) for n in range(lines)] + odd + [b"", b""])
    head = b"X-Start: %d\r\nFrom: <from@a.test>\r\nTo: <user@sink.test>\r\nSubject: number\r\n\t%d\r\nMessage-ID: <%d@a.test>\r\n"
    return head % (number, number, number) + b"Date: Sun, 22 Nov 2026 04:00:00 +0000\r\n\r\n" + body


def arrived(path: Path) -> bytes:
    """A stored message from X-Start on, with CRLF: what the hops have put on top is not looked at."""
    data = path.read_bytes()
    return data[data.index(b"X-Start: ") :].replace(b"\n", b"\r\n")


def smtp_source(port: int, *options: str, sender: str = "from@a.test", to: str = "user@sink.test", timeout: float = 300) -> None:
    """Send mail with smtp-source; raises CalledProcessError with its output when anything was refused."""
    require("smtp-source")
    command = [str(_PROGRAMS["smtp-source"]), "-M", "source.test", "-f", sender, "-t", to, *options, f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, timeout=timeout)


def swaks(port: int, *options: str, sender: str = "from@a.test", to: str = "user@sink.test") -> str:
    """Send one message with swaks; gives the dialogue.  Raises CalledProcessError when it was refused."""
    require("swaks")
    command = ["swaks", "--server", "127.0.0.1", "--port", str(port), "--ehlo", "client.test", "--from", sender, "--to", to]
    return subprocess.run([*command, *options], check=True, capture_output=True, text=True, timeout=60).stdout
