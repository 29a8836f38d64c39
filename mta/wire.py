"""Writing without waiting for the reactor's next turn.

`transport.write` only notes the bytes: the socket is registered for writing, polled, written and unregistered, which
for a reply of 14 bytes is three system calls and a walk through the reactor.  A reply nearly always fits into the
socket's buffer, so here it goes to the kernel at once (measured: a fifth of the CPU time of a relayed message).  What
does not fit takes the usual way, and from then on everything does, for bytes must not overtake one another.  An error
is left to the usual way too: there the reactor finds it and tells the protocol.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection

__all__ = ["PromptWriter"]


class PromptWriter:
    """Writes to a transport in clear text.  Nobody else may write to it; not for use once TLS has begun."""

    __slots__ = ("_prompt", "_send", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._prompt = isinstance(transport, Connection)
        self._send: Any = transport.getHandle().send if self._prompt else None

    def __call__(self, data: bytes) -> None:
        """Write; never raises."""
        transport = self._transport
        if not (self._prompt and transport.connected):
            transport.write(data)
            return
        try:
            sent = self._send(data)
        except OSError:  # no room, or an error that the reactor meets again
            sent = 0
        if sent != len(data):
            self._prompt = False
            transport.write(data[sent:] if sent else data)
