"""One question on its way: through servers and attempts, over TCP where UDP is too small, and where aliases lead.

RFC 1035 7.2 (which server next), RFC 7766 5 (TCP after TC).  A server that says SERVFAIL is not asked that question again, a
silent one is, `attempts` times in all; the server that answered last is asked first.  Where a CNAME leads and the server
did not go, it goes on asking, and the answer is as old and as secure as its weakest part.

A lookup ends once, in a call of `done`, also when a bug ends it; one that is stopped is silent.  It is driven by calls and not
by Deferreds: there are three for each new destination of mail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.dns.answer import NOERROR, NXDOMAIN, TIMEOUT, UNREACHABLE
from mta.dns.cache import FAILURE_SECONDS
from mta.dns.message import MAX_NEGATIVE_TTL, Question, Reply, failure
from mta.dns.tcp import ask_tcp
from mta.dns.udp import TRUNCATED, UdpPool

__all__ = ["MAX_ALIASES", "Lookup", "Servers"]

MAX_ALIASES = 8  # CNAMEs that we follow ourselves, each worth one more question


class Servers:
    """Whom to ask.  connections: over TCP that are not gone yet.  first: index of the pool that is asked first."""

    def __init__(self, reactor: Any, pools: Sequence[UdpPool], random: Random, timeout: float, attempts: int) -> None:
        """timeout: seconds for one question to one server.  attempts: at each server that says nothing."""
        self.pools = pools
        self.attempts = attempts
        self.connections: set[Deferred[None]] = set()
        self.first = 0
        self.asked = 0  # questions sent
        self._reactor = reactor
        self._random = random
        self._timeout = timeout

    def over_tcp(self, pool: UdpPool, question: Question) -> Deferred[Reply]:
        """The reply, or TIMEOUT.  A cancel from outside passes through."""
        answered, gone = ask_tcp(self._reactor, pool.server, question, self._random)
        self.connections.add(gone)
        gone.addCallback(lambda _: self.connections.discard(gone))
        return answered.addTimeout(self._timeout, self._reactor, lambda *_: pool.silent)

    def close(self) -> None:
        """No UDP any more; connections over TCP end with their lookups."""
        for pool in self.pools:
            pool.close()


class Lookup:
    """See the module.  done: told of the reply, of DNSSEC's verdict on all of it, and how many seconds it holds."""

    __slots__ = (
        "_done",
        "_index",
        "_names",
        "_order",
        "_over",
        "_question",
        "_rdtype",
        "_rounds",
        "_said",
        "_secure",
        "_servers",
        "_tcp",
        "_ttl",
        "_turn",
    )
    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, servers: Servers, name: str, rdtype: str, trusted: bool, done: Callable[[Reply, bool, float], None]
    ) -> None:
        """trusted: the AD bit of these servers is believed."""
        self._servers = servers
        self._names = [name]
        self._rdtype = rdtype
        self._secure = trusted
        self._ttl = inf
        self._done = done
        self._over = False
        self._tcp: Deferred[Reply] | None = None

    def begin(self) -> None:
        """It may end at once."""
        try:
            self._ask()
        except Exception:
            self._broken(Failure())  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """It is not wanted any more: `done` is not called."""
        self._over = True
        if self._tcp is not None:
            self._tcp.cancel()

    def _ask(self) -> None:
        """For the last of the names."""
        name = self._names[-1]
        try:
            self._question = Question.of(name, self._rdtype)
        except ValueError as error:  # no zone can hold such a name
            self._end(Reply(NXDOMAIN, canonical=name, reason=str(error)), ttl=MAX_NEGATIVE_TTL)
            return
        servers = self._servers
        count = len(servers.pools)
        self._order = [(servers.first + step) % count for step in range(count)]
        self._turn: list[int] = []
        self._rounds = servers.attempts
        self._said: Reply | None = None
        self._next(failure(UNREACHABLE, "no name server: the resolver was not started"))

    def _next(self, last: Reply) -> None:
        """To the next server that can be asked.  last: what the one before has said, or why it could not be asked."""
        while self._turn or (self._rounds and self._order):
            if not self._turn:
                self._rounds -= 1
                self._turn = self._order[:]
            self._index = self._turn.pop(0)
            unsent = self._servers.pools[self._index].ask(self._question, self._heard)
            if unsent is None:
                self._servers.asked += 1
                return
            last = unsent
        self._end(self._said or last)

    def _heard(self, reply: Reply) -> None:
        """Of the server that was asked; a bug must not leave the callers without an answer."""
        if self._over:
            return
        try:
            self._act(reply)
        except Exception:
            self._broken(Failure())  # type: ignore[no-untyped-call]

    def _act(self, reply: Reply) -> None:
        """Yes or no ends it, or leads to another name; a failure leads to another server."""
        if reply is TRUNCATED:
            pool = self._servers.pools[self._index]
            self._tcp = self._servers.over_tcp(pool, self._question)
            self._tcp.addCallbacks(self._heard, self._broken)
        elif reply.rcode in (NOERROR, NXDOMAIN):
            self._servers.first = self._index
            self._secure = self._secure and reply.authentic
            self._ttl = min(self._ttl, reply.ttl)
            self._follow(reply)
        else:
            if reply.rcode not in (TIMEOUT, UNREACHABLE):  # it has spoken: it would say the same again
                self._order.remove(self._index)
                self._said = reply
            self._next(reply)

    def _follow(self, reply: Reply) -> None:
        if not reply.unfinished:
            self._end(reply, self._secure, self._ttl)
        elif len(self._names) > MAX_ALIASES:
            self._end(failure("SERVFAIL", "more CNAMEs than anybody means"))
        else:
            self._names.append(reply.canonical)
            self._ask()

    def _broken(self, reason: Failure) -> None:
        """A bug of ours: to the caller that is a lookup that failed."""
        if self._over and isinstance(reason.value, CancelledError):
            return
        self._log.failure("lookup of {name} {rdtype}", reason, name=self._names[0], rdtype=self._rdtype)
        self._end(failure("BROKEN", reason.getErrorMessage()))

    def _end(self, reply: Reply, secure: bool = False, ttl: float = FAILURE_SECONDS) -> None:
        if not self._over:
            self._over = True
            self._done(reply, secure, ttl)
