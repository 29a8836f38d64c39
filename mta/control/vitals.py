"""What the system knows of our process, under the names that Prometheus' own libraries use for it.

Read from /proc (proc(5)) when somebody asks; what cannot be read there is left out.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from zope.interface import implementer

from mta.envelope import Measure
from mta.interfaces import IMeasured

__all__ = ["Vitals"]

PROC: Final = Path("/proc/self")


@implementer(IMeasured)
class Vitals:
    """Of the process that asks."""

    def measures(self) -> Iterator[Measure]:
        """See IMeasured."""
        times = os.times()
        yield "process_cpu_seconds_total", (), times.user + times.system
        with suppress(OSError, ValueError, IndexError):
            pages = int((PROC / "statm").read_bytes().split()[1])
            yield "process_resident_memory_bytes", (), pages * os.sysconf("SC_PAGE_SIZE")
        with suppress(OSError):
            yield "process_open_fds", (), len(list((PROC / "fd").iterdir())) - 1  # but for the one that lists them
        yield "process_max_fds", (), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
