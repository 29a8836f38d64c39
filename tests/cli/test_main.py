"""The command as a whole."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from mta.cli.main import main
from mta.compiled import version


class MainTests(SynchronousTestCase):
    """`mta`."""

    def test_version(self) -> None:
        """Name and version, for bug reports."""
        result = CliRunner().invoke(main, ["--version"])
        self.assertEqual((0, f"mta, version {version()}\n"), (result.exit_code, result.output))

    def test_did_you_mean(self) -> None:
        """A misspelled command is answered with the right one, status 2."""
        result = CliRunner().invoke(main, ["chek"])
        self.assertEqual(2, result.exit_code)
        self.assertIn("No such command 'chek'. Did you mean 'check'?", result.output)

    def test_help_names_every_command(self) -> None:
        """What there is."""
        output = CliRunner().invoke(main, ["-h"]).output
        for name in ("check", "dev-cert", "metrics", "run"):
            self.assertIn(name, output)
