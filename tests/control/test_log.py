"""The event log: its form, that nothing a peer says can forge a line, and what it does when it cannot write."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.config.settings import Log
from mta.control import log as module
from mta.control.log import GATHER, EventLog, Keys, format_json, format_text
from mta.interfaces import IEventLog
from mta.testing.logs import parse_line

TIME = "2026-11-22T03:52:29.123Z"
NOW = 1795319549.1234


def text_of(name: str, queue_id: str, fields: Mapping[str, object]) -> str:
    return format_text(name, queue_id, TIME, fields, Keys())


def json_of(fields: Mapping[str, object]) -> dict[str, object]:
    return json.loads(format_json("connect", "", TIME, fields, Keys()))


class TextTests(SynchronousTestCase):
    """`format_text`."""

    def test_form(self) -> None:
        """As face.md has it."""
        fields = {"to": "<a@b.org>", "delay": 0.1234567, "conn_use": 3, "verified": True, "reply": "250 2.0.0 Ok"}
        self.assertEqual(
            f'3QA9: event=delivered time={TIME} to=<a@b.org> delay=0.123 conn_use=3 verified=true reply="250 2.0.0 Ok"',
            text_of("delivered", "3QA9", fields),
        )
        self.assertEqual(f"-: event=stopped time={TIME}", text_of("stopped", "", {}))

    def test_nothing_and_empty(self) -> None:
        """None leaves its key out, "" is seen."""
        self.assertEqual(f'-: event=e time={TIME} b=""', text_of("e", "", {"a": None, "b": ""}))

    def test_quoting(self) -> None:
        """Only where it must be; characters that move or hide text are escaped, letters of any script are not."""
        for value, shown in (
            ("a=b:c\\d'<>", "a=b:c\\d'<>"),
            ("bücher", "bücher"),
            ("a b", '"a b"'),
            ('"q"@x', '"\\"q\\"@x"'),
            ("a\\ b", '"a\\\\ b"'),
            ("a\r\n3QA9: event=x", '"a\\r\\n3QA9: event=x"'),
            ("\0\x1b[2J\x7f", '"\\x00\\x1b[2J\\x7f"'),
            ("\u2028\u202e\u00a0\u0085", '"\\u2028\\u202e\\xa0\\x85"'),
            ("\udc80\U000e0001", '"\\udc80\\U000e0001"'),
        ):
            self.assertEqual(f"-: event=e time={TIME} v={shown}", text_of("e", "", {"v": value}))

    def test_other_values(self) -> None:
        """What is neither text nor number is shown as text, quoted where it must be."""
        fields = {"a": ("x", 1), "b": math.inf, "c": math.nan, "d": b"x y", "e": -0.0004}
        line = text_of("e", "", fields)
        self.assertEqual(f"""-: event=e time={TIME} a="('x', 1)" b=inf c=nan d="b'x y'" e=-0.000""", line)

    def test_keys_cannot_lie(self) -> None:
        """A key of our own or with a sign that means something is changed."""
        fields = {"event": 1, "time": 2, "queue_id": 3, "a b": 4, 'x="': 5, "": 6}
        self.assertEqual(f"-: event=e time={TIME} event_=1 time_=2 queue_id_=3 _a_b=4 _x__=5 _=6", text_of("e", "", fields))
        self.assertEqual(f"-: event=_a_b time={TIME}", text_of("a b", "", {}))
        self.assertEqual(f'"a: b": event=e time={TIME}', text_of("e", "a: b", {}))

    @settings(deadline=None, max_examples=200)
    @given(
        st.text(),
        st.dictionaries(
            st.text(alphabet="abc_", min_size=1).filter(str.isidentifier),
            st.text()
            | st.text(alphabet=st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp"]))
            | st.integers()
            | st.none(),
        ),
    )
    def test_reads_back(self, queue_id: str, fields: dict[str, object]) -> None:
        """parse(format(x)) == x for any text, on one line, in UTF-8."""
        line = text_of("delivered", queue_id, fields)
        self.assertEqual(1, len(line.encode("utf-8").decode("utf-8").splitlines()))
        entry = parse_line(line)
        self.assertEqual(("delivered", TIME), (entry.event, entry.time))
        self.assertEqual(queue_id, entry.queue_id)
        self.assertEqual({key: str(value) for key, value in fields.items() if value is not None}, entry.fields)


class JsonTests(SynchronousTestCase):
    """`format_json`."""

    def test_form(self) -> None:
        """The same keys; numbers stay numbers; no infinity, which JSON does not know."""
        fields = {"a": None, "b": "", "c": 0.12345, "d": True, "e": 3, "f": math.inf, "g": ("x",), "event": "no"}
        wanted = {"b": "", "c": 0.123, "d": True, "e": 3, "f": "inf", "g": "('x',)", "event_": "no"}
        self.assertEqual({"queue_id": "-", "event": "connect", "time": TIME, **wanted}, json_of(fields))

    @settings(deadline=None, max_examples=100)
    @given(st.text(alphabet=st.characters(categories=None)))
    def test_any_text(self, value: str) -> None:
        """On one line of ASCII, and back."""
        line = format_json("e", "", TIME, {"v": value}, Keys())
        self.assertTrue(line.isascii() and line.isprintable())
        self.assertEqual(value, json.loads(line)["v"])


class LogCase(SynchronousTestCase):
    """A log in a file, on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.file = Path(self.mktemp()).absolute()
        self.now = NOW

    def log(self, file: str = "", format: str = "text") -> EventLog:
        log = EventLog(Log(format, file or str(self.file)), self.clock, lambda: self.now)
        log.open()
        self.addCleanup(self.finish, log)
        return log

    def finish(self, log: EventLog) -> None:
        log.close()
        self.assertEqual([], self.clock.getDelayedCalls())

    def names(self, file: Path | None = None) -> list[str]:
        return [parse_line(line).event for line in (file or self.file).read_text().splitlines()]


