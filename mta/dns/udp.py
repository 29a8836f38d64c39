"""Questions over UDP: connected sockets on random ports, each with many questions in flight.

RFC 1035 4.2.1, RFC 5452 (forged answers).  A *connected* socket lets the kernel drop what strangers send, and hears at
once when nobody listens there; its source port is the kernel's random choice.  A new socket for each question would cost
more than the question, so a few are shared and each is replaced after `RENEW_QUESTIONS` or `RENEW_SECONDS`.

The sockets are read through the reactor's `addReader` and not through `listenUDP`, which writes two log lines for every
socket, closes a turn late and gives up on a socket after an error that concerns one question.  No error leaves this
file as an exception: what fails is the reply UNREACHABLE.
"""

from __future__ import annotations

import os
import socket
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.dns.answer import UNREACHABLE
from mta.dns.message import Question, Reply, belongs, failure, is_truncated, parse
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
    question: Question
    reply: Deferred[Reply]


@implementer(IReadDescriptor)
class _Socket:
    """One connected socket and the questions that are out on it, by id."""

    def __init__(self, pool: UdpPool, sock: socket.socket, born: float) -> None:
        self._pool = pool
        self._sock = sock
        self._waiting: dict[int, _Waiting] = {}
        self._asked = 0
        self._born = born

    @property
    def idle(self) -> bool:
        """No question is out."""
        return not self._waiting

    def is_stale(self, now: float) -> bool:
        """It has been used, or known to whoever watches, for long enough."""
        return self._asked >= RENEW_QUESTIONS or now - self._born >= RENEW_SECONDS

    def ask(self, question: Question, random: Random) -> Deferred[Reply]:
        """Send it under an id that is free here.  Cancelling forgets it."""
        ident = random.getrandbits(16)
        while ident in self._waiting:
            ident = random.getrandbits(16)
        reply: Deferred[Reply] = Deferred(lambda _: self._forget(ident))
        self._waiting[ident] = _Waiting(question, reply)
        self._asked += 1
        try:
            self._sock.send(question.to_wire(ident))
        except OSError as error:  # also the report on an earlier datagram: nobody listens there
            self._fail(error)
        return reply

    def _forget(self, ident: int) -> None:
        self._take(ident)

    def _take(self, ident: int) -> _Waiting:
        waiting = self._waiting.pop(ident)
        self._pool.released(self)
        return waiting

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "dns"

    def doRead(self) -> None:
        """Called by the reactor.  What belongs to no question of ours is passed over in silence."""
        for _ in range(_READS):
            try:
                wire = self._sock.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error)
                return
            self._received(wire)
            if self.fileno() < 0:  # an answer closed us
                return

    def _received(self, wire: bytes) -> None:
        ident = int.from_bytes(wire[:2], "big")
        waiting = self._waiting.get(ident)
        if waiting is None or not belongs(wire, ident, waiting.question):
            return
        self._take(ident)
        waiting.reply.callback(TRUNCATED if is_truncated(wire) else parse(wire, waiting.question))

    def _fail(self, error: OSError) -> None:
        """An ICMP error does not say which question it means: all of them go to another server."""
        for ident in list(self._waiting):
            if ident in self._waiting:
                self._take(ident).reply.callback(failure(UNREACHABLE, error.strerror or str(error)))

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor: when it stops, and (epoll, poll) for an ICMP error with nothing to read."""
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.fileno() >= 0 else 0
        self._pool.lost(self)
        self._fail(OSError(number, os.strerror(number) if number else reason.getErrorMessage()))

    def close(self) -> None:
        if self.fileno() >= 0:
            self._pool.reactor.removeReader(self)
            self._sock.close()


class UdpPool:
    """The sockets to one server."""

    def __init__(self, reactor: Any, server: Server, random: Random) -> None:
        self.reactor = reactor
        self._server = server
        self._random = random
        self._sockets: list[_Socket] = []
        self._retired: set[_Socket] = set()

    def ask(self, question: Question) -> Deferred[Reply]:
        """Fires with the reply, with `TRUNCATED`, or UNREACHABLE.  There is no timeout here: cancel it."""
        try:
            sock = self._choose()
        except OSError as error:  # no file descriptors, no route
            done: Deferred[Reply] = Deferred()
            done.callback(failure(UNREACHABLE, error.strerror or str(error)))
            return done
        return sock.ask(question, self._random)

    def _choose(self) -> _Socket:
        now = self.reactor.seconds()
        for sock in [sock for sock in self._sockets if sock.is_stale(now)]:
            self._sockets.remove(sock)
            self._retired.add(sock)
            self.released(sock)
        idle = [sock for sock in self._sockets if sock.idle]
        if not idle and len(self._sockets) < POOL_SIZE:
            idle = [self._open(now)]
        return self._random.choice(idle or self._sockets)

    def _open(self, now: float) -> _Socket:
        raw = socket.socket(socket.AF_INET6 if self._server.is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            raw.setblocking(False)
            raw.connect((self._server.host, self._server.port))
        except OSError:
            raw.close()
            raise
        sock = _Socket(self, raw, now)
        self._sockets.append(sock)
        self.reactor.addReader(sock)
        return sock

    def released(self, sock: _Socket) -> None:
        """A question on it has ended: a retired socket closes with its last one."""
        if sock in self._retired and sock.idle:
            self._retired.discard(sock)
            sock.close()

    def lost(self, sock: _Socket) -> None:
        """It is of no more use."""
        if sock in self._sockets:
            self._sockets.remove(sock)
        self._retired.discard(sock)
        sock.close()

    def close(self) -> None:
        """Close all.  Questions that are out never fire: cancel them first."""
        for sock in [*self._sockets, *self._retired]:
            sock.close()
        self._sockets.clear()
        self._retired.clear()
