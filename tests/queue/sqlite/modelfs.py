"""A model of a file system at power loss, for the files of large bodies: what was called, and what a cut may leave of it.

`Recorder` stands in front of `os` and writes down, for one folder, every write, sync, link, unlink and new folder, in the
order in which they returned.  `crash_trees` builds the trees that a cut may leave at moments of that: what a file or a
folder was told since its last sync may be there, or not, or in part, whatever became of others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any
from unittest.mock import patch

Entry = tuple[Any, ...]  # (kind, node, ...); entries of the test have the node None
ROOT = "/"  # the node of the folder
CALLS = ("open", "close", "write", "fsync", "link", "unlink", "mkdir")


class Recorder:
    """log: the entries.  Nodes are numbers for files, paths for folders.  Use as a context."""

    def __init__(self, folder: Path) -> None:
        self.log: list[Entry] = []
        self._folder = str(folder.absolute())
        self._lock = Lock()
        self._nodes: dict[int, Any] = {}  # of descriptors
        self._files: dict[str, int] = {}  # of paths
        self._made = 0
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}
        self._patches = [patch.object(os, name, getattr(self, name)) for name in CALLS]

    def __enter__(self) -> Recorder:
        for one in self._patches:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._patches:
            one.stop()

    def note(self, kind: str, *facts: Any) -> None:
        """An entry of the test."""
        self._log(kind, None, *facts)

    def _log(self, *entry: Any) -> None:
        with self._lock:
            self.log.append(entry)

    def _within(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path in the folder; None when it is elsewhere."""
        if dir_fd is not None:
            folder = self._nodes.get(dir_fd)
            return None if folder is None else os.path.join(folder, path)
        path = os.path.abspath(os.fspath(path))
        if path == self._folder:
            return ROOT
        return path[len(self._folder) :] if path.startswith(f"{self._folder}/") else None

    def _named(self, path: str, node: Any) -> None:
        self._files[path] = node
        self._log("name", os.path.dirname(path), os.path.basename(path), node)

    # -- in the place of os

    def open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        descriptor: int = self._real["open"](path, flags, *more, **named)
        within = self._within(path) if not named else None
        if within is not None:
            with self._lock:
                self._made += 1
                made = self._made
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                self._nodes[descriptor] = made
            elif flags & os.O_CREAT:
                self._nodes[descriptor] = made
                self._named(within, made)
            else:
                self._nodes[descriptor] = within if flags & os.O_DIRECTORY else self._files.get(within)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._nodes.pop(descriptor, None)
        self._real["close"](descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        count: int = self._real["write"](descriptor, data)
        if descriptor in self._nodes:
            self._log("write", self._nodes[descriptor], count)
        return count

    def fsync(self, descriptor: int) -> None:
        self._real["fsync"](descriptor)
        if descriptor in self._nodes:
            self._log("sync", self._nodes[descriptor])

    def link(self, source: Any, target: Any, **named: Any) -> None:
        self._real["link"](source, target, **named)
        within = self._within(target, named.get("dst_dir_fd"))
        if within is not None:
            opened = str(source).rpartition("/proc/self/fd/")[2]
            node = self._nodes[int(opened)] if opened.isdecimal() else self._files[self._within(source) or ""]
            self._named(within, node)

    def unlink(self, path: Any, **named: Any) -> None:
        self._real["unlink"](path, **named)
        within = self._within(path, named.get("dir_fd"))
        if within is not None:
            self._log("gone", os.path.dirname(within), os.path.basename(within))

    def mkdir(self, path: Any, *more: Any, **named: Any) -> None:
        self._real["mkdir"](path, *more, **named)
        within = self._within(path)
        if within not in (None, ROOT):
            self._log("name", os.path.dirname(within), os.path.basename(within), within)


class Disk:
    """What is certainly there, and what each node has been told since its last sync."""

    def __init__(self) -> None:
        self.durable: dict[Any, list[Entry]] = {}
        self.pending: dict[Any, list[Entry]] = {}

    def happen(self, entry: Entry) -> None:
        """One more entry."""
        kind, node, *_ = entry
        if kind == "sync":
            self.durable.setdefault(node, []).extend(self.pending.pop(node, ()))
        elif node is not None:
            self.pending.setdefault(node, []).append(entry)

    def tree(self, mode: str, random: Random) -> dict[str, int]:
        """The sizes of the files that can be reached after a cut, by their paths."""
        kept = {node: list(entries) for node, entries in self.durable.items()}
        for node, entries in self.pending.items():
            count = {"nothing": 0, "prefix": random.randint(0, len(entries))}.get(mode, len(entries))
            some = [entry for entry in entries[:count] if mode != "some" or random.random() < 0.5]
            kept.setdefault(node, []).extend(some)
        return dict(walk(kept, ROOT))


def walk(kept: dict[Any, list[Entry]], folder: str) -> Iterator[tuple[str, int]]:
    """The files of a folder and of those in it, with their sizes."""
    names: dict[str, Any] = {}
    for kind, _, name, *node in kept.get(folder, ()):
        if kind == "name":
            names[name] = node[0]
        else:
            names.pop(name, None)
    for name, node in names.items():
        if isinstance(node, str):
            yield from walk(kept, node)
        else:
            yield os.path.join(folder, name), sum(count for _, _, count in kept.get(node, ()))


def crash_trees(log: list[Entry], random: Random) -> Iterator[tuple[int, dict[str, int]]]:
    """(entries that had happened, files), for every moment and each way in which a cut may fall."""
    disk = Disk()
    for moment, entry in enumerate(log, 1):
        disk.happen(entry)
        for mode in ("nothing", "all", "prefix", "some"):
            yield moment, disk.tree(mode, random)
