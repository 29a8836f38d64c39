"""The resolver: questions in, `Answer`s out, whatever happens in between.

RFC 1035 7 (resolvers), RFC 2308 (negative caching), RFC 5452 (forged answers).  It asks recursive servers; it does not walk
the tree and does not validate: the AD bit of a server is believed only where `dns.trusted` says that these servers are
ours, local, and validate.  Servers from /etc/resolv.conf are never trusted.

Equal questions in flight are asked once.  At most `AT_ONCE` lookups run, the rest waits in order.  Every failure is an Answer
that `failed`; a Deferred from here never errbacks, except to who cancels it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from zope.interface import implementer

from mta.config.settings import Dns
from mta.dns.answer import Answer, question_name
from mta.dns.cache import FAILURE_SECONDS, Cache
from mta.dns.lookup import Lookup, Servers
from mta.dns.message import Reply, failure
from mta.dns.servers import Server, parse_resolv_conf, parse_server
from mta.dns.udp import UdpPool
from mta.envelope import Measure
from mta.interfaces import IMailResolver, IMeasured

__all__ = ["AT_ONCE", "Resolver"]

AT_ONCE = 200  # lookups that run: bounds what a burst does to the server
RESOLV_CONF = Path("/etc/resolv.conf")

_Key = tuple[str, str]


@implementer(IMailResolver, IMeasured)
class Resolver:
    """DNS for mail.

    random must be unpredictable (SystemRandom): ids are drawn from it.  servers: as in the settings, for tests; None
    for those of the settings, and where these name none, of resolv.conf.
    """

    def __init__(self, reactor: Any, settings: Dns, *, random: Random, servers: Sequence[str] | None = None) -> None:
        self._reactor = reactor
        self._settings = settings
        self._random = random
        named = settings.servers if servers is None else servers
        self._servers = self._those(map(parse_server, named))
        self._trusted = settings.trusted and bool(named)
        self._cache = Cache()
        self._callers: dict[_Key, list[Deferred[Answer]]] = {}
        self._waiting: deque[_Key] = deque()
        self._lookups: dict[_Key, Lookup] = {}
        self._filling = False
        self._closed = False
        self._questions = self._hits = self._failures = 0

    def _those(self, servers: Iterable[Server]) -> Servers:
        settings = self._settings
        pools = [UdpPool(self._reactor, server, self._random, settings.timeout) for server in servers]
        return Servers(self._reactor, pools, self._random, settings.timeout, settings.attempts)

    def start(self) -> None:
        """Find the servers, where the settings name none.  A resolv.conf that cannot be read means 127.0.0.1."""
        if self._servers.pools:
            return
        try:
            text = RESOLV_CONF.read_text("ascii", "replace")
        except OSError:
            text = ""
        self._servers = self._those(parse_resolv_conf(text))

    def close(self) -> Deferred[None]:
        """Answer every open question with CLOSED, close every socket; fires when all are gone.  May be called twice."""
        self._closed = True
        for lookup in self._lookups.values():
            lookup.stop()
        self._servers.close()
        self._lookups.clear()
        self._waiting.clear()
        for key in list(self._callers):
            self._finish(key, self._answer(key, failure("CLOSED")))
        gone: Deferred[None] = DeferredList(list(self._servers.connections)).addCallback(lambda _: None)
        return gone

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        yield "mta_dns_questions_total", (), self._questions
        yield "mta_dns_cache_hits_total", (), self._hits
        yield "mta_dns_queries_total", (), self._servers.asked
        yield "mta_dns_failures_total", (), self._failures
        yield "mta_dns_cached", (), len(self._cache)

    def query(self, name: str, rdtype: str) -> Deferred[Answer]:
        """See IMailResolver.  A, AAAA, CNAME, MX, PTR, TLSA, TXT; name as A-labels (else it does not exist)."""
        key = question_name(name), rdtype
        self._questions += 1
        if self._closed:
            return succeed(self._answer(key, failure("CLOSED")))
        known = self._cache.get(*key, self._reactor.seconds())
        if known is not None:
            self._hits += 1
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
        """Begin lookups that wait.  A loop, not a recursion: they may end at once, thousands in a row."""
        if self._filling:
            return
        self._filling = True
        while self._waiting and len(self._lookups) < AT_ONCE:
            key = self._waiting.popleft()
            lookup = self._lookups[key] = Lookup(self._servers, *key, self._trusted, partial(self._settle, key))
            lookup.begin()
        self._filling = False

    def _settle(self, key: _Key, reply: Reply, secure: bool, ttl: float) -> None:
        del self._lookups[key]
        answer = self._answer(key, reply, secure, ttl)
        self._failures += answer.failed
        self._cache.put(answer, self._reactor.seconds())
        self._finish(key, answer)
        self._fill()

    def _finish(self, key: _Key, answer: Answer) -> None:
        for caller in self._callers.pop(key):
            caller.callback(answer)

    def _answer(self, key: _Key, reply: Reply, secure: bool = False, ttl: float = FAILURE_SECONDS) -> Answer:
        expires = self._reactor.seconds() + ttl
        return Answer(*key, reply.rcode, secure, reply.records, reply.canonical or key[0], expires, reply.reason)
