"""What is read of a connection, and the end that goes one way only.

Input that nobody takes and output that nobody reads stop the reading: memory is bounded.  A client may end its side behind
its last command and still wait for the answers, with FIN in clear text (RFC 9293 3.6) and with close_notify in TLS (RFC 8446
6.1): Exim does so behind "." and QUIT of its last message (measured with 4.96).  Who took that for the end of the connection
would drop the 250 of a message that is stored, and be sent it again.  So what was said completely is answered, nothing
more is read, and then we close.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

__all__ = ["Flow"]


@implementer(IHalfCloseableProtocol, IPushProducer)
class Flow(Protocol):
    """A subclass says when it `is_full`, and what follows when all was `heard`.

    heard_all: the client has ended its side.
    """

    transport: Any
    heard_all = False
    _choked = False  # the client does not read what we say
    _paused = False

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
