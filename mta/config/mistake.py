"""What is wrong with a configuration, said so that it can be mended: file, line, key, and what is wanted.

A `Wanted` is raised where a value is read (the text only; the reader of the file knows where it stands), a `Finding`
is what the checks of whole settings give (the key's path and the text), a `Mistake` is the finished line for people.
`ConfigError` carries every mistake of a file at once, sorted by line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

import attrs

__all__ = ["ConfigError", "Finding", "KeyPath", "Mistake", "Wanted", "choice", "did_you_mean", "key_text", "said", "shown"]

KeyPath = tuple[str | int, ...]  # ("route", 0, "relay"); numbers count the elements of an array from 0

_BARE = re.compile(r"[A-Za-z0-9_-]+")  # TOML's bare keys
_SHOWN = 60  # characters of a wrong value that are repeated to its author


class Wanted(ValueError):
    """A value is not what is wanted; the text says what is."""


@attrs.frozen(slots=True)
class Finding:
    """Something wrong at a key, its line not yet known.  about: other keys without which it would not be wrong."""

    path: KeyPath
    text: str
    about: tuple[KeyPath, ...] = ()

    def touches(self, other: KeyPath) -> bool:
        """Does it speak of that key, of what holds it or of what is in it?"""
        return any(path[: len(other)] == other[: len(path)] for path in (self.path, *self.about))


@attrs.frozen(slots=True)
class Mistake:
    """One mistake.  line counts from 1, 0 means the whole file; key is "" where no key is meant (a syntax error)."""

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        """`FILE:LINE: key: what is wrong`, the form that editors understand."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used.  Its text is one line for each mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: Final = tuple(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


def said(path: KeyPath, fault: str | None, *about: KeyPath) -> Iterator[Finding]:
    """The finding of a fault, nothing where there is none."""
    if fault is not None:
        yield Finding(path, fault, about)


def key_text(path: KeyPath) -> str:
    """The key as people write it: `route[0].relay`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE.fullmatch(step) else json.dumps(step))
    return text


def shown(value: object) -> str:
    """A wrong value as its author knows it, on one line and not too long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str | list | dict) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is near, else nothing."""
    written = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), list(written), n=1)
    return f"; did you mean {written[near[0]]!r}?" if near else ""


def choice(word: str, known: Iterable[str]) -> str | None:
    """What is wrong with a word that must be one of the known ones, None when it is."""
    known = tuple(known)
    if word in known:
        return None
    *some, last = map(repr, known)
    return f"{', '.join(some)} or {last} is wanted, not {shown(word)}{did_you_mean(word, known)}"
