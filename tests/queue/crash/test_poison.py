"""A message that kills the process must not kill it for ever, and must not take the others with it."""

from __future__ import annotations

import apsw
from twisted.internet.defer import Deferred, gatherResults

from mta.queue.sqlite.poison import STRIKES
from mta.queue.state import State
from tests.queue.crash.world import APART, SENDER, TOGETHER, CrashCase, Mail

OTHERS = 15


class PoisonTests(CrashCase):
    """See the module."""

    async def doomed(self) -> None:
        """A server that dies of the mail in its queue, before it listens or after."""
        self.forks.fork(self.folder, "48")
        said: list[str] = []
        await self.until(lambda: said.extend(self.forks.line()) or said, "a server that says something")
        if said[0] == "listening":
            self.pid = int(said[1])
        else:
            self.assertEqual(["ended", "-9"], said)

    async def test_q48_held_after_three_strikes(self) -> None:
        """What was in the air with it, what waits and what comes later goes out; it is held at that destination, and says why."""
        await self.start("48")
        poison = Mail.made("poison", 3000, [f"poison@{APART[0]}", f"beside@{APART[0]}", f"elsewhere@{APART[1]}"])
        others = [Mail.made(f"{n}", 4000, [f"user{n}@{(TOGETHER, *APART)[n % 4]}"]) for n in range(OTHERS)]
        await gatherResults([Deferred.fromCoroutine(self.send(mail)) for mail in [*others[:9], poison, *others[9:]]])
        left = await self.remains()
        self.assertTrue(poison.copies <= left.rows)
        for _ in range(STRIKES - 1):
            await self.doomed()
            await self.remains()
        await self.start("48")  # as deadly as the others, but for this
        self.assertTrue(await self.send(Mail.made("late", 2000, [f"late@{APART[0]}"])))
        copies = {copy for copy in poison.copies if copy[1].endswith(APART[0])}
        self.promised |= poison.copies
        db = apsw.Connection(str(self.folder / "data/queue/0.db"), flags=apsw.SQLITE_OPEN_READONLY)
        self.addCleanup(db.close)
        db.set_busy_timeout(10_000)
        await self.until(lambda: db.execute("SELECT count(*) FROM delivery").get == len(copies), "an end of the other mail")
        self.kill()
        self.assertEqual(copies, (await self.remains()).rows)
        self.promised -= copies
        self.balance()
        held = db.execute("SELECT address,state,last_reply FROM delivery ORDER BY id").fetchall()
        self.assertEqual([(f"{name}@{APART[0]}", State.HELD) for name in ("poison", "beside")], [row[:2] for row in held])
        self.assertTrue(all("killed 3 times" in reply for _, _, reply in held), held)
        lines = [line for line in (self.folder / "events.log").read_text().splitlines() if "event=held" in line]
        self.assertEqual(1, len(lines), lines)
        self.assertIn("recipients=2", lines[0])
        self.assertEqual(set(), self.sink.told() - {SENDER})
