"""The command: what the fuzzer is told, what is kept and shown, one input again; with a fuzzer that has one idea only."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.guided import __main__ as command
from tests.fuzz.guided import proxy
from tests.fuzz.guided.draw import MARKER, Draw, joined
from tests.fuzz.guided.mutate import inputs, shrunk
from tests.fuzz.guided.target import Target


def breaks(data: bytes) -> None:
    """A check that does not like one octet."""
    if b"\x07" in data:
        raise KeyError(data)


BREAKS = Target("proxy", breaks, lambda: [b"seed"], (b"a\n", b'"'))


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        atheris = ModuleType("atheris")
        atheris.instrument_imports = lambda include: nullcontext()  # type: ignore[attr-defined]
        atheris.Setup = self.begin  # type: ignore[attr-defined]
        atheris.Fuzz = lambda: self.check(b"some\x07thing")  # type: ignore[attr-defined]
        self.patch(sys, "modules", {**sys.modules, "atheris": atheris})
        self.patch(proxy, "TARGET", BREAKS)

    def begin(self, arguments: list[str], check: object) -> None:
        self.told, self.check = arguments, check
        self.corpus = {path.name: path.read_bytes() for path in Path(arguments[-1]).iterdir()}
        dictionary = next(word for word in arguments if word.startswith("-dict="))
        self.words = Path(dictionary.removeprefix("-dict=")).read_text()

    def run_with(self, *arguments: str) -> str:
        self.patch(sys, "argv", ["fuzz", "proxy", *arguments])
        with redirect_stdout(StringIO()) as said, redirect_stderr(StringIO()):
            self.assertRaises(KeyError, command.main)
        return said.getvalue()

    def test_what_is_found_is_made_small(self) -> None:
        """The fuzzer has the seeds, the words and the bounds; what broke is shown as short as it can be."""
        directory = Path(self.mktemp())
        directory.mkdir()
        said = self.run_with("--runs", "9", "--seconds", "5", "--directory", str(directory))
        self.assertIn("proxy: KeyError with b'\\x07'\n", said)
        self.assertEqual({"seed000": b"seed"}, self.corpus)
        self.assertEqual('"\\x61\\x0a"\n"\\x22"\n', self.words)
        for wanted in ("-runs=9", "-max_total_time=5", "-max_len=4096", "-seed=1"):
            self.assertIn(wanted, self.told)

    def test_nothing_is_left_behind(self) -> None:
        """The fuzzer runs in a process of its own, and its directory goes when that has ended."""
        called: list[list[str]] = []

        def call(arguments: list[str]) -> int:
            self.assertTrue(Path(arguments[-1]).is_dir())
            called.append(arguments)
            return 77

        self.patch(command.subprocess, "call", call)
        self.patch(sys, "argv", ["fuzz", "proxy", "--runs", "9"])
        self.assertEqual(77, self.assertRaises(SystemExit, command.main).code)
        self.assertEqual(["-m", "tests.fuzz.guided", "proxy", "--runs", "9", "--directory"], called[0][1:-1])
        self.assertFalse(Path(called[0][-1]).exists())

    def test_again(self) -> None:
        """One input, without the fuzzer."""
        file = Path(self.mktemp())
        file.write_bytes(b"\x07")
        self.assertEqual("", self.run_with("--again", str(file)))
        self.assertEqual([], self.told)

    def test_targets(self) -> None:
        """One in each file that has one."""
        self.assertEqual(
            [
                "auth",
                "bounce",
                "command",
                "config",
                "convert",
                "header",
                "proxy",
                "published",
                "receiver",
                "reply",
                "rules",
                "smuggling",
            ],
            command.TARGETS,
        )


class InputTests(SynchronousTestCase):
    def test_the_same_each_time(self) -> None:
        """So many, the seeds first, and others for another seed."""
        one, same, other = (list(inputs(BREAKS, 50, seed)) for seed in (1, 1, 2))
        self.assertEqual((one, 50, b"seed"), (same, len(one), one[0]))
        self.assertNotEqual(one, other)
        self.assertGreater(len(set(one)), 30)

    def test_shrunk(self) -> None:
        """What does not matter goes, or becomes plain."""
        self.assertEqual(b"x\0\0y", shrunk(b"....x12y....", lambda data: data.find(b"y", data.find(b"x")) - data.find(b"x") == 3))

    def test_choices(self) -> None:
        """They come first; what is missing is the usual; the wire has segments, and the marker."""
        draw = Draw(joined([5, 255], b"a\xffb\xfec"))
        self.assertEqual([2, 0, 0, "x"], [draw.below(3), draw.below(5), draw.below(9), draw.pick("xyz")])
        self.assertEqual([b"a", b"b" + MARKER + b"c"], draw.segments())
        for how in ([], [1], [2, 0, 3, 0, 1], [3]):
            self.assertEqual(b"abcdef", b"".join(Draw(joined(how, b"")).pieces(b"abcdef")))
        self.assertEqual(["a", "b"], [piece.decode() for piece in Draw(joined([1], b"")).pieces(b"ab")])
        self.assertEqual(b"", Draw(b"").wire)
