"""Questions over UDP: connected sockets on random ports, each with many questions in flight.

RFC 1035 4.2.1, RFC 5452 (forged answers).  A *connected* socket lets the kernel drop what strangers send, and hears at
once when nobody listens there; its source port is the kernel's random choice.  A new socket for each question would cost
more than the question, so a few are shared and each is replaced after `RENEW_QUESTIONS` or `RENEW_SECONDS`.  A forger has to
guess the id, 16 bits drawn anew for each question, and the port, one of at most `POOL_SIZE` out of some 28,000 that stay for
seconds, and to fake the server's address; equal questions are never out twice (client), so asking us often helps him nothing.

The sockets are read through the reactor's `addReader` and not through `listenUDP`, which writes two log lines for every
socket, closes a turn late and gives up on a socket after an error that concerns one question.  No error leaves this
file as an exception: what fails is the reply UNREACHABLE.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.dns.answer import TIMEOUT, UNREACHABLE
from mta.dns.message import Question, Reply, belongs, failure, is_truncated
from mta.dns.parse import parse
from mta.dns.servers import Server

__all__ = ["RENEW_QUESTIONS", "RENEW_SECONDS", "TRUNCATED", "UdpPool"]

POOL_SIZE = 16
RENEW_QUESTIONS = 200
RENEW_SECONDS = 30.0
TRUNCATED = failure("TRUNCATED")  # not an answer: ask over TCP

_LARGEST = 4096  # more than the 1232 that the question allows
_READS = 32  # datagrams in one turn of the reactor


@attrs.define(eq=False)
class _Waiting:
    """A question that is out.  heard: told of the reply, once.  due: when its time is up."""

    sock: _Socket
    ident: int
    question: Question
    heard: Callable[[Reply], None]
    due: float


@implementer(IReadDescriptor)
class _Socket:
    """One connected socket and the questions that are out on it, by id."""

    __slots__ = ("_pool", "_raw", "asked", "born", "waiting")

    def __init__(self, pool: UdpPool, raw: socket.socket, born: float) -> None:
        self._pool = pool
        self._raw = raw
        self.waiting: dict[int, _Waiting] = {}
        self.asked = 0
        self.born = born

    def send(self, question: Question, ident: int) -> OSError | None:
        """Why it could not be sent: also the report on an earlier datagram, that nobody listens there."""
        self.asked += 1
        try:
            self._raw.send(question.to_wire(ident))
        except OSError as error:
            return error
        return None

    def fileno(self) -> int:
        return self._raw.fileno()

    def logPrefix(self) -> str:
        return "dns"

    def doRead(self) -> None:
        """Called by the reactor.  What belongs to no question of ours is passed over in silence."""
        for _ in range(_READS):
            try:
                wire = self._raw.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.fail(error)
                return
            self._received(wire)
            if not self.waiting or self.fileno() < 0:  # nothing more is due, or an answer closed us
                return

    def _received(self, wire: bytes) -> None:
        ident = int.from_bytes(wire[:2], "big")
        waiting = self.waiting.get(ident)
        if waiting is None or not belongs(wire, ident, waiting.question):
            return
        self._pool.take(waiting)
        waiting.heard(TRUNCATED if is_truncated(wire) else parse(wire, waiting.question))

    def fail(self, error: OSError) -> None:
        """An ICMP error does not say which question it means: all of them go to another server."""
        self._pool.fail(self.waiting.values(), unreachable(error))

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor: when it stops, and (epoll, poll) for an ICMP error with nothing to read."""
        number = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.fileno() >= 0 else 0
        self._pool.lost(self)
        self.fail(OSError(number, os.strerror(number) if number else reason.getErrorMessage()))

    def close(self) -> None:
        if self.fileno() >= 0:
            self._pool.reactor.removeReader(self)
            self._raw.close()


