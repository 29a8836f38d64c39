"""Patterns of addresses as an operator writes them in a shell: `*@example.org`, `user?@*`, `[a-m]*` (pure).

`as_glob` makes of one what SQLite's GLOB takes, to be matched against text whose ASCII letters are small: the case of
addresses is ignored, as operators expect.  Both engines match with SQLite's own code, so that they agree.  There are no
bad patterns: a bracket that is never closed is a bracket.
"""

from __future__ import annotations

__all__ = ["as_glob", "folded"]

SMALL = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


def folded(text: str) -> str:
    """The text with small ASCII letters, which is what `lower()` of SQLite does."""
    return text.translate(SMALL)


def as_glob(pattern: str) -> str:
    """The pattern for GLOB: `[!a]` is `[^a]` there."""
    pattern = folded(pattern)
    made, at = [], 0
    while at < len(pattern):
        end = _closed(pattern, at) if pattern[at] == "[" else at
        if end > at:
            made.append("[^" + pattern[at + 2 : end + 1] if pattern[at + 1] == "!" else pattern[at : end + 1])
        else:
            made.append("[[]" if pattern[at] == "[" else pattern[at])
        at = end + 1
    return "".join(made)


def _closed(pattern: str, at: int) -> int:
    """Where the bracket of `at` is closed, or `at` when it is not.  One right behind the opening stands for itself."""
    start = at + 1
    if pattern[start : start + 1] in ("!", "^"):
        start += 1
    end = pattern.find("]", start + 1)
    return max(end, at)
