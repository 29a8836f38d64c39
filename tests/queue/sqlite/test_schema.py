"""The queue file: its settings are what we asked for, and what is not ours is refused in plain words."""

from __future__ import annotations

from pathlib import Path

import apsw
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.schema import APPLICATION_ID, VERSION, highest_id, open_reader, open_writer, recover
from mta.status import MailError


class SchemaTests(SynchronousTestCase):
    """One file for each test."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def open(self) -> apsw.Connection:
        db = open_writer(self.path)
        self.addCleanup(db.close)
        return db

    def refusal(self) -> str:
        return str(self.assertRaises(MailError, open_writer, self.path))

    def test_q31_settings_are_read_back(self) -> None:
        """Also in a file that exists: WAL, FULL, no secure_delete, no checkpoint but ours, 4 KiB pages."""
        for _ in range(2):
            db = self.open()
            found = [db.pragma(name) for name in ("journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint")]
            self.assertEqual(["wal", 2, 0, 0], found)
            self.assertEqual([4096, 2], [db.pragma(name) for name in ("page_size", "auto_vacuum")])
            self.assertEqual([APPLICATION_ID, VERSION], [db.pragma(name) for name in ("application_id", "user_version")])
            db.close()

    def test_q31_setting_that_does_not_hold(self) -> None:
        """A build that ignores a setting is not used: here one that cannot have a WAL."""
        self.path = Path(":memory:")
        self.assertIn("journal_mode is 'memory', 'wal' is needed", self.refusal())

    def test_unknown_version(self) -> None:
        """Tables of a later program are left alone."""
        self.open().execute("PRAGMA user_version=99")
        self.assertIn("version 99, this program knows version 2", self.refusal())

    def test_file_of_something_else(self) -> None:
        """Another program's database, no database at all, a folder: refused, and unchanged."""
        db = apsw.Connection(str(self.path))
        db.execute("CREATE TABLE t(a)")
        self.assertIn("not a queue file", self.refusal())
        self.assertEqual([("t",)], list(db.execute("SELECT name FROM sqlite_schema")))
        db.close()
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"no database" * 1000)
        self.assertIn("not a database", self.refusal())
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.assertIn("unable to open", self.refusal())

    def test_interrupted_creation(self) -> None:
        """Killed before the tables were committed: the next start makes them."""
        db = apsw.Connection(str(self.path))
        db.execute("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").fetchall()
        db.close()
        self.assertEqual(0, highest_id(self.open()))

    def test_q30_readers_cannot_write(self) -> None:
        """Every connection but the one is read-only."""
        self.open()
        db = open_reader(self.path)
        self.addCleanup(db.close)
        self.assertRaises(apsw.ReadOnlyError, db.execute, "DELETE FROM message")
        self.assertEqual([], list(db.execute("SELECT * FROM delivery")))

    def test_recovery(self) -> None:
        """Taken rows wait again, held ones stay held; the highest id is found."""
        db = self.open()
        for id, state in ((2, 0), (4, 1), (6, 2)):
            db.execute(
                "INSERT INTO delivery(id,message,dest,lane,due,state,address,notify) VALUES (?,1,'d',0,0,?,'a',0)", (id, state)
            )
        recover(db)
        self.assertEqual([(2, 0), (4, 0), (6, 2)], list(db.execute("SELECT id,state FROM delivery")))
        self.assertEqual(6, highest_id(db))

    def test_types_are_held(self) -> None:
        """A value of the wrong type or no value is an error, never a conversion: what would be lost is refused."""
        db = self.open()
        for id, dest, due in ((1, None, 0), (1, "", 0), (1, b"d", 0), (1, "d", "soon"), (1, "d", None)):
            self.assertRaises(
                apsw.ConstraintError,
                db.execute,
                "INSERT INTO delivery(id,message,dest,lane,due,state,address,notify) VALUES (?,1,?,0,?,0,'a',0)",
                (id, dest, due),
            )
