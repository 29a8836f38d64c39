"""A conversation with a mail server that is led step by step, for a look at the server and not for mail.

RFC 5321, RFC 3207.  The same sender-SMTP (`mta.smtp.client`) as deliveries have, one question at a time; each method awaits
the answer.  TLS is always of the kind that can be taken down (`mta.tls.unwrap`), for that is one of the things to be looked
at.  Whatever goes wrong, a refusal apart, is `Lost`, with the step in which it happened; afterwards only `leave` is of
use, and `leave` must always be called: it never raises, and nothing of the connection is there when it has fired.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mta.smtp.client import Event, Sender, Transaction
from mta.smtp.event import Broken, Ended, Transacted
from mta.smtp.grammar import CONTROL
from mta.status import Reply
from mta.tls.unwrap import TlsBroken, UnwrappableTls

__all__ = ["Conversation", "Lost", "Tell"]

LAST_WORDS: Final = 2.0  # seconds for QUIT, and for the end of the connection
_NOTHING: Final = Transaction("", (), 0, 0)  # a transaction without recipients: where nothing is pipelined that is MAIL alone

Tell = Callable[[str], None]  # gets the conversation, line by line


class Lost(Exception):
    """The conversation cannot go on; str() says why and where."""


class Conversation(Protocol):
    """Made by `connect`.  limit: seconds for each answer.  tell: see Tell."""

    transport: Any

    def __init__(self, hello: str, clock: IReactorTime, limit: float, tell: Tell) -> None:
        self._hello = hello
        self._clock = clock
        self._limit = limit
        self._tell = tell
        self._machine = Sender(hello)
        self._events: list[Event] = []
        self._tls: UnwrappableTls | None = None
        self._takes_down = False
        self._ending: UnwrappableTls | None = None  # we go on in clear, and the server has not said close_notify
        self._end = ""  # why nothing more comes
        self._changed: Deferred[None] | None = None
        self._gone: Deferred[None] = Deferred()

    @classmethod
    async def connect(
        cls, reactor: Any, address: str, port: int, *, hello: str, source: str = "", limit: float = 30.0, tell: Tell
    ) -> Conversation:
        """TCP.  source: our own address, "" for any.  Raises Lost."""
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(reactor, address, port, timeout=limit, bindAddress=(source, 0) if source else None)
        conversation = cls(hello, reactor, limit, tell)
        try:
            await connectProtocol(endpoint, conversation)  # type: ignore[no-untyped-call]
        except (ConnectError, OSError) as error:
            raise Lost(f"cannot connect: {str(error).rstrip('.')}") from None
        return conversation

    # ---- the steps

    async def greeting(self) -> Reply:
        """What the server says first."""
        return await self._answer("before the greeting")

    async def hello(self) -> tuple[Reply, Mapping[str, str]]:
        """EHLO; the answer and the extensions."""
        reply = await self._answer("at EHLO inside TLS" if self._tls else "at EHLO", self._machine.hello)
        return reply, self._machine.extensions

    async def starttls(self) -> Reply:
        """STARTTLS.  After 220 nothing but `secure` makes sense."""
        return await self._answer("at STARTTLS", self._machine.starttls)

    async def reset(self) -> Reply:
        """RSET."""
        return await self._answer("at RSET", self._machine.reset)

    async def mail(self) -> Reply:
        """MAIL FROM:<>, to be taken back with `reset`."""
        machine = self._machine
        machine.extensions = {key: value for key, value in machine.extensions.items() if key != "PIPELINING"}
        return await self._answer("at MAIL", lambda: machine.transact(_NOTHING))

    async def idle(self, seconds: float) -> None:
        """Say nothing for a while.  Raises Lost when the server does not stay."""
        await self._until(lambda: bool(self._events), "while idle", seconds, must=False)
        if self._events:
            await self._answer("while idle")
            raise Lost("an answer that nobody asked for, while idle")

    async def secure(self, connection: SSL.Connection) -> None:
        """The TLS handshake; the conversation begins anew with `hello`."""
        try:
            tls = self._tls = UnwrappableTls(connection)
        except TlsBroken as error:
            raise Lost(f"{error} in the TLS handshake") from None
        self._machine = Sender(self._hello, in_tls=True)
        self._flush()
        await self._until(lambda: tls.established, "in the TLS handshake", self._limit)

    async def take_tls_down(self, seconds: float) -> str:
        """Say close_notify, and go on in clear.  What the server did, in words; Lost when it closed the connection."""
        tls = self._tls
        assert tls is not None, "there is TLS to be taken down"
        self._takes_down = True
        try:
            tls.shut()
        except TlsBroken as error:
            raise Lost(f"{error} at close_notify") from None
        self._flush()
        await self._until(lambda: tls.closed, "at close_notify", seconds, must=False)
        self._tls, self._ending, self._takes_down = None, None if tls.closed else tls, False
        self._machine = Sender(self._hello, extensions={})
        if tls.rest:
            self.dataReceived(tls.rest)
        return "answered with close_notify" if tls.closed else f"no close_notify in {seconds:g} s"

    async def leave(self) -> None:
        """QUIT, where somebody still listens, and the end of the connection."""
        try:
            if not self._end and self._machine.is_idle:
                self._limit = LAST_WORDS
                await self._answer("at QUIT", self._machine.quit)
        except Lost:
            pass
        if not self._gone.called:
            self.transport.loseConnection()
            cut = self._clock.callLater(LAST_WORDS, self.transport.abortConnection)
            await self._gone
            if cut.active():
                cut.cancel()

    @property
    def handle(self) -> SSL.Connection:
        """What the handshake was made with."""
        assert self._tls is not None, "there is TLS"
        return self._tls.connection

    # ---- waiting

    async def _answer(self, where: str, ask: Callable[[], None] | None = None) -> Reply:
        """Ask, and await the answer."""
        if ask is not None and not (self._end or self._events):
            ask()
            self._flush()
            self._events += self._machine.events()
        await self._until(lambda: bool(self._events), where, self._limit)
        happened = self._events.pop(0)
        if isinstance(happened, Ended):
            raise Lost(f"the server ended it {where}: {happened.reply}")
        if isinstance(happened, Broken):
            raise Lost(f"protocol error {where}: {happened.reason}")
        reply: Reply | None = happened.mail if isinstance(happened, Transacted) else getattr(happened, "reply", None)
        assert reply is not None, "a transaction without recipients ends with the answer to MAIL"
        return reply

    async def _until(self, ready: Callable[[], bool], where: str, seconds: float, must: bool = True) -> None:
        """Come back when it is so.  Raises Lost at the end of the connection, and after the time if it must be so."""
        end = self._clock.seconds() + seconds
        while not ready():
            if self._end:
                raise Lost(f"{self._end} {where}")
            if self._clock.seconds() >= end:
                if must:
                    raise Lost(f"no answer {where} in {seconds:g} s")
                return
            await self._change(end - self._clock.seconds())

    def _change(self, seconds: float) -> Awaitable[None]:
        """Fires when something has happened, or after the time."""
        changed = self._changed = Deferred()
        return changed.addTimeout(seconds, self._clock, lambda *_: None)

    def _stir(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.called:
            changed.callback(None)

    # ---- bytes

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        tls = self._tls
        try:
            if tls is not None:
                data = tls.receive(data)
                if tls.closed and not self._takes_down:
                    self._end = self._end or "TLS closed by the server"
                self._flush()
            elif self._ending is not None:
                data = self._ending.receive_late(data)
                if data or self._ending.closed:
                    self._ending = None
        except TlsBroken as error:
            self._end = self._end or str(error)
            self._flush()  # the alert
            self._stir()
            return
        if data:
            self._say("<", data)
            self._machine.receive_data(data)
            self._events += self._machine.events()
            self._flush()  # HELO, which the machine says by itself
        self._stir()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = self._end or _in_words(reason)
        self._gone.callback(None)
        self._stir()

    def _flush(self) -> None:
        """Write what is to be said, inside TLS where there is TLS."""
        out, tls = self._machine.data_to_send(), self._tls
        if out:
            self._say(">", out)
        if tls is not None:
            try:
                tls.send(out)
            except TlsBroken as error:
                self._end = self._end or str(error)
            out = tls.data_to_send()
        if out and not self._gone.called:
            self.transport.write(out)

    def _say(self, arrow: str, data: bytes) -> None:
        mark = f"{arrow} [TLS]" if self._tls else arrow
        for line in data.decode("utf-8", "replace").splitlines():
            self._tell(f"{mark} {CONTROL.sub('?', line)}")


def _in_words(reason: Failure) -> str:
    """Why a connection ended, or never was."""
    if isinstance(reason.value, ConnectionDone):
        return "connection closed by the server"
    return reason.getErrorMessage().rstrip(".")
