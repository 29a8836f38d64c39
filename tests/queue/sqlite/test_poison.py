"""Strikes: who was in the air when the process was killed, and what happens at the third."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from unittest.mock import patch

from mta.envelope import BOUNCE, Claim, Kind
from mta.queue.flights import SIZE, Held, read
from mta.queue.sqlite import poison as module
from mta.queue.sqlite.poison import open_recorder
from mta.queue.state import Alteration, Selector, State
from tests.queue.harness import DEST, OTHER
from tests.queue.sqlite.case import SqliteCase


class PoisonTests(SqliteCase):
    """An engine that is killed with recipients in the air."""

    async def strikes(self) -> dict[int, int]:
        return dict(await self.sql("SELECT id,count FROM strike"))

    async def killed_with(self, *claims: Claim) -> None:
        """They are in the air, and the process is killed."""
        for claim in claims:
            self.assertGreaterEqual(self.queue.flights.began(claim.id), 0)
        await self.crash()

    async def test_a_strike_at_each_kill(self) -> None:
        """Only for who was in the air; forgotten when it lands."""
        first, second = [(await self.taken())[0] for _ in range(2)]
        await self.killed_with(first)
        self.assertEqual({first.id: 1}, await self.strikes())
        await self.crash()
        self.assertEqual({first.id: 1}, await self.strikes(), "it was on the ground")
        await self.killed_with(first, second)
        self.assertEqual({first.id: 2, second.id: 1}, await self.strikes())
        slot = self.queue.flights.began(first.id)
        self.assertLess(self.queue.flights.began(second.id), 0, "suspects go one by one")
        self.queue.flights.ended(slot)
        self.assertEqual({second.id: 1}, await self.strikes())
        self.assertEqual([], self.queue.flights.held)

    async def test_held_at_the_third(self) -> None:
        """With its message's other recipients there, and the reason; those elsewhere, and other mail, go on."""
        poison = (await self.taken(self.to("a@x"), self.to("b@x"), self.to("c@y", OTHER)))[0]
        other = (await self.accept())[0]
        for _ in range(module.STRIKES):
            self.assertEqual([], self.queue.flights.held)
            await self.killed_with(poison)
        self.assertEqual([Held(poison.message, DEST, 2, 3)], self.queue.flights.held)
        self.assertEqual({}, await self.strikes())
        rows = {row.address: row for row in await self.rows(message=poison.message)}
        self.assertEqual([State.HELD, State.HELD, State.WAITING], [rows[to].state for to in ("a@x", "b@x", "c@y")])
        self.assertIn("killed 3 times", str(rows["a@x"].last_reply))
        self.assertEqual([other], [claim.message for claim in await self.claim()])
        self.assertEqual([poison.message], [claim.message for claim in await self.claim(dest=OTHER)])

    async def test_a_report_that_is_owed(self) -> None:
        """Held at the bounce, a delivery that is to be confirmed still says so: released, it is no failure."""
        taken = await self.taken()
        await self.settle(taken, Kind.CONFIRMED, due=self.now)
        (owed,) = await self.claim(dest=BOUNCE)
        self.assertTrue(owed.last_reply.startswith("250"))
        for _ in range(module.STRIKES):
            await self.killed_with(owed)
        (row,) = await self.rows(dest=BOUNCE)
        self.assertEqual((State.HELD, 250, owed.last_reply), (row.state, row.last_code, row.last_reply))

    async def test_released(self) -> None:
        """The operator's word counts: three new strikes."""
        (poison,) = await self.taken()
        for _ in range(module.STRIKES):
            await self.killed_with(poison)
        await self.queue.alter(Selector(), Alteration.RELEASE, self.now)
        await self.killed_with(poison)
        self.assertEqual(({poison.id: 1}, 1), (await self.strikes(), len(await self.claim())))

    async def test_gone(self) -> None:
        """What was delivered, or removed, has no strikes."""
        (claim,) = await self.taken()
        await self.killed_with(claim)
        await self.settle(await self.claim(), Kind.DELIVERED)
        await self.killed_with()
        self.assertEqual({}, await self.strikes())
        self.queue.flights.began(12345)
        await self.crash()
        self.assertEqual({}, await self.strikes(), "never heard of it")

    async def test_stopped_in_good_order(self) -> None:
        """With jobs that still run: no strike.  What lands later is no trouble."""
        (claim,) = await self.taken()
        flights = self.queue.flights
        slot = flights.began(claim.id)
        await self.queue.stop()
        flights.ended(slot)
        await self.queue.start()
        self.assertEqual({}, await self.strikes())

    async def test_the_disk_fails(self) -> None:
        """Then it was no message that ended the process."""
        (claim,) = await self.taken()
        self.queue.flights.began(claim.id)
        self.queue._failed(OSError("disk"))
        await self.crash()
        self.assertEqual({}, await self.strikes())

    async def test_file(self) -> None:
        """Ours alone, with real blocks (a hole would be a signal on a full disk), of its size however it was found."""
        path = Path(self.mktemp())
        for content in (b"", b"\x07" + bytes(7), b"x" * (SIZE + 8)):
            path.write_bytes(content)
            buffer, found = open_recorder(path)
            self.assertEqual((SIZE, bytes(SIZE)), (len(buffer), buffer[:]))
            self.assertEqual(read(content.ljust(SIZE, b"\0")[:SIZE]), found)
            self.assertGreaterEqual(path.stat().st_blocks * 512, SIZE)
            buffer.close()
        path.unlink()
        open_recorder(path)[0].close()
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))

    async def test_no_room_for_the_recorder(self) -> None:
        """The service starts without it."""
        await self.queue.stop()
        with patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "full")):
            await self.queue.start()
        (claim,) = await self.taken()
        self.queue.flights.ended(self.queue.flights.began(claim.id))
