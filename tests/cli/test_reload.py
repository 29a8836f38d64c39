"""`mta reload`: what it prints where, and its status; the whole way is in tests/test_process.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mta.cli import reload
from mta.cli.ask import NoAnswer
from mta.cli.main import main


class ReloadTests(SynchronousTestCase):
    """Through the command line, with a service that answers as it is told."""

    def setUp(self) -> None:
        self.config = Path(self.mktemp()).absolute()
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text('data_dir = "/d"\n')
        self.asked: list[tuple[Path, dict[str, Any]]] = []

    def reload(self, answer: dict[str, Any] | Exception, *arguments: str) -> Result:
        def ask(path: Path, request: dict[str, Any], _: float) -> dict[str, Any]:
            self.asked.append((path, request))
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.patch(reload, "ask", ask)
        return CliRunner().invoke(main, ["reload", "--config", str(self.config), *arguments])

    def test_done(self) -> None:
        """The generation, and what waits for a restart; status 0."""
        result = self.reload({"ok": True, "generation": 2})
        self.assertEqual((0, "generation 2 of the configuration is in force\n"), (result.exit_code, result.output))
        self.assertEqual([(Path("/d/control.sock"), {"command": "reload"})], self.asked)
        result = self.reload({"ok": True, "generation": 3, "restart": ["data_dir", "dns"]})
        self.assertIn("\nchanged, but in force only after a restart: data_dir, dns\n", result.output)

    def test_mistakes(self) -> None:
        """Each on a line of standard error, status 1."""
        result = self.reload({"ok": False, "mistakes": ["m.toml:1: x", "m.toml:2: y"]})
        self.assertEqual((1, "", "m.toml:1: x\nm.toml:2: y\n"), (result.exit_code, result.stdout, result.stderr))
        result = self.reload({"ok": False, "error": "internal trouble"})
        self.assertEqual((1, "internal trouble\n"), (result.exit_code, result.stderr))

    def test_nobody_there(self) -> None:
        """One line that says so, status 1."""
        result = self.reload(NoAnswer("no service is running"))
        self.assertEqual((1, "", True), (result.exit_code, result.stdout, "no service is running" in result.stderr))

    def test_another_socket(self) -> None:
        """For a file whose data_dir has changed."""
        self.reload({"ok": True, "generation": 2}, "--socket", "/old/control.sock")
        self.assertEqual(Path("/old/control.sock"), self.asked[0][0])
