"""What may be compiled, held by reading the sources: a compiler that is not at hand cannot complain.

MTA_REQUIRE_COMPILED=1 (`make test-compiled`) fails where the sources run.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from build_compiled import MODULES
from mta import __version__
from mta.compiled import is_compiled, version
from mta.smtp import server

ROOT = Path(__file__).absolute().parent.parent


def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def ancestors(path: str) -> Iterator[tuple[str, str]]:
    """Of each class of a module that inherits from one of ours: its name, and the file of that one."""
    module = tree(path)
    imported = {
        name.asname or name.name: f"{node.module.replace('.', '/')}.py"
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, imported.get(base.id, path)) for base in node.bases if isinstance(base, ast.Name))


class ModulesTests(SynchronousTestCase):
    """`MODULES`."""

    def test_they_are_there(self) -> None:
        """In order, each once: a file that was moved is moved here too."""
        self.assertEqual(sorted(set(MODULES)), list(MODULES))
        self.assertEqual([], [path for path in MODULES if not (ROOT / path).is_file()])

    def test_heirs_are_compiled(self) -> None:
        """An interpreted class that inherits from a compiled one cannot be instantiated."""
        heirs = [
            (path, name)
            for path in (str(path.relative_to(ROOT)) for path in (ROOT / "mta").rglob("*.py"))
            if path not in MODULES
            for name, ancestor in ancestors(path)
            if ancestor in MODULES
        ]
        self.assertEqual([], heirs)

    def test_no_fields(self) -> None:
        """`attrs.field` in a class body is not what its annotation says: a compiled module could not be imported."""
        found = [
            path
            for path in MODULES
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and node.attr == "field" and ast.unparse(node.value) == "attrs"
        ]
        self.assertEqual([], found)

    def test_all_of_them_or_none(self) -> None:
        """What runs is of this tree, and all of it extensions, or nothing; which of the two was asked for."""
        wanted = os.environ.get("MTA_REQUIRE_COMPILED") == "1" or is_compiled()
        files = [Path(import_module(path.removesuffix(".py").replace("/", ".")).__file__ or "") for path in MODULES]
        suffixes = EXTENSION_SUFFIXES if wanted else SOURCE_SUFFIXES
        wrong = [file for file in files if not file.name.endswith(tuple(suffixes))]
        self.assertEqual([], wrong)
        self.assertEqual([ROOT / path for path in MODULES], [file.with_name(f"{file.name.split('.')[0]}.py") for file in files])


class VersionTests(SynchronousTestCase):
    """`version`."""

    def test_it_says_so(self) -> None:
        """Plain from sources, and with a word behind it from an extension."""
        self.assertEqual(is_compiled(), version() != __version__)
        self.patch(server, "__file__", "/there/mta/smtp/server.cpython-311-x86_64-linux-gnu.so")
        self.assertEqual(f"{__version__} (compiled)", version())
        self.patch(server, "__file__", "/there/mta/smtp/server.py")
        self.assertEqual(__version__, version())
