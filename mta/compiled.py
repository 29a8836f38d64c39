"""Which build of `mta` runs: plain Python, or the hot path compiled (build_compiled.py, docs/performance.md).

Both are the same sources and do the same; who reports a bug should say which one it was seen with.
"""

from __future__ import annotations

from mta import __version__
from mta.smtp import server

__all__ = ["is_compiled", "version"]


def is_compiled() -> bool:
    """Is the hot path a C extension here?"""
    return not server.__file__.endswith(".py")


def version() -> str:
    """For people."""
    return f"{__version__} (compiled)" if is_compiled() else __version__
