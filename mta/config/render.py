"""Settings -> mta.toml with every key, defaults too: what `mta check --show` prints.

TOML 1.0; what is printed loads again to equal settings.  A key without a value (TOML knows no null) is a comment.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from mta.config.schema import is_array, keys_of, row_class
from mta.config.settings import Seconds, Settings, Size
from mta.config.value import duration_text, size_text

__all__ = ["render", "value_text"]


def render(settings: Settings) -> str:
    """The whole file: keys, tables, arrays of tables, each followed by those that it holds."""
    return "\n\n".join("\n".join(lines) for lines in _blocks("", "", settings)) + "\n"


def value_text(hint: Any, value: Any) -> str:
    """One value as TOML."""
    if hint is Seconds:
        return duration_text(value)
    if hint is Size:
        return size_text(value)
    if is_array(hint):
        return f"[{', '.join(value_text(get_args(hint)[0], element) for element in value)}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants DEL escaped, JSON does not


def _blocks(header: str, name: str, row: Any) -> Iterator[list[str]]:
    """The lines of a table, then those of the tables in it."""
    lines = [header] if header else []
    inner: list[list[str]] = []
    for key, hint in keys_of(row.__class__):
        given = getattr(row, key)
        path = f"{name}.{key}" if name else key
        if row_class(hint) is None or given is None:
            lines.append(f"# {key} has no value" if given is None else f"{key} = {value_text(hint, given)}")
        elif is_array(hint):
            for element in given:
                inner += _blocks(f"[[{path}]]", path, element)
        else:
            inner += _blocks(f"[{path}]", path, given)
    yield lines
    yield from inner
