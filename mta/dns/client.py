"""The resolver: questions in, `Answer`s out, whatever happens in between.

RFC 1035 7 (resolvers), RFC 2308 (negative caching), RFC 5452 (forged answers), RFC 7766 (TCP after TC).  It asks
recursive servers; it does not walk the tree and does not validate: the AD bit of a server is believed only where
`dns.trusted` says that these servers are ours, local, and validate.  Servers from /etc/resolv.conf are never trusted.

Equal questions in flight are asked once.  At most `AT_ONCE` are on the wire, the rest waits in order.  A server that says
SERVFAIL is not asked that question again, a silent one is, `dns.attempts` times in all; the server that answered last is
asked first.  Every failure is an Answer that `failed`; a Deferred from here never errbacks, except to who cancels it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.config.settings import Dns
from mta.dns.answer import NOERROR, NXDOMAIN, TIMEOUT, UNREACHABLE, Answer, question_name
from mta.dns.cache import FAILURE_SECONDS, Cache
from mta.dns.message import MAX_NEGATIVE_TTL, Question, Reply, failure
from mta.dns.servers import Server, parse_resolv_conf, parse_server
from mta.dns.tcp import ask_tcp
from mta.dns.udp import TRUNCATED, UdpPool
from mta.interfaces import IMailResolver

__all__ = ["AT_ONCE", "Resolver"]

AT_ONCE = 200  # questions on the wire: bounds sockets and what a burst does to the server
MAX_ALIASES = 8  # CNAMEs that we follow ourselves, each worth one more question
RESOLV_CONF = Path("/etc/resolv.conf")

_Key = tuple[str, str]


@implementer(IMailResolver)
class Resolver:
    """DNS for mail.

    random must be unpredictable (SystemRandom): ids are drawn from it.  servers: as in the settings, for tests; None
    for those of the settings, and where these name none, of resolv.conf.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Dns, *, random: Random, servers: Sequence[str] | None = None) -> None:
        self._reactor = reactor
        self._settings = settings
        self._random = random
        named = settings.servers if servers is None else servers
        self._servers = [(server, UdpPool(reactor, server, random)) for server in map(parse_server, named)]
        self._trusted = settings.trusted and bool(named)
        self._cache = Cache()
        self._callers: dict[_Key, list[Deferred[Answer]]] = {}
        self._waiting: deque[_Key] = deque()
        self._lookups: dict[_Key, Deferred[None]] = {}
        self._connections: set[Deferred[None]] = set()
        self._first = 0  # index of the server that is asked first
        self._filling = False
        self._closed = False

    def start(self) -> None:
        """Find the servers, where the settings name none.  A resolv.conf that cannot be read means 127.0.0.1."""
        if self._servers:
            return
        try:
            text = RESOLV_CONF.read_text("ascii", "replace")
        except OSError:
            text = ""
        self._servers = [(server, UdpPool(self._reactor, server, self._random)) for server in parse_resolv_conf(text)]

    def close(self) -> Deferred[None]:
        """Answer every open question with CLOSED, close every socket; fires when all are gone.  May be called twice."""
        self._closed = True
        while self._waiting:  # before the lookups: each that ends would put one of these on the wire
            key = self._waiting.popleft()
            self._finish(key, self._answer(key, failure("CLOSED")))
        for lookup in list(self._lookups.values()):
            lookup.cancel()
        for _, pool in self._servers:
            pool.close()
        gone: Deferred[None] = DeferredList(list(self._connections)).addCallback(lambda _: None)
        return gone

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        """See IMailResolver.  A, AAAA, CNAME, MX, PTR, TLSA, TXT; name as A-labels (else it does not exist)."""
        key = question_name(name), rdtype
        if self._closed:
            return succeed(self._answer(key, failure("CLOSED")))
        known = self._cache.get(*key, self._reactor.seconds())
        if known is not None:
            return succeed(known)
        caller: Deferred[Answer] = Deferred()
        callers = self._callers.get(key)
        if callers is not None:
            callers.append(caller)
            return caller
        self._callers[key] = [caller]
        self._waiting.append(key)
        self._fill()
        return caller

    def _fill(self) -> None:
        """Put waiting questions on the wire.  A loop, not a recursion: lookups may end at once, thousands in a row."""
        if self._filling:
            return
        self._filling = True
        while self._waiting and len(self._lookups) < AT_ONCE:
            key = self._waiting.popleft()
            lookup = Deferred.fromCoroutine(self._look_up(key))
            ended: Deferred[None] = lookup.addErrback(self._broken, key).addCallback(self._settle, key)
            if not ended.called:
                self._lookups[key] = ended
        self._filling = False

    def _settle(self, answer: Answer, key: _Key) -> None:
        self._lookups.pop(key, None)
        if not self._closed:
            self._cache.put(answer, self._reactor.seconds())
        self._finish(key, answer)
        self._fill()

    def _finish(self, key: _Key, answer: Answer) -> None:
        for caller in self._callers.pop(key):
            caller.callback(answer)

    def _broken(self, reason: Failure, key: _Key) -> Answer:
        """Closed, or a bug of ours: to the caller both are a lookup that failed."""
        if isinstance(reason.value, CancelledError):
            return self._answer(key, failure("CLOSED"))
        self._log.failure("lookup of {name} {rdtype}", reason, name=key[0], rdtype=key[1])
        return self._answer(key, failure("BROKEN", reason.getErrorMessage()))

    def _answer(self, key: _Key, reply: Reply, secure: bool = False, ttl: float = FAILURE_SECONDS) -> Answer:
        expires = self._reactor.seconds() + ttl
        return Answer(*key, reply.rcode, secure, reply.records, reply.canonical or key[0], expires, reply.reason)

    async def _look_up(self, key: _Key) -> Answer:
        """Ask, and go on asking where a CNAME leads and the server did not go."""
        name, rdtype = key
        secure, ttl = self._trusted, float("inf")
        for _ in range(MAX_ALIASES + 1):
            try:
                question = Question.of(name, rdtype)
            except ValueError as error:  # no zone can hold such a name
                return self._answer(key, Reply(NXDOMAIN, canonical=name, reason=str(error)), ttl=MAX_NEGATIVE_TTL)
            reply = await self._ask(question)
            secure, ttl = secure and reply.authentic, min(ttl, reply.ttl)
            if reply.rcode not in (NOERROR, NXDOMAIN):
                return self._answer(key, reply)
            if not reply.unfinished:
                return self._answer(key, reply, secure, ttl)
            name = reply.canonical
        return self._answer(key, failure("SERVFAIL", "more CNAMEs than anybody means"))

    async def _ask(self, question: Question) -> Reply:
        """One reply out of all servers and attempts: the first that says yes or no, else the most telling failure."""
        count = len(self._servers)
        order = [(self._first + step) % count for step in range(count)]
        said: Reply | None = None
        last = failure(UNREACHABLE, "no name server: the resolver was not started")
        for _ in range(self._settings.attempts):
            for index in list(order):
                last = await self._attempt(index, question)
                if last.rcode in (NOERROR, NXDOMAIN):
                    self._first = index
                    return last
                if last.rcode not in (TIMEOUT, UNREACHABLE):  # it has spoken: it would say the same again
                    order.remove(index)
                    said = last
        return said or last

    async def _attempt(self, index: int, question: Question) -> Reply:
        """One question to one server: UDP, then TCP where the answer was cut off."""
        server, pool = self._servers[index]
        reply = await self._in_time(pool.ask(question), server)
        if reply is TRUNCATED:
            answered, gone = ask_tcp(self._reactor, server, question, self._random)
            self._connections.add(gone)
            gone.addCallback(lambda _: self._connections.discard(gone))
            reply = await self._in_time(answered, server)
        return reply

    def _in_time(self, asked: Deferred[Reply], server: Server) -> Deferred[Reply]:
        """The reply, or TIMEOUT.  A cancel from outside (close) passes through."""
        if asked.called:
            return asked

        def silence(_: object, seconds: float) -> Reply:
            return failure(TIMEOUT, f"{server} did not answer in {seconds:g} s")

        return asked.addTimeout(self._settings.timeout, self._reactor, silence)