class UdpPool:
    """The sockets to one server.  silent: its reply where none came in `timeout` seconds."""

    def __init__(self, reactor: Any, server: Server, random: Random, timeout: float) -> None:
        self.reactor = reactor
        self.server = server
        self.silent = failure(TIMEOUT, f"{server} did not answer in {timeout:g} s")
        self._timeout = timeout
        self._random = random
        self._sockets: list[_Socket] = []
        self._retired: set[_Socket] = set()
        self._out: dict[_Waiting, None] = {}  # in the order in which their time is up
        self._timer: IDelayedCall | None = None
        self._failed: deque[tuple[_Waiting, Reply]] = deque()
        self._failing = False

    def ask(self, question: Question, heard: Callable[[Reply], None]) -> Reply | None:
        """None: sent, and `heard` is told of the reply, `TRUNCATED`, UNREACHABLE or TIMEOUT.  Else why it was not sent."""
        now, draw = self.reactor.seconds(), self._random.getrandbits(32)  # one call of the system for port and id
        try:
            sock = self._choose(now, draw >> 16)
        except OSError as error:  # no file descriptors, no route
            return unreachable(error)
        ident = draw & 0xFFFF
        while ident in sock.waiting:
            ident = self._random.getrandbits(16)
        fault = sock.send(question, ident)
        if fault is not None:
            sock.fail(fault)
            return unreachable(fault)
        waiting = sock.waiting[ident] = _Waiting(sock, ident, question, heard, now + self._timeout)
        self._out[waiting] = None
        if self._timer is None:
            self._timer = self.reactor.callLater(self._timeout, self._expire)
        return None

    def _choose(self, now: float, draw: int) -> _Socket:
        """An idle one, or a new one while there is room, or any; those that were used for long enough are used no more."""
        idle, stale = [], []
        for sock in self._sockets:
            if sock.asked >= RENEW_QUESTIONS or now - sock.born >= RENEW_SECONDS:
                stale.append(sock)
            elif not sock.waiting:
                idle.append(sock)
        for sock in stale:
            self._sockets.remove(sock)
            self._retired.add(sock)
            self._close_idle(sock)
        if not idle and len(self._sockets) < POOL_SIZE:
            idle = [self._open(now)]
        usable = idle or self._sockets
        return usable[draw % len(usable)]

    def _open(self, now: float) -> _Socket:
        raw = socket.socket(socket.AF_INET6 if self.server.is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            raw.setblocking(False)
            raw.connect((self.server.host, self.server.port))
        except OSError:
            raw.close()
            raise
        sock = _Socket(self, raw, now)
        self._sockets.append(sock)
        self.reactor.addReader(sock)
        return sock

    def take(self, waiting: _Waiting) -> None:
        """A question has ended."""
        del self._out[waiting]
        del waiting.sock.waiting[waiting.ident]
        if self._retired:
            self._close_idle(waiting.sock)

    def fail(self, questions: Iterable[_Waiting], reply: Reply) -> None:
        """Tell them, one after the other and never from within: each may be asked anew, and so meet the next dead socket."""
        self._failed.extend((waiting, reply) for waiting in questions)
        if self._failing:
            return
        self._failing = True
        try:
            while self._failed:
                waiting, reply = self._failed.popleft()
                if waiting in self._out:  # else another was told, and it has ended this one
                    self.take(waiting)
                    waiting.heard(reply)
        finally:  # whatever a caller does: who was not told hears when its time is up
            self._failing = False
            self._failed.clear()

    def _close_idle(self, sock: _Socket) -> None:
        """A retired socket closes with its last question."""
        if sock in self._retired and not sock.waiting:
            self._retired.discard(sock)
            sock.close()

    def _expire(self) -> None:
        """Tell those whose time is up, and sleep until the next."""
        now = self.reactor.seconds()
        try:
            while self._out and (waiting := next(iter(self._out))).due <= now:
                self.take(waiting)
                waiting.heard(self.silent)
        finally:  # whatever a caller does, the others hear of their time
            due = next(iter(self._out)).due - now if self._out else None
            self._timer = None if due is None else self.reactor.callLater(max(due, 0.0), self._expire)

    def lost(self, sock: _Socket) -> None:
        """It is of no more use."""
        if sock in self._sockets:
            self._sockets.remove(sock)
        self._retired.discard(sock)
        sock.close()

    def close(self) -> None:
        """Close all.  Questions that are out are forgotten."""
        for sock in [*self._sockets, *self._retired]:
            sock.close()
            sock.waiting.clear()
        self._sockets.clear()
        self._retired.clear()
        self._out.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def unreachable(error: OSError) -> Reply:
    """No datagram comes through."""
    return failure(UNREACHABLE, error.strerror or str(error))
