"""The conditions of a selector, and where the service is, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mta.cli.queue import options
from mta.cli.queue.options import full_dest, selectors, where

NOW = 1_800_000_000.0
ID = "0ABCDEFGHJKM0"


class OptionsTests(SynchronousTestCase):
    """Both decorators on a command that keeps what it is given."""

    def setUp(self) -> None:
        self.patch(options.time, "time", lambda: NOW)

    def given(self, *arguments: str, wanted: bool = False) -> Any:
        """What the command got, or the text of the mistake (status 2)."""
        got: list[dict[str, Any]] = []

        @click.command()
        @where
        @selectors(wanted=wanted)
        def command(**given: Any) -> None:
            got.append(given)

        result: Result = CliRunner().invoke(command, arguments)
        if got:
            return got[0]
        self.assertEqual(2, result.exit_code, result.output)
        return result.stderr

    def selector(self, *arguments: str, wanted: bool = False) -> Any:
        given = self.given("--data-dir", "/d", *arguments, wanted=wanted)
        return given["selector"] if isinstance(given, dict) else given

    def test_every_condition(self) -> None:
        """Each is a key, a time is one of the service's clock."""
        self.assertEqual(
            {
                "id": ID,
                "to": "*@x",
                "from": "",
                "dest": "bounce:",
                "state": "held",
                "account": "ann",
                "before": 1_799_992_800_000,
            },
            self.selector(
                *("--id", ID, "--to", "*@x", "--from", "", "--dest", "bounce:", "--state", "held"),
                *("--account", "ann", "--older", "2h"),
            ),
        )
        self.assertEqual({}, self.selector())

    def test_mistakes(self) -> None:
        """What cannot be understood is never taken for less."""
        for arguments, why in (
            (("--id", "x"), "a queue id has 13 characters"),
            (("--older", "soon"), "duration"),
            (("--state", "lost"), "lost"),
            (("--two", "x"), "No such option"),
        ):
            self.assertIn(why, self.selector(*arguments))

    def test_wanted(self) -> None:
        """A condition, or --all, and not both."""
        self.assertIn("Nothing is selected", self.selector(wanted=True))
        self.assertEqual({}, self.selector("--all", wanted=True))
        self.assertEqual({"to": "x"}, self.selector("--to", "x", wanted=True))
        self.assertEqual({"from": ""}, self.selector("--from", "", wanted=True))  # the null sender is a condition
        self.assertIn("--all is everything", self.selector("--all", "--to", "x", wanted=True))
        self.assertIn("No such option", self.selector("--all"))

    def test_where(self) -> None:
        """By the file's data_dir, which --data-dir overrides; without either it is a mistake."""
        file = Path(self.mktemp()).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('data_dir = "var"\n')
        self.assertEqual(file.parent / "var", self.given("-C", str(file))["data_dir"])
        self.assertEqual(Path("/d"), self.given("-C", str(file), "--data-dir", "/d")["data_dir"])
        self.assertIn("or give --data-dir", self.given("-C", str(file) + ".no"))

    def test_full_dest(self) -> None:
        """A domain alone, and whole names."""
        for name, dest in (
            ("Example.org", "smtp:_mx/example.org"),
            ("smtp:bank/[mx.example.org]:25", "smtp:bank/[mx.example.org]:25"),
            ("bounce:", "bounce:"),
        ):
            self.assertEqual(dest, full_dest(name))