class FileTests(LogCase):
    """Writing to a file."""

    def test_interface(self) -> None:
        """It is an IEventLog."""
        verifyObject(IEventLog, self.log())

    def test_once_a_turn(self) -> None:
        """Events are collected, one call is pending, one write brings them out."""
        log = self.log()
        with patch.object(os, "write", wraps=os.write) as write:
            for number in range(50):
                log.event("connect", "", {"n": number})
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
            self.assertEqual("", self.file.read_text())
            self.clock.advance(GATHER)
            self.assertEqual(1, write.call_count)
        self.assertEqual(50, len(self.names()))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_time(self) -> None:
        """RFC 3339 in UTC with milliseconds, of the moment of the event."""
        log = self.log()
        for now in (NOW, NOW, NOW + 1, 0.0):
            self.now = now
            log.event("connect", "", {})
        self.clock.advance(GATHER)
        times = [parse_line(line).time for line in self.file.read_text().splitlines()]
        wanted = ["2026-11-22T03:52:29.123Z", "2026-11-22T03:52:29.123Z", "2026-11-22T03:52:30.123Z", "1970-01-01T00:00:00.000Z"]
        self.assertEqual(wanted, times)

    def test_close_writes(self) -> None:
        """What was collected is not lost at the end; later events are counted."""
        log = self.log()
        log.event("stopped", "", {})
        log.close()
        log.close()
        log.event("late", "", {})
        self.assertEqual(["stopped"], self.names())
        self.assertEqual((1, []), (log.lost, self.clock.getDelayedCalls()))

    def test_nothing_before_open(self) -> None:
        """The constructor opens nothing; events before `open` are counted."""
        log = EventLog(Log("text", str(self.file)), self.clock, lambda: NOW)
        log.event("early", "", {})
        self.assertEqual((False, 1), (self.file.exists(), log.lost))
        self.assertEqual([("mta_log_lost_lines_total", (), 1), ("mta_log_errors_total", (), 0)], list(log.measures()))

    def test_open_fails(self) -> None:
        """The start is told."""
        with self.assertRaises(FileNotFoundError):
            EventLog(Log("text", str(self.file / "x")), self.clock, lambda: NOW).open()

    def test_appends_behind_a_torn_line(self) -> None:
        """What a crash left half is ended first."""
        self.file.write_text("-: event=old time=x\n-: event=ha")
        log = self.log()
        log.event("new", "", {})
        self.clock.advance(GATHER)
        lines = self.file.read_text().splitlines()
        self.assertEqual(["-: event=old time=x", "-: event=ha"], lines[:2])
        self.assertEqual("new", parse_line(lines[2]).event)

    def test_json(self) -> None:
        """By setting."""
        log = self.log(format="json")
        log.event("connect", "3Q", {"client": "[::1]"})
        self.clock.advance(GATHER)
        record = json.loads(self.file.read_text())
        self.assertEqual({"queue_id": "3Q", "event": "connect", "time": TIME, "client": "[::1]"}, record)

    def test_reopen(self) -> None:
        """After a rename: what came before goes to the old file, the rest to the new one."""
        log = self.log()
        log.event("before", "", {})
        old = self.file.rename(f"{self.file}.1")
        log.reopen()
        log.event("after", "", {})
        self.clock.advance(GATHER)
        self.assertEqual((["before"], ["after"]), (self.names(old), self.names()))

    def test_reopen_fails(self) -> None:
        """The old file is kept, and says so."""
        log = self.log()
        old = self.file.rename(f"{self.file}.1")
        self.file.mkdir()
        log.reopen()
        self.clock.advance(GATHER)
        entry = parse_line(old.read_text().strip())
        self.assertEqual(("log_error", {"file": str(self.file), "reason": "Is a directory"}), (entry.event, entry.fields))
        self.assertEqual(1, log.errors)


