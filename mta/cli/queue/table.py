"""Recipients and destinations as tables for people: facts in, text out (pure).

Facts are those of `control/queue_facts.py`.  Times are told from `now` (ms since the epoch): `3h`, `in 4m`.
With a width long texts are cut to fit the terminal, without one nothing is cut but replies, so that grep finds what it looks
for.  What strangers wrote (addresses, replies) is printed without its control characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mta.control.queue_facts import Facts

__all__ = ["age", "cells", "plain", "rows_table", "size", "summary_table", "text_of"]

WIDE = 100_000  # columns of what is no terminal
REPLY = 60  # characters of a reply in a table
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
COLUMNS = ("id", "age", "size", "from", "to", "destination", "state", "next try", "tries", "last reply")
CUT = ("from", "to", "destination", "last reply")  # where the terminal is narrow
STYLES = {"waiting": "", "taken": "green", "held": "yellow"}
MARKS = {"new": "green", "changed": "cyan", "gone": "dim"}
AGES = ("<5m", "<1h", "<1d", "older")


def plain(text: str) -> str:
    """Without what could move a terminal's cursor."""
    return "".join([char if char.isprintable() else "?" for char in text])


def age(ms: int) -> str:
    """A span of time by its largest unit: 45s, 12m, 5h, 3d."""
    return next((f"{ms // unit}{letter}" for letter, unit in UNITS if ms >= unit), "0s")


def size(count: int) -> str:
    """Bytes as people say them: 900 B, 12 KiB, 3.4 MiB."""
    if count < 1 << 10:
        return f"{count} B"
    if count < 1 << 20:
        return f"{count / (1 << 10):.0f} KiB"
    return f"{count / (1 << 20):.1f} MiB"


def cells(row: Facts, now: int) -> list[str]:
    """What a recipient's row says, in the order of COLUMNS."""
    reply = plain(row["last_reply"] or "")
    return [
        row["id"],
        age(now - row["created"]),
        size(row["size"]),
        plain(row["from"]) or "<>",
        plain(row["to"]),
        plain(row["dest"]),
        row["state"],
        _next_try(row, now),
        str(row["attempts"]),
        reply if len(reply) <= REPLY else reply[: REPLY - 1] + "…",
    ]


def _next_try(row: Facts, now: int) -> str:
    if row["state"] != "waiting":
        return "now" if row["state"] == "taken" else "-"
    return f"in {age(row['due'] - now)}" if row["due"] > now else "due"


def rows_table(rows: Sequence[Facts], now: int, marks: Sequence[str] = ()) -> Table:
    """One line for each recipient.  marks: what happened to each, as a first column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*(("what",) if marks else ()), *COLUMNS):
        table.add_column(_cut(name), justify="right" if name in ("age", "size", "tries") else "left", no_wrap=name not in CUT)
    for number, row in enumerate(rows):
        texts = [_cut(cell) for cell in cells(row, now)]
        texts[6].stylize(STYLES.get(row["state"], ""))
        mark = [Text(marks[number], MARKS[marks[number]])] if marks else []
        table.add_row(*mark, *texts)
    return table


def _cut(text: str, style: str = "") -> Text:
    """A cell of one line, cut where there is no room for it."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def summary_table(facts: Facts, now: int) -> Table:
    """One line for each destination, the largest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("destination")
    for name in ("total", "due", "held", *AGES):
        table.add_column(name, justify="right", no_wrap=True, min_width=5)
    table.add_column("state")
    found = facts["destinations"]
    sums = [_numbers(each) for each in found]
    if len(sums) > 1:
        table.add_row("TOTAL", *[str(sum(column)) for column in zip(*sums, strict=True)], "", style="bold")
    for each, numbers in zip(found, sums, strict=True):
        table.add_row(_cut(plain(each["dest"])), *[str(number) for number in numbers], _cut(_state(each, now), "yellow"))
    for name in facts["suspended"]:
        table.add_row(_cut(plain(name)), *["0"] * 7, _cut("suspended", "yellow"))
    return table


def _numbers(each: Facts) -> list[int]:
    return [each["total"], each["due"], each["held"], *each["ages"]]


def _state(each: Facts, now: int) -> str:
    words = []
    if each["suspended"]:
        words.append("suspended")
    if each["blocked_until"] > now:
        words.append(f"blocked for {age(each['blocked_until'] - now)}")
    if words and each["why"]:
        words.append(plain(each["why"]))
    return ", ".join(words)


def text_of(table: Table, width: int | None = None, color: bool = False) -> str:
    """The table as text with a final newline.  width: of the terminal, None: as wide as it gets."""
    console = Console(width=width or WIDE, force_terminal=color, color_system="standard" if color else None, highlight=False)
    with console.capture() as printed:
        console.print(table)
    text = printed.get()
    return text if color else "".join([line.rstrip() + "\n" for line in text.splitlines()])
