"""`mta check`: what it prints where, and its status."""

from __future__ import annotations

from click.testing import CliRunner, Result

from mta.cli.main import main
from mta.config.loader import load, parse
from tests.config.common import LEAST, ConfigCase


class CheckTests(ConfigCase):
    """Through the command line."""

    def check(self, text: str, *arguments: str) -> Result:
        self.file.write_text(text)
        return CliRunner().invoke(main, ["check", str(self.file), *arguments])

    def test_ok(self) -> None:
        """Nothing wrong: one word, status 0."""
        result = self.check(LEAST)
        self.assertEqual((0, "ok\n", ""), (result.exit_code, result.stdout, result.stderr))

    def test_every_mistake(self) -> None:
        """One a line on standard error, status 1, nothing on standard output."""
        result = self.check('hostname = "mx1.example.org"\nlisten = 3\n[limits]\nconnexions = "5"\n[tls]\nkey = "nix"', "--show")
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertEqual(
            f"{self.file}:1: data_dir: missing; it must be given\n"
            f"{self.file}:2: listen: an array of tables, [[...]] for each, is wanted, not 3\n"
            f"{self.file}:4: limits.connexions: unknown key; did you mean 'connections'?\n"
            f"{self.file}:6: tls.certificate: missing; a key needs its certificate\n"
            f"{self.file}:6: tls.key: '{self.directory}/nix' cannot be read: No such file or directory\n",
            result.stderr,
        )

    def test_show(self) -> None:
        """A configuration that loads again to the same settings, and nothing else."""
        result = self.check(LEAST + '[limits]\nmessage_size = "1MiB"\n', "--show", "--set", "log.format=json")
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        self.assertEqual(load(self.file, ["log.format=json"]), parse(result.stdout, self.file))
        self.assertIn('message_size = "1MiB"\n', result.stdout)

    def test_set(self) -> None:
        """A mistake on the command line says so."""
        result = self.check(LEAST, "--set", "limits.errors=0", "--set", "nix")
        self.assertEqual(1, result.exit_code)
        self.assertEqual(
            "--set:1: limits.errors: at least 1 is wanted, not 0\n--set:2: key=value is wanted, not 'nix'\n", result.stderr
        )

    def test_no_such_file(self) -> None:
        """One line, no traceback."""
        result = CliRunner().invoke(main, ["check", "/nix/mta.toml"])
        self.assertEqual((1, "/nix/mta.toml: cannot be read: No such file or directory\n"), (result.exit_code, result.stderr))
