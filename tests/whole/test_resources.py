"""What a server may cost: memory of idle connections, of a large message on its whole way, of clients that send garbage.

The server is a process of its own, read through /proc (Linux).
"""

from __future__ import annotations

import hashlib
import resource
import smtplib
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from bench.processes import forget_peak, memory
from tests.peers.server import MtaProcess
from tests.whole.world import World, relay

MB = 1_000_000
MIB = 1 << 20
HEADER = b"Subject: large\r\n\r\n"


def settled(mta: MtaProcess) -> int:
    """Resident memory in bytes, once it has stopped changing."""
    before = -1
    for _ in range(50):
        if before == (now := memory(mta.pid, "VmRSS") * 1024):
            break
        before = now
        time.sleep(0.1)
    return before


class Sink(Protocol):
    """A next hop that keeps size and digest of a body, not the body."""

    transport: Any

    def __init__(self, taken: list[tuple[int, str]]) -> None:
        self._taken = taken
        self._held = b""
        self._reading = False
        self._begin()

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._size = 0

    def connectionMade(self) -> None:
        """Greet."""
        self.transport.write(b"220 sink.test\r\n")

    def dataReceived(self, data: bytes) -> None:
        """Commands, line by line; a body, as it comes."""
        data = self._held + data
        while not self._reading and b"\r\n" in data:
            line, _, data = data.partition(b"\r\n")
            self._reading = line == b"DATA"
            replies = {b"EHLO": b"250-sink.test\r\n250-PIPELINING\r\n250 SIZE", b"DATA": b"354 go on", b"QUIT": b"221 bye"}
            self.transport.write(replies.get(line[:4], b"250 ok") + b"\r\n")
        if self._reading:
            data = self._body(data)
        self._held = data

    def _body(self, data: bytes) -> bytes:
        """Digest what cannot be the end; the rest is held."""
        if not self._size:
            if HEADER not in data:
                return data  # our own Received line stands before it
            data = data[data.find(HEADER) :]
        ends = data.endswith(b"\r\n.\r\n")
        part = data[:-3] if ends else data[:-5]
        self._digest.update(part)
        self._size += len(part)
        if ends:
            self._reading = False
            self._taken.append((self._size, self._digest.hexdigest()))
            self._begin()
            self.transport.write(b"250 taken\r\n")
        return b"" if ends else data[-5:]


class MemoryTests(World):
    """The limits are those that are promised."""

    def setUp(self) -> None:
        super().setUp()
        if not Path("/proc/self/status").exists():
            raise SkipTest("memory is read from /proc")

    async def test_idle_connections(self) -> None:
        """1,000 clients that have said EHLO and then nothing cost less than 30 MB; they are served in spite of it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2000)), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        mta = await self.process()
        clients: list[socket.socket] = []
        self.addCleanup(lambda: [client.close() for client in clients])

        def more(count: int) -> int:
            for _ in range(count):
                client = socket.create_connection(("127.0.0.1", mta.port), 10)
                clients.append(client)
                client.recv(1000)
                client.sendall(b"EHLO idle.test\r\n")
                client.recv(1000)
            return settled(mta)

        before = await deferToThread(more, 1)  # what the first one loads is no cost of the others
        after = await deferToThread(more, 1000)
        self.assertLess(after - before, 30 * MB)
        for client in clients:
            client.sendall(b"NOOP\r\n")
        self.assertEqual({b"250 2.0.0 Ok\r\n"}, {client.recv(1000) for client in clients})

    async def test_large_message(self) -> None:
        """50 MiB on their way in, in the spool and out again raise the peak by less than 20 MiB, and arrive unchanged."""
        taken: list[tuple[int, str]] = []
        factory = Factory.forProtocol(lambda: Sink(taken))
        factory.noisy = False
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        mta = await self.process(f'[limits]\nmessage_size = "60MiB"\n{relay(listening.getHost().port)}')
        line = b"".join(b"%c" % (33 + n % 90) for n in range(74))
        body = HEADER + b"".join(b"%d %s\r\n" % (n, line) for n in range(50 * MIB // 80))

        def send(message: bytes) -> None:
            with smtplib.SMTP("127.0.0.1", mta.port, local_hostname="large.test", timeout=60) as client:
                client.ehlo()
                client.mail("me@a.test")
                client.rcpt("you@c.test")
                client.putcmd("data")
                client.getreply()
                client.send(message + b".\r\n")
                self.assertEqual(250, client.getreply()[0])

        await deferToThread(send, HEADER + b"first\r\n" * 100_000)  # what the first one loads is no cost of the others
        await deferToThread(mta.wait_for_event, "delivered", 1)
        before = memory(mta.pid, "VmRSS") * 1024
        forget_peak(mta.pid)
        await deferToThread(send, body)
        await deferToThread(mta.wait_for_event, "delivered", 2)
        self.assertLess(memory(mta.pid, "VmHWM") * 1024 - before, 20 * MIB)
        self.assertEqual((len(body), hashlib.sha256(body).hexdigest()), taken[1])
        self.assertEqual([], [path for path in (mta.directory / "data/spool").rglob("*") if path.is_file()])

    async def test_garbage(self) -> None:
        """Half a million garbage commands in fifty connections, one endless line and noise leave nothing behind."""
        mta = await self.process()

        def attack(data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", mta.port), 20) as client:
                try:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    said = b""
                    while piece := client.recv(65536):
                        said += piece
                    return said
                except OSError:  # it has ended before we had said all
                    return b""

        def round_of_attacks() -> int:
            for _ in range(25):
                attack(b"XYZZY plugh\r\n" * 10_000)
            attack(b"x" * 20 * MIB)
            attack(b"\xff\xfe\xfd" * MIB)
            self.assertIn(b"221 2.0.0 Bye", attack(b"QUIT\r\n"))
            return settled(mta)

        before = await deferToThread(round_of_attacks)
        forget_peak(mta.pid)
        after = await deferToThread(round_of_attacks)
        self.assertLess(after - before, 2 * MB)
        self.assertLess(memory(mta.pid, "VmHWM") * 1024 - before, 5 * MB)
