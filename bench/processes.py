"""What a server and all its processes have used, read from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


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


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent ...; utime to cstime are 11 to 14.  Empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
