"""The event log: one line for each thing that happened to mail, for grep and for programs.

Text: `QUEUEID: event=NAME time=2026-11-22T03:52:29.123Z key=value ...`, "-" where no message is meant.  A value with
blanks, quotes, control or other unprintable characters stands in double quotes with backslash escapes, so
nothing that a peer says can end a line or begin a key.  None leaves its key out, "" is written `key=""`.  JSON: one object
a line with the same keys (queue_id, event, time, ...).  `mta/testing/logs.py` reads the text form back.

Lines are gathered for 20 ms and written together: a file that grows waits for the file system's journal while the queue
commits beside it (measured: 0.2 ms for each write).  Writing never raises and never waits: what a full
disk or a reader that has stalled does not take is kept and tried again; beyond 16 MiB lines are dropped, counted, and
`log_lost` says how many.  A kill -9 loses what was gathered: the log is a report, the queue is the truth.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from mta.config.settings import Log
from mta.envelope import Measure
from mta.interfaces import IEventLog, IMeasured

__all__ = ["GATHER", "EventLog", "Keys", "format_json", "format_text", "quoted"]

STDOUT = 1
GATHER = 0.02  # seconds from the first line to the write

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
_NO_WORD = re.compile(r"[^A-Za-z0-9_.-]")
_OWN = frozenset({"event", "time", "queue_id"})  # a field of that name gets a "_" behind it
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_encode = json.JSONEncoder(check_circular=False).encode

_KEEP = 16 << 20  # characters kept while they cannot be written
_CHUNK = 4096  # poll() promises room for this much in a pipe
_FULL = 0.01  # seconds until a reader that has stalled is asked again
_FAILED = 1.0  # seconds until a failed write is tried again
_LAST_WAIT = 1000  # milliseconds that a stalled reader gets at the end


def quoted(text: str) -> str:
    """A value that may not stand alone: in double quotes, with backslash escapes."""
    if text.isprintable():
        shown = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{shown}"'
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign.isprintable():
        return sign
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown(text: str) -> str:
    """A value: as it is when printable and one word, else quoted."""
    plain = text and text.isprintable() and " " not in text and '"' not in text
    return text if plain else quoted(text)


class Keys(dict[str, str]):
    """The written form of every key seen, `key=`.  Keys are words of the code, so there are few; they are made safe once."""

    def __missing__(self, name: str) -> str:
        key = f"{_key(name)}="
        if len(self) < 1000:
            self[name] = key
        return key


def _key(name: str) -> str:
    """A key that can be mistaken neither for one of ours nor for anything else."""
    if name in _OWN:
        return f"{name}_"
    return name if _WORD(name) else f"_{_NO_WORD.sub('_', name)}"


def format_text(name: str, queue_id: str, time: str, fields: Mapping[str, object], keys: Keys) -> str:
    """One line, without its end."""
    parts = [f"{_identity(queue_id)} event={name if name.isidentifier() else _key(name)} time={time}"]
    append = parts.append
    for key, value in fields.items():
        if type(value) is str:  # _shown(), written out: this is the hot path
            if not value.isprintable() or " " in value or '"' in value or not value:
                value = quoted(value)
        elif type(value) is float:
            value = f"{value:.3f}"  # seconds and ratios: nobody needs more
        elif value is None:
            continue
        elif type(value) is bool:
            value = "true" if value else "false"
        elif type(value) is not int:
            value = _shown(str(value))
        append(f"{keys[key]}{value}")
    return " ".join(parts)


def _identity(queue_id: str) -> str:
    if queue_id.isalnum() and queue_id.isascii():
        return f"{queue_id}:"
    return f"{quoted(queue_id)}:" if queue_id else "-:"


def format_json(name: str, queue_id: str, time: str, fields: Mapping[str, object], keys: Keys) -> str:
    """One object on one line of ASCII, without its end.  Numbers and booleans stay what they are."""
    record: dict[str, object] = {"queue_id": queue_id or "-", "event": name, "time": time}
    for key, value in fields.items():
        if type(value) is float:
            value = round(value, 3) if math.isfinite(value) else str(value)  # JSON knows no infinity
        elif value is None:
            continue
        elif type(value) is not str and not isinstance(value, int):
            value = str(value)
        record[keys[key][:-1]] = value
    return _encode(record)


@implementer(IEventLog, IMeasured)
class EventLog:
    """The log of one MTA, on standard output ("-") or in a file that is appended to.

    now: seconds since the epoch.  worker: its number, for lines that are about no message.  errors: writes that failed;
    lost: lines that were dropped.  Between `close` and `open` events are counted as lost.
    """

    def __init__(self, settings: Log, reactor: IReactorTime, now: Callable[[], float], worker: int | None = None) -> None:
        self.errors = 0
        self.lost = 0
        self._told = 0  # lost lines that the log itself has reported
        self._file = settings.file
        self._format = format_json if settings.format == "json" else format_text
        self._reactor = reactor
        self._now = now
        self._keys = Keys()
        self._worker = worker
        self._stamped = -1
        self._stamp = ""
        self._lines: list[str] = []  # not written yet
        self._chunks: deque[memoryview] = deque()  # encoded, waiting to be written
        self._kept = 0  # bytes in the chunks
        self._torn = False  # the last byte written is not the end of a line
        self._pending: IDelayedCall | None = None
        self._output: _Output | None = None

    def open(self) -> None:
        """Begin to write.  Raises OSError when the file cannot be opened."""
        self._output = _Output(self._file)

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        yield "mta_log_lost_lines_total", (), self.lost
        yield "mta_log_errors_total", (), self.errors

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""
        if self._output is None or self._kept > _KEEP:
            self.lost += 1
            return
        if self._worker is not None and not queue_id:
            fields = {**fields, "worker": self._worker}
        self._lines.append(self._format(name, queue_id, self._time(), fields, self._keys))
        if self._pending is None:
            self._pending = self._reactor.callLater(GATHER, self._flush)

    def reopen(self) -> None:
        """The file was renamed (SIGHUP): go on in a new one of that name.  When that fails the old one is kept."""
        if self._output is None or self._file == "-":
            return
        self._collect()
        self._write(0)
        try:
            output = _Output(self._file)
        except OSError as error:
            self.errors += 1
            self.event("log_error", "", {"file": self._file, "reason": error.strerror})
            return
        self._output.close()
        self._output = output
        if self._torn and self._chunks:
            self._drop_rest_of_line()

    def close(self) -> None:
        """Write what there is, as far as it is taken within a second, and end."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._output is None:
            return
        self._collect()
        self._write(_LAST_WAIT)
        self.lost += sum(bytes(chunk).count(b"\n") for chunk in self._chunks)
        self._chunks.clear()
        self._kept = 0
        self._output.close()
        self._output = None

    def _time(self) -> str:
        """The time in RFC 3339; the calendar is asked once in a second."""
        second, millisecond = divmod(int(self._now() * 1000), 1000)
        if second != self._stamped:
            self._stamped = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._stamp}{millisecond:03d}Z"

    def _flush(self) -> None:
        """Write; come back when not everything was taken."""
        self._pending = None
        self._collect()
        delay = self._write(0)
        if delay is not None:
            self._pending = self._reactor.callLater(delay, self._flush)
        elif self.lost > self._told:
            lines, self._told = self.lost - self._told, self.lost
            self.event("log_lost", "", {"lines": lines})

    def _collect(self) -> None:
        if self._lines:
            self._lines.append("")  # so that the last line ends too
            data = "\n".join(self._lines).encode("utf-8", "backslashreplace")
            self._chunks.append(memoryview(data))
            self._kept += len(data)
            self._lines.clear()

    def _write(self, wait: int) -> float | None:
        """Write what is kept; seconds until another try makes sense, None when all is written."""
        output = self._output
        while self._chunks and output is not None:
            chunk = self._chunks[0]
            try:
                taken = output.write(chunk, wait)
            except OSError:
                self.errors += 1
                return _FAILED
            if not taken:
                return _FULL
            self._kept -= taken
            self._torn = chunk[taken - 1] != 0x0A
            if taken == len(chunk):
                self._chunks.popleft()
            else:
                self._chunks[0] = chunk[taken:]
        return None

    def _drop_rest_of_line(self) -> None:
        """Half of the line stands in the file before: the other half is of no use in the new one."""
        chunk = self._chunks[0]
        end = bytes(chunk).index(b"\n") + 1  # every chunk ends with a line
        self._chunks[0] = chunk[end:]
        if not self._chunks[0]:
            self._chunks.popleft()
        self._kept -= end
        self._torn = False
        self.lost += 1


