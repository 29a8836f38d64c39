"""The event log read back: for tests, ours and our users', and for small programs over a log file.

The text form of `mta/control/log.py`: `QUEUEID: event=NAME time=... key=value ...`, values in double quotes with backslash
escapes where they need it.  `parse_line(format_text(...))` gives back what was logged, as text.  A line that is not of
that form is a ValueError: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Entry", "parse_line", "read_log"]

_VALUE = r'"(?:\\.|[^"\\])*"|[^ "]+'
_IDENTITY = re.compile(rf"({_VALUE}):(?= |$)")
_PAIR = re.compile(rf" ([^ =\"]+)=({_VALUE})")
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4})|(.))", re.DOTALL)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


@attrs.frozen(slots=True)
class Entry:
    """One line.  queue_id is "" where no message is meant; fields are text, in the line's order."""

    queue_id: str
    event: str
    time: str
    fields: dict[str, str]


def parse_line(line: str) -> Entry:
    """Read one line, without its end.  Raises ValueError."""
    head = _IDENTITY.match(line)
    if head is None:
        raise ValueError(f"no queue id: {line!r}")
    pairs: list[tuple[str, str]] = []
    at = head.end()
    while at < len(line):
        match = _PAIR.match(line, at)
        if match is None:
            raise ValueError(f"no key=value at column {at + 1}: {line!r}")
        pairs.append((match[1], _plain(match[2])))
        at = match.end()
    if [name for name, _ in pairs[:2]] != ["event", "time"]:
        raise ValueError(f"no event and time: {line!r}")
    identity = "" if head[1] == "-" else _plain(head[1])
    return Entry(identity, pairs[0][1], pairs[1][1], dict(pairs[2:]))


def read_log(path: Path) -> Iterator[Entry]:
    """Every line of a log file, oldest first; a last line that is not yet whole is left out."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.endswith("\n"):
                yield parse_line(line[:-1])


def _plain(value: str) -> str:
    return _ESCAPE.sub(_unescape, value[1:-1]) if value.startswith('"') else value


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits:
        return chr(int(digits, 16))
    if match[4] not in _SHORT:
        raise ValueError(f"no such escape: {match[0]!r}")
    return _SHORT[match[4]]
