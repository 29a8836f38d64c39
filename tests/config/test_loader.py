"""From file to settings: places, order, syntax errors, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

from mta.config.loader import load, parse
from mta.config.mistake import ConfigError
from mta.config.settings import Settings
from tests.config.common import LEAST, ConfigCase


class LoadTests(ConfigCase):
    """`load` and `parse`."""

    def test_the_least_file(self) -> None:
        """Two lines, all else is default."""
        self.assertEqual(Settings("mx1.example.org", self.directory / "var"), self.load(LEAST))

    def test_every_mistake_at_once(self) -> None:
        """Structure, meaning and files in one list, by line."""
        self.assertEqual(
            [
                "DIR/mta.toml:1: hostname: a full host name is wanted, like mx1.example.org, not 'mx1'",
                "DIR/mta.toml:3: locl_domains: unknown key; did you mean 'local_domains'?",
                "DIR/mta.toml:5: tls.key: 'DIR/nix.pem' cannot be read: No such file or directory",
                "DIR/mta.toml:6: tls.certificate: a string is wanted, not true",
                "DIR/mta.toml:8: tls_client.starttls_timeout: more than 0 is wanted",
            ],
            self.mistakes(
                'hostname = "mx1"\ndata_dir = "var"\nlocl_domains = []\n[tls]\nkey = "nix.pem"\ncertificate = true\n'
                "[tls_client]\nstarttls_timeout = 0\n"
            ),
        )

    def test_relative_paths(self) -> None:
        """They start at the directory of the file, not at the working directory; links below it are not resolved."""
        target = self.directory / "elsewhere"
        (self.directory / "link").symlink_to(target)
        settings = self.load('hostname = "a.org"\ndata_dir = "link/q"\n[log]\nfile = "log/mta.log"\n')
        self.assertEqual(self.directory / "link" / "q", settings.data_dir)
        self.assertEqual(str(self.directory / "log" / "mta.log"), settings.log.file)
        self.assertEqual("-", self.load(LEAST + '[log]\nfile = "-"\n').log.file)
        self.say('[log]\nfile = ""', "2: log.file: a path or '-' is wanted, not ''")

    def test_syntax_errors(self) -> None:
        """TOML's own, with line and column, also at the end and for a key given twice."""
        for text, wanted in (
            ("a = 1\nb =\n", "DIR/mta.toml:2: not TOML: Invalid value (column 4)"),
            ("a = 1\na = 2\n", "DIR/mta.toml:2: not TOML: Cannot overwrite a value (column 6)"),
            ('a = 1\nb = """x\n', "DIR/mta.toml:2: not TOML: Unterminated string (at the end)"),
        ):
            self.assertEqual([wanted], self.mistakes(text))

    def test_what_tomllib_gives_up(self) -> None:
        """Tables and arrays in one another a thousand times, and a number that Python does not read: mistakes like others."""
        for text in ("a = " + "[" * 3000, "a = " + "{a=" * 3000, "a." * 2000 + "a = 1", "[" + "a." * 3000 + "a]"):
            self.assertEqual(["DIR/mta.toml: not TOML: nested too deeply"], self.mistakes(text))
        self.assertEqual(["DIR/mta.toml: not TOML: a number is too long"], self.mistakes("a = " + "9" * 5000))

    def test_not_utf8(self) -> None:
        """The line of the first bad byte."""
        self.file.write_bytes(b"a = 1\nb = '\xff'\n")
        with self.assertRaises(ConfigError) as caught:
            load(self.file)
        self.assertEqual(f"{self.file}:2: not TOML: the text is not UTF-8", str(caught.exception))

    def test_unreadable(self) -> None:
        """No such file: the system's words, no line."""
        with self.assertRaises(ConfigError) as caught:
            load(Path("/nix/mta.toml"))
        self.assertEqual("/nix/mta.toml: cannot be read: No such file or directory", str(caught.exception))

    def test_line_ends_of_other_systems(self) -> None:
        """CRLF counts as one line end."""
        with self.assertRaises(ConfigError) as caught:
            parse('hostname = "a.org"\r\ndata_dir = "x"\r\nfoo = """\r\n"""\r\nbar = 1\r\n', Path("m.toml"))
        self.assertEqual(
            ["m.toml:3: foo: unknown key", "m.toml:5: bar: unknown key"], [str(m) for m in caught.exception.mistakes]
        )

    def test_nothing_is_created(self) -> None:
        """Loading leaves no trace."""
        self.load(LEAST)
        self.assertEqual([self.file], list(self.directory.iterdir()))
