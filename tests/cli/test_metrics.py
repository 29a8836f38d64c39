"""`mta metrics`: what it prints; the whole way is in tests/workers/test_metrics_processes.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mta.cli import metrics
from mta.cli.ask import NobodyThere
from mta.cli.main import main

OPEN = "mta_connections_open"
ONE = {"": [[OPEN, ["mx"], 3], ["mta_generation", [], 2]]}
TWO = {"": [["mta_generation", [], 2]], "0": [[OPEN, ["mx"], 3], ["mta_generation", [], 1]], "1": [[OPEN, ["mx"], 4]]}


class MetricsTests(SynchronousTestCase):
    """Through the command line, with a service that answers as it is told."""

    def setUp(self) -> None:
        self.config = Path(self.mktemp()).absolute()
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text('data_dir = "/d"\n')
        self.asked: list[tuple[Path, dict[str, Any]]] = []

    def metrics(self, answer: dict[str, Any] | Exception, *arguments: str) -> Result:
        def ask(path: Path, request: dict[str, Any]) -> dict[str, Any]:
            self.asked.append((path, request))
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.patch(metrics, "ask", ask)
        return CliRunner().invoke(main, ["metrics", "--config", str(self.config), *arguments])

    def numbers(self, page: Any, *arguments: str) -> list[str]:
        result = self.metrics({"ok": True, "page": page}, *arguments)
        self.assertEqual(0, result.exit_code, result.output)
        return [line for line in result.output.splitlines() if not line.startswith("#")]

    def test_text(self) -> None:
        """As Prometheus gets it, with help and types, in the table's order."""
        result = self.metrics({"ok": True, "page": ONE})
        lines = result.output.splitlines()
        self.assertEqual((0, "# TYPE mta_generation gauge", "mta_generation 2.0"), (result.exit_code, *lines[1:3]))
        self.assertEqual(f'{OPEN}{{listener="mx"}} 3.0', lines[-1])
        self.assertEqual([(Path("/d/control.sock"), {"command": "metrics"})], self.asked)

    def test_workers(self) -> None:
        """All are one; with --each they are seen one by one, and what the supervisor knows is his."""
        self.assertEqual(["mta_generation 2.0", f'{OPEN}{{listener="mx"}} 7.0'], self.numbers(TWO))
        each = [f'{OPEN}{{listener="mx",worker="{worker}"}} {number}.0' for worker, number in ((0, 3), (1, 4))]
        self.assertEqual(["mta_generation 2.0", *each], self.numbers(TWO, "--each"))

    def test_json(self) -> None:
        """One object a line."""
        wanted = [
            {"name": "mta_generation", "labels": {}, "value": 2},
            {"name": OPEN, "labels": {"listener": "mx"}, "value": 7},
        ]
        self.assertEqual(wanted, [json.loads(line) for line in self.numbers(TWO, "--json")])
        last = json.loads(self.numbers(TWO, "--json", "--each")[-1])
        self.assertEqual({"name": OPEN, "labels": {"listener": "mx", "worker": "1"}, "value": 4}, last)

    def test_no_answer(self) -> None:
        """One line that says why, status 1: nobody there, a refusal, a service of another version."""
        for answer, why in (
            (NobodyThere("no service is running"), "no service is running"),
            ({"ok": False, "error": "unknown command 'metrics'"}, "unknown command 'metrics'"),
            ({"ok": True, "page": {"": [["mta_of_tomorrow", [], 1]]}}, "mta_of_tomorrow"),
            ({"ok": True}, "page"),
        ):
            result = self.metrics(answer)
            self.assertEqual((1, "", True), (result.exit_code, result.stdout, why in result.stderr), why)
