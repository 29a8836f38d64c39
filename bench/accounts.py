"""The CPU time of a server, kept by the kernel: a control group for each (cgroup v2, cpu.stat), as root.

The times of /proc are not enough: a process whose parent ignores SIGCHLD takes its time with it, and Exim has many of these.
Where there is no cgroup v2 file system that we may write, the sum over /proc has to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.processes import tree

__all__ = ["opened", "seconds"]

MOUNTS = Path("/proc/self/mounts")


@contextmanager
def opened(name: str, root: int) -> Iterator[Path | None]:
    """A group of that name for all processes below one, and all that they begin; None where there cannot be one."""
    mounted = _mounted()
    if mounted is None:
        yield None
        return
    group = mounted / name
    try:
        group.mkdir()
        for pid in tree(root):
            with suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        _remove(group)


def seconds(group: Path) -> float:
    """User and system time so far."""
    return int((group / "cpu.stat").read_text().split()[1]) / 1e6  # usage_usec is the first


def _mounted() -> Path | None:
    """Where cgroup v2 is."""
    rows = (line.split() for line in MOUNTS.read_text().splitlines())
    return next((Path(row[1]) for row in rows if row[2] == "cgroup2"), None)


def _remove(group: Path) -> None:
    """The processes of a server that was stopped may take a moment to be gone."""
    for _ in range(50):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
