"""HTTPS as MTA-STS (RFC 8461 3.3) and TLSRPT (RFC 8460 5.4) need it: one request, one short answer, nothing believed.

Addresses come from our own resolver.  The certificate must verify (the system's roots and the files of `[tls_client]
trust`, RFC 5280) and be for the host of the URL (RFC 9525); it is refused inside the handshake, so that nothing is sent
to a stranger.  What is posted goes to public addresses only: strangers name these URLs, and must not choose hosts of our own
network.  No redirect is followed, no cookie kept, no compression asked for.  One time limit holds for everything from
the DNS question to the last byte, and one size for the answer.  Every failure is an `HttpsError`; `webpki` says
that it was the certificate.  A trust file that cannot be read raises MailError at construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import (
    IConsumer,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mta.interfaces import IMailResolver
from mta.status import transient
from mta.tls.connection import TlsConnection
from mta.tls.verify import match_names

__all__ = ["Https", "HttpsError", "Page"]

TIME_LIMIT = 60.0  # seconds for the whole request (RFC 8461 3.3 suggests one minute)
SIZE_LIMIT = 65_536  # bytes of the answer's body (the same)
WIRE_LIMIT = 4 * SIZE_LIMIT  # bytes of the whole answer as it comes, header and chunk sizes included
CONNECT_LIMIT = 10.0  # seconds for one address
MAX_ADDRESSES = 4


class HttpsError(Exception):
    """No answer.  reason: for log and report.  webpki: the server's certificate was refused."""

    def __init__(self, reason: str, webpki: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.webpki = webpki


@attrs.frozen(slots=True)
class Page:
    """An answer, whatever its status.  media_type: lower case, without parameters, "" for none."""

    status: int
    media_type: str
    body: bytes


class Https:
    """A client.  reactor: IReactorTCP and IReactorTime.

    port: where https is spoken, another than 443 in tests.  private: post to addresses that are not public, too; for tests.
    """

    def __init__(
        self, reactor: Any, resolver: IMailResolver, trust: Sequence[Path] = (), *, port: int = 443, private: bool = False
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._context = _context(trust)
        self._port = port
        self._private = private
        self._running: set[Deferred[Page]] = set()

    def get(self, url: str, *, limit: int = SIZE_LIMIT, time_limit: float = TIME_LIMIT) -> Deferred[Page]:
        """What is there.  Errbacks with HttpsError only."""
        return self._ask(b"GET", url, {}, None, limit, time_limit)

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, limit: int = SIZE_LIMIT, time_limit: float = TIME_LIMIT
    ) -> Deferred[Page]:
        """Bring something.  Errbacks with HttpsError only."""
        return self._ask(b"POST", url, headers, body, limit, time_limit)

    def stop(self) -> None:
        """End what runs: it fails with "stopped"."""
        for asked in list(self._running):
            asked.cancel()

    def _ask(
        self, method: bytes, url: str, headers: Mapping[str, str], body: bytes | None, limit: int, time_limit: float
    ) -> Deferred[Page]:
        is_choosy = method == b"POST" and not self._private
        exchange = _Exchange(self._reactor, self._resolver, self._context, self._port, is_choosy)
        asked = Deferred.fromCoroutine(exchange.run(method, url, headers, body, limit))
        self._running.add(asked)
        asked.addTimeout(time_limit, self._reactor, _too_late)

        def ended(result: Page | Failure) -> Page | Failure:
            self._running.discard(asked)
            exchange.close()
            if isinstance(result, Failure):
                raise exchange.explained(result)
            return result

        answered: Deferred[Page] = asked.addBoth(ended)
        return answered


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Exchange:
    """One request and its answer, over one connection of its own."""

    def __init__(self, reactor: Any, resolver: IMailResolver, context: SSL.Context, port: int, is_choosy: bool) -> None:
        """is_choosy: only public addresses will do."""
        self._is_choosy = is_choosy
        self._reactor = reactor
        self._resolver = resolver
        self._context = context
        self._port = port
        self._check: _Check | None = None
        self._counted: _Counted | None = None

    async def run(self, method: bytes, url: str, headers: Mapping[str, str], body: bytes | None, limit: int) -> Page:
        """Ask, and read the answer."""
        host, port = _host_and_port(url, self._port)
        self._host, self._port = host, port
        pool = HTTPConnectionPool(self._reactor, persistent=False)  # type: ignore[no-untyped-call]
        agent = Agent.usingEndpointFactory(self._reactor, self, pool)  # type: ignore[no-untyped-call]
        sent = Headers({name: [value] for name, value in {"User-Agent": "mta", **headers}.items()})
        producer = None if body is None else _Bytes(body)
        response: IResponse = await agent.request(method, url.encode("ascii"), sent, producer)
        types = response.headers.getRawHeaders("content-type") or [""]
        media_type = types[-1].partition(";")[0].strip().lower()
        return Page(response.code, media_type, await self._read(response, limit))

    def _read(self, response: IResponse, limit: int) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        response.deliverBody(_Body(done, limit))  # type: ignore[no-untyped-call]
        return done

    # ---- for the Agent

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See IAgentEndpointFactory."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint: the first address that answers."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        check = self._check = _Check(self._context, self._host)
        last: Exception = HttpsError(f"{self._host} has no address")
        for address in await self._addresses():
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            endpoint = wrapClientTLS(check, kind(self._reactor, address, self._port, CONNECT_LIMIT))
            try:
                connected = await endpoint.connect(_Bounded(factory))  # type: ignore[no-untyped-call]
            except ConnectError as error:
                last = error
            else:
                counted = self._counted = cast(_Counted, connected)
                return counted.wrappedProtocol
        raise last

    async def _addresses(self) -> list[str]:
        asked = [self._resolver.query(self._host, rdtype) for rdtype in ("A", "AAAA")]
        answers = await gatherResults(asked, consumeErrors=True)
        found = [str(record) for answer in answers if answer.found for record in answer.records]
        failed = [str(answer) for answer in answers if answer.failed]
        if not found and failed:
            raise HttpsError(failed[0])
        good = [address for address in found if _is_public(address)] if self._is_choosy else found
        if found and not good:
            raise HttpsError(f"{self._host} has no public address")
        return good[:MAX_ADDRESSES]

    # ---- the end

    def close(self) -> None:
        """The answer is read, or nobody waits for it: a peer that does not close must not keep the socket."""
        if self._counted is not None and self._counted.transport is not None:
            self._counted.transport.abortConnection()  # type: ignore[attr-defined]

    def explained(self, failure: Failure) -> HttpsError:
        """The one error that callers see."""
        if self._check is not None and self._check.refused:
            return HttpsError(self._check.refused, webpki=True)
        if self._counted is not None and self._counted.left < 0:
            return HttpsError(f"answer is larger than {WIRE_LIMIT} bytes with its header")
        error = _innermost(failure.value)
        return error if isinstance(error, HttpsError) else HttpsError(_told(error))


@implementer(IOpenSSLClientConnectionCreator)
class _Check:
    """The TLS side of one connection.  refused: why its certificate was refused, "" when it was not."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host
        self.refused = ""

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called when TCP is connected."""
        connection = TlsConnection(self._context, None)
        connection.set_tlsext_host_name(self._host.encode("ascii"))
        connection.set_verify(SSL.VERIFY_PEER, self._judge)
        return connection

    def _judge(self, _: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        """Asked by OpenSSL for each certificate of the chain, the leaf last.  False ends the handshake with an alert."""
        if not ok:
            self.refused = f"certificate not trusted: {_REASONS.get(error, f'OpenSSL error {error}')}"
        elif depth == 0 and not match_names(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate), [self._host]):
            self.refused = f"certificate is not for {self._host}"
        return not self.refused


# What OpenSSL's numbers mean (x509_vfy.h), those that a server on the open Internet shows.
_REASONS = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in the chain",
    20: "issuer is not known",
    21: "issuer is not known",
    26: "certificate is not for servers",
}


