"""The hot path compiled: `MTA_COMPILE=1 pip install .`, or `make compiled` in the tree (docs/performance.md).

mypyc makes a C extension of typed Python.  The sources stay as they are and go into the wheel too, so nothing depends on this:
where an extension is missing the same module is interpreted.  What is compiled stands in MODULES and nowhere else.  The rules:

1. Who inherits from a compiled class is compiled too (an interpreted heir cannot be instantiated), unless it is Twisted's.
   So what embedders may inherit from is never in the list: `MailError`, interfaces, values.
2. `@implementer` makes a class interpreted in all but its methods: `classImplements` behind the class does not.
3. Values with `attrs.field`, classes that need weak references, and whoever reads his caller's frame stay interpreted.
4. A type is what mypyc makes of it: a wrong one, which an interpreter never notices, raises TypeError.

A build that fails ends the installation; it never falls back in silence.  `make clean` takes the extensions away again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
TOOLS = ("mypy==2.4.1", "mypy-zope==1.0.17", "setuptools>=80")
MODULES = (
    "mta/queue/dispatch.py",
    "mta/queue/filing.py",
    "mta/queue/flights.py",
    "mta/queue/ids.py",
    "mta/queue/intake.py",
    "mta/queue/lines.py",
    "mta/queue/retry.py",
    "mta/queue/scheduler/convoy.py",
    "mta/queue/scheduler/destination.py",
    "mta/queue/scheduler/schedule.py",
    "mta/queue/scheduler/stock.py",
    "mta/queue/scheduler/terms.py",
    "mta/queue/scheduler/window.py",
    "mta/queue/sqlite/cache.py",
    "mta/queue/sqlite/claims.py",
    "mta/queue/sqlite/operation.py",
    "mta/queue/sqlite/statements.py",
    "mta/queue/sqlite/transaction.py",
    "mta/rate.py",
    "mta/receive/access.py",
    "mta/receive/allowance.py",
    "mta/receive/connection.py",
    "mta/receive/ending.py",
    "mta/receive/hearing.py",
    "mta/receive/limits/connections.py",
    "mta/receive/limits/counts.py",
    "mta/receive/limits/handshakes.py",
    "mta/receive/limits/notices.py",
    "mta/receive/limits/table.py",
    "mta/receive/limits/tarpit.py",
    "mta/receive/session.py",
    "mta/receive/submitted.py",
    "mta/receive/trace.py",
    "mta/receive/transaction.py",
    "mta/relay/attempt.py",
    "mta/relay/connection.py",
    "mta/relay/fit.py",
    "mta/relay/negotiation.py",
    "mta/relay/outcome.py",
    "mta/relay/session.py",
    "mta/relay/takedown.py",
    "mta/route/table.py",
    "mta/smtp/address.py",
    "mta/smtp/chunk.py",
    "mta/smtp/chunk_writer.py",
    "mta/smtp/chunking.py",
    "mta/smtp/client.py",
    "mta/smtp/command.py",
    "mta/smtp/conversation.py",
    "mta/smtp/convert/survey.py",
    "mta/smtp/data.py",
    "mta/smtp/dsn.py",
    "mta/smtp/exchange.py",
    "mta/smtp/extension.py",
    "mta/smtp/grammar.py",
    "mta/smtp/line.py",
    "mta/smtp/order.py",
    "mta/smtp/reply.py",
    "mta/smtp/server.py",
    "mta/smtp/terms.py",
    "mta/smtp/transaction.py",
    "mta/smtp/xclient.py",
    "mta/wire.py",
)


def compile_into(folder: Path) -> None:
    """One extension with everything in it, and a small one beside the place of each module.  Takes a minute or two."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    with TemporaryDirectory() as scratch, chdir(ROOT):
        options = ["--config-file", "pyproject.toml", "--cache-dir", f"{scratch}/cache"]
        extensions = mypycify([*options, *MODULES], debug_level="0", target_dir=scratch, group_name="mta")
        build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(folder), scratch
        build.ensure_finalized()
        build.run()


class CompiledHook(BuildHookInterface[Any]):
    """For the wheel, where MTA_COMPILE=1 asks for it."""

    PLUGIN_NAME = "custom"
    _folder: Path | None = None

    def dependencies(self) -> list[str]:
        """The compiler, and the libraries: without their types mypy would infer others than we test."""
        return [*TOOLS, *self.metadata.core.dependencies] if _wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile: into the tree for an editable installation, else beside it and into the wheel."""
        if not _wanted():
            return
        build_data["pure_python"], build_data["infer_tag"] = False, True
        if version == "editable":
            compile_into(ROOT)
            return
        self._folder = Path(mkdtemp())
        compile_into(self._folder)
        for path in self._folder.rglob("*.so"):
            build_data["force_include"][str(path)] = str(path.relative_to(self._folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel has them."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


def _wanted() -> bool:
    return os.environ.get("MTA_COMPILE") == "1"


if __name__ == "__main__":
    compile_into(ROOT)
