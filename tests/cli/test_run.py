"""`mta run`: the arguments that twistd gets."""

from __future__ import annotations

import sys

from click.testing import CliRunner
from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from mta.cli.main import main


class RunTests(SynchronousTestCase):
    """twistd itself is not started here; tests of the service start it."""

    def arguments(self, *given: str) -> list[str]:
        """What twistd finds in sys.argv."""
        seen: list[str] = []
        self.patch(sys, "argv", ["mta", "run", *given])
        self.patch(twistd, "run", lambda: seen.extend(sys.argv))
        result = CliRunner().invoke(main, ["run", *given])
        self.assertEqual(0, result.exit_code, result.output)
        return seen

    def test_default(self) -> None:
        """In the foreground, without a pid file, with the system's configuration."""
        self.assertEqual(
            ["twistd", "--nodaemon", "--pidfile=", "mta", "--config", "/etc/mta/mta.toml"],
            self.arguments(),
        )

    def test_options(self) -> None:
        """Configuration and every --set go on as they are."""
        self.assertEqual(
            ["mta", "--config", "x y.toml", "--set", "a=b c", "--set", "d=1"],
            self.arguments("-c", "x y.toml", "--set", "a=b c", "--set", "d=1")[3:],
        )

    def test_twistd_takes_them(self) -> None:
        """twistd's own options are spelled as twistd knows them."""
        options = twistd.ServerOptions()
        options.parseOptions(self.arguments()[1:3])
        self.assertEqual((True, ""), (bool(options["nodaemon"]), options["pidfile"]))
