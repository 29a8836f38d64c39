"""What supervisor and worker say to each other through the pipes between them (pure).

A frame is its length in 4 octets, the highest first, and a value.  The first that a worker gets is its `Errand`.  The others
are requests `(number, {"command": ...})`, those of the control socket and `reload` with the settings to serve by; each is
answered by `[number, answer]`.  Of itself a worker says only `[READY, {}]`.  What goes down is a pickle: both ends are one
program, and nobody else can write into a pipe without a name.  What comes up is JSON: a worker speaks with strangers.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from mta.config.settings import Settings

__all__ = [
    "FROM_WORKER",
    "HEAD",
    "LIMIT",
    "READY",
    "TO_WORKER",
    "Errand",
    "Frames",
    "Handed",
    "answered",
    "packed",
    "said",
    "value_of",
]

TO_WORKER: Final = 0  # the worker's descriptors
FROM_WORKER: Final = 3
READY: Final = 0  # no request has this number
LIMIT: Final = 64 << 20  # bytes: settings with long lists
HEAD: Final = 4  # octets of the length


@attrs.frozen(slots=True)
class Handed:
    """A listening socket that a worker inherits."""

    endpoint: str  # as [[listen]] has it
    descriptor: int
    family: int


@attrs.frozen(slots=True)
class Errand:
    """What a worker is to be.  settings: its own share.  reactor: the module that installs it."""

    settings: Settings
    number: int
    workers: int
    sockets: tuple[Handed, ...]
    reactor: str


def packed(value: object) -> bytes:
    """The frame of what goes to a worker.  ValueError when it is too long."""
    return _framed(pickle.dumps(value))


def answered(number: int, answer: Mapping[str, object]) -> bytes:
    """The frame of what a worker says.  ValueError when it is too long."""
    return _framed(json.dumps([number, dict(answer)], default=str).encode())


def _framed(data: bytes) -> bytes:
    if len(data) > LIMIT:
        raise ValueError(f"a frame of {len(data)} bytes")
    return len(data).to_bytes(HEAD, "big") + data


class Frames:
    """The values of frames that come in pieces.  read: `value_of` for what goes to a worker, `said` for what it says."""

    __slots__ = ("_read", "_received")

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        self._read = read
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values that are whole now.  ValueError for what is no frame; then the pipe is of no use any more."""
        received = self._received
        received += data
        while len(received) >= HEAD:
            length = int.from_bytes(received[:HEAD], "big")
            if length > LIMIT:
                raise ValueError(f"a frame of {length} bytes")
            if len(received) < HEAD + length:
                return
            value = bytes(received[HEAD : HEAD + length])
            del received[: HEAD + length]
            yield self._read(value)


def said(data: bytes) -> tuple[int, dict[str, Any]]:
    """What a worker says.  ValueError."""
    try:
        number, answer = json.loads(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"a frame that cannot be read: {error!r}") from error
    if type(number) is not int or not isinstance(answer, dict):
        raise ValueError(f"no answer: {data[:100]!r}")
    return number, answer


def value_of(data: bytes) -> Any:
    """What a worker is given.  ValueError."""
    try:
        return pickle.loads(data)
    except Exception as error:  # whatever the bytes make of it
        raise ValueError(f"a frame that cannot be read: {error!r}") from error
