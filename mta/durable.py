"""Names that outlast a power cut.

A file that was synced is of no use when its name is not: creating, linking and renaming change the folder, and only the sync of
that folder makes them durable (fsync(2)).  OSError when the disk fails.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync_directory"]


def sync_directory(directory: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
