"""What is read of a connection, and the end that goes one way only.

Input that nobody takes and output that nobody reads stop the reading: memory is bounded.  A client may end its side behind
its last command and still wait for the answers, with FIN in clear text (RFC 9293 3.6) and with close_notify in TLS (RFC 8446
6.1): Exim does so behind "." and QUIT of its last message (measured with 4.96).  Who took that for the end of the connection
would drop the 250 of a message that is stored, and be sent it again.  So what was said completely is answered, nothing
more is read, and then we close.

A body that comes faster than it is read is read in larger bites than Twisted's own: each has its price, whatever its length.
Commands never are, for what waits unparsed is bounded.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

__all__ = ["Flow"]

BITE: Final = 65536  # bytes that Twisted reads at once
LARGE_BITE: Final = 131072


@implementer(IHalfCloseableProtocol, IPushProducer)
class Flow(Protocol):
    """A subclass says when it `is_full`, and what follows when all was `heard`.

    heard_all: the client has ended its side.
    """

    transport: Any
    heard_all = False
    _choked = False  # the client does not read what we say
    _paused = False
    _bite = BITE

    @property
    def is_full(self) -> bool:
        """No more can be taken just now."""
        raise NotImplementedError

    def heard(self) -> None:
        """The client has ended its side."""
        raise NotImplementedError

    def flow(self) -> None:
        """Read only what can be taken, and nothing behind the end."""
        full = self.heard_all or self.is_full
        if full is not self._paused:
            self._paused = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def measure(self, heard: int, in_body: bool) -> None:
        """How much is read at once from now on.  heard: bytes that the last read brought; in_body: more of a body is to come."""
        bite = LARGE_BITE if in_body and heard >= BITE else BITE
        if bite != self._bite:
            self._bite = self.transport.bufferSize = bite

    # ---- what Twisted calls

    def pauseProducing(self) -> None:
        """Our replies pile up: read no more commands."""
        self._choked = True
        self.flow()

    def resumeProducing(self) -> None:
        """They were read."""
        self._choked = False
        self.flow()

    def stopProducing(self) -> None:
        """It is gone; `connectionLost` does what is to be done."""

    def readConnectionLost(self) -> None:
        """The client says no more, and may listen on.  Twisted calls it in clear text, `mta.tls.context` in TLS."""
        if not self.heard_all:
            self.heard_all = True
            self.heard()

    def writeConnectionLost(self) -> None:
        """Never called: we do not end our side alone."""
