"""A TCP proxy in front of a mail server that does harm on request, between two deliveries or in the middle of one.

It knows nothing of SMTP or TLS: what it counts are pieces, the bytes that one read of the client's side gives.  A client that
waits for answers sends one piece for each group of commands, so the first piece of a delivery is RSET, MAIL, RCPT (and DATA).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

__all__ = ["Lossy"]

Pair = tuple[socket.socket, socket.socket]  # the client's side, the server's side
Fault = Callable[[Pair, bytes], None]  # what to do in place of passing a piece on


def end(pair: Pair, piece: bytes) -> None:
    """Both sides see the end."""
    for side in pair:
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def reset(pair: Pair, piece: bytes) -> None:
    """The client sees RST."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair[0].close()
    end(pair, piece)


def swallow(pair: Pair, piece: bytes) -> None:
    """Nobody sees anything."""


def clear_text(pair: Pair, piece: bytes) -> None:
    """The client sees what Exim says in clear text inside TLS after too many RSETs."""
    pair[0].sendall(b"554 Too many nonmail commands\r\n")


def end_behind(pair: Pair, piece: bytes) -> None:
    """The server has it all, its answer is lost."""
    pair[0].shutdown(socket.SHUT_RDWR)
    pair[1].sendall(piece)


class Lossy:
    """port: where it listens.  Threads that end with their connections; `stop` ends all."""

    def __init__(self, server: int) -> None:
        """server: the port of the mail server."""
        self._server = server
        self._lock = Lock()
        self._pairs: list[Pair] = []  # all there ever were
        self._threads: list[Thread] = []
        self._fault: Fault | None = None
        self._countdown = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    def arm(self, fault: Fault, piece: int = 0) -> None:
        """Do that in place of a piece from now on of the client's connections, the first one or a later one."""
        with self._lock:
            self._fault, self._countdown = fault, piece

    @property
    def is_armed(self) -> bool:
        """It has not struck yet."""
        return self._fault is not None

    def strike(self, fault: Fault) -> None:
        """Do that to every open connection, now."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            with suppress(OSError):  # it has ended already
                fault(pair, b"")

    def stop(self) -> None:
        """No thread is left when it returns."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.strike(end)
        for thread in self._threads:
            thread.join()
        for client, server in self._pairs:
            client.close()
            server.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(thread := Thread(target=target, args=arguments))
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                pair = client, socket.create_connection(("127.0.0.1", self._server))
                with self._lock:
                    self._pairs.append(pair)
                self._begin(self._forth, pair)
                self._begin(self._back, pair)

    def _forth(self, pair: Pair) -> None:
        with suppress(OSError):
            while piece := pair[0].recv(65536):
                if fault := self._due():
                    fault(pair, piece)
                else:
                    pair[1].sendall(piece)
        with suppress(OSError):
            pair[1].shutdown(socket.SHUT_WR)

    def _due(self) -> Fault | None:
        with self._lock:
            if self._fault is None:
                return None
            self._countdown -= 1
            if self._countdown >= 0:
                return None
            fault, self._fault = self._fault, None
            return fault

    def _back(self, pair: Pair) -> None:
        with suppress(OSError):
            while piece := pair[1].recv(65536):
                pair[0].sendall(piece)
        with suppress(OSError):
            pair[0].shutdown(socket.SHUT_WR)
