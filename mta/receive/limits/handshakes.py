"""A few slots for TLS handshakes, and a fair turn for every client that waits for one.

A handshake costs 1 to 3 ms of CPU on the reactor's thread, and would otherwise stop everybody else.  Who waits is served
client by client, each client's own in the order they came: a client with 200 connections waiting delays another one
by one handshake, not by 200.  Pure: what is called is given.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HandshakeSlots"]


class HandshakeSlots:
    """The slots and the turn.  Who holds or wants one is known by the call that begins it."""

    __slots__ = ("_client", "_held", "_serving", "_waiting", "free")

    def __init__(self, slots: int) -> None:
        self.free = max(1, slots)
        self._held: set[Callable[[], None]] = set()
        self._client: dict[Callable[[], None], bytes] = {}  # of all that wait
        self._waiting: dict[bytes, dict[Callable[[], None], None]] = {}  # the client whose turn is next stands first
        self._serving = False

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._client)

    def resize(self, slots: int) -> None:
        """So many from now on.  Where there were more, those that are held run out first (`free` is negative till then)."""
        self.free = max(1, slots) - len(self._held)
        self._serve()

    def take(self, begin: Callable[[], None], client: bytes = b"") -> None:
        """Call `begin` with a slot taken: now, or when it is this client's turn."""
        self._client[begin] = client
        self._waiting.setdefault(client, {})[begin] = None
        self._serve()

    def give_back(self, begin: Callable[[], None]) -> bool:
        """A handshake is over, well or badly, or has had its slot for long enough.  False when it held none any more."""
        if begin not in self._held:
            return False
        self._held.remove(begin)
        self.free += 1
        self._serve()
        return True

    def withdraw(self, begin: Callable[[], None]) -> None:
        """Wait no more.  Harmless when it does not wait."""
        client = self._client.pop(begin, None)
        if client is not None:
            queue = self._waiting[client]
            del queue[begin]
            if not queue:
                del self._waiting[client]

    def _next(self) -> Callable[[], None]:
        """The first of the first client, which then stands last."""
        client, queue = next(iter(self._waiting.items()))
        del self._waiting[client]
        begin = next(iter(queue))
        del queue[begin], self._client[begin]
        if queue:
            self._waiting[client] = queue
        return begin

    def _serve(self) -> None:
        if self._serving:
            return  # a `begin` that failed at once gives back here: the loop below goes on, the stack does not grow
        self._serving = True
        try:
            while self.free > 0 and self._waiting:
                begin = self._next()
                self.free -= 1
                self._held.add(begin)
                begin()
        finally:
            self._serving = False