class _Counted(ProtocolWrapper):
    """Counts what the server says, header and chunk sizes too: twisted.web takes header lines without end."""

    left = WIRE_LIMIT

    def dataReceived(self, data: bytes) -> None:
        """Up to the limit."""
        self.left -= len(data)
        if self.left < 0:
            self.abortConnection()
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]


class _Bounded(WrappingFactory[_Counted]):
    """Makes these round the protocols of the Agent."""

    protocol = _Counted
    noisy = False


class _Body(Protocol):
    """Collects an answer's body up to a limit."""

    def __init__(self, done: Deferred[bytes], limit: int) -> None:
        self._done: Deferred[bytes] | None = done
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """One piece."""
        self._size += len(data)
        if self._size > self._limit:
            self._fail(HttpsError(f"answer is larger than {self._limit} bytes"))
        else:
            self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The whole body, when it said itself how long it is: one that ends with its connection may have been cut off."""
        if isinstance(reason.value, ResponseDone):
            done, self._done = self._done, None
            if done is not None:
                done.callback(b"".join(self._pieces))
        else:
            self._fail(HttpsError(f"answer is not whole: {_told(_innermost(reason.value))}"))

    def _fail(self, error: HttpsError) -> None:
        done, self._done = self._done, None
        self._pieces.clear()
        if done is not None:
            done.errback(error)


@implementer(IBodyProducer)
class _Bytes:
    """A request's body, written at once: it is small."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """There is nothing to hold back."""

    def resumeProducing(self) -> None:
        """The same."""

    def stopProducing(self) -> None:
        """The same."""


def _context(trust: Sequence[Path]) -> SSL.Context:
    """The context of all our requests; pyOpenSSL freezes it at the first."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # a resumed session is not verified again
    context.set_default_verify_paths()
    for path in trust:
        try:
            context.load_verify_locations(str(path))
        except SSL.Error:
            raise transient("4.3.5", f"[tls_client] trust: {path} cannot be read as certificates (PEM)") from None
    return context


def _host_and_port(url: str, port: int) -> tuple[str, int]:
    """Where to connect.  HttpsError for what is no plain https URL (RFC 9110 4.2.2): user names are a trick to mislead."""
    try:
        parts: SplitResult = urlsplit(url)
        chosen = parts.port or port
    except ValueError:
        raise HttpsError(f"not a URL: {url[:200]!r}") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or not plain:
        raise HttpsError(f"not an https URL: {url[:200]!r}")
    return parts.hostname, chosen


def _is_public(address: str) -> bool:
    """Of the open Internet: not of this machine, its link or its network (the registries of RFC 6890)."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def _too_late(_: object, seconds: float) -> Any:
    raise HttpsError(f"no answer in {seconds:g} s")


def _innermost(error: BaseException | None) -> BaseException | None:
    """What happened, out of the wrappings of twisted.web."""
    while reasons := getattr(error, "reasons", None):
        error = reasons[-1].value
    return error


def _told(error: BaseException | None) -> str:
    """The same in words."""
    if isinstance(error, (CancelledError, ConnectingCancelledError)):
        return "stopped"
    detail: Any = error.args[0] if error is not None and error.args else ""
    if isinstance(detail, list) and detail:  # OpenSSL: [(library, function, reason)]
        detail = detail[0][-1]
    return str(detail) or type(error).__name__
