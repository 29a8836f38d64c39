"""The settings against the manual and the shipped file: neither may say what is not so."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import attrs

from mta.config.loader import load
from mta.config.receiving import Access, Greylist
from mta.config.render import value_text
from mta.config.schema import keys_of, row_class, tables
from mta.config.settings import Settings
from mta.config.structure import structure
from tests.config.common import ConfigCase

ROOT = Path(__file__).parent.parent.parent
MANUAL = ROOT / "docs" / "configuration.md"
SHIPPED = ROOT / "etc" / "mta.toml"


def default_text(cls: type, key: str, hint: Any) -> str:
    """The manual's column "default"."""
    default = getattr(attrs.fields(cls), key).default
    if default is attrs.NOTHING:
        return "must be given"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # it depends on other keys: what it is when none is given
        needed = {field.name: "" for field in attrs.fields(cls) if field.default is attrs.NOTHING}
        default = getattr(cls(**needed), key)
    return "none" if default is None else f"`{value_text(hint, default)}`"


def rows_of(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Every row of a table of parsed TOML: of [name] the one, of [[name]] all."""
    holders = [data]
    for step in name.split("."):
        inner = [holder[step] for holder in holders if step in holder]
        holders = [row for given in inner for row in (given if isinstance(given, list) else [given])]
    return holders


class ManualTests(ConfigCase):
    """docs/configuration.md."""

    def test_every_key_with_its_default(self) -> None:
        """The tables of the manual are those of the classes: keys, order, defaults."""
        wanted = [("", key, default_text(Settings, key, hint)) for key, hint in keys_of(Settings) if row_class(hint) is None]
        for name, cls in tables().items():
            wanted += [(name, key, default_text(cls, key, hint)) for key, hint in keys_of(cls) if row_class(hint) is None]
        found, table = [], ""
        for line in MANUAL.read_text().splitlines():
            if line.startswith("## "):
                header = re.match(r"## `\[+([\w.]+)\]+`", line)
                table = header[1] if header else ""
            if row := re.match(r"\| `(\w+)` \| (.*?) \| \S", line):
                found.append((table, row[1], row[2]))
        self.assertEqual(sorted(wanted), sorted(found))


class ShippedFileTests(ConfigCase):
    """etc/mta.toml."""

    def shipped(self) -> Path:
        """A copy whose certificate exists, as after `mta dev-cert var/tls`."""
        file = self.directory / "etc" / "mta.toml"
        file.parent.mkdir()
        shutil.copy(SHIPPED, file)
        (self.directory / "var").mkdir()
        self.identity("var/tls")
        return file

    def test_it_loads(self) -> None:
        """It serves loopback clients on port 2525 with STARTTLS, and relays for nobody else."""
        settings = load(self.shipped())
        self.assertEqual(["tcp:2525:interface=127.0.0.1"], [listen.endpoint for listen in settings.listen])
        self.assertEqual(self.directory / "var", settings.data_dir)
        self.assertEqual(self.directory / "var" / "tls" / "key.pem", settings.tls.key)
        self.assertTrue(all(network.is_loopback for network in settings.access.relay_from))
        self.assertEqual(((), ()), (settings.access.relay_domains, settings.route))

    def test_its_comments_are_true(self) -> None:
        """With every key uncommented: all keys are real, all are there, and but for the examples all are the defaults."""
        text = re.sub(r"(?m)^# (?=\[|\w+ = )", "", SHIPPED.read_text())
        data = tomllib.loads(text)
        self.assertEqual({name for name, _ in keys_of(Settings)}, set(data))
        for name, cls in tables().items():
            self.assertEqual({key for key, _ in keys_of(cls)}, {key for row in rows_of(data, name) for key in row}, name)
        settings, findings = structure(data, Path("/etc"))
        self.assertEqual([], findings)
        own = (
            "hostname",
            "data_dir",
            "listen",
            "tls",
            "route",
            "tls_policy",
            "hostlist",
            "auth",
            "access",
            "destination",
            "site",
        )
        for name in {field.name for field in attrs.fields(Settings)} - set(own):
            self.assertEqual(getattr(attrs.fields(Settings), name).default, getattr(settings, name), name)
        access = attrs.evolve(settings.access, rule=(), dnsbl=(), recipients=())
        self.assertEqual(Access(greylist=Greylist()), access)
        self.assertEqual(Settings("a", Path("b")).tls, attrs.evolve(settings.tls, certificate=None, key=None, sni=()))
