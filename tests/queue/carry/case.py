"""Messages to be packed, and a file of some of them."""

from __future__ import annotations

from io import BytesIO

from mta.envelope import Flag, Message, Notify
from mta.queue.carry.archive import Packing
from mta.queue.ids import id_at
from mta.queue.state import Row, State

NOW = 1_800_000_000_000
FIRST = id_at(NOW)


def message(number: int = 0, size: int = 30) -> Message:
    """One that was accepted for five recipients.  size: of prefix and body."""
    flags = int(Flag.SMTPUTF8 | Flag.DELAY_WARNED)
    return Message(
        FIRST + number * 100, "s@a.test", NOW, NOW + 9, size, flags, 5, b"Received: x\r\n", "smtp", "ann", "e", '{"tls":null}'
    )


def row(of: Message, place: int = 1, state: State = State.WAITING) -> Row:
    """A recipient with a history."""
    return Row(
        of.id + place,
        of.id,
        of.sender,
        f"u{place}@b.test",
        "bounce:",
        state,
        NOW + 5,
        2,
        of.created,
        of.size,
        550,
        "550 5.1.1 no",
        NOW - 5,
        "smtp:_mx/b.test",
        7,
        of.account,
        of.expires,
        of.flags,
        "rfc822;u@b.test",
        int(Notify.DELAY | Notify.FAILURE),
        "mx.b.test",
    )


def body(of: Message) -> bytes:
    """As long as it says."""
    return b"y" * (of.size - len(of.prefix))


def packed(*messages: Message) -> bytes:
    """The file, two recipients for each message."""
    file = BytesIO()
    packing = Packing(file, NOW)
    for each in messages:
        packing.begin(each, (row(each, 2), row(each, 4, State.HELD)))
        packing.write(body(each))
        packing.end()
    packing.close()
    return file.getvalue()
