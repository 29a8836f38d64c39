"""The keys there are, read off the classes of `settings.py`: the one source for suggestions, `--show` and the manual.

`mta.toml` is flat: keys at the top, tables of keys, arrays of tables.  Nothing is nested deeper.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import attrs

from mta.config.mistake import KeyPath
from mta.config.settings import Settings

__all__ = ["holder_of", "is_array", "keys_of", "leaves", "row_class", "tables"]


def row_class(hint: Any) -> type | None:
    """The class of a table or of the elements of an array of tables; None for a plain key."""
    if is_array(hint):
        hint = get_args(hint)[0]
    return hint if attrs.has(hint) else None


def is_array(hint: Any) -> bool:
    """Is this `tuple[X, ...]`?"""
    return getattr(hint, "__origin__", None) is tuple


def tables() -> dict[str, type]:
    """Name -> class of every table and array of tables."""
    return {name: cls for name, hint in keys_of(Settings) if (cls := row_class(hint))}


def keys_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Name and type of every key of a table, in the order of the class."""
    hints = get_type_hints(cls)
    for field in attrs.fields(cls):
        yield field.name, hints[field.name]


def holder_of(path: KeyPath) -> type:
    """The class that has (or should have) the last name of a path."""
    names = [step for step in path if isinstance(step, str)]
    return tables()[names[0]] if len(names) > 1 else Settings


def leaves(settings: Settings) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Path, type and value of every plain key, those of arrays of tables row by row."""
    for name, hint in keys_of(Settings):
        given = getattr(settings, name)
        cls = row_class(hint)
        if cls is None:
            yield (name,), hint, given
            continue
        rows = [((name, index), row) for index, row in enumerate(given)] if is_array(hint) else [((name,), given)]
        for path, row in rows:
            for key, kind in keys_of(cls):
                yield (*path, key), kind, getattr(row, key)
