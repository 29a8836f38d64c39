"""Where our CPU goes: what a profile is made into."""

from __future__ import annotations

import cProfile
import io
import os
from contextlib import redirect_stderr
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import rooms
from bench.rooms import CALLS, REST, Profile, main, room_of, table, threads
from bench.scenario import SCENARIOS


class RoomTests(SynchronousTestCase):
    """`room_of`."""

    def test_files(self) -> None:
        """By the folder, the narrower first; what attrs makes belongs to where its class stands."""
        wanted = {
            "/x/mta/smtp/server.py": "smtp: both machines",
            "/x/mta/queue/sqlite/engine.py": "queue: SQLite, on this thread",
            "/x/mta/queue/scheduler/stock.py": "queue: scheduler",
            "/x/mta/queue/intake.py": "queue: way in, way out",
            "/x/site-packages/twisted/internet/tcp.py": "Twisted: dispatch, Deferreds",
            "/x/site-packages/twisted/protocols/tls.py": "TLS",
            "/x/site-packages/dns/message.py": "route, DNS",
            "/x/mta/control/log.py": "log",
            "<attrs generated methods mta.smtp.event.MailFrom>": "smtp: both machines",
            "<attrs generated methods mta.envelope.NewMessage>": REST,
            "/usr/lib/python3.11/random.py": REST,
        }
        self.assertEqual(wanted, {file: room_of(file) for file in wanted})

    def test_scenarios(self) -> None:
        """What is shown without --only exists."""
        self.assertLessEqual(set(rooms.USUAL), {scenario.name for scenario in SCENARIOS})

    def test_unknown_scenario(self) -> None:
        """It is refused before anything is started, and what there is is named."""
        with redirect_stderr(said := io.StringIO()):
            self.assertRaises(SystemExit, main, ["--only", "nothing"])
        self.assertIn("relay-20", said.getvalue())


class ProfileTests(SynchronousTestCase):
    """`Profile.read`."""

    def profile(self, source: str, file: str) -> Profile:
        """Of a program that stands in that file."""
        code = compile(source, file, "exec")
        profile = cProfile.Profile()
        profile.runcall(exec, code, {"os": os})
        path = Path(self.mktemp())
        profile.dump_stats(path)
        return Profile.read(path)

    def test_callers(self) -> None:
        """What C functions take is their caller's, but for system calls."""
        found = self.profile("sum(range(2_000_000))\nos.stat('/')", "/x/mta/relay/pool.py")
        room, _ = found.seconds.most_common(1)[0]
        self.assertEqual("relay", room)
        self.assertGreater(found.seconds[CALLS], 0)
        self.assertGreaterEqual(found.calls, 3)
        self.assertIn("sum", found.top[0][2])

    def test_threads(self) -> None:
        """CPU of this process: the first thread's, and that of the others."""
        first, others = threads(os.getpid())
        self.assertGreater(first, 0)
        self.assertGreaterEqual(others, 0)


class TableTests(SynchronousTestCase):
    """`table`."""

    def test_rows(self) -> None:
        """Rooms by what they cost in all, then the threads, the sum, and the calls."""
        found = {
            "one": {"relay": 10.4, CALLS: 30.0, "threads of the queue": 5.0, "calls of functions": 100.0},
            "two": {"relay": 90.0, "threads of the queue": 6.0, "calls of functions": 200.0},
        }
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(found)]
        self.assertEqual(["us for each message", "one", "two"], lines[0])
        self.assertEqual([["relay", "10", "90"], [CALLS, "30", "0"]], lines[2:4])
        self.assertEqual(
            [["threads of the queue", "5", "6"], ["in all", "45", "96"], ["calls of functions", "100", "200"]], lines[-3:]
        )
