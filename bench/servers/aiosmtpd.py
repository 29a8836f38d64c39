"""aiosmtpd, for receiving alone: a handler that stores each message durably before the 250, as its manual's examples begin.

    python -m bench.servers.aiosmtpd PORT FOLDER

Each message becomes a file, written and synced with its directory in a thread, so that syncs of several sessions go on at once
(`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from bench.servers.place import PROCESSES, Place, Running, peer
from tests.peers.peers import Server
from tests.ports import free_port

__all__ = ["is_there", "start"]

NEVER = re.compile(rb"(?!)()")  # it delivers nothing


def is_there() -> bool:
    """Is it installed?"""
    try:
        version("aiosmtpd")
    except PackageNotFoundError:
        return False
    return True


def start(name: str, place: Place) -> Running:
    """A process of its own."""
    port = free_port()
    (place.folder / "mail").mkdir()
    command = [sys.executable, "-m", __name__, str(port), str(place.folder / "mail")]
    server = Server(["env", f"PYTHONPATH={Path(__file__).parents[2]}", *command], place.folder, port)
    return peer(
        server, name, server.output, NEVER, version("aiosmtpd"), "a file for each message, fsync of file and folder in a thread"
    )


class Spool:
    """The handler: a file for each message, synced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._directory = os.open(folder, os.O_RDONLY)
        self._numbers = count()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Stored, then 250."""
        await asyncio.get_running_loop().run_in_executor(None, self._store, next(self._numbers), envelope)
        return "250 2.0.0 taken"

    def _store(self, number: int, envelope: Any) -> None:
        head = f"{envelope.mail_from}\n{' '.join(envelope.rcpt_tos)}\n\n".encode()
        with open(self._folder / str(number), "xb") as file:
            file.write(head + envelope.content)
            file.flush()
            os.fsync(file.fileno())
        os.fsync(self._directory)


async def serve(port: int, folder: Path) -> None:
    """For ever."""
    from aiosmtpd.smtp import SMTP

    handler, limit = Spool(folder), 100 << 20
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=limit, hostname="peer.test", enable_SMTPUTF8=True, command_call_limit=None),
        "127.0.0.1",
        port,
        backlog=PROCESSES,
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
