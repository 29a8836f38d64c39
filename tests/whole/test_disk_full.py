"""A disk that is full while mail comes in and goes out: 452, the service stays up, nothing that was accepted is lost.

The server is a process of its own whose data directory is a file system of 4 MiB.  To mount that it needs a mount
namespace of its own, as root or as the root of a user namespace; where neither is to be had the tests are skipped, and
fail when MTA_REQUIRE_PEERS=1.
"""

from __future__ import annotations

import os
import smtplib
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from mta.testing.peers import Act
from tests.peers.server import MtaProcess
from tests.whole.world import SOON, World, relay

SIZE = 4 << 20
SMALL = b"x" * 70 + b"\r\n"
LARGE = SMALL * 5_000  # goes to a file of the spool
FULL = (452, b"4.3.1 insufficient system storage")
MOUNT = f'mount -t tmpfs -o size={SIZE} tmpfs "$0" && echo mounted && read forever'
ENTER = 'cd "$0" && exec "$@"'


class SmallDisk:
    """A file system on a folder, seen by those who go through `door`; `inside` is the folder as seen from here."""

    def __init__(self, folder: Path) -> None:
        user = () if os.geteuid() == 0 else ("-r",)
        command = ["unshare", *user, "-m", "sh", "-c", MOUNT, str(folder)]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        if said != b"mounted\n":
            self.close()
            why = f"a file system of its own is wanted, as root or in a user namespace: {said.decode()}"
            raise RuntimeError(why) if os.environ.get("MTA_REQUIRE_PEERS") == "1" else SkipTest(why)
        pid = str(self._holder.pid)
        enter = ("nsenter", "-t", pid, "-m") if not user else ("nsenter", "-t", pid, "-U", "--preserve-credentials", "-m")
        self.door = (*enter, "sh", "-c", ENTER, str(folder.parent))
        self.inside = Path(f"/proc/{pid}/root{folder}")

    def fill(self, leave: int = 0) -> None:
        """No room any more, but for `leave` bytes."""
        with open(self.inside / "filler", "ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                filler.truncate(filler.tell() - leave)

    def free(self) -> None:
        """There is room again."""
        (self.inside / "filler").unlink()

    def close(self) -> None:
        """With its last process the file system is gone."""
        for stream in (self._holder.stdin, self._holder.stdout):
            assert stream is not None
            stream.close()
        self._holder.wait(10)


class Sender:
    """One client that numbers its messages, and keeps the numbers of those that were accepted."""

    def __init__(self, port: int) -> None:
        self.accepted: list[int] = []
        self.sent = 0
        self._client = smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=30)
        self._client.ehlo()

    def send(self, text: bytes) -> tuple[int, bytes]:
        """The last reply to a message."""
        number, self.sent = self.sent, self.sent + 1
        client = self._client
        for verb in ("MAIL FROM:<me@a.test>", f"RCPT TO:<{number}@c.test>"):
            client.docmd(verb)
        reply = client.docmd("DATA")
        if reply[0] == 354:
            client.send(b"Subject: x\r\n\r\n" + text + b".\r\n")
            reply = client.getreply()
        if reply[0] == 250:
            self.accepted.append(number)
        else:
            client.rset()
        return reply

    def until_full(self, text: bytes) -> tuple[int, bytes]:
        """Send until something else than 250 is said."""
        for _ in range(500):
            if (reply := self.send(text))[0] != 250:
                return reply
        raise AssertionError("500 messages on a disk that is full")

    def close(self) -> None:
        """Hang up."""
        self._client.close()


