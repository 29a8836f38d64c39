"""A body on its way out of the queue: read in pieces, sent as fast as the peer takes them.

A push producer on the connection's transport: it reads the next piece only while the transport is not paused, so that
of a 50 MiB body only a few pieces are ever in memory.  The reader is closed whatever happens.  A body that cannot be
read ends in `failed`: the transaction cannot be completed and the connection must go.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.interfaces import IBodyReader

__all__ = ["BodyFeed"]


@implementer(IPushProducer)
class BodyFeed:
    """Pieces from a reader to a taker.

    take: gets each piece.  end: called once after the last.  failed: called once instead, with what the reader said.
    """

    def __init__(
        self,
        reader: IBodyReader,
        take: Callable[[bytes], None],
        end: Callable[[], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._reader = reader
        self._take = take
        self._end = end
        self._failed = failed
        self._paused = False
        self._reading = False
        self._looping = False
        self._over = False

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Begin, or go on."""
        self._paused = False
        if self._looping:
            return
        # A loop and not a recursion: a reader with everything at hand answers at once, a thousand times in a row.
        self._looping = True
        while not (self._paused or self._reading or self._over):
            self._reading = True
            self._reader.read().addCallbacks(self._piece, self._unreadable)
        self._looping = False

    def stopProducing(self) -> None:
        """The connection is gone, or the body is not wanted any more."""
        if not self._over:
            self._over = True
            self._reader.close()

    def _piece(self, piece: bytes) -> None:
        self._reading = False
        if self._over:
            return
        if piece:
            self._take(piece)
        else:
            self.stopProducing()
            self._end()
        if not self._looping and not self._paused:
            self.resumeProducing()

    def _unreadable(self, failure: Failure) -> None:
        self._reading = False
        if not self._over:
            self.stopProducing()
            self._failed(failure)
