"""The configuration: any text is read, or refused with mistakes that have a place and words; nothing else is raised.

What was read can make the rules of the receiver.  The words that the fuzzer has name no file and no directory but its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mta.config.check_hosts import host_lists
from mta.config.loader import parse
from mta.config.mistake import ConfigError
from mta.receive.rules import Rules
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]

ROOT = Path(__file__).parents[3]
FILE = Path("/nonexistent/mta.toml")
MANUAL = (ROOT / "docs" / "configuration.md").read_text()
ABSOLUTE = re.compile(r"(?<![\w./])/+(?=[\w.])")
LEAST = 'hostname = "mx1.example.org"\ndata_dir = "var"\n'


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    text = ABSOLUTE.sub("", draw.wire.decode("utf-8", "replace"))  # no file of this machine is looked at
    if ".." in text:
        return
    overrides = text.splitlines()[:2] if draw.flag() else ()
    text = LEAST if overrides else text
    try:
        settings = parse(text, FILE, overrides)
    except ConfigError as error:
        assert error.mistakes
        for mistake in error.mistakes:
            assert mistake.text and 0 <= mistake.line <= text.count("\n") + 2, mistake
            str(mistake).encode()
        return
    Rules.of(settings, host_lists(settings))


def seeds() -> Iterator[bytes]:
    """The examples of the manuals, and the file that is installed with all that stands there as a comment, table by table."""
    installed = re.sub(r"^# ?(?=\[|[a-z_]+ = )", "", (ROOT / "etc" / "mta.toml").read_text(), flags=re.M)
    manuals = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    for text in (installed, *(example for manual in manuals for example in re.findall(r"```toml\n(.*?)```", manual, re.S))):
        for block in re.split(r"\n(?=\[)", text):
            yield joined([], (LEAST + re.sub(r" *#.*", "", block)).encode()[:2000])
    for deep in (b"a = " + b"[" * 1500, b"a." * 900 + b"a = 1", b"a = " + b"9" * 5000):
        yield joined([], deep)
    for override in ("hostname=mx2.example.org", "limits.messages=3", 'listen=[{endpoint="tcp:25"}]', "route.0.match=['*']"):
        yield joined([1], override.encode())


KEYS = tuple(sorted({key.encode() for key in re.findall(r"^\| `([a-z_]+)`", MANUAL, re.M)}))
WORDS = (
    *KEYS,
    b" = ",
    b"[[listen]]\n",
    b"[[route]]\n",
    b"[[access.rule]]\n",
    b"[limits]\n",
    b"[auth]\n",
    b'""',
    b"[]",
    b"true",
    b"0",
    b"-1",
    b"1e999",
    b"nan",
    b"1979-05-27",
    b"'*'",
    b"'2m'",
    b"'1GB'",
    b"\\ud800",
    b"{}",
    b".",
)
TARGET = Target("config", check, seeds, WORDS, max_length=6000)
