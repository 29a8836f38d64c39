"""The control socket: requests and answers over a real UNIX socket, what it refuses, and whose file it replaces."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mta.control.socket import ADDRESS_LIMIT, LINE_LIMIT, PATIENCE, ControlSocket, short_name
from mta.status import MailError, transient


class Caller(Protocol):
    """Sends, and keeps what comes until the end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        for piece in self.pieces:
            self.transport.write(piece)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.received)


async def echo(request: Any) -> dict[str, object]:
    return {"said": request.get("say")}


async def full(request: Any) -> dict[str, object]:
    raise transient("4.3.1", "x", reason="disk full")


async def broken(request: Any) -> dict[str, object]:
    raise ZeroDivisionError


class SocketTests(TestCase):
    """Over the reactor."""

    timeout = 20

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.path = folder / "control.sock"
        self.control = self.make()

    def make(self, **more: Any) -> ControlSocket:
        return ControlSocket(self.path, {"echo": echo, "full": full, "broken": broken, **more}, reactor)

    def open(self, **more: Any) -> None:
        self.control = self.make(**more)
        self.control.open()
        self.addCleanup(self.control.close)

    async def call(self, *pieces: bytes) -> Caller:
        """Somebody who has sent these bytes."""
        with short_name(self.path) as name:
            return await connectProtocol(UNIXClientEndpoint(reactor, name), Caller(*pieces))

    async def say(self, *pieces: bytes) -> Any:
        """The answer to the bytes of a request, as JSON."""
        line = await (await self.call(*pieces)).ended
        self.assertTrue(line.endswith(b"\n"), line)
        return json.loads(line)

    async def test_request_and_answer(self) -> None:
        """One of each, however the bytes are cut; what follows the first line is not looked at."""
        self.open()
        request = b'{"command": "echo", "say": "h\\u00e9"}\n'
        self.assertEqual({"ok": True, "said": "hé"}, await self.say(request))
        self.assertEqual({"ok": True, "said": "hé"}, await self.say(*[bytes([byte]) for byte in request]))
        self.assertEqual({"ok": True, "said": "hé"}, await self.say(request + b'{"command": "broken"}\n'))

    async def test_what_is_no_request(self) -> None:
        """Garbage, other JSON and unknown commands get an answer that says so, and the door stays open."""
        self.open()
        for line, text in (
            (b"quit", "the request is no JSON"),
            (b"\xff", "the request is no JSON"),
            (b"[" * LINE_LIMIT, "the request is no JSON"),
            (b"[1]", 'the request has no "command"'),
            (b'{"command": 5}', 'the request has no "command"'),
            (b'{"command": "qeue"}', "unknown command 'qeue'; there are: broken, echo, full"),
        ):
            self.assertEqual({"ok": False, "error": text}, await self.say(line + b"\n"))

    async def test_too_long(self) -> None:
        """A line without end is cut off, as one that ends too late is."""
        self.open()
        wanted = {"ok": False, "error": f"the request is longer than {LINE_LIMIT} bytes"}
        self.assertEqual(wanted, await self.say(b"x" * (LINE_LIMIT + 1)))
        self.assertEqual(wanted, await self.say(b"x" * (LINE_LIMIT + 1) + b"\n"))

    async def test_commands_that_fail(self) -> None:
        """A MailError's reason is told; a bug is logged and not explained."""
        self.open()
        self.assertEqual({"ok": False, "error": "disk full"}, await self.say(b'{"command": "full"}\n'))
        answer = await self.say(b'{"command": "broken"}\n')
        self.assertEqual("internal trouble: see the log of the service", answer["error"])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_a_command_may_say_no(self) -> None:
        """Its own "ok" stands."""

        async def refuse(request: Any) -> dict[str, object]:
            return {"ok": False, "mistakes": ["a", "b"]}

        self.open(refuse=refuse)
        self.assertEqual({"ok": False, "mistakes": ["a", "b"]}, await self.say(b'{"command": "refuse"}\n'))

    async def test_mode_and_end(self) -> None:
        """Only the owner may connect; closing removes the file, twice does no harm, and it may be opened again."""
        self.open()
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        await self.control.close()
        self.assertFalse(self.path.exists())
        await self.control.close()
        self.control.open()
        self.assertTrue((await self.say(b'{"command": "echo"}\n'))["ok"])

    async def test_closing_with_somebody_there(self) -> None:
        """Who waits is hung up on, and what a running command answers afterwards goes nowhere."""
        held: Deferred[dict[str, object]] = Deferred()

        async def wait(request: Any) -> dict[str, object]:
            return await held

        self.open(wait=wait)
        idle, waiting = await self.call(), await self.call(b'{"command": "wait"}\n')
        await self.say(b'{"command": "echo"}\n')  # by now both have been accepted
        await self.control.close()
        held.callback({})
        self.assertEqual((b"", b""), (await idle.ended, await waiting.ended))

    async def test_somebody_removed_the_file(self) -> None:
        """The stop comes to its end all the same."""
        self.open()
        self.path.unlink()
        await self.control.close()
        self.assertFalse(self.path.exists())

    def test_stale_file(self) -> None:
        """What a killed server left behind is replaced."""
        with socket.socket(socket.AF_UNIX) as dead, short_name(self.path) as name:
            dead.bind(name)
        self.assertTrue(self.path.exists())
        self.open()
        return self.control.close()

    def refused(self, why: str) -> None:
        with self.assertRaises(MailError) as caught:
            self.control.open()
        self.assertEqual(f"control socket {self.path}: {why}", caught.exception.reason)

    def test_live_server(self) -> None:
        """Where somebody answers nothing is replaced, though he has no time to accept."""
        with socket.socket(socket.AF_UNIX) as alive, short_name(self.path) as name:
            alive.bind(name)
            alive.listen(0)
            for _ in range(3):
                self.refused("another process answers on it")
        self.assertTrue(self.path.exists())

    def test_not_ours(self) -> None:
        """A file of another kind is left alone; a directory that is not there, or not ours, is named."""
        self.path.write_text("precious")
        self.refused("is there, and no socket")
        self.assertEqual("precious", self.path.read_text())
        self.path = self.path.parent / "nix" / "control.sock"
        self.control = self.make()
        self.refused("No such file or directory")

    async def test_long_path(self) -> None:
        """A path longer than a socket's address may be is no hindrance, and leaves no descriptor behind."""
        self.path = self.path.parent.joinpath(*["d" * 60] * 3, "control.sock")
        self.path.parent.mkdir(parents=True)
        self.assertGreater(len(os.fsencode(self.path)), ADDRESS_LIMIT)
        self.open()
        self.assertTrue((await self.say(b'{"command": "echo"}\n'))["ok"])
        await self.control.close()
        self.assertFalse(self.path.exists())
        held = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        self.assertNotIn(self.path.parent, held)


