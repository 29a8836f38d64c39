"""Hints on disk: kept over a restart, never in the way, never half-written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mta.hints import KINDS, HintsFile
from mta.interfaces import IEventLog, IHints
from tests.threads import ThreadedClock

KILLED = """
import os, signal, sys
from pathlib import Path
from mta import hints
file = hints._File(Path(sys.argv[1]))
file.load(0.0, lambda kind: 1000)
file.write([("k", str(number), 1000.0, "0") for number in range(500)])
db = file._db
db.execute("PRAGMA cache_size=1")  # what does not fit into memory goes to the disk before the commit
with db:
    for number in range(500):
        db.execute("INSERT OR REPLACE INTO hint VALUES('k', ?, 1000.0, ?)", (str(number), "1" + " " * 2000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@implementer(IEventLog)
class Events(list[tuple[str, dict[str, Any]]]):
    """What was logged."""

    def event(self, name: str, queue_id: str, fields: Any) -> None:
        self.append((name, dict(fields)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


class Case(SynchronousTestCase):
    """Hints over a file in a folder that does not exist yet."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "hints.db"
        self.clock = ThreadedClock()
        self.log = Events()
        self.hints = self.opened()

    def opened(self, **more: Any) -> HintsFile:
        hints = HintsFile(self.path, self.clock, self.log, **more)
        self.successResultOf(hints.start())
        self.addCleanup(lambda: self.successResultOf(hints.stop()))
        return hints

    def again(self, **more: Any) -> HintsFile:
        """The same after a restart."""
        self.successResultOf(self.hints.stop())
        self.hints = self.opened(**more)
        return self.hints

    def rows(self) -> dict[tuple[str, str], str]:
        with apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY) as db:
            return {(kind, key): value for kind, key, value in db.execute("SELECT kind, key, value FROM hint")}


class RestartTests(Case):
    """What is there afterwards."""

    def test_kept(self) -> None:
        """C2.3: every plain value is there again, also without waiting; None has forgotten."""
        verifyObject(IHints, self.hints)
        values = {"a": (1.5, None), "b": {"x": [1, "ü"]}, "c": True, "d": "text", "e": 7}
        for key, value in values.items():
            self.hints.put("kind", key, value, 100.0)
        self.hints.put("kind", "f", 1, 100.0)
        self.hints.put("kind", "f", None, 100.0)
        hints = self.again()
        self.assertEqual({key: hints.get("kind", key) for key in values}, {**values, "a": [1.5, None]})
        self.assertEqual(sorted(hints.keys("kind")), sorted(values))
        self.assertEqual(self.log, [])

    def test_time_goes_on(self) -> None:
        """What expires while nobody runs is gone from memory and file."""
        self.hints.put("kind", "short", 1, 10.0)
        self.hints.put("kind", "long", 2, 1000.0)
        self.successResultOf(self.hints.stop())
        self.clock.advance(10.0)
        hints = self.opened()
        self.assertEqual((hints.get("kind", "short"), hints.get("kind", "long")), (None, 2))
        self.assertEqual(list(self.rows()), [("kind", "long")])

    def test_written_behind(self) -> None:
        """Nothing is written at once; after a few seconds all changes are in the file, in one go."""
        self.clock.eager = False
        for number in range(100):
            self.hints.put("kind", str(number), number, 1000.0)
        self.clock.advance(HintsFile.DELAY - 0.1)
        self.assertEqual(self.clock.waiting, [])
        self.clock.advance(0.1)
        self.hints.put("kind", "0", "newer", 1000.0)  # while it is being written
        self.assertEqual(len(self.clock.waiting), 1)
        self.clock.work()
        self.assertEqual(len(self.rows()), 100)
        self.assertEqual(self.rows()["kind", "0"], "0")
        self.clock.advance(HintsFile.DELAY)
        self.clock.work()
        self.assertEqual(self.rows()["kind", "0"], '"newer"')
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.eager = True

    def test_forgotten_in_the_file_too(self) -> None:
        """What was forgotten, has expired or had to go is not read back."""
        hints = self.again(limits={"": 2})
        for key in ("1", "2", "3"):
            hints.put("kind", key, key, 1000.0)
        hints.put("other", "x", "x", 1000.0)
        hints.put("other", "y", "y", 20.0)
        self.clock.advance(HintsFile.DELAY)
        self.assertEqual(set(self.rows()), {("kind", "2"), ("kind", "3"), ("other", "x"), ("other", "y")})
        hints.put("other", "x", None, 0.0)
        self.clock.advance(20.0)
        self.assertIsNone(hints.get("other", "y"))
        self.clock.advance(HintsFile.DELAY)
        self.assertEqual(set(self.rows()), {("kind", "2"), ("kind", "3")})

    def test_many(self) -> None:
        """More than one batch goes out batch by batch, without a pause between."""
        for number in range(HintsFile.BATCH * 2 + 1):
            self.hints.put("kind", str(number), number, 1000.0)
        self.clock.pump([HintsFile.DELAY, 0.0, 0.0])
        self.assertEqual(len(self.rows()), HintsFile.BATCH * 2)
        self.clock.advance(HintsFile.DELAY)
        self.assertEqual(len(self.rows()), HintsFile.BATCH * 2 + 1)

    def test_a_large_file_is_read_in_part(self) -> None:
        """What lasts longest is kept when there is more than memory holds, and the file shrinks with it."""
        for number in range(10):
            self.hints.put("kind", str(number), number, 100.0 + number)
            self.hints.put("large", str(number), number, 9000.0 + number)
        hints = self.again(limits={"": 3, "large": 4})
        self.assertEqual((hints.keys("kind"), hints.keys("large")), (["7", "8", "9"], ["6", "7", "8", "9"]))
        self.assertEqual(len(self.rows()), 7)

    def test_a_large_kind_is_read_beside_the_others(self) -> None:
        """However much lasts longer, each kind gets its part; what was put before the file is read counts among it."""
        for number in range(10):
            self.hints.put("large", str(number), number, 9000.0 + number)
        self.hints.put("kind", "strike", 1, 100.0)
        self.successResultOf(self.hints.stop())
        self.clock.eager = False
        hints = HintsFile(self.path, self.clock, self.log, {"": 3, "large": 4})
        started = hints.start()
        hints.put("large", "9", "newer", 9000.0)
        hints.put("large", "new", "newest", 9000.0)
        self.clock.work()
        self.successResultOf(started)
        self.assertEqual(([1], ["7", "8", "9", "new"]), ([hints.get("kind", "strike")], hints.keys("large")))
        self.assertEqual("newer", hints.get("large", "9"))
        self.clock.eager = True
        self.successResultOf(hints.stop())
        self.assertNotIn(("large", "6"), self.rows())

    def test_a_file_of_a_thousand_kinds(self) -> None:
        """No file, whoever made it, fills the memory."""
        self.successResultOf(self.hints.stop())
        with apsw.Connection(str(self.path)) as db:
            db.executemany("INSERT INTO hint VALUES(?, 'x', 1000.0, '1')", [(f"k{number}",) for number in range(1000)])
        self.hints = self.opened()
        self.assertEqual(KINDS, len(self.hints._kinds))

    def test_start_while_used(self) -> None:
        """What is put before the file is read is newer than the file."""
        self.hints.put("kind", "key", "old", 100.0)
        self.successResultOf(self.hints.stop())
        self.clock.eager = False
        hints = HintsFile(self.path, self.clock, self.log)
        started = hints.start()
        hints.put("kind", "key", "new", 100.0)
        self.assertNoResult(started)
        self.clock.work()
        self.successResultOf(started)
        self.assertEqual(hints.get("kind", "key"), "new")
        self.clock.eager = True
        self.successResultOf(hints.stop())
        self.assertEqual(self.rows(), {("kind", "key"): '"new"'})

    def test_never_started(self) -> None:
        """Without a start it is memory alone: no file, no timer, and a stop is harmless."""
        path = Path(self.mktemp())
        hints = HintsFile(path, self.clock, self.log)
        hints.put("kind", "key", 1, 100.0)
        self.assertEqual(hints.get("kind", "key"), 1)
        self.successResultOf(hints.stop())
        self.assertFalse(path.exists())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TroubleTests(Case):
    """The file is only a convenience."""

    def test_deleted_while_stopped(self) -> None:
        """It begins empty, without a word; a log that was left behind is not played into the new file."""
        self.hints.put("kind", "key", 1, 100.0)
        self.successResultOf(self.hints.stop())
        self.path.unlink()
        self.path.with_name("hints.db-wal").write_bytes(b"left behind")
        self.hints = self.opened()
        self.assertIsNone(self.hints.get("kind", "key"))
        self.assertTrue(self.path.with_name("hints.db.bad-wal").exists())
        self.assertEqual(self.log, [])

    def test_deleted_while_running(self) -> None:
        """The next write makes it again, with all that memory has, and says so."""
        self.hints.put("kind", "before", 1, 100.0)
        self.clock.advance(HintsFile.DELAY)
        for path in self.path.parent.iterdir():
            path.unlink()
        self.hints.put("kind", "after", 2, 100.0)
        self.clock.pump([HintsFile.DELAY, HintsFile.DELAY])
        self.assertEqual(set(self.rows()), {("kind", "before"), ("kind", "after")})
        self.assertEqual(self.log.names, ["hints_anew"])

    def test_damaged(self) -> None:
        """What is no database, is cut short, or is somebody else's, is set aside whole with one log line, and begun anew."""
        self.hints.put("kind", "key", "v" * 20_000, 100.0)
        self.successResultOf(self.hints.stop())
        good = self.path.read_bytes()
        with apsw.Connection(str(self.path.with_name("other.db"))) as other:
            other.execute("CREATE TABLE mine(x)")
        other.close()
        strange = self.path.with_name("other.db").read_bytes()
        for content in (
            b"no database at all" * 100,
            good[:100],
            good[:8192],
            good.replace(b"mtah", b"mtaq"),
            strange,
            b"\0" * 5000,
        ):
            self.path.write_bytes(content)
            self.log.clear()
            hints = self.opened()
            self.assertIsNone(hints.get("kind", "key"))
            hints.put("kind", "new", 1, 100.0)
            self.successResultOf(hints.stop())
            self.assertEqual(self.rows(), {("kind", "new"): "1"})
            self.assertEqual(self.log.names, ["hints_anew"], content[:20])
            self.assertEqual(self.path.with_name("hints.db.bad").read_bytes(), content)

    def test_damaged_values(self) -> None:
        """A value that is no JSON makes the whole file suspect."""
        self.successResultOf(self.hints.stop())
        with apsw.Connection(str(self.path)) as db:
            db.execute("INSERT INTO hint VALUES('kind', 'key', 100.0, '{')")
        db.close()
        self.hints = self.opened()
        self.assertEqual(self.log.names, ["hints_anew"])
        self.assertEqual(self.rows(), {})

    def test_damaged_while_running(self) -> None:
        """The same when a write finds it: everything is written again."""
        self.hints.put("kind", "before", 1, 100.0)
        self.clock.advance(HintsFile.DELAY)
        with apsw.Connection(str(self.path)) as db:
            db.execute("DROP TABLE hint")
        db.close()
        self.hints.put("kind", "after", 2, 100.0)
        self.clock.pump([HintsFile.DELAY, HintsFile.DELAY])
        self.assertEqual(set(self.rows()), {("kind", "before"), ("kind", "after")})
        self.assertEqual(self.log.names, ["hints_anew"])

    def test_disk_full(self) -> None:
        """Reported once; memory goes on; tried again after a minute; nothing is missing when there is room again."""
        self.hints.put("kind", "before", 1, 10_000.0)
        self.clock.advance(HintsFile.DELAY)
        limit = 3

        class Small(apsw.Connection):
            def __init__(self, *arguments: Any, **more: Any) -> None:
                super().__init__(*arguments, **more)
                self.pragma("max_page_count", limit)

        self.hints._file.close()
        self.patch(apsw, "Connection", Small)
        for number in range(300):
            self.hints.put("kind", str(number), "v" * 1000, 10_000.0)
        self.clock.advance(HintsFile.DELAY)
        self.clock.advance(HintsFile.PATIENCE - 0.1)
        self.assertEqual(self.log.names, ["hints_error"])
        self.assertIn("full", self.log[0][1]["reason"].lower())
        self.assertEqual(self.hints.get("kind", "7"), "v" * 1000)
        self.clock.advance(HintsFile.PATIENCE)
        self.assertEqual(self.log.names, ["hints_error"])
        limit = 100_000
        self.clock.pump([HintsFile.PATIENCE, HintsFile.DELAY])
        self.assertEqual(len(self.rows()), 301)
        self.assertEqual(self.log.names, ["hints_error", "hints_anew"])

    def test_no_folder(self) -> None:
        """A place where nothing can be written costs two lines at most, never the service."""
        self.successResultOf(self.hints.stop())
        self.path = self.path / "below-a-file" / "hints.db"
        self.hints = self.opened()
        self.hints.put("kind", "key", 1, 100.0)
        self.clock.advance(HintsFile.DELAY)
        self.assertEqual(self.hints.get("kind", "key"), 1)
        self.assertEqual(self.log.names, ["hints_error"])

    def test_locked(self) -> None:
        """An operator's shell that holds the file is waited for in the thread, then the write is tried again."""
        self.patch(__import__("mta.hints").hints, "BUSY_TIMEOUT", 1)
        self.hints = self.again()
        with apsw.Connection(str(self.path)) as db:
            db.execute("DELETE FROM hint")
            self.hints.put("kind", "key", 1, 1000.0)
            self.clock.advance(HintsFile.DELAY)
        db.close()
        self.assertEqual(self.log.names, ["hints_error"])
        self.clock.advance(HintsFile.PATIENCE)
        self.assertEqual(set(self.rows()), {("kind", "key")})

    def test_what_cannot_be_written(self) -> None:
        """A value that JSON cannot say is a bug that is logged; its neighbours are written."""
        self.hints.put("kind", "bad", object(), 1000.0)
        self.hints.put("kind", "good", 1, 1000.0)
        self.clock.advance(HintsFile.DELAY)
        self.assertEqual(set(self.rows()), {("kind", "good")})
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_bounded_while_nothing_can_be_written(self) -> None:
        """Endless changes with a disk that takes nothing do not fill the memory."""
        self.patch(__import__("mta.hints").hints, "MARKED", 50)
        self.clock.eager = False
        hints = HintsFile(self.path, self.clock, self.log, {"": 10})
        for number in range(500):
            hints.put("kind", str(number), number, 1000.0)
        self.assertEqual((len(hints._marks), len(hints.keys("kind"))), (50, 10))
        self.clock.eager = True

    def test_killed(self) -> None:
        """A kill -9 in the middle of a write leaves the state before it, whole."""
        self.successResultOf(self.hints.stop())
        ended = subprocess.run([sys.executable, "-c", KILLED, str(self.path)], timeout=30, check=False)
        self.assertEqual(ended.returncode, -signal.SIGKILL)
        self.hints = self.opened()
        self.assertEqual({self.hints.get("k", str(number)) for number in range(500)}, {0})
        self.assertEqual(self.log, [])


class ThreadTests(TestCase):
    """With real threads."""

    timeout = 20

    async def test_round(self) -> None:
        """Start, put, stop, start: it is there; the stop waits for a write that is under way."""
        path, log = Path(self.mktemp()) / "hints.db", Events()
        first = HintsFile(path, reactor, log)
        first.DELAY = 0.0
        await first.start()
        expires = reactor.seconds() + 100
        first.put("kind", "a", 1, expires)
        tick: Deferred[None] = Deferred()
        reactor.callLater(0, tick.callback, None)
        await tick
        first.put("kind", "b", 2, expires)
        await first.stop()
        second = HintsFile(path, reactor, log)
        await second.start()
        self.assertEqual((second.get("kind", "a"), second.get("kind", "b")), (1, 2))
        await second.stop()
        self.assertEqual(log, [])
