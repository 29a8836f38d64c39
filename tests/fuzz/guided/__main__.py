"""`python -m tests.fuzz.guided TARGET [--runs N] [--seconds N] [--corpus DIRECTORY]`: fuzz with atheris until something breaks.

Exit status 0 when nothing broke.  What broke is made small and printed as Python, to be put into a test; `--again FILE` plays
one input by itself.  Development only: `pip install 'mta[fuzz]'`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from traceback import print_exc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.guided.target import Target

TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "\nTARGET = " in path.read_text())


def found(target: Target, data: bytes, what: str) -> None:
    """Say what broke, as short as it can be had."""
    from tests.fuzz.guided.mutate import shrunk

    def fails(shorter: bytes) -> bool:
        try:
            target.check(shorter)
        except Exception as error:
            return type(error).__name__ == what
        return False

    print(f"\n{target.name}: {what} with {shrunk(data, fails)!r}", flush=True)


def words(target: Target, directory: Path) -> Path:
    """A dictionary as libFuzzer reads it."""
    path = directory / "words"
    path.write_text("".join('"' + "".join(map("\\x{:02x}".format, word)) + '"\n' for word in target.words))
    return path


def hunt(name: str, how: argparse.Namespace, directory: Path) -> None:
    """Does not come back: the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mta"]):
        target: Target = import_module(f"tests.fuzz.guided.{name}").TARGET
    corpus = Path(how.corpus or directory / "corpus")
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number:03}").write_bytes(seed)

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except Exception as error:
            print_exc()
            found(target, data, type(error).__name__)
            raise

    arguments = [f"-max_len={target.max_length}", f"-seed={how.seed}", f"-artifact_prefix={directory}/", "-timeout=120"]
    if how.runs:
        arguments.append(f"-runs={how.runs}")
    if how.seconds:
        arguments.append(f"-max_total_time={how.seconds}")
    if target.words:
        arguments.append(f"-dict={words(target, directory)}")
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], check)
    atheris.Fuzz()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description="Fuzz one target, guided by coverage.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=0, help="inputs; 0: no end")
    parser.add_argument("--seconds", type=int, default=0, help="0: no end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", help="where inputs that found something new are kept from one run to the next")
    parser.add_argument("--again", type=Path, help="play this one only")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)  # of the process that does not come back
    how: Any = parser.parse_args()
    if how.again:
        import_module(f"tests.fuzz.guided.{how.target}").TARGET.check(how.again.read_bytes())
    elif how.directory:
        hunt(how.target, how, how.directory)
    else:
        with tempfile.TemporaryDirectory(prefix="mta-fuzz-") as directory:
            sys.exit(subprocess.call([sys.executable, "-m", "tests.fuzz.guided", *sys.argv[1:], "--directory", directory]))


if __name__ == "__main__":
    main()
