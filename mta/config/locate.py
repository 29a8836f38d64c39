"""Where in the file a key stands: key path -> line, for the mistakes.

TOML 1.0.  The text has been read by tomllib without complaint, so this only finds its way: headers, keys (dotted and
quoted too), arrays and inline tables; strings are skipped whole.  A path that is not in the file (a key with its default,
a missing one) is placed where its nearest ancestor stands; line 1 when there is none.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

from mta.config.mistake import KeyPath

__all__ = ["Lines"]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")  # a number, a boolean, a date
_KEY = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')[ \t]*""")


class Lines:
    """The lines of every key of a TOML text that tomllib accepts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._last: dict[KeyPath, int] = {}  # array of tables -> index of its last element
        self._lines: dict[KeyPath, int] = {}
        self._document()

    def of(self, path: KeyPath) -> int:
        """The line of a key, counted from 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def has(self, path: KeyPath) -> bool:
        """Does the key itself stand in the file?"""
        return path in self._lines

    def _document(self) -> None:
        table: KeyPath = ()
        while self._skip() < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`: the path of the table that follows."""
        start = self._at
        array = self._text.startswith("[[", start)
        self._at += 2 if array else 1
        *above, name = self._key()
        self._at += 2 if array else 1
        path: KeyPath = ()
        for step in above:
            path = self._enter((*path, step))
        path = (*path, name)
        if array:
            self._last[path] = self._last.get(path, -1) + 1
            self._note(path, start)
        path = self._enter(path)
        self._note(path, start)
        return path

    def _enter(self, path: KeyPath) -> KeyPath:
        """The table that a name means: of an array of tables, the last one so far."""
        return (*path, self._last[path]) if path in self._last else path

    def _pair(self, table: KeyPath) -> None:
        """`a.b = value`."""
        start = self._at
        path = table
        for step in self._key():
            path = (*path, step)
            self._note(path, start)
        self._at += 1  # "="
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        """A value; the elements of arrays and inline tables get lines of their own."""
        opener = self._text[self._skip()]
        if opener not in "[{":
            pattern = _STRING if opener in "\"'" else _SCALAR
            self._at = self._end(pattern)
            return
        self._at += 1
        index = 0
        while self._text[self._skip()] not in "]}":
            if self._text[self._at] == ",":
                self._at += 1
            elif opener == "{":
                self._pair(path)
            else:
                self._note((*path, index), self._at)
                self._value((*path, index))
                index += 1
        self._at += 1

    def _key(self) -> list[str]:
        """The steps of a dotted key; stops at what follows it."""
        steps = []
        while True:
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise AssertionError(f"tomllib accepted what has no key at offset {self._at}")
            self._at = match.end()
            step = match[1]
            steps.append(tomllib.loads(f"k = {step}")["k"] if step[0] in "\"'" else step)
            if self._text[self._at] != ".":
                return steps
            self._at += 1

    def _skip(self) -> int:
        self._at = self._end(_BLANK)
        return self._at

    def _end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        return match.end() if match else len(self._text)

    def _note(self, path: KeyPath, offset: int) -> None:
        """The first place counts: a table may be continued below."""
        self._lines.setdefault(path, bisect_right(self._newlines, offset) + 1)
