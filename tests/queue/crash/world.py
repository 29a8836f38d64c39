"""What the crash tests have in common: the server that dies, the remote that outlives it, and a look at what is left.

    await self.start("9")                       a server that will die at point 9 of the crash table
    heard = await self.send(mail)               the client's side; False: it was not told 250
    left = await self.remains()                 it is dead: its files, read from a copy
    await self.start(); await self.emptied()    the next one has done all that was to be done

    self.balance()                              what everybody has got is what the laws allow

The laws that hold whatever was killed, and whenever, are asserted by `remains` (nothing that was promised is lost, every
file is whole) and `balance` (a second copy only of what the remote had taken and the dead server had not settled).  All
waits are bounded.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeAlias

import apsw
import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionLost
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mta.compiled import is_compiled
from mta.queue.ids import id_text
from mta.queue.sqlite.check import check
from mta.testing.peers import Answer, Received, ScriptedServer
from tests.queue.crash.points import INSIDE
from tests.receive.client import Client

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 30.0  # seconds for anything; the machine may be busy
TOGETHER = "sink.test"  # recipients there are one transaction
APART = ("one.test", "two.test", "three.test")  # each domain is a destination of its own
SENDER = "sender@back.test"

SETTINGS = """\
hostname = "mta.test"
data_dir = "data"
[[listen]]
endpoint = "tcp:0:interface=127.0.0.1"
tls = "none"
[log]
file = "events.log"
"""


Copy: TypeAlias = tuple[bytes, str]  # the digest of a text, and a recipient


def digest(text: bytes) -> bytes:
    """What is remembered of a text."""
    return hashlib.blake2b(text, digest_size=16).digest()


@attrs.frozen
class Mail:
    """What a client sends."""

    text: bytes
    recipients: tuple[str, ...]
    sender: str = SENDER

    @property
    def copies(self) -> set[Copy]:
        """One for each recipient."""
        text = digest(self.text)
        return {(text, to) for to in self.recipients}

    @classmethod
    def made(cls, name: str, size: int, recipients: Sequence[str]) -> Mail:
        """Text of about that size which is like no other, with lines that begin with dots."""
        random = Random(name)
        lines = [f"Subject: {name}", ""]
        lines += ["." * random.randint(0, 2) + random.randbytes(30).hex() for _ in range(size // 62 + 1)]
        return cls("".join(f"{line}\r\n" for line in lines).encode(), tuple(recipients))


class Sink(ScriptedServer):
    """The remote.  Recipients that begin with "bad" are refused; "later" is told to come again, the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def answers(self, points: tuple[str, ...]) -> tuple[Answer, ...]:
        """See ScriptedServer."""
        verb, _, address = points[0].partition(" ")
        if verb == "RCPT" and address.startswith("bad"):
            return ("550 5.1.1 nobody of that name",)
        if verb == "RCPT" and address.startswith("later") and address not in self._came:
            self._came.add(address)
            return ("450 4.2.0 not now",)
        return super().answers(points)

    def forget(self) -> None:
        """Be as new."""
        self.messages.clear()
        self._came: set[str] = set()
        self._copies: Counter[Copy] = Counter()
        self._reports: list[Received] = []
        self._told: set[str] = set()

    def copies(self) -> Counter[Copy]:
        """How often each recipient got each text."""
        self._count()
        return self._copies.copy()

    def told(self) -> Set[str]:
        """Recipients that are named in reports."""
        self._count()
        return self._told

    def reports(self) -> list[Received]:
        """Mail with the null reverse-path."""
        self._count()
        return self._reports

    def _count(self) -> None:
        for message in self.messages:
            if message.sender:
                self._copies.update((digest(sent(message)), to) for to in message.recipients)
            else:
                self._reports.append(message)
                self._told.update(failed(message.body))
        self.messages.clear()


def sent(message: Received) -> bytes:
    """What arrived, without the one header field that the server puts in front of it."""
    field, subject, rest = message.body.partition(b"Subject: ")
    lines = field.split(b"\r\n")
    folded = all(line.startswith((b" ", b"\t")) for line in lines[1:-1])
    whole = lines[0].startswith(b"Received: ") and folded and lines[-1] == b""
    return subject + rest if whole else message.body


