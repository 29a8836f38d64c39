"""Requirement -> rows -> tests: every requirement of requirements.toml has a test, and which rows have none is said.

A test shows a row when the row's id, or a range of ids that contains it, stands in the test's name or docstring, or in
the docstring of its class or module.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

HERE = Path(__file__).resolve().parent
ID = re.compile(r"\b([ACHPSTX])(\d\d)(a?)(?:(?:-| to )\1?(\d\d))?(?![0-9A-Za-z])")


def ids_in(text: str) -> Iterator[str]:
    """S01, S30a, and every id of the ranges "P01-P05" and "P01 to P05"."""
    for letter, first, small, last in ID.findall(text):
        for number in range(int(first), int(last or first) + 1):
            yield f"{letter}{number:02}{small}"


def shown_by(path: Path) -> Iterator[tuple[str, str]]:
    """(row, test) for every test of a file."""
    module = ast.parse(path.read_text())
    name = ".".join(path.relative_to(HERE.parent).with_suffix("").parts)
    above = ast.get_docstring(module) or ""
    for case in module.body:
        if not isinstance(case, ast.ClassDef):
            continue
        about = f"{above}\n{ast.get_docstring(case) or ''}"
        for test in case.body:
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test"):
                words = test.name.upper().replace("_", " ")
                for row in ids_in(f"{about}\n{ast.get_docstring(test) or ''}\n{words}"):
                    yield row, f"{name}.{case.name}.{test.name}"


class RequirementTests(SynchronousTestCase):
    """The table and the tests."""

    def setUp(self) -> None:
        table: dict[str, Any] = tomllib.loads((HERE / "requirements.toml").read_text())
        self.requirements, self.rows = table["requirement"], table["row"]
        self.tests: dict[str, set[str]] = defaultdict(set)
        for path in HERE.rglob("test_*.py"):
            for row, test in shown_by(path):
                self.tests[row].add(test)

    def test_the_table_is_whole(self) -> None:
        """84 requirements, each with rows that there are; 183 rows."""
        self.assertEqual([f"A{number:02}" for number in range(1, 85)], sorted(self.requirements))
        self.assertEqual(183, len(self.rows))
        for name, requirement in self.requirements.items():
            self.assertTrue(requirement["rows"], name)
            self.assertLessEqual(set(requirement["rows"]), set(self.rows), name)

    def test_every_requirement_has_a_test(self) -> None:
        """Each by one of its rows or by its own id, but for those that a later part of the server brings."""
        untested = []
        for name, requirement in self.requirements.items():
            tests = sorted(set().union(self.tests[name], *(self.tests[row] for row in requirement["rows"])))
            print(f"{name} -> {' '.join(requirement['rows'])} -> {len(tests)} tests: {' '.join(tests)}")
            if not tests and "later" not in requirement:
                untested.append(name)
        self.assertEqual([], untested)

    def test_every_row_has_a_test(self) -> None:
        """Each row is in the name or docstring of a test, but for those that a later part of the server brings."""
        untested = [row for row, what in self.rows.items() if not self.tests[row] and "later" not in what]
        print(f"{len(self.rows) - len(untested)} of {len(self.rows)} rows have tests; none have {' '.join(untested)}")
        self.assertEqual([], untested)
