"""A whole server with its control socket, and the command `mta queue` typed beside it, in a thread as in another process.

Mail to other.test waits, for nobody listens where it is to go.  After `down()` only the files are left.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mta.cli.main import main
from mta.control.queue import QueueCommands
from mta.control.socket import NAME, ControlSocket
from mta.queue.ids import parse_id
from mta.queue.state import Selector, State
from mta.service import Mta
from tests.whole.world import PATIENCE, Running, World, relay

BODY = b"Subject: hello\r\nX-Escape: \x1b[2J\r\n\r\nfirst line\r\n"


class QueueWorld(World):
    """See the module."""

    server: Running
    control: ControlSocket

    async def up(self, more: str = "") -> None:
        """Start the server and open its control socket."""
        port = self.free_port()
        self.dest = f"smtp:other/[127.0.0.1]:{port}"
        self.server = await self.serve(more=relay(port, "other.test", 'name = "other"\n') + more)
        self.data = self.server.folder / "data"
        self.control = control_of(self.server.mta, self.data / NAME)
        self.control.open()
        self.addCleanup(lambda: self.control.close())

    async def down(self) -> None:
        """Stop both, in order."""
        await self.control.close()
        await self.server.mta.stopService()

    async def waiting(self, *addresses: str, sender: str = "me@a.test", body: bytes = BODY) -> str:
        """Mail to these addresses that was tried once and waits; its id."""
        deferred = self.server.events.count("deferred")
        caller = await self.caller(self.server)
        await caller.envelope(*addresses, sender=sender)
        reply = await caller.data(body + b".\r\n")
        self.assertEqual(b"250 ", reply[:4])
        await self.happened(self.server, "deferred", deferred + len(addresses))
        id = reply.split()[-1].decode()
        await self.recorded(id)
        return id

    async def recorded(self, id: str) -> None:
        """Wait until that message waits in the file as one that was tried: the log speaks of a try before that is recorded."""
        for _ in range(int(PATIENCE / 0.02)):
            rows = await self.server.mta.queue.queue.browse(Selector(message=parse_id(id)))
            if all(row.state is State.WAITING and row.attempts for row in rows):
                return
            await deferLater(reactor, 0.02)
        raise AssertionError(f"{id} was never recorded: {rows}")

    async def type(self, *arguments: str, keys: str | None = None) -> Result:
        """`mta queue ...` in a wide terminal, where no path breaks a line; keys: what is typed when it asks."""
        command = ["queue", arguments[0], "--data-dir", str(self.data), *arguments[1:]]
        result: Result = await deferToThread(CliRunner(env={"COLUMNS": "250"}).invoke, main, command, input=keys)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    async def states(self) -> dict[str, tuple[str, int]]:
        """Each address that is in the queue: its state and how often it was tried."""
        rows = await self.server.mta.queue.queue.browse(Selector())
        return {row.address: (row.state.name.lower(), row.attempts) for row in rows}


def control_of(mta: Mta, path: Path) -> ControlSocket:
    """The socket with the commands of the queue."""
    commands: Any = QueueCommands(mta.queue, lambda: int(time.time() * 1000), mta.log).table()
    return ControlSocket(path, commands, reactor)
