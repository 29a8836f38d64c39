"""What all benchmarks of the queue share: where they work, how large they are, and the head of their reports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.queue.rig import Rig
from bench.queue.stock import Backlog, fill
from bench.report import Report, commit, fdatasync

__all__ = ["Plan"]


@attrs.define
class Plan:
    """directory: of all data, on a real disk.  rows: the largest backlog.  quick: small sizes, to see that it works."""

    reactor: Any
    directory: Path
    rows: int
    quick: bool
    _numbers: itertools.count[int] = attrs.Factory(itertools.count)
    _rigs: list[Rig] = attrs.Factory(list)

    def size(self, full: int, quick: int) -> int:
        """Of anything that is not the backlog."""
        return quick if self.quick else full

    @property
    def backlogs(self) -> tuple[int, int, int]:
        """None, a tenth, all."""
        return 0, self.rows // 10, self.rows

    def folder(self, *stock: Backlog) -> Path:
        """A data directory of its own, with that in its queue."""
        (path := self.directory / f"data{next(self._numbers)}").mkdir(mode=0o755)
        if stock:
            seconds = fill(path, *stock)
            print(f"{sum(backlog.rows for backlog in stock):,} rows filled in, {seconds:.1f} s", flush=True)
        return path

    def rig(self, *stock: Backlog, completions: str = "strict") -> Rig:
        """A queue with that in it, in this process; it is stopped at the end, whatever happens."""
        rig = Rig(self.folder(*stock), self.reactor, completions=completions)
        self._rigs.append(rig)
        return rig

    async def close(self) -> None:
        """Stop what still runs: its threads would keep the process."""
        for rig in self._rigs:
            await rig.stop()

    def report(self, name: str, title: str, columns: Sequence[str], **settings: object) -> Report:
        """With what every report says of itself."""
        quick = {"quick": "yes"} if self.quick else {}
        told = {"rows": f"{self.rows:,}", **settings, **quick, "commit": commit(), "fdatasync": fdatasync(self.directory)}
        return Report(name, title, told, columns)
