"""Keys that the manual of the finished server knows and this release has not built.

A configuration that uses one is refused: whoever asks for worker processes must not believe that he has them.  The text
says that the key is right and the time is not, so that nobody hunts for a misspelling.
A key leaves this table when its feature lands in `settings.py`.
"""

from __future__ import annotations

from mta.config.mistake import KeyPath
from mta.config.schema import name_of

__all__ = ["NOT_BUILT_KEYS", "is_future"]

NOT_BUILT_KEYS = frozenset(
    {
        "service",  # workers
    }
)


def is_future(path: KeyPath) -> bool:
    """Is this a key (wherever in an array of tables) that comes with a later release?"""
    return name_of(path) in NOT_BUILT_KEYS
