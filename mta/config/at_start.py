"""The keys that are read at the start alone.

A reload keeps their old values, everywhere alike, and says which have changed: they hold after a restart.  Pure.
"""

from __future__ import annotations

from typing import Final

import attrs

from mta.config.settings import Settings

__all__ = ["AT_START", "kept"]

AT_START: Final = ("hostname", "data_dir", "dns", "log", "tlsrpt", "queue.completions", "service")


def kept(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The new settings with the old values of `AT_START`, and the names of those that have changed."""
    changed: list[str] = []
    for name in AT_START:
        table, _, key = name.partition(".")
        was, given = getattr(old, table), getattr(new, table)
        wanted = attrs.evolve(given, **{key: getattr(was, key)}) if key else was
        if wanted != given:
            changed.append(name)
            new = attrs.evolve(new, **{table: wanted})
    return new, changed
