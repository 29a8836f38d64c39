"""Where the files of a queue are: each node (a worker, docs/queue.md) has its own in the one data directory.

    node 0    queue/0.db    spool/          also that of a server that is alone
    node 1    queue/1.db    spool.1/        and so on

A spool of its own means that whatever lies in it is that node's, also what it has adopted from a node that is no more.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["nodes_in", "queue_file", "spool_folder"]


def queue_file(data_dir: Path, node: int = 0) -> Path:
    """The rows; lock and log stand beside it."""
    return data_dir / "queue" / f"{node}.db"


def spool_folder(data_dir: Path, node: int = 0) -> Path:
    """The large bodies."""
    return data_dir / (f"spool.{node}" if node else "spool")


def nodes_in(data_dir: Path) -> list[int]:
    """The numbers of all nodes that have a queue file there, in order; [] where there is none.  OSError."""
    names = (path.stem for path in (data_dir / "queue").glob("*.db"))
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))
