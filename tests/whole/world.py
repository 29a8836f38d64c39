"""A whole server on the loopback, for tests from outside: real sockets, a real queue on disk, a mailbox to look into.

    server = await self.serve("b.test")                    delivers b.test to one Maildir
    caller = await self.caller(server)                     a client that is greeted
    await caller.deliver("you@b.test", b"hello\r\n")       the last reply of a transaction

Everything is stopped when the test ends, whatever it did; what is awaited is bounded.
"""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mta.config.loader import parse
from mta.service import Mta, make_mta
from mta.testing.peers import ScriptedServer
from mta.testing.pki import Authority
from tests.peers.server import MtaProcess
from tests.ports import free_port
from tests.receive.client import Client

HEADER = b"Subject: test\r\n\r\n"
PATIENCE = 30.0  # seconds that anything may take; the machine of the tests may be busy
SOON = '[retry]\nminimal_backoff = "1s"\nmaximal_backoff = "1s"\n'


class Events:
    """The log: keeps every event."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Any) -> None:
        """See IEventLog."""
        self.seen.append((name, queue_id, dict(fields)))

    def of(self, *names: str) -> list[dict[str, object]]:
        """The fields of these events, in order."""
        return [fields for event, _, fields in self.seen if event in names]

    def count(self, name: str) -> int:
        """How often it happened."""
        return len(self.of(name))


class Caller(Client):
    """A client of the plain kind."""

    async def line(self) -> bytes:
        """The next line, without its end."""
        return (await self.until(b"\r\n"))[:-2]

    async def ask(self, command: bytes) -> bytes:
        """The reply to a command, of one line."""
        return (await self.say(command + b"\r\n"))[:-2]

    async def lines(self, count: int) -> list[bytes]:
        """So many lines."""
        return [await self.line() for _ in range(count)]

    async def ehlo(self) -> list[bytes]:
        """EHLO; the lines of the answer."""
        lines = [await self.ask(b"EHLO client.test")]
        while lines[-1][3:4] == b"-":
            lines.append(await self.line())
        return lines

    async def envelope(self, *recipients: str, sender: str = "me@a.test", parameters: str = "") -> list[bytes]:
        """MAIL and RCPT; the replies."""
        replies = [await self.ask(f"MAIL FROM:<{sender}>{parameters}".encode())]
        return replies + [await self.ask(f"RCPT TO:<{recipient}>".encode()) for recipient in recipients]

    async def data(self, text: bytes) -> bytes:
        """DATA and these bytes, which have their own end; the reply to that."""
        assert (await self.ask(b"DATA")).startswith(b"354 ")
        return (await self.say(text))[:-2]

    async def deliver(self, recipient: str, text: bytes = b"hello\r\n", **more: str) -> bytes:
        """A whole transaction; its last reply."""
        await self.envelope(recipient, **more)
        return await self.data(HEADER + text + b".\r\n")

    async def end(self) -> bytes:
        """What is said until the connection ends."""
        return await self.gone


@attrs.define
class Running:
    """A server and what is to be seen of it from outside."""

    mta: Mta
    events: Events
    folder: Path
    port: int

    @property
    def sessions(self) -> int:
        """Connections that are open."""
        return self.mta.receive.sessions

    def mails(self, name: str = "mail") -> list[Message]:
        """What is in a Maildir."""
        return [message_from_bytes(path.read_bytes()) for path in sorted((self.folder / name / "new").glob("*"))]

    def texts(self, name: str = "mail") -> list[bytes]:
        """The bodies there, with LF as Maildirs have it, in no order that means anything: sorted."""
        return sorted(bytes(mail.get_payload(decode=True)) for mail in self.mails(name))

    def spool(self) -> list[Path]:
        """Files of large bodies."""
        return [path for path in (self.folder / "data/spool").rglob("*") if path.is_file()]


class World(TestCase):
    """See the module."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    async def serve(self, name: str = "b.test", more: str = "", *, keys: str = "", port: int = 0, **given: Any) -> Running:
        """A running server; its own domain goes to the Maildir `mail`.  keys, more: configuration in front of and behind that."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        text = (
            f'hostname = "{name}"\ndata_dir = "data"\nlocal_domains = ["{name}"]\n{keys}\n'
            f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
            f'[[route]]\nmatch = "local"\ndeliver = "maildir:{folder}/mail"\n{more}'
        )
        events = Events()
        mta = make_mta(parse(text, folder / "mta.toml"), reactor=reactor, log=events, **given)
        mta.startService()
        self.addCleanup(self.stop, mta)
        await mta.ready
        return Running(mta, events, folder, int(mta.receive.ports[0].getHost().port))

    async def process(self, more: str = "", **given: Any) -> MtaProcess:
        """A server that is a process of its own, started."""
        (directory := self.folder / "process").mkdir(exist_ok=True)
        mta = MtaProcess(directory, more, **given)
        self.addCleanup(deferToThread, mta.kill9)
        await deferToThread(mta.start)
        return mta

    def stop(self, mta: Mta) -> Deferred[None] | None:
        """Stop a server, unless it was stopped; a stop that hangs fails the test."""
        return mta.stopService().addTimeout(60, reactor) if mta.running else None

    async def hop(self, script: Any = None, *, port: int = 0, **more: Any) -> tuple[ScriptedServer, int]:
        """A next hop that does what the script says, and its port."""
        server = ScriptedServer(script, **more)
        listening = reactor.listenTCP(port, server, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(server.close_all)
        return server, int(listening.getHost().port)

    async def connect(self, port: int) -> Caller:
        """A client; it hangs up when the test ends."""
        caller = await Caller.connect(port)
        assert isinstance(caller, Caller)
        self.addCleanup(lambda: caller.transport.abortConnection())
        return caller

    async def caller(self, server: Running) -> Caller:
        """A client that was greeted and has said EHLO."""
        caller = await self.connect(server.port)
        self.assertEqual(f"220 {server.folder.name} ESMTP".encode(), await caller.line())
        await caller.ehlo()
        return caller

    async def until(self, true: Any, what: str, patience: float = PATIENCE) -> None:
        """Wait until something is so."""
        for _ in range(int(patience / 0.02)):
            if true():
                return
            await deferLater(reactor, 0.02)
        raise AssertionError(f"it never came to that: {what}")

    async def happened(self, server: Running, name: str, count: int = 1) -> list[dict[str, object]]:
        """Wait for the count-th event of a name; all of that name."""
        try:
            await self.until(lambda: server.events.count(name) >= count, f"{count} x {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {server.events.seen}") from None
        return server.events.of(name)

    async def serves(self, server: Running, taken: int = 0) -> None:
        """The server is well: nobody is connected, `taken` messages were accepted, and one more is accepted and delivered."""
        await self.until(lambda: server.sessions == 0, "all are gone")
        self.assertEqual(taken, server.events.count("accepted"))
        caller = await self.caller(server)
        self.assertEqual(b"250 2.0.0 Ok: queued as ", (await caller.deliver(f"you@{server.folder.name}", b"still here\r\n"))[:24])
        self.assertEqual(b"221 2.0.0 Bye", await caller.ask(b"QUIT"))
        await self.happened(server, "delivered", taken + 1)
        self.assertEqual(1, server.texts().count(b"still here\n"))

    def certificate(self, *names: str) -> str:
        """A [tls] table with a certificate for these names, of an authority of the test's own."""
        authority = self.authority = Authority.create()
        certificate, key = authority.issue(*(names or ("localhost", "127.0.0.1"))).write(self.folder)
        return f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'

    @staticmethod
    def free_port() -> int:
        """A port that was free a moment ago."""
        return free_port()


def recipients_of(report: Message) -> list[Message]:
    """The fields of each recipient in a report (RFC 3464)."""
    (status,) = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]
    _, *recipients = status.get_payload()
    return recipients  # type: ignore[return-value]


def relay(port: int, match: str = "*", more: str = "") -> str:
    """A [[route]] to a port of this machine."""
    return f'[[route]]\nmatch = "{match}"\nrelay = "[127.0.0.1]:{port}"\n{more}'
