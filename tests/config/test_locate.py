"""Lines of keys: every form of TOML that a key can hide in, and that no text which tomllib takes leads it astray."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.locate import Lines

TEXT = '''\
# [not.a.header]
hostname = "a # b"   # x = 1
"quoted key".'b' . c = [ # comment ]
  "]", """
k = 1
""", {x = 1, y = [
  2]}]

[tls] # here
ciphers = 'a\\'
[[route]]
match = ["a",
  "b", ]
[route . auth]
user = """"quoted""""
[[route]]
match = "c"
[[route.deep]]
v = 2026-01-01T00:00:00Z
[tls.more]
when = 1
[[tls.sni]]
names = ["a",
"b"]
[[tls.sni]]
names = "c"
'''


class LinesTests(SynchronousTestCase):
    """`Lines.of`."""

    def test_places(self) -> None:
        """Headers, dotted and quoted keys, elements, inline tables; strings and comments hide nothing."""
        lines = Lines(TEXT)
        tomllib.loads(TEXT)
        for path, line in (
            (("hostname",), 2),
            (("quoted key", "b", "c"), 3),
            (("quoted key", "b", "c", 0), 4),
            (("quoted key", "b", "c", 1), 4),
            (("quoted key", "b", "c", 2, "x"), 6),
            (("quoted key", "b", "c", 2, "y", 0), 7),
            (("tls",), 9),
            (("tls", "ciphers"), 10),
            (("route", 0), 11),
            (("route", 0, "match", 1), 13),
            (("route", 0, "auth", "user"), 15),
            (("route", 1), 16),
            (("route", 1, "match"), 17),
            (("route", 1, "deep", 0, "v"), 19),
            (("tls", "more", "when"), 21),
            (("tls", "sni", 0, "names", 1), 24),
            (("tls", "sni", 1), 25),
            (("tls", "sni", 1, "names"), 26),
        ):
            self.assertEqual(line, lines.of(path), path)
            self.assertTrue(lines.has(path), path)

    def test_what_is_not_there(self) -> None:
        """The nearest ancestor that is there, else the first line."""
        lines = Lines(TEXT)
        self.assertEqual(9, lines.of(("tls", "certificate")))
        self.assertEqual(16, lines.of(("route", 1, "relay")))
        self.assertEqual(1, lines.of(("data_dir",)))
        self.assertFalse(lines.has(("data_dir",)))

    def test_empty(self) -> None:
        """No text, no trouble."""
        for text in ("", "\n", "# only a comment", "a = 1"):
            self.assertEqual(1, Lines(text).of(("a",)))


WORDS = st.sampled_from(["a", "b-c", "9", "x y", '"', "é", "", "#", "]", "="])
STRINGS = st.text(alphabet="ab\"'\\\n#[]{}=,. é", max_size=8)


def basic(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def multi(text: str) -> str:
    return '"""\n' + text.replace("\\", "\\\\").replace('"""', '""\\"').replace('"', '\\"') + '"""'


VALUES = st.recursive(
    st.integers(0, 99).map(str) | STRINGS.map(basic) | STRINGS.map(multi) | st.sampled_from(["true", "1.5", "'#'", "''", '""']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[ # c\n" + ",\n".join(items) + "\n]")
        | st.dictionaries(WORDS, inner.filter(lambda v: "\n" not in v), max_size=2).map(
            lambda table: "{" + ", ".join(f"{basic(k)} = {v}" for k, v in table.items()) + "}"
        )
    ),
    max_leaves=6,
)


class AnyTextTests(SynchronousTestCase):
    """Against tomllib itself."""

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.tuples(WORDS, VALUES), max_size=6, unique_by=lambda pair: pair[0]))
    def test_every_key_is_found_where_it_stands(self, pairs: list[tuple[str, str]]) -> None:
        """Each key is found at the line on which it was written, whatever stands around it."""
        text, wanted, line = "", {}, 1
        for name, value in pairs:
            wanted[name] = line
            text += f"{basic(name)} = {value} # end\n"
            line = text.count("\n") + 1
        data = tomllib.loads(text)
        lines = Lines(text)
        for name, place in wanted.items():
            self.assertEqual(place, lines.of((name,)))
        for path in paths(data, ()):
            self.assertTrue(lines.has(path), (path, text))


def paths(value: Any, path: tuple[Any, ...]) -> Any:
    """Every path in parsed TOML."""
    if path:
        yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from paths(inner, (*path, step))
