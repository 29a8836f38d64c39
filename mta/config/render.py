"""Settings -> mta.toml with every key, defaults too: what `mta check --show` prints.

TOML 1.0; what is printed loads again to equal settings.  A key without a value (TOML knows no null) is a comment.  Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mta.config.schema import is_array, keys_of, row_class
from mta.config.settings import Seconds, Settings, Size
from mta.config.value import duration_text, size_text

__all__ = ["render", "value_text"]


def render(settings: Settings) -> str:
    """The whole file: keys, tables, arrays of tables."""
    plain: list[str] = []
    tables: list[str] = []
    arrays: list[str] = []
    for name, hint in keys_of(Settings):
        given = getattr(settings, name)
        cls = row_class(hint)
        if cls is None:
            plain.append(_pair(name, hint, given))
        elif is_array(hint):
            arrays += ["\n".join([f"[[{name}]]", *_pairs(cls, row)]) for row in given]
        else:
            tables.append("\n".join([f"[{name}]", *_pairs(cls, given)]))
    return "\n\n".join(["\n".join(plain), *tables, *arrays]) + "\n"


def value_text(hint: Any, value: Any) -> str:
    """One value as TOML."""
    if hint is Seconds:
        return duration_text(value)
    if hint is Size:
        return size_text(value)
    if is_array(hint):
        return f"[{', '.join(value_text(str, element) for element in value)}]"
    if isinstance(value, bool | int):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants DEL escaped, JSON does not


def _pairs(cls: type, row: Any) -> Iterator[str]:
    for name, hint in keys_of(cls):
        yield _pair(name, hint, getattr(row, name))


def _pair(name: str, hint: Any, value: Any) -> str:
    return f"# {name} has no value" if value is None else f"{name} = {value_text(hint, value)}"
