"""Every statement searches by an index, and costs the same in a small queue and in a large one."""

from __future__ import annotations

import re
from typing import Any

import apsw
from twisted.trial.unittest import SynchronousTestCase

from mta.queue.sqlite import statements as sql
from tests.queue.sqlite.case import fresh_database

DEST = "smtp:default/example7.org"

# two recipients for each message, and every 7th with a time, by turns of both modes; 20 destinations, 8 lanes, half of them due; every 50th taken, every 60th held
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<:messages)
INSERT INTO message SELECT i*4, i, CASE WHEN i%10=0 THEN 5 ELSE 1000000000 END, 's@example.com', 'smtp', NULL, 500,
 CASE WHEN i%14=0 THEN 256 ELSE 0 END, NULL, 2, 2, i*4, zeroblob(300), NULL, 0, CASE WHEN i%7=0 THEN i END FROM n;
INSERT INTO body SELECT id, zeroblob(300) FROM message;
INSERT INTO delivery SELECT m.id+1+k.value, m.id, 'smtp:default/example'||((m.id/4)%20)||'.org', (m.id/80)%8,
 CASE WHEN k.value=0 THEN m.id ELSE m.id+900000000 END, CASE WHEN (m.id/4)%50=0 THEN 1 WHEN (m.id/4)%60=0 THEN 2 ELSE 0 END, 0,
 'user'||m.id||'@example.org', NULL, 0, NULL, NULL, NULL, NULL, NULL FROM message m, json_each('[0,1]') k;
INSERT INTO dest VALUES('smtp:default/example7.org', 1, 'busy', 1, 1, 0, 1);
"""

RANGE: dict[str, Any] = {"message": 400, "state": 0, "due": 0, "limit": 20, "dest": DEST, "lane": 2}
UNSAID = dict.fromkeys(("dest", "state", "to", "account"))
# how each is run in the measurement; the ids are of rows near the beginning, present in both sizes
SINGLE_VALUES: dict[str, Any] = {
    "SAME_MESSAGE": (400, 100, "s@example.com", 500, 2, bytes(300)),
    "ADDRESSES": (400, 402),
    "IN_USE": {"id": 400, "last": 402},
    "CLAIM": (DEST, 2, 400_000_000, 100, 5),
    "FIRST_DUE": (DEST, 2, 100, 5),
    "NEXT_LANE": (DEST, 2),
    "NEXT_DEST": (DEST,),
    "ALL_DESTS": (),
    "ONE_DEST": (DEST,),
    "PUT_DEST": (DEST, 1, "x", 1, 1, 0, 1),
    "DROP_DEST": (DEST,),
    "OLD_MESSAGES": (400, 500, 20),
    "EXPIRABLE": (400, 402),
    "GIVEN_BACK": {"now": 5000, "by": 70, "after": 280, "limit": 20},
    "LOAD": (400,),
    "CHUNK": (400,),
    "BODY_PLACE": (400,),
    "BROWSE": {"after": 400, "last": 1 << 62, "limit": 20, "sender": "S@*".lower(), "before": 9000, **UNSAID},
    "WINDOW": (400, 20),
    "WINDOW_MESSAGES": (400, 20),
    "READY_DEST": RANGE,
    "LATE": {"after": 400, "last": 500, "limit": 20},
    "LATE_BY": {"now": 5000, "by": 70, "after": 280, "limit": 20},
    "LATE_RECIPIENTS": (400, 402),
    "WARNED": (400,),
    "SUMMARY": {"after": 400, "last": 500, "now": 1, "young": 1, "middle": 1, "old": 1},
    "NOTED": ("routes",),
    "NOTE": ("routes", "x"),
    "LAST_RECIPIENT": (400,),
    "EXISTS": (400,),
    **dict.fromkeys(("OF_MESSAGE", "OF_MESSAGE_DEST", "WAITING_LANE", "FRESH", "FRESH_DEST", "HELD", "HELD_DEST"), RANGE),
}
HELD_DEST = "smtp:default/example0.org"
SINGLE_VALUES["HELD_DEST"] = SINGLE_VALUES["FRESH_DEST"] = RANGE | {"dest": HELD_DEST, "limit": 5}
KINDS = ("SELECT", "INSERT", "DELETE", "UPDATE")
SINGLE = {name: text for name, text in vars(sql).items() if isinstance(text, str) and text.split(" ")[0] in KINDS}
MANY = {name: rows for name, rows in vars(sql).items() if isinstance(rows, sql.Rows)}
NEW = 1 << 50
MANY_VALUES: dict[str, list[list[Any]]] = {
    "INSERT_MESSAGE": [[NEW + n * 4, 1, 1, "s", "smtp", None, 1, 0, None, 1, 1, 1, b"", None, 0, 0] for n in range(8)],
    "INSERT_BODY": [[NEW + n, b"x"] for n in range(8)],
    "INSERT_DELIVERY": [[NEW + n, 400, DEST, 2, 1, n % 2, "a", None, 0, None, None] for n in range(8)],
    "HISTORY": [[401 + n * 4, 1, 7, None, None] for n in range(8)],
    "DELETE_DELIVERY": [[401 + n * 4] for n in range(8)],
    "DELETE_BODY": [[400 + n * 4] for n in range(8)],
    "DELETE_MESSAGE": [[400 + n * 4] for n in range(8)],
    "COUNT_DOWN": [[400 + n * 4, 1] for n in range(8)],
    "PUT_BACK": [[401 + n * 4, 500, "bounce:", 550, "no", 7, "mx.example.org"] for n in range(8)],
    "HOLD": [[401 + n * 4] for n in range(8)],
    "RELEASE": [[401 + n * 4, 500] for n in range(8)],
    "RETRY": [[401 + n * 4, 500] for n in range(8)],
    "PLACES": [[401 + n * 4] for n in range(8)],
    "REFILE": [[401 + n * 4, "smtp:other/x", 500, None, None] for n in range(8)],
    "EXPIRE": [[401 + n * 4, 500] for n in range(8)],
}


def filled(messages: int) -> apsw.Connection:
    db = fresh_database()
    db.execute(FILL, {"messages": messages})
    return db


def steps(db: apsw.Connection, text: str, values: Any) -> int:
    """Instructions of SQLite's machine; what the statement does is undone."""
    count = 0

    def step() -> bool:
        nonlocal count
        count += 1
        return False

    db.execute("SAVEPOINT measure")
    db.set_progress_handler(step, 1)
    cursor = db.execute(text, values)
    taken = 0
    while taken < 20 and cursor.fetchone() is not None:  # a claim stops when its quota is filled
        taken += 1
    cursor.close()
    db.set_progress_handler(None)
    db.execute("ROLLBACK TO measure; RELEASE measure")
    return count