class DiskFullTests(World):
    """One server on a small disk."""

    async def begin(self, port: int) -> tuple[SmallDisk, MtaProcess, Sender]:
        """It relays everything to that port, and has taken some mail already."""
        directory = self.folder / "process"
        (directory / "data").mkdir(parents=True)
        disk = SmallDisk(directory / "data")
        self.addCleanup(disk.close)
        # No reserve is kept: what is tested is what follows when the disk is full all the same.
        mta = await self.process(SOON + "[queue]\nfree_space = 0\n" + relay(port), before=disk.door)
        sender = await self.sender(mta)
        for text in (SMALL, LARGE):
            self.assertEqual(250, (await deferToThread(sender.send, text))[0])
        return disk, mta, sender

    async def sender(self, mta: MtaProcess) -> Sender:
        sender = await deferToThread(Sender, mta.port)
        self.addCleanup(sender.close)
        return sender

    def numbers(self, hop: Any) -> list[int]:
        """Whose mail has arrived."""
        return sorted(int(message.recipients[0].partition("@")[0]) for message in hop.messages)

    async def test_receiving(self) -> None:
        """Small bodies and large are answered 452 4.3.1 on a connection that lives on; then there is room, and all is well."""
        port = self.free_port()
        disk, mta, sender = await self.begin(port)
        disk.fill(leave=256 * 1024)
        self.assertEqual(FULL, await deferToThread(sender.send, LARGE))
        self.assertEqual(250, (await deferToThread(sender.send, SMALL))[0])
        disk.fill()
        self.assertEqual(FULL, await deferToThread(sender.until_full, SMALL * 100))
        for text in (LARGE, SMALL * 100, LARGE, SMALL * 100):
            self.assertEqual(FULL, await deferToThread(sender.send, text))
        disk.free()
        for text in (SMALL, LARGE):
            self.assertEqual(250, (await deferToThread(sender.send, text))[0])
        hop, _ = await self.hop(port=port)
        await self.until(lambda: len(hop.messages) >= len(sender.accepted), "all that was accepted arrives")
        self.assertEqual(sender.accepted, self.numbers(hop))
        await deferToThread(mta.stop)
        self.assertEqual((0, 1), (mta.count("bounced"), mta.count("listening")))

    async def test_delivering(self) -> None:
        """What is delivered while nothing can be recorded is recorded when there is room, and never delivered twice."""
        hop, port = await self.hop({".": [Act.STALL, Act.STALL]})
        disk, mta, sender = await self.begin(port)
        await self.until(lambda: not hop.script["."], "two messages wait for the answer to their end")
        disk.fill()
        await deferToThread(sender.until_full, SMALL * 100)
        hop.say(b"250 2.0.0 taken\r\n")
        await self.until(lambda: "cannot be recorded" in mta.output(), "the outcome meets the full disk")
        disk.free()
        self.assertEqual(250, (await deferToThread(sender.send, LARGE))[0])
        await self.until(lambda: mta.count("delivered") >= len(sender.accepted), "all are delivered")
        await deferToThread(mta.stop)
        await deferToThread(mta.restart)
        again = await self.sender(mta)
        again.sent = sender.sent
        self.assertEqual(250, (await deferToThread(again.send, SMALL))[0])
        await self.until(lambda: mta.count("delivered") > len(sender.accepted), "the one after the restart")
        offered = [line.partition("<")[2].partition("@")[0] for line in hop.commands if " RCPT " in line]
        self.assertEqual(sorted(sender.accepted + again.accepted), sorted(map(int, offered)))

    async def test_kill_and_start(self) -> None:
        """kill -9 on a full disk: what was accepted is there when the server comes up, now or when there is room."""
        port = self.free_port()
        disk, mta, sender = await self.begin(port)
        disk.fill()
        await deferToThread(sender.until_full, SMALL * 100)
        await deferToThread(mta.kill9)
        try:
            await deferToThread(mta.restart)
        except RuntimeError as error:  # there was not even room to note that nothing is on its way any more
            self.assertIn("ended with status 1", str(error))
            self.assertRegex(mta.output(), r"mta: 451 4\.3\.0 queue .*: database or disk is full\n")
        disk.free()
        if not mta.is_running:
            await deferToThread(mta.restart)
        hop, _ = await self.hop(port=port)
        await self.until(lambda: len(hop.messages) >= len(sender.accepted), "all that was accepted arrives")
        self.assertEqual(sender.accepted, self.numbers(hop))
