"""An HTTPS server on the loopback for tests, with a certificate of the test's own authority."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.web.resource import Resource
from twisted.web.server import Site

from mta.testing.pki import Issued


class Scripted(Resource):
    """Every path is answered by `answer(request)`: bytes, or NOT_DONE_YET.  requests: (method, path, headers, body)."""

    isLeaf = True

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[tuple[bytes, bytes, Any, bytes]] = []

    def render(self, request: Any) -> Any:
        self.requests.append((request.method, request.path, request.requestHeaders, request.content.read()))
        return self.answer(request)


class WebServer:
    """Listens on 127.0.0.1.  port: its number.  connections: how many came.  stop() leaves nothing on the reactor."""

    def __init__(self, reactor: Any, resource: Resource, issued: Issued) -> None:
        leaf, *others = load_pem_x509_certificates(issued.certificate_pem)
        key = load_pem_private_key(issued.key_pem, None)
        context = CertificateOptions(privateKey=key, certificate=leaf, extraCertChain=others)
        self._site = _Site(resource, reactor=reactor)
        self._listening = reactor.listenSSL(0, self._site, context, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    @property
    def connections(self) -> int:
        return self._site.count

    async def stop(self) -> None:
        await self._listening.stopListening()
        for transport in list(self._site.open):
            transport.abortConnection()
        if self._site.open:
            self._site.closed = Deferred()
            await self._site.closed


class _Site(Site):
    """Knows its connections, so that a test can end them."""

    noisy = False
    displayTracebacks = False

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.open: set[Any] = set()
        self.count = 0
        self.closed: Deferred[None] | None = None

    def buildProtocol(self, addr: Any) -> Any:
        return _Watched(self, super().buildProtocol(addr))

    def log(self, request: Any) -> None:
        """No access log."""


class _Watched(Protocol):
    """One connection: everything goes on to its channel, the site hears of begin and end."""

    def __init__(self, site: _Site, channel: Any) -> None:
        self._site = site
        self._channel = channel

    def connectionMade(self) -> None:
        self._site.open.add(self.transport)
        self._site.count += 1
        self._channel.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._channel.dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._channel.connectionLost(reason)
        self._site.open.discard(self.transport)
        if not self._site.open and self._site.closed is not None:
            self._site.closed.callback(None)
