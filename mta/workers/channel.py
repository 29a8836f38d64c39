"""The worker's end of the pipes to its supervisor: commands come in, answers go out.

It is the door of a worker's process (`process.Door`).  When the supervisor's end closes, however that came about, the worker
is to stop in order: `lost` is called, once, also when what comes in cannot be understood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mta.config.settings import Settings
from mta.control.socket import Answer, Command, obeyed
from mta.workers.frame import READY, Frames, answered, value_of

__all__ = ["Channel"]


class Channel(Protocol):
    """settings: those to serve by from the start.  lost: called when the supervisor is gone."""

    transport: Any

    def __init__(self, settings: Settings, lost: Callable[[], None]) -> None:
        self.settings = settings  # of the last `reload`
        self._lost = lost
        self._over = False
        self._frames = Frames(value_of)
        self._commands: Mapping[str, Command] = {}

    def door(self, commands: Mapping[str, Command]) -> Channel:
        """See process.Door."""
        self._commands = commands
        return self

    def open(self) -> None:
        """Say that the server is ready."""
        self._say(READY, {})

    def close(self) -> None:
        """Nothing to do: the process ends, and the pipes with it."""

    def dataReceived(self, data: bytes) -> None:
        """Requests."""
        try:
            for number, request in self._frames.feed(data):
                if request.get("command") == "reload":
                    self.settings = request["settings"]
                ensureDeferred(obeyed(self._commands, request)).addCallback(partial(self._say, number))
        except ValueError:
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The supervisor is gone."""
        self._end()

    def _say(self, number: int, answer: Answer) -> None:
        if self._over:
            return
        try:
            frame = answered(number, answer)
        except ValueError as error:
            frame = answered(number, {"ok": False, "error": f"the answer cannot be told: {error}"})
        self.transport.write(frame)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._lost()
