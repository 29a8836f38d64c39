"""Power loss, simulated: a layer under SQLite that writes down what reaches the disk, and the disks that a cut may leave.

Between two syncs of a file the hardware may have written nothing of what was handed to it, all of it, the first part, or
any of its 512-byte sectors.  `crash_states` builds such disks for moments of a recorded run; opening one is what the next
start would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512


class RecordingVFS(apsw.VFS):
    """log: (kind, file, ...) in the order in which it happened; the test adds entries of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.log: list[tuple[Any, ...]] = []

    def xOpen(self, name, flags):
        return RecordingFile(self.log, name, flags)

    def xDelete(self, name, syncdir):
        self.log.append(("delete", Path(name).name))
        super().xDelete(name, syncdir)


class RecordingFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, log: list[tuple[Any, ...]], name, flags) -> None:
        super().__init__("", name, flags)
        self._log = log
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self._log.append(("write", self._name, offset, bytes(data)))

    def xTruncate(self, size):
        super().xTruncate(size)
        self._log.append(("truncate", self._name, size))

    def xSync(self, flags):
        super().xSync(flags)
        self._log.append(("sync", self._name))


class Disk:
    """What is certainly on the disk, and what has been handed to it since the last sync of each file."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[Any, ...]]] = {}

    def happen(self, entry: tuple[Any, ...]) -> None:
        """One more entry of the log."""
        kind, name, *rest = entry
        if kind in ("write", "truncate"):
            self.pending.setdefault(name, []).append((kind, *rest))
        elif kind == "sync":
            for change in self.pending.pop(name, ()):
                apply(self.durable.setdefault(name, bytearray()), change)
        elif kind == "delete":
            self.durable.pop(name, None)
            self.pending.pop(name, None)

    def state(self, mode: str, random: Random) -> dict[str, bytes]:
        """The files after a cut: with nothing, all, a prefix, or any sectors of what is pending."""
        files = {name: bytearray(content) for name, content in self.durable.items()}
        for name, changes in self.pending.items():
            content = files.setdefault(name, bytearray())
            count = {"nothing": 0, "prefix": random.randint(0, len(changes))}.get(mode, len(changes))
            for change in changes[:count]:
                for part in sectors(change) if mode == "sectors" else [change]:
                    if mode != "sectors" or random.random() < 0.5:
                        apply(content, part)
        return {name: bytes(content) for name, content in files.items()}


def apply(content: bytearray, change: tuple[Any, ...]) -> None:
    """Write or truncate; a hole is filled with zeros."""
    if change[0] == "truncate":
        del content[change[1] :]
        return
    _, offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def sectors(change: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """A write in the units that the hardware writes."""
    if change[0] == "truncate":
        yield change
        return
    _, offset, data = change
    start = 0
    while start < len(data):
        end = min(start + SECTOR - (offset + start) % SECTOR, len(data))
        yield "write", offset + start, data[start:end]
        start = end


def crash_states(
    log: list[tuple[Any, ...]], count: int, random: Random, end: bool = False
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """(entries that had happened, files) for so many moments, in the order of time; end: and for a cut now, nothing kept."""
    disk = Disk()
    modes = ("nothing", "all", "prefix", "sectors", "sectors")
    moments = sorted(random.choices(range(1, len(log) + 1), k=count))
    happened = 0
    for moment in moments:
        while happened < moment:
            disk.happen(log[happened])
            happened += 1
        yield moment, disk.state(random.choice(modes), random)
    if end:
        for entry in log[happened:]:
            disk.happen(entry)
        yield len(log), disk.state("nothing", random)
