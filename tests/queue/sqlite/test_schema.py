"""The queue file: its settings are what we asked for, and what is not ours is refused in plain words."""

from __future__ import annotations

from pathlib import Path

import apsw
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite.reads import load
from mta.queue.sqlite.schema import (
    APPLICATION_ID,
    META,
    TABLES,
    VERSION,
    highest_id,
    open_outside,
    open_reader,
    open_writer,
    recover,
)
from mta.queue.sqlite.statements import LATE_BY
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
        self.assertIn("version 99, this program knows version 3", self.refusal())

    def test_q27_migration(self) -> None:
        """A file of version 1 is brought to this version at start, with all that is in it; also one that was interrupted."""
        make_version_1(self.path)
        for _ in range(2):
            db = self.open()
            self.assertEqual(VERSION, db.pragma("user_version"))
            self.assertEqual([(4, "old@example.com")], list(db.execute("SELECT id,sender FROM message")))
            self.assertEqual([], list(db.execute("SELECT * FROM meta")))
            db.close()
        fresh = Path(self.mktemp())
        open_writer(fresh).close()
        self.assertEqual(tables(fresh), tables(self.path))

    def test_q27_migration_of_version_2(self) -> None:
        """Its mail has no time by which it was wanted, and is read so; what comes is found by its time."""
        make_version_2(self.path)
        db = self.open()
        self.assertEqual(VERSION, db.pragma("user_version"))
        self.assertEqual(0, load(db, 4).message.deliver_by)
        found = db.execute("EXPLAIN QUERY PLAN " + LATE_BY, {"now": 9, "by": 0, "after": 0, "limit": 1}).fetchall()
        self.assertIn("message_tell", str(found))
        db.close()
        fresh = Path(self.mktemp())
        open_writer(fresh).close()
        self.assertEqual(tables(fresh), tables(self.path))

    def test_q27_migration_that_fails(self) -> None:
        """No room for it, or something of that name is there: refused, and the file is of version 1 as before."""
        make_version_1(self.path)
        db = apsw.Connection(str(self.path))
        db.execute("CREATE TABLE meta(x)")
        before = tables(self.path)
        self.assertIn("meta", self.refusal())
        self.assertEqual((1, before), (db.pragma("user_version"), tables(self.path)))
        db.close()

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

    def test_looking_from_outside(self) -> None:
        """A file that nobody has open is read without a trace; one with a log, beside its owner; neither can be written."""
        path = self.path.with_name("odd?name%20#1.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        db = open_writer(path)
        db.execute("INSERT INTO dest VALUES ('a', 0, NULL, 0, NULL, 1, 0)")  # is in the log
        for _ in range(2):
            outside = open_outside(path)
            self.assertEqual([("a",)], list(outside.execute("SELECT name FROM dest")))
            self.assertRaises(apsw.ReadOnlyError, outside.execute, "DELETE FROM dest")
            outside.close()
            db.close()
        self.assertEqual([path.name], [each.name for each in path.parent.glob("odd*")])

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


VERSION_1 = TABLES.partition("CREATE TABLE meta")[0]  # as released: all but what the migration adds


def make_version_1(path: Path) -> None:
    """A queue file as version 1 left it, with one message."""
    db = apsw.Connection(str(path))
    db.execute("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").fetchall()
    db.execute(f"BEGIN; {VERSION_1}; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1; COMMIT")
    db.execute("INSERT INTO message VALUES (4,1,9,'old@example.com','smtp',NULL,1,0,NULL,1,1,4,x'',NULL,0,NULL)")
    db.execute("INSERT INTO delivery(id,message,dest,lane,due,state,address,notify) VALUES (5,4,'d',0,0,0,'a@b',0)")
    db.close()


def make_version_2(path: Path) -> None:
    """A queue file as version 2 left it, with that message."""
    make_version_1(path)
    db = apsw.Connection(str(path))
    db.execute(f"BEGIN; {META}; PRAGMA user_version=2; COMMIT")
    db.execute("INSERT INTO body VALUES (4, x'00')")
    db.close()


def tables(path: Path) -> list[tuple[str, str]]:
    """What the file is made of."""
    db = open_reader(path)
    try:
        return list(db.execute("SELECT name,sql FROM sqlite_schema ORDER BY name"))
    finally:
        db.close()
