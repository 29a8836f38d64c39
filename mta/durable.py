"""Files and names that outlast a power cut.

A file that was synced is of no use when its name is not: creating, linking and renaming change the folder, and only the sync of
that folder makes them durable (fsync(2)).  OSError when the disk fails.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_directory", "sync_file"]


def sync_directory(directory: Path) -> None:
    """Make the names in a folder durable."""
    _sync(directory, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make what is in a file durable."""
    _sync(path)


def _sync(path: Path, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
