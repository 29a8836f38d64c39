"""The operator's door: a UNIX socket in the data directory by which `mta reload` and its like speak to the running server.

A connection carries one request and its answer, each a JSON object on one line:
`{"command": "reload"}` -> `{"ok": true, "generation": 2}` or `{"ok": false, "mistakes": ["..."]}`, and for a command that
there is not, or that fails, `{"ok": false, "error": "..."}`.  The socket has mode 0600: who may open it may command.
What is too long, no JSON, or does not come within `PATIENCE` is refused; nothing that comes in can end the server.
The file of a server that was killed is replaced; one on which somebody answers is a MailError, and so is every other
reason for which the socket cannot be had.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from mta.status import MailError, misconfigured

__all__ = ["ADDRESS_LIMIT", "LINE_LIMIT", "NAME", "Answer", "Command", "ControlSocket", "obeyed", "short_name"]

NAME: Final = "control.sock"  # in the data directory
LINE_LIMIT: Final = 64 << 10  # bytes of a request
PATIENCE: Final = 30.0  # seconds for the request to come, and for the answer to be read
ADDRESS_LIMIT: Final = 107  # bytes of a path in sockaddr_un (unix(7))

Answer = Mapping[str, object]
Command = Callable[[Mapping[str, Any]], Awaitable[Answer]]  # given the whole request; MailError becomes an "error"

_bugs = Logger()


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name by which a socket can be bound or reached however long its path is; holds as long as the context.  OSError."""
    if len(os.fsencode(path)) <= ADDRESS_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """The door.  commands: what can be asked for, by name.  reactor: IReactorUNIX and IReactorTime."""

    def __init__(self, path: Path, commands: Mapping[str, Command], reactor: Any) -> None:
        self._path = path
        self._commands = commands
        self._reactor = reactor
        self._held = ExitStack()
        self._port: IListeningPort | None = None
        self._here: set[_Conversation] = set()

    def open(self) -> None:
        """Listen.  Raises MailError; then nothing was changed."""
        with ExitStack() as held:
            try:
                self._path.parent.stat()  # its trouble, before that of a socket in it
                name = held.enter_context(short_name(self._path))
                _remove_stale(self._path, name)
                # Twisted sets the mode between bind and listen: before it nobody can connect.
                self._port = self._reactor.listenUNIX(name, _Door(self), mode=0o600)
            except CannotListenError as error:
                trouble = error.socketError
                raise _mistake(f"{self._path}: {trouble.strerror if isinstance(trouble, OSError) else trouble}") from error
            except OSError as error:
                raise _mistake(f"{self._path}: {error.strerror}") from error
            self._held = held.pop_all()

    def close(self) -> Deferred[None]:
        """Listen no more, hang up; fires when the file is gone.  Harmless when it is not open."""
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        if not self._path.exists():
            self._path.touch()  # somebody has removed it; Twisted's port does not bear to find nothing to remove
        stopped: Deferred[Any] = maybeDeferred(port.stopListening)
        gone = [conversation.hang_up() for conversation in list(self._here)]
        closed: Deferred[Any] = DeferredList([stopped, *gone])
        return closed.addCallback(lambda _: self._held.close())

    def arrived(self, conversation: _Conversation) -> None:
        """Somebody has connected."""
        self._here.add(conversation)

    def left(self, conversation: _Conversation) -> None:
        """A connection is closed."""
        self._here.discard(conversation)

    async def answer(self, line: bytes) -> Answer:
        """What there is to say to a request.  Never raises."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _fault("the request is no JSON")
        return await obeyed(self._commands, request)


async def obeyed(commands: Mapping[str, Command], request: object) -> Answer:
    """What there is to say to a request that could be read.  Never raises."""
    name = request.get("command") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(name, str):
        return _fault('the request has no "command"')
    command = commands.get(name)
    if command is None:
        return _fault(f"unknown command {name[:60]!r}; there are: {', '.join(sorted(commands))}")
    try:
        return {"ok": True, **await command(request)}
    except MailError as error:
        return _fault(error.reason or str(error))
    except Exception:
        _bugs.failure("the command {name} failed", name=name)
        return _fault("internal trouble: see the log of the service")


class _Door(Factory):
    """Makes a conversation for each connection."""

    noisy = False

    def __init__(self, control: ControlSocket) -> None:
        self._control = control

    def buildProtocol(self, addr: IAddress | None) -> _Conversation:
        """Somebody has come."""
        return _Conversation(self._control)


class _Conversation(Protocol, TimeoutMixin):
    """One request and its answer."""

    transport: Any

    def __init__(self, control: ControlSocket) -> None:
        self._control = control
        self._received = b""
        self._asked = False
        self._gone: Deferred[None] = Deferred()

    def callLater(self, period: float, func: Callable[[], None]) -> Any:  # TimeoutMixin's seam for a clock
        return self._control._reactor.callLater(period, func)

    def connectionMade(self) -> None:
        """Wait for the request."""
        self._control.arrived(self)
        self.setTimeout(PATIENCE)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """A piece of the request; what follows it is nobody's business."""
        if self._asked:
            return
        self._received += data
        line, end, _ = self._received.partition(b"\n")
        if len(line) > LINE_LIMIT:
            self._asked = True
            self._say(_fault(f"the request is longer than {LINE_LIMIT} bytes"))
        elif end:
            self._asked = True
            self.setTimeout(None)  # type: ignore[no-untyped-call]  # a command takes the time it takes
            ensureDeferred(self._control.answer(line)).addCallback(self._say)

    def _say(self, answer: Answer) -> None:
        if self._gone.called:
            return
        self.transport.write(json.dumps(answer, default=str).encode() + b"\n")
        self.transport.loseConnection()
        self.setTimeout(PATIENCE)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """Nothing has come, or nobody reads the answer."""
        self.transport.abortConnection()

    def hang_up(self) -> Deferred[None]:
        """End now; fires when the connection is closed."""
        self.transport.abortConnection()
        return self._gone

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Over.  A command that still runs goes on."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._control.left(self)
        self._gone.callback(None)


def _remove_stale(path: Path, name: str) -> None:
    """Remove the file of a server that was killed.  MailError where somebody answers, or it is no socket."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise _mistake(f"{path}: is there, and no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its queue of connections is full: somebody listens
            pass
    raise _mistake(f"{path}: another process answers on it")


def _fault(text: str) -> Answer:
    return {"ok": False, "error": text}


def _mistake(reason: str) -> MailError:
    return misconfigured(f"control socket {reason}")
