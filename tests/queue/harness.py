"""What the conformance suite of the queue engines stands on: an engine, a clock, a crash, and short words for both.

A test class is `class XConformance(QueueConformance, TestCase)` with `make_engine()` and, where a crash is more than a
stop, `crash()`.  `now` is the engine's clock in ms; nothing here waits for real time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from mta.envelope import BodyRef, Claim, Kind, NewMessage, NewRecipient, Outcome, Want
from mta.interfaces import IQueue
from mta.queue.state import Lane, Row, Selector, State
from mta.status import Reply

START = 1_800_000_000_000  # ms since 1970; any moment after the epoch of the ids
SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
DEST = "smtp:default/example.org"
OTHER = "smtp:default/example.net"
OK = Reply(250, "2.0.0", "taken")
BUSY = Reply(450, "4.2.1", "mailbox busy")
UNKNOWN = Reply(550, "5.1.1", "no such user")


class QueueHarness:
    """One started engine for each test, stopped after it."""

    now: int
    queue: IQueue

    def make_engine(self) -> IQueue:
        """A new engine on this test's data, with `self.clock` as its clock; not started."""
        raise NotImplementedError

    async def crash(self) -> None:
        """End the engine as kill -9 does, and start one on what is left: `self.queue` is the new one."""
        await self.queue.stop()
        await self.queue.start()

    def clock(self) -> int:
        """ms since 1970."""
        return self.now

    async def setUp(self) -> None:
        self.now = START
        self.queue = self.make_engine()
        await self.queue.start()

    async def tearDown(self) -> None:
        await self.queue.stop()

    # -- making messages

    async def body(self, recipients: int, data: bytes = b"Subject: test\r\n\r\nhello\r\n") -> tuple[int, BodyRef]:
        """Write a body in the pieces of a network: its id and what `finish` gave."""
        sink = self.queue.create_body(recipients)
        for start in range(0, len(data), 65536):
            if (wait := sink.write(data[start : start + 65536])) is not None:
                await wait
        return sink.id, await sink.finish()

    async def new(
        self, *recipients: NewRecipient | str, data: bytes | None = None, lifetime: int = 5 * DAY, **more: Any
    ) -> NewMessage:
        """A message with its body, not yet in the queue.  A recipient given as text goes to DEST, lane 0, now."""
        given = tuple(to if isinstance(to, NewRecipient) else self.to(to) for to in recipients or ("user@example.org",))
        id, body = await (self.body(len(given)) if data is None else self.body(len(given), data))
        values: dict[str, Any] = {
            "sender": "sender@example.com",
            "prefix": b"Received: from a by b\r\n",
            "created": self.now,
            "expires": self.now + lifetime,
        }
        return NewMessage(id=id, recipients=given, body=body, **(values | more))

    def to(self, address: str = "user@example.org", dest: str = DEST, lane: int = 0, due: int | None = None) -> NewRecipient:
        """A recipient, due now."""
        return NewRecipient(address, dest=dest, lane=lane, due=self.now if due is None else due)

    async def accept(self, *recipients: NewRecipient | str, admit: bool = False, **more: Any) -> tuple[int, list[Claim]]:
        """Put one message into the queue: its id and its claims."""
        message = await self.new(*recipients, **more)
        return message.id, await self.queue.enqueue([message], (lambda _: True) if admit else None)

    async def taken(self, *recipients: NewRecipient | str, **more: Any) -> list[Claim]:
        """Put one message into the queue and deliver all its recipients ourselves."""
        return (await self.accept(*recipients, admit=True, **more))[1]

    # -- asking

    async def claim(self, quota: int = 1000, dest: str = DEST, lane: int = 0) -> list[Claim]:
        """Claim from one lane."""
        return await self.queue.claim([Want(dest, lane, quota)], self.now)

    async def rows(self, **selector: Any) -> list[Row]:
        """All recipients that match, page by page."""
        found: list[Row] = []
        while page := await self.queue.browse(Selector(**selector), found[-1].id if found else 0, 700):
            found += page
        return found

    async def row(self, id: int) -> Row:
        """One recipient."""
        (row,) = [row for row in await self.rows() if row.id == id]
        return row

    async def lanes(self) -> list[tuple[str, int, int]]:
        """(dest, lane, first due) of all lanes with waiting work, by paging through the destinations."""
        found: list[Lane] = []
        while page := await self.queue.lanes(None, found[-1].dest if found else "", 3):
            found += page
        return [(lane.dest, lane.lane, lane.due) for lane in found]

    async def read(self, message: int) -> bytes:
        """The whole stored body, by the reader."""
        reader = self.queue.open_body(message)
        pieces = []
        while piece := await reader.read():
            self.check(len(piece) <= 65536, "a piece is at most 64 KiB")
            pieces.append(piece)
        reader.close()
        reader.close()
        return b"".join(pieces)

    # -- settling

    async def settle(
        self, claims: Iterable[Claim], kind: Kind, reply: Reply = OK, due: int | None = None, spawn: Sequence[NewMessage] = ()
    ) -> list[bool]:
        """One settlement, the same outcome for all."""
        return await self.queue.settle([Outcome(claim, kind, reply, due=due) for claim in claims], spawn)

    async def defer(self, *claims: Claim, after: int = 300 * SECOND, reply: Reply = BUSY) -> list[bool]:
        """Deferred by so many ms."""
        return await self.settle(claims, Kind.DEFERRED, reply, self.now + after)

    def check(self, condition: object, message: str = "") -> None:
        """assertTrue, for a class that is no TestCase itself."""
        if not condition:
            raise AssertionError(message or "condition does not hold")


def ids(values: Iterable[Claim | Row]) -> list[int]:
    """Their ids, in their order."""
    return [value.id for value in values]


def changed(message: NewMessage, **values: Any) -> NewMessage:
    """The same message with other values."""
    return attrs.evolve(message, **values)


__all__ = [
    "BUSY",
    "DAY",
    "DEST",
    "HOUR",
    "OK",
    "OTHER",
    "SECOND",
    "START",
    "UNKNOWN",
    "QueueHarness",
    "State",
    "changed",
    "ids",
]
