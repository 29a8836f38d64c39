"""The keys there are, read off the classes of `settings.py`: the one source for suggestions, `--show` and the manual.

`mta.toml` has keys at the top, tables of keys, arrays of tables; a table may hold further ones (`[[tls.sni]]`,
`[route.auth]`), and one that may be left out is None then.  A table is called by its keys: "tls.sni".  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

import attrs

from mta.config.mistake import KeyPath
from mta.config.settings import Settings

__all__ = ["holder_of", "is_array", "keys_of", "leaves", "name_of", "row_class", "tables"]


def row_class(hint: Any) -> type | None:
    """The class of a table (one that may be left out too) or of the elements of an array of tables; None for a plain key."""
    return next((kind for kind in (hint, *get_args(hint)) if attrs.has(kind)), None)


def is_array(hint: Any) -> bool:
    """Is this `tuple[X, ...]`?"""
    return getattr(hint, "__origin__", None) is tuple


def tables() -> dict[str, type]:
    """Name -> class of every table and array of tables, what holds others before them."""
    return dict(_tables((), Settings))


@cache
def keys_of(cls: type) -> tuple[tuple[str, Any], ...]:
    """Name and type of every key of a table, in the order of the class."""
    hints = get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in attrs.fields(cls))


def name_of(path: KeyPath) -> str:
    """The key, wherever in an array of tables: ("route", 0, "auth", "user") is "route.auth.user"."""
    return ".".join(step for step in path if isinstance(step, str))


def holder_of(path: KeyPath) -> type:
    """The class that has (or should have) the last name of a path."""
    return tables().get(name_of(path).rpartition(".")[0], Settings)


def leaves(settings: Settings) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Path, type and value of every plain key, those of arrays of tables row by row."""
    yield from _leaves((), settings)


def _tables(above: tuple[str, ...], holder: type) -> Iterator[tuple[str, type]]:
    for name, hint in keys_of(holder):
        if cls := row_class(hint):
            yield ".".join((*above, name)), cls
            yield from _tables((*above, name), cls)


def _leaves(path: KeyPath, row: Any) -> Iterator[tuple[KeyPath, Any, Any]]:
    for name, hint in keys_of(row.__class__):
        given = getattr(row, name)
        if row_class(hint) is None:
            yield (*path, name), hint, given
        elif is_array(hint):
            for index, element in enumerate(given):
                yield from _leaves((*path, name, index), element)
        elif given is not None:
            yield from _leaves((*path, name), given)
