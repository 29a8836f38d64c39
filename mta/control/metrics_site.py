"""The web server of `[metrics] listen`: `GET /metrics` and `HEAD /metrics`, 404 for all else, and nothing besides.

RFC 9110.  A scrape is one small request: a connection carries one, has no body, and lives for `PATIENCE` at most, whatever its
client does or leaves undone; of more than `MOST` at a time the last are turned away.  There is no access log.  It has no
password either: whoever reaches the port may read (docs/operators.md, "Metrics").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mta.control.exposition import written
from mta.control.metrics import Page

__all__ = ["MOST", "PATIENCE", "MetricsSite"]

MOST: Final = 20  # connections at once
PATIENCE: Final = 15.0  # seconds for all of one

_bugs = Logger()


class _Root(Resource):
    """All that there is."""

    isLeaf = True

    def __init__(self, gather: Callable[[], Awaitable[Page]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gather = gather

    def render(self, request: Any) -> bytes | int:
        """The page of now, or no."""
        request.setHeader(b"content-type", b"text/plain")
        if request.path != b"/metrics":
            request.setResponseCode(404)
            return b"There is /metrics, and nothing else.\n"
        if request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(405)
            request.setHeader(b"allow", b"GET, HEAD")
            return b"It can be read, and nothing else.\n"
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        page = await self._gather()
        accept = request.getHeader(b"accept") or b""  # as bytes: Twisted's text is UTF-8, and theirs may be none
        text, kind = written(page, accept.decode("latin-1"))
        request.setHeader(b"content-type", kind.encode())
        request.setHeader(b"content-length", str(len(text)).encode())
        request.write(text)
        request.finish()

    def _failed(self, failure: Failure, request: Any) -> None:
        """Nobody waits any more, or it is a bug."""
        if request.channel is None:
            return
        _bugs.failure("the metrics cannot be told", failure)
        request.setResponseCode(500)
        request.setHeader(b"content-length", b"0")
        request.finish()


class _Request(Request):
    """A request without a body."""

    transport: Any

    def gotLength(self, length: int | None) -> None:
        """None is kept, and who sends one has not understood."""
        super().gotLength(0)  # type: ignore[no-untyped-call]
        if length != 0:
            self.transport.abortConnection()


class _Channel(HTTPChannel):
    """A connection."""

    factory: MetricsSite
    transport: Any
    _end: IDelayedCall | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Its time begins."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.here.add(self)
        self._end = self.factory.reactor.callLater(PATIENCE, self.transport.abortConnection)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """One request is all."""
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing of it stays."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        self.factory.here.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.gone.callback(None)


class MetricsSite(Site):
    """gather: the page of now."""

    noisy = False
    protocol: Any = _Channel

    def __init__(self, gather: Callable[[], Awaitable[Page]], reactor: Any) -> None:
        super().__init__(_Root(gather), _Request, reactor=reactor, timeout=None, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
        self.here: set[_Channel] = set()

    def startFactory(self) -> None:
        """Twisted's would keep the time for an access log, once a second."""

    def stopFactory(self) -> None:
        """Nor is there one to close."""

    def log(self, request: Any) -> None:
        """None."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Somebody has come, unless there are too many."""
        return super().buildProtocol(addr) if len(self.here) < MOST else None  # type: ignore[no-untyped-call]

    def hang_up(self) -> Deferred[Any]:
        """End every connection; fires when they are gone."""
        here = list(self.here)
        for channel in here:
            channel.transport.abortConnection()
        return DeferredList([channel.gone for channel in here])