class RowsTests(SynchronousTestCase):
    """One statement for many rows."""

    def test_any_number_of_rows(self) -> None:
        """0, 1, 100, 1,000 rows: all are run, in chunks of powers of two; what is returned is in order."""
        rows = sql.Rows("INSERT INTO t(a,b) VALUES %s RETURNING a", 2)
        for count in (0, 1, 2, 3, 100, 255, 256, 257, 1000):
            db = apsw.Connection(":memory:")
            db.execute("CREATE TABLE t(a,b)")
            values = [value for number in range(count) for value in (number, "x")]
            self.assertEqual([(number,) for number in range(count)], rows.run(db, values))
            self.assertEqual(count, db.execute("SELECT count(*) FROM t WHERE b='x'").get)

    def test_prepared_once(self) -> None:
        """The second time every text is found in the driver's cache."""
        db = fresh_database()
        for round in range(2):
            misses = db.cache_stats()["misses"]
            for count in (100, 37, 256):
                sql.DELETE_DELIVERY.run(db, range(count))
        self.assertEqual(misses, db.cache_stats()["misses"])
        for rows in MANY.values():
            self.assertTrue(len(rows.text(sql.LARGEST)) < 16_384, "the driver caches no longer texts")
            self.assertTrue(rows.width * sql.LARGEST <= 32_766, "SQLite's limit of parameters")

    def test_a_percent_sign_in_values(self) -> None:
        """Values are parameters, never text of the statement."""
        db = fresh_database()
        sql.INSERT_BODY.run(db, [1, b"%s'; DROP TABLE body; --"])
        self.assertEqual([(b"%s'; DROP TABLE body; --",)], list(db.execute("SELECT data FROM body")))


class PlanTests(SynchronousTestCase):
    """What SQLite makes of the statements."""

    def test_all_are_measured(self) -> None:
        """A new statement must be entered here."""
        self.assertEqual(set(SINGLE), set(SINGLE_VALUES))
        self.assertEqual(set(MANY), set(MANY_VALUES))

    def test_q32_plans(self) -> None:
        """Searches by index or primary key only: no scan of a table that grows, no sorting but of a summary's window."""
        db = filled(1000)
        texts = dict(SINGLE)
        for name, rows in MANY.items():
            texts |= {f"{name} {count}": rows.text(count) for count in (1, 64, 256)}
        offences = []
        for name, text in texts.items():
            values = SINGLE_VALUES[name] if name in SINGLE_VALUES else [None] * text.count("?")
            for *_, detail in db.execute("EXPLAIN QUERY PLAN " + text, values):
                scan = re.match(r"SCAN (delivery|message|body|d|m)\b", detail)
                if scan or ("TEMP B-TREE" in detail and name != "SUMMARY") or "AUTOMATIC" in detail:
                    offences.append(f"{name}: {detail}")
        self.assertEqual([], offences)

    def test_q32_a_scan_would_be_found(self) -> None:
        """The test tests itself: the obvious query for the oldest due row walks the table."""
        db = filled(1000)
        plan = list(db.execute("EXPLAIN QUERY PLAN SELECT id FROM delivery WHERE state=0 ORDER BY due LIMIT 1"))
        self.assertTrue(any("SCAN delivery" in str(line) for line in plan))

    def test_q32_cost_is_independent_of_the_queue(self) -> None:
        """Instructions at 12,000 and at 200,000 recipients differ by less than a fifth."""
        small, large = filled(6000), filled(100_000)
        offences, counts = [], {}
        for name, text in SINGLE.items():
            counts[name] = tuple(steps(db, text, SINGLE_VALUES[name]) for db in (small, large))
        for name, rows in MANY.items():
            values = [value for row in MANY_VALUES[name] for value in row]
            counts[name] = tuple(steps(db, rows.text(8), values) for db in (small, large))
        for name, (before, after) in counts.items():
            if not 0 < after <= before * 1.2 + 5:
                offences.append(f"{name}: {before} -> {after}")
        self.assertEqual([], offences)
        self.assertTrue(counts["CLAIM"][0] > 200, "the claim found its rows")
