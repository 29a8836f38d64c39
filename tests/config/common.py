"""What the tests of the configuration share: a file in a directory of its own, and its mistakes as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.config.loader import load
from mta.config.mistake import ConfigError
from mta.config.settings import Settings
from mta.testing.pki import Authority

LEVEL_WANTED = "'none', 'may', 'encrypt', 'dane', 'sts', 'fingerprint', 'verify', 'secure' or 'dane-only' is wanted"
LEAST = 'hostname = "mx1.example.org"\ndata_dir = "var"\n'


class ConfigCase(SynchronousTestCase):
    """A directory with mta.toml in it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.file = self.directory / "mta.toml"

    def load(self, text: str, *overrides: str) -> Settings:
        """The settings of a text."""
        self.file.write_text(text)
        return load(self.file, overrides)

    def mistakes(self, text: str, *overrides: str) -> list[str]:
        """The mistakes of a text, with the file's name for its path."""
        with self.assertRaises(ConfigError) as caught:
            self.load(text, *overrides)
        return [str(mistake).replace(str(self.directory), "DIR") for mistake in caught.exception.mistakes]

    def say(self, text: str, *wanted: str, overrides: Sequence[str] = ()) -> None:
        """The least file with a text behind it has exactly these mistakes, `LINE: ...` counted in that text."""
        lines = LEAST.count("\n")
        found = [line.removeprefix("DIR/mta.toml:") for line in self.mistakes(LEAST + text, *overrides)]
        counted = [f"{int(number) - lines}:{rest}" for number, _, rest in (line.partition(":") for line in found)]
        self.assertEqual(list(wanted), counted)

    def identity(self, name: str = "tls") -> tuple[Path, Path]:
        """A certificate with its key, in a directory below."""
        folder = self.directory / name
        folder.mkdir()
        return Authority.create().issue("mx1.example.org").write(folder)

    def secret(self, name: str, text: str) -> Path:
        """A file that only its owner may read."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path
