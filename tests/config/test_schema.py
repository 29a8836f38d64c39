"""The keys as read off the settings' classes."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.config.schema import holder_of, is_array, keys_of, leaves, row_class, tables
from mta.config.settings import Listen, Log, RouteAuth, RouteEntry, Settings, Sni, Tls


class SchemaTests(SynchronousTestCase):
    """`tables`, `keys_of`, `leaves`."""

    def test_tables(self) -> None:
        """Tables and arrays of tables, with their classes."""
        found = tables()
        self.assertEqual((Tls, Listen, RouteEntry, Log), (found["tls"], found["listen"], found["route"], found["log"]))
        self.assertNotIn("hostname", found)
        self.assertEqual((Sni, RouteAuth), (found["tls.sni"], found["route.auth"]))

    def test_hints(self) -> None:
        """Plain keys are no tables."""
        hints = dict(keys_of(Settings))
        self.assertTrue(is_array(hints["listen"]))
        self.assertFalse(is_array(hints["tls"]))
        self.assertIsNone(row_class(hints["local_domains"]))
        self.assertIs(Listen, row_class(hints["listen"]))
        self.assertIs(RouteAuth, row_class(dict(keys_of(RouteEntry))["auth"]))

    def test_holders(self) -> None:
        """Whose key the last name of a path is."""
        self.assertIs(Settings, holder_of(("hostname",)))
        self.assertIs(Tls, holder_of(("tls", "key")))
        self.assertIs(RouteEntry, holder_of(("route", 3, "match", 1)))
        self.assertIs(RouteEntry, holder_of(("route", 3, "auth")))
        self.assertIs(RouteAuth, holder_of(("route", 3, "auth", "user")))
        self.assertIs(Sni, holder_of(("tls", "sni", 0, "names", 1)))

    def test_leaves(self) -> None:
        """Every plain key, row by row, with its value."""
        settings = Settings(
            "a.org",
            Path("/x"),
            listen=(Listen("tcp:1"), Listen("tcp:2")),
            tls=Tls(sni=(Sni(("b.org",), Path("/c"), Path("/k")),)),
            route=(RouteEntry(("*",), "[a.org]", auth=RouteAuth("u", Path("/p"))), RouteEntry(("local",), "[b.org]")),
        )
        found = {path: value for path, _, value in leaves(settings)}
        self.assertEqual("a.org", found[("hostname",)])
        self.assertEqual("tcp:2", found[("listen", 1, "endpoint")])
        self.assertEqual("-", found[("log", "file")])
        self.assertNotIn(("listen",), found)
        self.assertEqual(Path("/k"), found[("tls", "sni", 0, "key")])
        self.assertEqual("u", found[("route", 0, "auth", "user")])
        self.assertFalse({("route", 0, "auth"), ("route", 1, "auth"), ("route", 1, "auth", "user")} & set(found))