def failed(report: bytes) -> list[str]:
    """The recipients that a report names (RFC 3464 2.3.2)."""
    fields = [line for line in report.split(b"\r\n") if line.startswith(b"Final-Recipient: rfc822; ")]
    return [field.rpartition(b" ")[2].decode() for field in fields]


class Forks:
    """The program that makes the servers: of the build that is tested, or of its sources.  lines: what was said."""

    def __init__(self, sources: bool) -> None:
        program = ["tests.interpreted", "tests.queue.crash.child"] if sources else ["tests.queue.crash.child"]
        command = [sys.executable, "-W", "error", "-m", *program]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, bufsize=0
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._buffer = b""

    def fork(self, folder: Path, point: str) -> None:
        """Start a server."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "point": point}).encode() + b"\n")

    def line(self) -> list[str]:
        """The next line in words, if there is one."""
        assert self._process.stdout is not None
        self._buffer += self._process.stdout.read() or b""
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return []
        self._buffer = rest
        return line.decode().split(" ", 3)

    def close(self) -> None:
        """End it; a server that runs ends with it."""
        with self._process as process:
            process.stdin.close()  # type: ignore[union-attr]


@cache
def forks(sources: bool) -> Forks:
    """One of each kind for all tests."""
    made = Forks(sources)
    atexit.register(made.close)
    return made


@attrs.frozen
class Remains:
    """What a dead server has left: recipients that wait and where, files of the spool; and what the remote had by then."""

    rows: frozenset[Copy]
    dests: Counter[str]
    files: int
    taken: Counter[Copy]


class Caller(Client):
    """A client that is told when nothing more can come."""

    def until(self, text: bytes) -> Deferred[bytes]:
        """See Client; errbacks also when the connection has ended before."""
        waiting = super().until(text)
        if self.gone.called and not waiting.called:
            waiting.errback(ConnectionLost())
        return waiting


class CrashCase(TestCase):
    """See the module."""

    timeout = 120

    def setUp(self) -> None:
        self.sink = Sink()
        listening = reactor.listenTCP(0, self.sink, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.sink.close_all)
        self.relay = f'relay = "[127.0.0.1]:{listening.getHost().port}"\n'
        self.forks = forks(sources=False)
        self.pid = 0  # of the server that runs
        self.addCleanup(self.ended)
        self.addCleanup(self.kill)
        self.more = ""  # settings
        self.fresh()

    def fresh(self) -> None:
        """A folder of its own for the next server, and nothing known of others."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        routes = [f'[[route]]\nmatch = "{domain}"\n{self.relay}' for domain in (*APART, "*")]
        (self.folder / "mta.toml").write_text("".join([SETTINGS, *routes, self.more]))
        self.sink.forget()
        self.sent: set[Copy] = set()
        self.promised: set[Copy] = set()  # answered with 250
        self.allowed: Counter[Copy] = Counter()  # second copies that a kill has made possible

    # -- the server

    async def start(self, point: str = "") -> None:
        """A server on the folder, which listens."""
        sources = is_compiled() and point in INSIDE
        self.forks = forks(sources)
        self.forks.fork(self.folder, point)
        said: list[str] = []
        await self.until(lambda: said.extend(self.forks.line()) or said, "a server that listens")
        self.assertEqual("listening", said[0], said)
        self.pid, self.port = int(said[1]), int(said[2])
        self.assertEqual("compiled" if is_compiled() and not sources else "plain", said[3])

    def kill(self) -> None:
        """kill -9, from outside."""
        if self.pid:
            with suppress(ProcessLookupError):  # it was quicker
                os.kill(self.pid, signal.SIGKILL)

    async def ended(self) -> None:
        """It was killed, by itself or by us, and all that it had sent has come to where it went."""
        if self.pid:
            said: list[str] = []
            await self.until(lambda: said.extend(self.forks.line()) or said, "the end of a server")
            self.assertEqual(["ended", "-9"], said)
            self.pid = 0
        await self.until(lambda: not self.sink.open, "the end of its connections")

    async def emptied(self, patience: float = PATIENCE) -> None:
        """Nothing waits any more; read beside the server that runs."""
        db = apsw.Connection(str(self.folder / "data/queue/0.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(10_000)
            await self.until(lambda: not db.execute("SELECT count(*) FROM message").get, "an empty queue", patience)
            self.assertEqual(0, db.execute("SELECT count(*) FROM delivery").get)
            self.assertEqual([], check(self.folder / "data/queue/0.db", self.folder / "data/spool"))
        finally:
            db.close()

    # -- the client

    async def send(self, mail: Mail) -> bool:
        """One message by a connection of its own, closed at once; True: it was answered with 250."""
        try:
            client = await self.connect()
            try:
                return await self.transact(client, mail)
            finally:
                client.transport.abortConnection()
                await client.gone
        except (ConnectError, ConnectionClosed):
            return False

    async def connect(self) -> Caller:
        """A client that was greeted and has said EHLO.  ConnectError, ConnectionClosed: nobody is there (any more)."""
        client = await Caller.connect(self.port)
        assert isinstance(client, Caller)
        await client.until(b"220 mta.test ESMTP\r\n")
        await client.say(b"EHLO client.test\r\n", b"250 MT-PRIORITY\r\n")
        return client

    async def transact(self, client: Caller, mail: Mail) -> bool:
        """A transaction; True: it was answered with 250."""
        commands = [f"MAIL FROM:<{mail.sender}>", *(f"RCPT TO:<{to}>" for to in mail.recipients), "DATA"]
        client.transport.write("".join(f"{command}\r\n" for command in commands).encode())
        replies = [await client.until(b"\r\n") for _ in commands]
        if not replies[-1].startswith(b"354 "):
            return False
        self.sent |= mail.copies
        reply = await client.say((b"\r\n" + mail.text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        if not reply.startswith(b"250 "):
            return False
        self.promised |= mail.copies
        return True

    # -- what is left

    async def remains(self) -> Remains:
        """What the server has left when it was dead, looked at in a copy: it is whole, and nothing promised is lost."""
        await self.ended()
        copy = Path(self.mktemp())
        shutil.copytree(self.folder / "data/queue", copy, ignore=shutil.ignore_patterns("*-shm"))
        db = apsw.Connection(str(copy / "0.db"))
        try:
            self.assertEqual([], [finding for finding in check(copy / "0.db", self.folder / "data/spool") if finding.grave])
            files = {path.name: path for path in self.files()}
            texts = {id: stored(db, id, place, files) for id, place in db.execute("SELECT id, body FROM message")}
            rows = db.execute("SELECT message, address, dest FROM delivery").fetchall()
        finally:
            db.close()
        shutil.rmtree(copy)
        digests = {id: digest(text) for id, text in texts.items()}
        left = frozenset((digests[message], to) for message, to, _ in rows)
        remains = Remains(left, Counter(dest for _, _, dest in rows), len(files), self.sink.copies())
        reports = [texts[message] for message, to, _ in rows if to == SENDER]
        self.assertEqual([], self.lost(remains.taken.keys() | left, reports))
        self.allowed.update(left & remains.taken.keys())
        return remains

    def lost(self, kept: Set[Copy], reports: Iterable[bytes] = ()) -> list[str]:
        """Recipients that were promised their mail, do not have it, are not waiting for it, and are in no report."""
        told = {to for report in reports for to in failed(report)} | self.sink.told()
        return [to for _, to in self.promised - kept if to not in told]

    def balance(self) -> int:
        """Everybody got what was promised, nobody more than was allowed; how many second copies there were."""
        copies = self.sink.copies()
        self.assertEqual([], self.lost(copies.keys()))
        self.assertEqual(set(), copies.keys() - self.sent, "texts that nobody has sent so")
        second = copies - Counter(dict.fromkeys(copies, 1))
        self.assertEqual(Counter(), second - self.allowed)
        return second.total()

    def files(self) -> list[Path]:
        """The large bodies on disk."""
        return [path for path in (self.folder / "data/spool").rglob("*") if path.is_file()]

    async def until(self, true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait until something is so; patience: seconds."""
        for _ in range(int(patience / 0.005)):
            if true():
                return
            await deferLater(reactor, 0.005)
        log = self.folder / "events.log"
        raise AssertionError(f"{what} never came: {log.read_text()[-4000:] if log.exists() else 'no log'}")


def stored(db: apsw.Connection, id: int, place: int, files: Mapping[str, Path]) -> bytes:
    """A body; a row never stands without its file (R6)."""
    if place < 0:
        return files[id_text(id)].read_bytes()
    return b"".join(data for (data,) in db.execute("SELECT data FROM body WHERE id IN (?, ?) ORDER BY id", (id, id + 1)))
