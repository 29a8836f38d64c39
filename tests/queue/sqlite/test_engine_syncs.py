"""q33: how many times the disk is asked to sync, counted by strace: the cost table of docs/queue.md.

The child marks the parts of its run by asking for its parent's number.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).parents[3]

CHILD = """
import os, sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from mta.envelope import Kind, NewMessage, NewRecipient, Outcome
from mta.queue.sqlite.engine import SqliteQueue
from mta.status import Reply

OK = Reply(250, "2.0.0", "ok")
queue = SqliteQueue(Path(sys.argv[1]), reactor, completions=sys.argv[2])


async def message(size):
    sink = queue.create_body(1)
    sink.write(b"x" * size)
    to = (NewRecipient("a@example.org", dest="smtp:a/b", due=1),)
    return NewMessage(sink.id, "s@example.org", to, await sink.finish(), b"", 1, 1 << 50)


async def enqueue(size):
    (claim,) = await queue.enqueue([await message(size)], lambda _: True)
    return claim


async def settle(claim):
    await queue.settle([Outcome(claim, Kind.DELIVERED, OK)])


async def run():
    await queue.start()
    os.getppid()
    for _ in range(20):
        claim = await enqueue(4096)
    os.getppid()
    for _ in range(20):
        await settle(await enqueue(4096))
    os.getppid()
    await gatherResults([Deferred.fromCoroutine(enqueue(4096)) for _ in range(200)])
    os.getppid()
    for _ in range(10):
        await enqueue(200_000)
    os.getppid()
    await settle(claim)
    await queue.stop()


def main():
    Deferred.fromCoroutine(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(lambda _: reactor.stop())


reactor.callWhenRunning(main)
reactor.run()
"""


class SyncTests(SynchronousTestCase):
    """Counted at the kernel's door."""

    def count(self, completions: str) -> list[int]:
        """fsync and fdatasync in each part of the run."""
        if not shutil.which("strace"):
            raise SkipTest("strace is not installed (apt-get install strace): syncs cannot be counted")
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        child, trace = directory / "child.py", directory / "trace"
        child.write_text(CHILD)
        command = ["strace", "-f", "-q", "-e", "trace=fsync,fdatasync,getppid", "-o", str(trace)]
        command += [sys.executable, str(child), str(directory / "data"), completions]
        done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
        if "ptrace" in done.stderr:
            raise SkipTest(f"strace may not trace here: {done.stderr.strip()}")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        parts = [0]
        for line in trace.read_text().splitlines():
            if "getppid(" in line:
                parts.append(0)
            elif ("fsync(" in line or "fdatasync(" in line) and "resumed" not in line:
                parts[-1] += 1
        return parts

    def test_q33_strict(self) -> None:
        """One for an accept, one for its completion; shared when 200 arrive at once; two more for a large body."""
        _, accepts, both, burst, large, _ = self.count("strict")
        self.assertEqual((20, 40), (accepts, both))
        self.assertTrue(1 <= burst <= 8, burst)
        self.assertTrue(30 <= large <= 40, large)  # one more for each of the 256 folders of the spool when it is new

    def test_q33_lazy(self) -> None:
        """The completion rides on the next accept."""
        _, accepts, both, _, _, last = self.count("lazy")
        self.assertEqual((20, 20), (accepts, both))
        self.assertTrue(last >= 1, "the last completion is made durable at the stop")