class TroubleTests(LogCase):
    """A disk that is full, a reader that has stalled or gone."""

    def test_disk_full(self) -> None:
        """Nothing is raised; it is tried again each second, and nothing is lost or torn."""
        log = self.log()
        with patch.object(os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            log.event("one", "", {})
            self.clock.advance(GATHER)
            log.event("two", "", {})
            self.clock.advance(1)
            log.event("three", "", {})
            self.assertEqual((2, 1), (log.errors, len(self.clock.getDelayedCalls())))
        self.clock.advance(1)
        self.assertEqual((["one", "two", "three"], 0), (self.names(), log.lost))

    def test_half_a_line(self) -> None:
        """A write that takes a part is continued where it stopped."""
        log, write = self.log(), os.write
        with patch.object(os, "write", side_effect=lambda fd, data: write(fd, data[:7])):
            for name in ("one", "two"):
                log.event(name, "", {})
            self.clock.advance(GATHER)
        self.assertEqual(["one", "two"], self.names())

    def test_half_a_line_and_a_new_file(self) -> None:
        """The other half is of no use in the new file."""
        log, write, left = self.log(), os.write, [9]

        def some(fd: int, data: bytes) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= (taken := write(fd, data[: left[0]]))
            return taken

        for name in ("one", "two"):
            log.event(name, "", {})
        with patch.object(os, "write", side_effect=some):
            self.clock.advance(GATHER)
            self.file.rename(f"{self.file}.1")
            log.reopen()
        self.clock.advance(1)
        self.clock.advance(GATHER)
        self.assertEqual((["two", "log_lost"], 1), (self.names(), log.lost))

    def test_bounded(self) -> None:
        """What cannot be written is kept up to a bound; then lines are counted, and the log says how many."""
        self.patch(module, "_KEEP", 1000)
        log = self.log()
        with patch.object(os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            for number in range(100):
                log.event("connect", "", {"n": number})
                self.clock.advance(1)
        self.clock.advance(1)
        self.clock.advance(GATHER)
        entries = [parse_line(line) for line in self.file.read_text().splitlines()]
        kept = [int(entry.fields["n"]) for entry in entries[:-1]]
        self.assertEqual(list(range(len(kept))), kept)
        self.assertEqual(("log_lost", {"lines": str(100 - len(kept))}), (entries[-1].event, entries[-1].fields))
        self.assertEqual(100 - len(kept), log.lost)

    def test_a_stalled_reader_stalls_nobody(self) -> None:
        """A pipe that is full is never waited for, and gets the rest when its reader reads on."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.patch(module, "STDOUT", writer)
        log = self.log("-")
        os.close(writer)
        for number in range(3000):
            log.event("connect", "", {"n": number, "text": "x" * 50})
        self.clock.advance(GATHER)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        data = b""
        while self.clock.getDelayedCalls():
            data += os.read(reader, 1 << 16)
            self.clock.advance(0.01)
        data += os.read(reader, 1 << 16)
        self.assertEqual([str(n) for n in range(3000)], [parse_line(line).fields["n"] for line in data.decode().splitlines()])
        self.assertEqual((0, 0), (log.lost, log.errors))

    def test_whole_lines_into_a_pipe(self) -> None:
        """Workers share one: each write ends with a line, where a line is not longer than a pipe takes at once."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.patch(module, "STDOUT", writer)
        written: list[bytes] = []
        write = os.write
        self.patch(os, "write", lambda fd, data: (written.append(bytes(data)), write(fd, data))[1])
        log = self.log("-")
        os.close(writer)
        for number in range(200):
            log.event("connect", "", {"n": number, "text": "x" * 50})
        log.event("connect", "", {"text": "y" * 9000})
        self.clock.advance(GATHER)
        log.close()
        self.assertTrue(len(written) > 3)
        self.assertEqual([], [data for data in written[:-3] if not data.endswith(b"\n") or len(data) > 4096])
        self.assertEqual(201, os.read(reader, 1 << 16).count(b"\n"))

    def test_worker(self) -> None:
        """Its number stands where no message is meant; a message's line has its id, and needs none."""
        log = EventLog(Log("text", str(self.file)), self.clock, lambda: NOW, 3)
        log.open()
        log.event("connect", "", {"n": 1})
        log.event("queued", "3QA9", {"n": 2})
        log.close()
        self.assertEqual(["3", None], [parse_line(line).fields.get("worker") for line in self.file.read_text().splitlines()])

    def test_a_reader_that_has_gone(self) -> None:
        """EPIPE is counted, and the end of the service is not held up."""
        reader, writer = os.pipe()
        self.patch(module, "STDOUT", writer)
        log = self.log("-")
        os.close(writer)
        os.close(reader)
        log.event("connect", "", {})
        self.clock.advance(GATHER)
        log.close()
        self.assertEqual((2, 1), (log.errors, log.lost))

    def test_a_fifo_without_reader(self) -> None:
        """The start fails at once instead of waiting for a reader."""
        os.mkfifo(self.file)
        with self.assertRaises(OSError) as caught:
            EventLog(Log("text", str(self.file)), self.clock, lambda: NOW).open()
        self.assertEqual(errno.ENXIO, caught.exception.errno)