class _Output:
    """An open file.  A regular one takes everything at once; a pipe, socket or terminal is asked before, never waited for."""

    def __init__(self, file: str) -> None:
        # O_NONBLOCK: a FIFO without a reader is an error now, not a stop of the whole service.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.dup(STDOUT) if file == "-" else os.open(file, flags, 0o640)
        self._poll: select.poll | None = None
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._end_torn_line(file)
        else:
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    def _end_torn_line(self, file: str) -> None:
        """A crash may have left half a line: the next one must not be glued to it."""
        size = os.fstat(self._fd).st_size
        if file != "-" and size:
            with suppress(OSError), open(file, "rb") as reader:
                reader.seek(size - 1)
                if reader.read(1) != b"\n":
                    os.write(self._fd, b"\n")

    def write(self, data: memoryview, wait: int) -> int:
        """Bytes taken, 0 when there is no room within `wait` milliseconds.  Raises OSError."""
        if self._poll is not None:
            if not self._poll.poll(wait):
                return 0
            data = _lines_of(data)
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close it, whatever that says."""
        with suppress(OSError):
            os.close(self._fd)


def _lines_of(data: memoryview) -> memoryview:
    """As much as a pipe takes at once: whole lines, for other workers write into the same one.  A longer line goes in pieces."""
    start = data[:_CHUNK]
    end = bytes(start).rfind(b"\n") + 1
    return start[: end or _CHUNK]
