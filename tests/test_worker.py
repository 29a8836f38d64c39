"""`mta.worker`: what a worker's process runs (`tests/workers/test_supervisor_processes.py` has whole ones)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Log, Settings
from mta.worker import errand_from
from mta.workers.frame import READY, Errand, Frames, packed, said

HANGS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
from twisted.internet.defer import Deferred
import mta.service, mta.worker
mta.worker.PATIENCE = 1
mta.service.Mta.stopService = lambda self: Deferred()
mta.worker.main()
"""  # a worker whose stop never ends
ROOT = Path(__file__).parent.parent
ERRAND = Errand(Settings(hostname="a.test", data_dir=Path("/d")), 1, 2, (), "twisted.internet.epollreactor")


class ErrandTests(SynchronousTestCase):
    """`errand_from`."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)

    def test_the_first_frame_alone(self) -> None:
        """In pieces as it comes; what follows is left for the commands."""
        data = packed(ERRAND) + b"more"

        def write() -> None:
            for start in range(0, len(data), 100):
                os.write(self.writing, data[start : start + 100])
            os.close(self.writing)

        writer = Thread(target=write)
        writer.start()
        self.assertEqual(ERRAND, errand_from(self.reading))
        writer.join()
        self.assertEqual(b"more", os.read(self.reading, 100))

    def test_nobody_there(self) -> None:
        """The supervisor has ended, perhaps in the middle of a word."""
        os.write(self.writing, packed(ERRAND)[:-1])
        os.close(self.writing)
        with self.assertRaises(EOFError):
            errand_from(self.reading)

    def test_something_else(self) -> None:
        """What is no errand is not served by."""
        os.write(self.writing, packed("dance"))
        os.close(self.writing)
        with self.assertRaises(ValueError):
            errand_from(self.reading)


class ProcessTests(SynchronousTestCase):
    """The process."""

    def test_a_stop_that_hangs(self) -> None:
        """The supervisor is gone, and with it who would kill a worker whose orderly stop does not end: its own clock does."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        reactor = "twisted.internet.epollreactor"
        errand = Errand(Settings(hostname="a.test", data_dir=folder, log=Log(file=str(folder / "log"))), 1, 2, (), reactor)
        reading, writing = os.pipe()
        with subprocess.Popen(
            [sys.executable, "-c", HANGS, str(writing)],
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as worker:
            self.addCleanup(os.close, reading)
            os.close(writing)
            assert worker.stdin is not None
            worker.stdin.write(packed(errand))
            worker.stdin.flush()
            self.assertEqual([(READY, {})], list(Frames(said).feed(os.read(reading, 100))))
            worker.stdin.close()
            self.assertEqual(-signal.SIGALRM, worker.wait(60))

    def test_without_a_supervisor(self) -> None:
        """Started by hand it ends, and does nothing."""
        done = subprocess.run(
            [sys.executable, "-m", "mta.worker", "0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertIn("the supervisor is gone", done.stderr)
