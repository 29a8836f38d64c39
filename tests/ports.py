"""Ports for servers whose number must be known before they listen.

Below the range from which the system gives ports to clients (Linux: from 32768): a port that was free a moment ago must not be
somebody's side of a connection when the server comes to it.  Each is given once in a process.
"""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

RANGE = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of this machine that nobody has."""
    for _ in range(1_000):
        port = random.choice(RANGE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
