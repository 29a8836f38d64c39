"""The documents against the code: what can be pasted is right, what is pointed at is there.

Every ```toml block of docs/*.md and README.md goes through what `mta check` does, by itself when it is a whole configuration
(it has a hostname), else laid over the least one; the files that it names are made first.  Every ```python block of
docs/embedding.md runs.  Every relative link leads to a file and, where it names one, to a heading of it; every path in
backticks exists.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Application, IServiceCollection
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.loader import load
from mta.config.mistake import ConfigError
from mta.testing.pki import Authority
from mta.tls.policy import Achieved, Level, Required

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md")
LEAST: Final = 'hostname = "mx1.example.org"\ndata_dir = "var"\n'
IDENTITY: Final = '\n[tls]\ncertificate = "/etc/mta/cert.pem"\nkey = "/etc/mta/key.pem"\n'
ROOM: Final = re.compile(r"`((?:mta|docs|etc|tests|bench|twisted)/[\w./-]*\w/?)`")
LINK: Final = re.compile(r"\]\(([^)\s]*)\)")
CODE: Final = re.compile(r"(?ms)^```.*?^```|`[^`\n]*`")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a page in that language, with the number of their first line."""
    text = page.read_text("utf-8")
    fenced = re.finditer(rf"(?ms)^```{language}\n(.*?)^```", text)
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in fenced]


def anchors(page: Path) -> set[str]:
    """What links may name: the headings, as forges write them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables_in(data: Any) -> Iterator[Mapping[str, Any]]:
    """Every table of parsed TOML."""
    if isinstance(data, dict):
        yield data
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from tables_in(inner)


def whole(text: str) -> str:
    """A block as a whole configuration: at least a hostname, a directory, a certificate."""
    data = tomllib.loads(text)
    text = text if "hostname" in data else LEAST + text
    return text if "certificate" in data.get("tls", {}) else text + IDENTITY


class ExampleTests(SynchronousTestCase):
    """What can be pasted."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.authority = Authority.create()

    def write(self, name: str, text: str | bytes) -> None:
        """A file in our directory, readable by us alone."""
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o600)

    def make_files(self, data: Any) -> None:
        """All files that a configuration names, with something in them that will do."""
        for table in tables_in(data):
            if "certificate" in table:
                rsa = "rsa" in table["certificate"]
                pair = self.authority.issue("mx1.example.org", key="rsa" if rsa else "ec")
                self.write(table["certificate"], pair.certificate_pem)
                self.write(table["key"], pair.key_pem)
            for key in ("ca", "client_ca", "trust"):
                for name in [table[key]] if isinstance(table.get(key), str) else table.get(key, ()):
                    self.write(name, self.authority.certificate_pem)
            if "passwords" in table:
                self.write(table["passwords"], "user:password\n")
            if "sender_map" in table:
                self.write(table["sender_map"], "user: list@example.org, @other.example\n")
            if "password_file" in table:
                self.write(table["password_file"], "secret\n")

    def check(self, text: str) -> None:
        """`mta check`; ConfigError."""
        text = whole(text).replace("/etc/mta/", "")
        self.make_files(tomllib.loads(text))
        self.write("mta.toml", text)
        load(self.directory / "mta.toml")

    def test_toml(self) -> None:
        """Every example passes `mta check`."""
        tried = 0
        for page in PAGES:
            for line, text in blocks(page, "toml"):
                tried += 1
                try:
                    self.check(text)
                except ConfigError as error:
                    self.fail(f"{page.name}:{line}: {error}")
        self.assertGreater(tried, 10)

    def test_a_mistake_is_found(self) -> None:
        """The test above can fail: a misspelled key, a path to nowhere."""
        with self.assertRaises(ConfigError):
            self.check('[handover]\nhosts_pas_tls = ["*"]\n')
        with self.assertRaises(ConfigError):
            self.check('[handover]\nhosts_pass_tls = ["/nowhere/hosts"]\n')

    def test_python(self) -> None:
        """Every block of the embedding page runs, one after another; what it makes starts nothing."""
        self.write("mta.toml", LEAST)
        names: dict[str, Any] = {"reactor": Clock(), "application": Application("example")}
        for line, text in blocks(ROOT / "docs" / "embedding.md", "python"):
            text = text.replace('Path("mta.toml")', repr(self.directory / "mta.toml").replace("PosixPath", "Path"))
            exec(compile("\n" * (line - 1) + text, "docs/embedding.md", "exec"), names)
        self.assertEqual(["mta"], [service.name for service in IServiceCollection(names["application"])])
        required = Required(Level.MAY, "mx.example.org", "192.0.2.1", 25, "example.org")
        verdict, why = names["Considerate"](names["usual"]).verdict(required, Achieved(version="TLSv1.3"))
        self.assertEqual(("keep", "hosts_pass_tls"), (verdict.value, why))


class LinkTests(SynchronousTestCase):
    """What is pointed at."""

    def test_links(self) -> None:
        """Every relative link leads somewhere."""
        for page in PAGES:
            for target in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
                path, _, anchor = target.partition("#")
                if "://" in path:
                    continue
                file = (page.parent / path).resolve() if path else page
                self.assertTrue(file.exists(), f"{page.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(file), f"{page.name}: {target}")

    def test_paths(self) -> None:
        """Every path in backticks is there."""
        for page in PAGES:
            for name in ROOM.findall(page.read_text("utf-8")):
                self.assertTrue((ROOT / name).exists(), f"{page.name}: {name}")
