"""What a benchmark has shown: a table on the terminal; with a folder given also a JSON file and a picture (PNG).

Each report carries its settings, the commit it was taken from and how long an fdatasync takes where the data lay, for a
figure without these says nothing.  Pictures need matplotlib (`pip install -e '.[dev]'`); it is loaded only to draw one,
and draws without a display.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import time
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import quantiles

import attrs

__all__ = ["Cell", "Chart", "Report", "commit", "draw", "fdatasync", "lines_of", "percentile", "text"]

ROOT = Path(__file__).resolve().parent.parent
SYNCS = 50
Cell = str | int | float


@attrs.frozen
class Chart:
    """Bars: one group for each label, in each group one bar of every series, none for nan.  log: a logarithmic scale."""

    unit: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    log: bool = False


@attrs.define
class Report:
    """name: of the benchmark, also of its files.  notes: lines under the table."""

    name: str
    title: str
    settings: Mapping[str, object]
    columns: Sequence[str]
    rows: list[list[Cell]] = attrs.Factory(list)
    notes: list[str] = attrs.Factory(list)
    chart: Chart | None = None

    def show(self) -> None:
        """Print it."""
        print(f"\n{self.name}: {self.title}")
        print(", ".join(f"{name} {value}" for name, value in self.settings.items()))
        for line in self.table():
            print(line)
        for note in self.notes:
            print(note)

    def table(self) -> list[str]:
        """A table that is also one in Markdown."""
        return lines_of(self.columns, self.rows)

    def save(self, directory: Path) -> None:
        """NAME.json and, where there is something to draw, NAME.png."""
        directory.mkdir(parents=True, exist_ok=True)
        told = {name: value for name, value in attrs.asdict(self).items() if name != "chart"}
        (directory / f"{self.name}.json").write_text(json.dumps(told, indent=1, default=str) + "\n")
        if self.chart is not None:
            draw(self.title, self.chart, directory / f"{self.name}.png")


def lines_of(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A table in Markdown."""
    cells = [list(columns), *([text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def text(cell: Cell) -> str:
    """A figure with as many digits as say something."""
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else cell
    if cell == 0 or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.3g}"


def draw(title: str, chart: Chart, path: Path) -> None:
    """The picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    width = 0.8 / max(len(chart.series), 1)
    for number, (name, values) in enumerate(chart.series.items()):
        bars = axes.bar([place + number * width for place in range(len(values))], values, width, label=name)
        axes.bar_label(bars, labels=["" if isnan(value) else text(float(value)) for value in values], fontsize=7)
    labels = ["\n".join(textwrap.wrap(label, 20)) for label in chart.labels]
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(labels))], labels, fontsize=8)
    axes.set_ylabel(chart.unit)
    axes.set_title(title, fontsize=10)
    if chart.log:
        axes.set_yscale("log")
    if len(chart.series) > 1:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def commit() -> str:
    """Of this checkout, with a + when files differ from it; "unknown" where there is none."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def fdatasync(directory: Path) -> str:
    """How long an fdatasync of a block takes there: median and 95 % of fifty, in words."""
    path = directory / "fdatasync"
    seconds = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    path.unlink()
    return f"p50 {percentile(seconds, 50) * 1000:.2f} ms, p95 {percentile(seconds, 95) * 1000:.2f} ms"


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie; nan where there are none."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]
