"""Keys of later releases."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.future import NOT_BUILT_KEYS, is_future
from mta.config.schema import keys_of, tables
from mta.config.settings import Settings


class FutureTests(SynchronousTestCase):
    """The table."""

    def test_rows_do_not_matter(self) -> None:
        """A key in any row of an array of tables."""
        self.assertTrue(is_future(("service", 3)))
        self.assertTrue(is_future(("service",)))
        self.assertFalse(is_future(("listen", 3, "endpoint")))
        self.assertFalse(is_future(("submission",)))

    def test_none_is_built(self) -> None:
        """What has landed in the settings leaves the table."""
        built = {name for name, _ in keys_of(Settings)} | {
            f"{name}.{key}" for name, cls in tables().items() for key, _ in keys_of(cls)
        }
        self.assertEqual(set(), built & NOT_BUILT_KEYS)

    def test_its_tables_are_real(self) -> None:
        """A dotted key belongs to a table that is there."""
        self.assertEqual(set(), {key for key in NOT_BUILT_KEYS if "." in key and key.split(".")[0] not in tables()})
