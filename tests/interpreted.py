"""A program on the sources of `mta`, though it may be compiled (build_compiled.py): `python -m tests.interpreted MODULE`.

For tests that change the code of what they run: a compiled class calls its own methods directly, whatever stands in their
place.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

__all__ = ["Sources"]


class Sources:
    """Finds the sources of `mta`, and nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The source in one of the folders of its package."""
        if not name.startswith("mta."):
            return None
        specs = (FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name) for folder in path or ())
        return next((spec for spec in specs if spec is not None), None)


if __name__ == "__main__":
    sys.meta_path.insert(0, Sources())
    runpy.run_module(sys.argv[1], run_name="__main__")