class PatienceTests(SynchronousTestCase):
    """On a clock."""

    def test_silence(self) -> None:
        """Who asks nothing, and who does not read the answer, is hung up on; a command takes the time it takes."""
        clock = Clock()
        held: Deferred[dict[str, object]] = Deferred()

        async def wait(request: Any) -> dict[str, object]:
            return await held

        control = ControlSocket(Path("x"), {"wait": wait}, clock)
        silent, asking = self.conversation(control), self.conversation(control)
        asking.dataReceived(b'{"command": "wait"}\n')
        clock.advance(PATIENCE - 1)
        self.assertFalse(silent.transport.aborting)
        clock.advance(2)
        self.assertTrue(silent.transport.aborting)
        clock.advance(1000)
        self.assertFalse(asking.transport.aborting)
        held.callback({})
        self.assertEqual(b'{"ok": true}\n', asking.transport.value())
        clock.advance(PATIENCE + 1)
        self.assertTrue(asking.transport.aborting)
        for conversation in (silent, asking):
            conversation.connectionLost(Failure(ConnectionError()))
        self.assertEqual([], clock.getDelayedCalls())

    def conversation(self, control: ControlSocket) -> Any:
        from mta.control.socket import _Door

        conversation = _Door(control).buildProtocol(None)
        transport = StringTransport()
        transport.aborting = False
        transport.abortConnection = lambda: setattr(transport, "aborting", True)
        conversation.makeConnection(transport)
        return conversation
