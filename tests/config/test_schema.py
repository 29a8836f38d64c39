"""The keys as read off the settings' classes."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.config.schema import holder_of, is_array, keys_of, leaves, row_class, tables
from mta.config.settings import Listen, Log, RouteEntry, Settings, Tls


class SchemaTests(SynchronousTestCase):
    """`tables`, `keys_of`, `leaves`."""

    def test_tables(self) -> None:
        """Tables and arrays of tables, with their classes."""
        found = tables()
        self.assertEqual((Tls, Listen, RouteEntry, Log), (found["tls"], found["listen"], found["route"], found["log"]))
        self.assertNotIn("hostname", found)

    def test_hints(self) -> None:
        """Plain keys are no tables."""
        hints = dict(keys_of(Settings))
        self.assertTrue(is_array(hints["listen"]))
        self.assertFalse(is_array(hints["tls"]))
        self.assertIsNone(row_class(hints["local_domains"]))
        self.assertIs(Listen, row_class(hints["listen"]))

    def test_holders(self) -> None:
        """Whose key the last name of a path is."""
        self.assertIs(Settings, holder_of(("hostname",)))
        self.assertIs(Tls, holder_of(("tls", "key")))
        self.assertIs(RouteEntry, holder_of(("route", 3, "match", 1)))

    def test_leaves(self) -> None:
        """Every plain key, row by row, with its value."""
        settings = Settings("a.org", Path("/x"), listen=(Listen("tcp:1"), Listen("tcp:2")))
        found = {path: value for path, _, value in leaves(settings)}
        self.assertEqual("a.org", found[("hostname",)])
        self.assertEqual("tcp:2", found[("listen", 1, "endpoint")])
        self.assertEqual("-", found[("log", "file")])
        self.assertNotIn(("listen",), found)
