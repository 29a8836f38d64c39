"""Every statement that the queue runs, and how one statement takes many rows.

A statement for many rows exists in sizes of 1, 2, 3 ... 24 and 32, 64, 128, 256, so that each text is prepared once and found
again in the driver's cache; 100 rows are 64 + 32 + 4.  One statement for many rows, not many runs of one: the interpreter's
lock is given up and fought for once for each run (measured: 166 ms against 5.8 ms for 100 messages beside a busy reactor).
Inserts are plain: `OR IGNORE` would drop a row with a NULL or a failed CHECK without a word, and that is lost mail.
tests/queue/sqlite/test_statements.py holds the plan of each: searches by index only, cost independent of the queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from mta.queue.retry import NEVER_TRIED

__all__ = ["Rows"]

EXACT = 24  # rows that are one statement, whatever their number; a batch has seldom more
LARGEST = 256  # rows of one statement; with the widest that is 3,584 parameters (SQLite takes 32,766)


class Rows:
    """A statement with a place, marked %s, for a list of rows of `width` parameters each."""

    __slots__ = ("_texts", "width")

    def __init__(self, text: str, width: int, row: str = "") -> None:
        self.width: Final = width
        row = row or f"({','.join('?' * width)})"
        sizes = {*range(1, EXACT + 1), *(1 << n for n in range(LARGEST.bit_length()))}
        self._texts = {size: text.replace("%s", ",".join([row] * size)) for size in sizes}

    def run(self, db: apsw.Connection, values: Sequence[Any]) -> list[Any]:
        """Run it for all rows, given as one flat list; what RETURNING returns."""
        returned: list[Any] = []
        start, left = 0, len(values) // self.width
        while left:
            count = left if left <= EXACT else min(1 << (left.bit_length() - 1), LARGEST)
            end = start + count * self.width
            returned += db.execute(self._texts[count], values[start:end])
            start, left = end, left - count
        return returned

    def text(self, count: int) -> str:
        """The statement for that many rows: up to 24, or a power of two up to 256."""
        return self._texts[count]


# -- accept

INSERT_MESSAGE = Rows(
    "INSERT INTO message(id,created,expires,sender,source,account,size,flags,envid,nrcpt,pending,body,prefix,trace,"
    "priority,deliver_by) VALUES %s",
    16,
)
INSERT_BODY = Rows("INSERT INTO body(id,data) VALUES %s", 2)
INSERT_DELIVERY = Rows(
    "INSERT INTO delivery(id,message,dest,lane,due,state,address,orcpt,notify,last_code,last_reply) VALUES %s", 11
)
# what a recipient from another queue has behind it
HISTORY = Rows(
    "WITH x(id,attempts,tried,host,failed) AS (VALUES %s) UPDATE delivery SET attempts=x.attempts, last_try=x.tried,"
    " last_host=x.host, failed_dest=x.failed FROM x WHERE delivery.id=x.id",
    5,
)
IN_USE = (
    "SELECT EXISTS(SELECT 1 FROM message WHERE id>=:id AND id<=:last) OR EXISTS(SELECT 1 FROM delivery WHERE id>=:id AND"
    " id<=:last) OR EXISTS(SELECT 1 FROM body WHERE id>=:id AND id<=:last)"
)
SAME_MESSAGE = "SELECT 1 FROM message WHERE id=? AND created=? AND sender=? AND size=? AND nrcpt=? AND prefix=?"
ADDRESSES = "SELECT id,address FROM delivery WHERE id>? AND id<=?"

# -- settle

DELETE_DELIVERY = Rows("DELETE FROM delivery WHERE id IN (%s)", 1, "?")
DELETE_BODY = Rows("DELETE FROM body WHERE id IN (%s)", 1, "?")
DELETE_MESSAGE = Rows("DELETE FROM message WHERE id IN (%s)", 1, "?")
# message, how many of its recipients are gone
COUNT_DOWN = Rows(
    "WITH x(id,gone) AS (VALUES %s) UPDATE message SET pending=pending-x.gone FROM x WHERE message.id=x.id"
    " RETURNING id,pending,body",
    2,
)
# id, due, dest, code, reply (None: as it was), now if the attempt counts else None.  A held row stays held; one that has
# failed starts its attempts anew at the bounce.
PUT_BACK = Rows(
    "WITH x(id,due,dest,code,reply,tried,host) AS (VALUES %s) UPDATE delivery SET"
    " state=CASE delivery.state WHEN 2 THEN 2 ELSE 0 END, due=coalesce(x.due,delivery.due), dest=coalesce(x.dest,delivery.dest),"
    " failed_dest=CASE WHEN x.dest IS NULL OR x.dest=delivery.dest THEN failed_dest ELSE delivery.dest END,"
    " attempts=CASE WHEN x.dest IS NOT NULL THEN 0 WHEN x.tried IS NULL THEN attempts ELSE attempts+1 END,"
    " last_try=coalesce(x.tried,last_try), last_code=coalesce(x.code,last_code), last_reply=coalesce(x.reply,last_reply),"
    " last_host=CASE WHEN x.reply IS NULL THEN last_host ELSE x.host END"
    " FROM x WHERE delivery.id=x.id",
    7,
)

# -- claim

CLAIM = (
    "SELECT id,message,dest,lane,due,attempts,address,orcpt,notify,last_reply,failed_dest,last_host FROM delivery"
    " WHERE state=0 AND dest=? AND lane=? AND due<=? AND (due,id)>(?,?) ORDER BY due,id"
)
FIRST_DUE = "SELECT due,id FROM delivery WHERE state=0 AND dest=? AND lane=? AND (due,id)>(?,?) ORDER BY due,id"
# two seeks instead of (dest,lane)>(?,?), which walks the equal lane (docs/queue.md)
NEXT_LANE = "SELECT lane FROM delivery WHERE state=0 AND dest=? AND lane>? ORDER BY lane LIMIT 1"
NEXT_DEST = "SELECT dest FROM delivery WHERE state=0 AND dest>? ORDER BY dest LIMIT 1"

# -- alter: which recipients.  The parameters are named, all texts take the same.

MESSAGE_RANGE = "id>:message AND id<=:message+coalesce((SELECT nrcpt FROM message WHERE id=:message),0)"
SUITABLE = f"{MESSAGE_RANGE} AND state=:state AND due>:due"
OF_MESSAGE = f"SELECT id,message FROM delivery WHERE {SUITABLE} ORDER BY id LIMIT :limit"
OF_MESSAGE_DEST = f"SELECT id,message FROM delivery WHERE {SUITABLE} AND +dest=:dest ORDER BY id LIMIT :limit"
WAITING_LANE = (
    "SELECT id,message FROM delivery WHERE state=0 AND dest=:dest AND lane=:lane AND due>:due ORDER BY due,id LIMIT :limit"
)
FRESH = "SELECT id,message FROM delivery WHERE state=1 AND id>0 ORDER BY id LIMIT :limit"
FRESH_DEST = "SELECT id,message FROM delivery WHERE state=1 AND id>0 AND +dest=:dest ORDER BY id LIMIT :limit"
HELD = "SELECT id,message FROM delivery WHERE state=2 AND dest>'' ORDER BY dest,id LIMIT :limit"
HELD_DEST = "SELECT id,message FROM delivery WHERE state=2 AND dest=:dest ORDER BY id LIMIT :limit"

HOLD = Rows("UPDATE delivery SET state=2 WHERE id IN (%s)", 1, "?")
# id, due.  What its sender has put off (RFC 4865) and nobody has tried is due at its release.
RELEASE = Rows(
    "WITH x(id,due) AS (VALUES %s) UPDATE delivery SET state=0,due=CASE WHEN attempts=0 AND delivery.due>x.due"
    " AND (SELECT flags&1024 FROM message WHERE id=delivery.message)<>0 THEN delivery.due ELSE x.due END"
    " FROM x WHERE delivery.id=x.id",
    2,
)
RETRY = Rows("WITH x(id,due) AS (VALUES %s) UPDATE delivery SET due=x.due FROM x WHERE delivery.id=x.id", 2)

# what recipients are now, for those who found them a moment ago
PLACES = Rows("SELECT id,message,dest,state,due FROM delivery WHERE id IN (%s)", 1, "?")
# id, dest, due, code, reply (None: as it was).  At the bounce attempts begin anew; what left it did not fail there.
REFILE = Rows(
    "WITH x(id,dest,due,code,reply) AS (VALUES %s) UPDATE delivery SET dest=x.dest, due=x.due,"
    " failed_dest=CASE x.dest WHEN 'bounce:' THEN delivery.dest END,"
    " attempts=CASE x.dest WHEN 'bounce:' THEN 0 ELSE attempts END,"
    " last_code=coalesce(x.code,last_code), last_reply=coalesce(x.reply,last_reply),"
    " last_host=CASE WHEN x.reply IS NULL THEN last_host END FROM x WHERE delivery.id=x.id",
    5,
)

# -- destinations

ALL_DESTS = "SELECT name,blocked_until,blocked_why,fails,first_fail,suspended,changed FROM dest ORDER BY name"
ONE_DEST = "SELECT name,blocked_until,blocked_why,fails,first_fail,suspended,changed FROM dest WHERE name=?"
PUT_DEST = (
    "INSERT INTO dest(name,blocked_until,blocked_why,fails,first_fail,suspended,changed) VALUES (?,?,?,?,?,?,?)"
    " ON CONFLICT(name) DO UPDATE SET blocked_until=excluded.blocked_until, blocked_why=excluded.blocked_why,"
    " fails=excluded.fails, first_fail=excluded.first_fail, suspended=excluded.suspended, changed=excluded.changed"
)
DROP_DEST = "DELETE FROM dest WHERE name=?"

# -- sweep

# the last: it ends by its sender's wish (RFC 2852), which is no lifetime
OLD_MESSAGES = "SELECT id,nrcpt,expires,flags&256<>0 AND deliver_by=expires FROM message WHERE id>? AND id<? ORDER BY id LIMIT ?"
GIVEN_BACK = (
    "SELECT id,nrcpt,deliver_by FROM message WHERE flags&256<>0 AND deliver_by<=:now AND (deliver_by,id)>(:by,:after)"
    " ORDER BY deliver_by,id LIMIT :limit"
)
EXPIRABLE = "SELECT id FROM delivery WHERE id>? AND id<=? AND +state=0 AND +dest<>'bounce:' ORDER BY id"
# id, due.  Why an operator has suspended a destination is nothing for senders.
EXPIRE = Rows(
    "WITH x(id,due) AS (VALUES %s) UPDATE delivery SET failed_dest=dest, dest='bounce:', due=x.due, attempts=0,"
    " last_code=coalesce(last_code,451), last_reply=coalesce(last_reply,"
    f"(SELECT blocked_why FROM dest WHERE name=delivery.dest AND suspended=0),'{NEVER_TRIED}')"
    " FROM x WHERE delivery.id=x.id",
    2,
)

# -- read-only

LOAD = (
    "SELECT id,sender,created,expires,size,flags,nrcpt,prefix,source,account,envid,trace,priority,coalesce(deliver_by,0),body"
    " FROM message WHERE id=?"
)
CHUNK = "SELECT data FROM body WHERE id=?"
BODY_PLACE = "SELECT body,size-length(prefix) FROM message WHERE id=?"
EXISTS = "SELECT 1 FROM message WHERE id=?"
NOTED = "SELECT value FROM meta WHERE key=?"
NOTE = "INSERT INTO meta(key,value) VALUES (?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value"

# -- searches: every text looks at the rows between two ids only, and WINDOW says which id is so many rows on

WINDOW = "SELECT id FROM delivery WHERE id>? ORDER BY id LIMIT 1 OFFSET ?"
WINDOW_MESSAGES = "SELECT id FROM message WHERE id>? ORDER BY id LIMIT 1 OFFSET ?"
BROWSE = (
    "SELECT d.id,d.message,m.sender,d.address,d.dest,d.state,d.due,d.attempts,m.created,m.size,d.last_code,d.last_reply,"
    "d.last_try,d.failed_dest,d.lane,m.account,m.expires,m.flags,d.orcpt,d.notify,d.last_host"
    " FROM delivery d CROSS JOIN message m ON m.id=d.message WHERE d.id>:after AND d.id<=:last"
    " AND (:dest IS NULL OR +d.dest=:dest) AND (:state IS NULL OR +d.state=:state)"
    " AND (:to IS NULL OR lower(d.address) GLOB :to) AND (:sender IS NULL OR lower(m.sender) GLOB :sender)"
    " AND (:before IS NULL OR m.created<:before) AND (:account IS NULL OR m.account=:account) ORDER BY d.id LIMIT :limit"
)
READY_DEST = "SELECT id FROM delivery WHERE state=0 AND dest=:dest LIMIT :limit"  # by the index alone
# a sender who has named his own time is told then, if the message has so much time
LATE = (
    "SELECT id,nrcpt FROM message WHERE id>:after AND id<=:last AND +flags&16=0 AND +sender<>''"
    " AND (deliver_by IS NULL OR deliver_by=0 OR flags&256<>0 OR deliver_by>=expires) ORDER BY id LIMIT :limit"
)
LATE_BY = (
    "SELECT id,nrcpt,deliver_by FROM message WHERE deliver_by>0 AND flags&272=0 AND deliver_by<=:now"
    " AND (deliver_by,id)>(:by,:after) AND +sender<>'' ORDER BY deliver_by,id LIMIT :limit"
)
LATE_RECIPIENTS = (
    "SELECT id,message,dest,lane,due,attempts,address,orcpt,notify,last_reply,failed_dest,last_host FROM delivery"
    " WHERE id>? AND id<=?"
    " AND +state=0 AND +dest<>'bounce:' AND (notify=0 OR notify&9=8) ORDER BY id"
)
WARNED = "UPDATE message SET flags=flags|16 WHERE id=? AND flags&16=0"
# the one that sorts, a window at a time: dest, recipients by state and age
SUMMARY = (
    "SELECT dest,sum(state=0),sum(state=0 AND due<=:now),sum(state=2),sum(state=1),min(id),"
    "sum(id>=:young),sum(id>=:middle),sum(id>=:old),count(*) FROM delivery WHERE id>:after AND id<=:last GROUP BY dest"
)
LAST_RECIPIENT = "SELECT id+nrcpt FROM message WHERE id=?"
