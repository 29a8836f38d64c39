"""`--set key=value`: single keys laid over the configuration file, for trials and for tests.

The key is written as in the mistakes (`limits.message_size`, `listen[0].endpoint`), the value as in the file; what is not
TOML is a string, so `--set hostname=mx1.example.org` needs no quotes.  Later ones win.  A wrong one is a mistake whose
"file" is `--set` and whose line is its number among the options.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from mta.config.mistake import KeyPath, Mistake, key_text, shown

__all__ = ["OVERRIDE", "Overrides"]

OVERRIDE = "--set"

_STEP = re.compile(r"(?P<dot>\.)?(?:(?P<name>[A-Za-z0-9_-]+)|\[(?P<index>\d{1,6})\])")


class Overrides:
    """The options of one command line.  mistakes: those in the options themselves."""

    def __init__(self, options: Sequence[str]) -> None:
        self._options = options
        self._numbers: dict[KeyPath, int] = {}
        self.mistakes: list[Mistake] = []

    def lay_on(self, data: dict[str, Any]) -> None:
        """Change parsed TOML."""
        for number, option in enumerate(self._options, 1):
            key, equals, text = option.partition("=")
            path = _parse_key(key.strip())
            if not equals or not path:
                self.mistakes.append(Mistake(OVERRIDE, number, "", f"key=value is wanted, not {shown(option)}"))
            elif fault := _put(data, path, _parse_value(text.strip())):
                self.mistakes.append(Mistake(OVERRIDE, number, key_text(path), fault))
            else:
                self._numbers[path] = number

    def number_of(self, path: KeyPath) -> int:
        """The option that gave a key or what holds it, counted from 1; 0 when the file did."""
        return max((self._numbers.get(path[:length], 0) for length in range(1, len(path) + 1)), default=0)


def _parse_key(text: str) -> KeyPath:
    """The path of `a.b[0].c`, () when it is none."""
    path: list[str | int] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or bool(match["dot"]) != (match["name"] is not None and at > 0):
            return ()
        path.append(int(match["index"]) if match["name"] is None else match["name"])
        at = match.end()
    return tuple(path) if path and isinstance(path[0], str) else ()


def _parse_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:  # no TOML, or more digits than `int` reads
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text  # a line break would begin another key


def _put(data: dict[str, Any], path: KeyPath, value: Any) -> str | None:
    """Set one key; tables are made where they are missing, elements of arrays are not."""
    holder: Any = data
    for step, following in zip(path, (*path[1:], None), strict=True):
        if not (isinstance(holder, list) if isinstance(step, int) else isinstance(holder, dict)):
            return "there is no such key in what the file has"
        if isinstance(step, int) and step >= len(holder):
            return f"the file has only {len(holder)} of these"
        if following is None:
            holder[step] = value
        elif isinstance(holder, dict):
            holder = holder.setdefault(step, {} if isinstance(following, str) else [])
        else:
            holder = holder[step]
    return None
