"""What a server and all its processes have used, read from /proc (Linux)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Peak", "cpu_seconds", "forget_peak", "memory", "resident", "settled", "tree", "watching"]

TICKS = os.sysconf("SC_CLK_TCK")
LOOK = 0.1  # seconds between two looks at the memory


def tree(root: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(int(stat.parent.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree, with that of the children it has waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in tree(root) if (fields := _fields(pid))) / TICKS


def memory(pid: int, key: str) -> int:
    """A figure of /proc/PID/status in KiB: VmRSS is what it has now, VmHWM the most it ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise ValueError(f"no {key} in the status of process {pid}")


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew from what the process has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident(root: int) -> int:
    """Of a process tree in KiB; what several processes share is counted once (Pss, proc(5) smaps_rollup)."""
    return sum(_pss(pid) for pid in tree(root))


def settled(root: int) -> int:
    """Memory of a process tree in KiB, once it has stopped changing."""
    before = -1
    while before != (now := resident(root)):
        before = now
        time.sleep(0.5)
    return now


class Peak:
    """The most memory that a process tree was seen to have, in KiB."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen = 0
        forget_peak(root)

    def look(self) -> None:
        """Now."""
        self._seen = max(self._seen, resident(self._root))

    @property
    def most(self) -> int:
        """What was seen, or what the first process had between two looks, if that is more."""
        return max(self._seen, memory(self._root, "VmHWM"))


@contextmanager
def watching(root: int) -> Iterator[Peak]:
    """Look again and again while the block runs."""
    peak, over = Peak(root), threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            peak.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _pss(pid: int) -> int:
    """0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent ...; utime to cstime are 11 to 14.  Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
