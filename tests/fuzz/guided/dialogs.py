"""The dialogs of tests/dialogs as bytes for the fuzzer: the options as choices, what the client says as the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.fuzz.guided.draw import PAUSE, joined
from tests.smtp.test_dialogs import option, unescape

__all__ = ["said", "seeds"]

FOLDER = Path(__file__).parents[2] / "dialogs"


def said(path: Path) -> tuple[dict[str, object], bytes]:
    """Options by name, and the segments."""
    options: dict[str, object] = {}
    wire: list[bytes] = []
    for line in path.read_text().splitlines():
        word, _, rest = re.sub(r"^(c[+.]) ?", r"\1: ", line).partition(":")
        rest = rest.removeprefix(" ")
        if word == "option":
            name, value = rest.split(maxsplit=1)
            options[name] = option(name, value)
        elif word in ("c", "c+"):
            wire += unescape(rest), b"\r\n", PAUSE if word == "c" else b""
        elif word == "c.":
            wire += unescape(rest), PAUSE
    return options, b"".join(wire).removesuffix(PAUSE)


def seeds(fields: Mapping[str, Sequence[object]]) -> Iterator[bytes]:
    """Of all dialogs.  fields: the options in the order in which they are chosen, with their values."""
    for path in sorted(FOLDER.glob("*.smtp")):
        options, wire = said(path)
        choices = [
            values.index(options[name]) if name in options and options[name] in values else 0 for name, values in fields.items()
        ]
        yield joined(choices, wire)
