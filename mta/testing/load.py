"""Sends much mail, as fast as the server takes it or at a given pace, and says how long each message took.

    python -m mta.testing.load --port 25 --messages 5000 [--sessions 20] [--size 4096] [--recipient user{n}@d{d}.test]
        [--recipients 1] [--destinations 1] [--new-connections] [--tls] [--rate 200]

Closed loop (no --rate): every session begins its next message when the last is answered.  Open loop: messages are due at random
moments (exponential gaps, the same ones in every run) whether or not the server keeps up; each goes to a session that is idle, or
waits for one.  A message's delay runs from the moment it was due, or was taken by a session, to the answer to its final dot:
a server that stalls is charged for all that waited meanwhile.  Commands are pipelined where that is offered (RFC 2920); STARTTLS
verifies nobody.  Each message says in X-Sent when that was (CLOCK_MONOTONIC, for mta.testing.sink).  The result is JSON:
counts, began (CLOCK_MONOTONIC), seconds, percentiles.  A connection that fails, or a hundred that end in the middle of a
message, end the run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.testing.delays import Delays

__all__ = ["Load", "LoadFailed", "Mail"]

_LINE: Final = b"x" * 76 + b"\r\n"
_FIELDS: Final = b"From: <from@a.test>\r\nTo: <user@sink.test>\r\nSubject: load\r\nMessage-ID: <%d@load.test>\r\n\r\n"
_BROKEN: Final = 100  # connections that end amid a message: the server is not well
_SEED: Final = 1


class LoadFailed(Exception):
    """The server cannot be reached, or does not serve."""


@attrs.frozen
class Mail:
    """What is sent.

    size: octets of a body, about.  recipient: with {n} the number of the message and of its recipient, with {d} that of its
    destination, which is n modulo destinations.  rate: messages per second, 0: a closed loop.
    """

    messages: int
    sessions: int = 20
    size: int = 4096
    sender: str = "from@a.test"
    recipient: str = "user{n}@sink.test"
    recipients: int = 1
    destinations: int = 1
    keeps: bool = True  # sessions their connection
    tls: bool = False
    rate: float = 0.0

    def envelope(self, number: int) -> list[bytes]:
        """MAIL, RCPT ... and DATA of a message."""
        first, place = number * self.recipients, number % self.destinations
        to = (self.recipient.format(n=first + each, d=place) for each in range(self.recipients))
        return [
            b"MAIL FROM:<%s>\r\n" % self.sender.encode(),
            *(b"RCPT TO:<%s>\r\n" % address.encode() for address in to),
            b"DATA\r\n",
        ]

    def due(self) -> list[float]:
        """Seconds from the start at which messages are due, the same in every run."""
        gaps, at, moments = random.Random(_SEED), 0.0, []
        for _ in range(self.messages):
            moments.append(at)
            at += gaps.expovariate(self.rate)
        return moments


class Load:
    """One run.  `run` may be called once; host: an address or a name."""

    def __init__(
        self, reactor: Any, mail: Mail, port: int, host: str = "127.0.0.1", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.mail = mail
        self.clock = clock
        self.delays = Delays()
        self.accepted = self.refused = self.broken = 0
        self.rest = _LINE * max((mail.size - 200) // len(_LINE), 0) + b".\r\n"
        self._reactor = reactor
        self._endpoint = (TCP4ClientEndpoint if host[:1].isdigit() else HostnameEndpoint)(reactor, host, port, timeout=60)
        self._waiting: deque[tuple[int, float]] = deque()  # number of a message, when it was due
        self._moments: deque[float] = deque()
        self._next = self._open = self._begun = 0
        self._idle: list[_Session] = []
        self._sessions: set[_Session] = set()
        self._timer: Any = None
        self._error: LoadFailed | None = None
        self._began = self._ended = 0.0
        self._done: Deferred[dict[str, Any]] = Deferred()

    def run(self) -> Deferred[dict[str, Any]]:
        """Fires with the result once every message has its answer.  LoadFailed."""
        self._began = self.clock()
        if self.mail.rate:
            self._moments.extend(self.mail.due())
            self._release()
        else:
            self.greeted()
        return self._done

    def greeted(self) -> None:
        """Sessions begin one after the other: twenty at once are more than some servers let wait at their door (listen(2))."""
        if not self.mail.rate and self._begun < min(self.mail.sessions, self.mail.messages):
            self._begun += 1
            self._connect()

    def taken(self) -> tuple[int, float] | None:
        """The next message for a session, and when it was due; None: there is none now."""
        if self._waiting:
            return self._waiting.popleft()
        if self._error or self.mail.rate or self._next == self.mail.messages:
            return None
        self._next += 1
        return self._next - 1, self.clock()

    def idle(self, session: _Session) -> None:
        """It has nothing to do."""
        if self.is_over:
            session.leave()
        else:
            self._idle.append(session)

    @property
    def is_over(self) -> bool:
        """No session will get another message."""
        rest = self._waiting or self._moments or (not self.mail.rate and self._next < self.mail.messages)
        return self._error is not None or not rest

    def answered(self, due: float, accepted: bool) -> None:
        """A message has its answer."""
        self._ended = self.clock()
        if accepted:
            self.accepted += 1
            self.delays.add(self._ended - due)
        else:
            self.refused += 1

    def opened(self, session: _Session) -> None:
        """A connection stands."""
        self._sessions.add(session)
        if self._error:
            session.transport.abortConnection()

    def closed(self, session: _Session, amid: bool) -> None:
        """A connection has ended.  amid: with a message that has no answer."""
        self._sessions.discard(session)
        self.broken += amid
        if session in self._idle:
            self._idle.remove(session)
        if self.broken >= _BROKEN:
            self._fail(f"{self.broken} connections ended amid a message")
        elif not self.is_over and (self._waiting or not self.mail.rate):
            self._connect()
        self._one_less()

    def _release(self) -> None:
        """What is due is given to sessions."""
        now = self.clock() - self._began
        while self._moments and self._moments[0] <= now:
            self._waiting.append((self._next, self._began + self._moments.popleft()))
            self._next += 1
            if self._idle:
                self._idle.pop().begin()
            elif self._open < self.mail.sessions:
                self._connect()
        if self._moments:
            self._timer = self._reactor.callLater(max(self._moments[0] - now, 0.0), self._release)
        else:
            for session in self._idle[:]:
                self._idle.remove(session)
                session.leave()

    def _connect(self) -> None:
        self._open += 1
        factory: Any = Factory.forProtocol(lambda: _Session(self))
        factory.noisy = False
        self._endpoint.connect(factory).addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> None:
        self._fail(failure.getErrorMessage())
        self._one_less()

    def _fail(self, why: str) -> None:
        """It is over, once all connections are gone."""
        self._error = self._error or LoadFailed(why)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for session in list(self._sessions):
            session.transport.abortConnection()

    def _one_less(self) -> None:
        self._open -= 1
        if self._open or not self.is_over or self._done.called:
            return
        if self._error:
            self._done.errback(self._error)
        else:
            self._done.callback(self._result())

    def _result(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("accepted", "refused", "broken")}
        seconds = max(self._ended - self._began, 1e-9)
        return {
            **counts,
            "began": self._began,
            "seconds": seconds,
            "rate": self.accepted / seconds,
            "delays": self.delays.summary(),
        }


class _Session(Protocol):
    """One connection: greeting, EHLO, STARTTLS and EHLO again, then messages."""

    transport: Any

    def __init__(self, load: Load) -> None:
        self._load = load
        self._data = b""
        self._asked: deque[str] = deque(["greeting"])
        self._unsaid: deque[tuple[str, bytes]] = deque()
        self._pipelines = self._in_tls = False
        self._message: tuple[int, float] | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._load.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._load.closed(self, self._message is not None)

    def dataReceived(self, data: bytes) -> None:
        *lines, self._data = (self._data + data).split(b"\r\n")
        for line in lines:
            if self._asked and self._asked[0] == "hello" and line[4:].upper() == b"PIPELINING":
                self._pipelines = True
            if line[3:4] != b"-":
                self._hear(self._asked.popleft() if self._asked else "", line[:3])

    def begin(self) -> None:
        """The next message, if there is one."""
        self._message = self._load.taken()
        if self._message is None:
            self._load.idle(self)
            return
        mail, rcpt, *more = self._load.mail.envelope(self._message[0])
        self._unsaid.extend([("mail", mail), ("rcpt", rcpt), *(("rcpt", line) for line in more[:-1]), ("data", more[-1])])
        self._say()

    def leave(self) -> None:
        """QUIT."""
        self._unsaid.append(("quit", b"QUIT\r\n"))
        self._say()

    def _say(self) -> None:
        """All that is to be said, or one command, where the server wants them singly."""
        if not self._unsaid:
            return
        said = list(self._unsaid) if self._pipelines else [self._unsaid[0]]
        for name, _ in said:
            self._unsaid.popleft()
            self._asked.append(name)
        self.transport.write(b"".join(line for _, line in said))

    def _hear(self, asked: str, code: bytes) -> None:
        match asked:
            case "greeting" | "starttls" if code == b"220":
                if asked == "greeting":
                    self._load.greeted()
                else:
                    self._in_tls = True
                    self.transport.startTLS(_Tls())
                self._unsaid.append(("hello", b"EHLO load.test\r\n"))
            case "hello" if code == b"250":
                if self._load.mail.tls and not self._in_tls:
                    self._pipelines = False
                    self._unsaid.append(("starttls", b"STARTTLS\r\n"))
                else:
                    self.begin()
            case "mail" | "rcpt":
                pass
            case "data" if code == b"354":
                self._send_body()
            case "data" | "end":
                self._end(code == b"250" and asked == "end")
            case "quit":
                self.transport.loseConnection()
            case _:
                self._load.broken += 1
                self.transport.abortConnection()
        if not self._asked:
            self._say()

    def _send_body(self) -> None:
        assert self._message is not None
        self._asked.append("end")
        sent = b"X-Sent: %.6f\r\n" % self._message[1]
        self.transport.writeSequence([sent, _FIELDS % self._message[0], self._load.rest])

    def _end(self, accepted: bool) -> None:
        assert self._message is not None
        self._load.answered(self._message[1], accepted)
        self._message = None
        if self._load.mail.keeps:
            self.begin()
        else:
            self.leave()


@implementer(IOpenSSLClientConnectionCreator)
class _Tls:
    """The client's side of TLS; the certificate is not looked at: load is not mail."""

    _context = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        return SSL.Connection(self._context, None)


def main(arguments: list[str]) -> None:
    """Send, and print the result."""
    usual = Mail(1)
    parser = argparse.ArgumentParser(
        "mta.testing.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    for name in ("sessions", "size", "recipients", "destinations"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    parser.add_argument("--sender", default=usual.sender)
    parser.add_argument("--recipient", default=usual.recipient)
    parser.add_argument("--new-connections", dest="keeps", action="store_false", help="one for each message")
    parser.add_argument("--tls", action="store_true", help="STARTTLS first")
    parser.add_argument("--rate", type=float, default=usual.rate, help="messages per second; sessions is then the most at once")
    given = vars(parser.parse_args(arguments))
    host, port = given.pop("host"), given.pop("port")

    async def run(reactor: Any) -> None:
        print(json.dumps(await Load(reactor, Mail(**given), port, host).run()))

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main(sys.argv[1:])
