"""Asks the running service something through its control socket (`control/socket.py`), for the commands of the operator.

Blocking, with a limit on the time.  Whatever stands between us and an answer becomes a `NoAnswer` with one line for people.
"""

from __future__ import annotations

import json
import socket
import tomllib
from pathlib import Path
from typing import Any, Final

from mta.control.socket import NAME, short_name

__all__ = ["NoAnswer", "NobodyThere", "ask", "socket_of"]

ANSWER_LIMIT: Final = 64 << 20  # bytes


class NoAnswer(Exception):
    """Nobody is there, or says nothing that can be understood."""


class NobodyThere(NoAnswer):
    """No service is running."""


def ask(path: Path, request: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
    """The answer of the service whose control socket this is.  seconds: for connecting, and between two pieces of it."""
    try:
        with short_name(path) as name, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(name)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _line(connection)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NobodyThere(f"no service is running: nobody answers on {path}") from None
    except TimeoutError:
        raise NoAnswer(f"the service does not answer within {seconds:g} s ({path})") from None
    except OSError as error:
        raise NoAnswer(f"{path}: {error.strerror}") from error
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswer(f"the service hung up without an answer ({path})")
    return answer


def _line(connection: socket.socket) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) <= ANSWER_LIMIT and (data := connection.recv(65536)):
        received += data
    return bytes(received)


def socket_of(config: Path) -> Path:
    """The control socket of the service with this configuration, which may have mistakes by now in everything but data_dir."""
    try:
        data_dir = tomllib.loads(config.read_text("utf-8")).get("data_dir")
    except OSError as error:
        raise NoAnswer(f"{config}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoAnswer(f"{config}: not TOML: {error}") from error
    if not isinstance(data_dir, str):
        raise NoAnswer(f"{config}: data_dir is wanted, to find the service by")
    return config.parent.resolve() / data_dir / NAME
