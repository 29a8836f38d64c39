"""A message and its recipients as JSON, and back: what stands beside each message of an export (pure).

Ids are in their text form, times are ms since the epoch, sizes bytes, flags and NOTIFY are lists of their names; keys that
the facts of `mta queue list --json` have too mean the same.  Reading trusts nothing: every key must be there with a value
of its kind, the recipients within the message's block of ids and in their order.  Anything else is a ValueError with one
line that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import Any, Final, TypeVar

import attrs

from mta.envelope import Flag, Message, Notify
from mta.queue.ids import MAX_BLOCK, id_text, parse_id
from mta.queue.state import Row, State, cut_reply

__all__ = ["Envelope", "envelope_of", "facts_of", "rows_of"]

Facts = Mapping[str, Any]
F = TypeVar("F", bound=IntFlag)
LARGEST: Final = (1 << 63) - 1  # what a column can hold
STATES: Final = {state.name.lower(): state for state in State}


@attrs.frozen(slots=True)
class Envelope:
    """message: without its prefix, which is the first `prefix` bytes of the message itself."""

    message: Message
    prefix: int
    recipients: tuple[Row, ...]


def facts_of(message: Message, rows: Sequence[Row]) -> dict[str, Any]:
    """A message with those of its recipients that go with it."""
    return {
        "id": id_text(message.id),
        "from": message.sender,
        "created": message.created,
        "expires": message.expires,
        "source": message.source,
        "account": message.account,
        "flags": _names(Flag, message.flags),
        "envid": message.envid,
        "trace": message.trace,
        "priority": message.priority,
        "deliver_by": message.deliver_by,
        "accepted_recipients": message.nrcpt,
        "size": message.size,
        "prefix": len(message.prefix),
        "recipients": [_recipient_facts(row) for row in rows],
    }


def _recipient_facts(row: Row) -> dict[str, Any]:
    return {
        "recipient": id_text(row.id),
        "to": row.address,
        "dest": row.dest,
        "lane": row.lane,
        "due": row.due,
        "state": row.state.name.lower(),
        "attempts": row.attempts,
        "orcpt": row.orcpt,
        "notify": _names(Notify, row.notify),
        "last_try": row.last_try,
        "last_code": row.last_code,
        "last_reply": row.last_reply,
        "last_host": row.last_host,
        "failed_dest": row.failed_dest,
    }


def _names(kind: type[IntFlag], value: int) -> list[str]:
    if value & ~sum(kind):
        raise ValueError(f"{value} has bits that no {kind.__name__} has")
    return [flag.name for flag in kind if flag & value and flag.name]


# -- and back


def envelope_of(facts: object) -> Envelope:
    """What `facts_of` has made.  ValueError."""
    if not isinstance(facts, dict):
        raise ValueError("is no object")
    prefix, size = _number(facts, "prefix", 0), _number(facts, "size", 0)
    accepted = _number(facts, "accepted_recipients", 1, MAX_BLOCK - 1)
    if prefix > size:
        raise ValueError("prefix is longer than the message")
    message = Message(
        _id(facts, "id", 1, LARGEST - accepted),
        _text(facts, "from"),
        _number(facts, "created"),
        _number(facts, "expires"),
        size,
        _bits(facts, "flags", Flag),
        accepted,
        b"",
        _text(facts, "source"),
        _text_or_none(facts, "account"),
        _text_or_none(facts, "envid"),
        _text_or_none(facts, "trace"),
        _number(facts, "priority"),
        _number(facts, "deliver_by"),
    )
    return Envelope(message, prefix, rows_of(facts, message))


def rows_of(facts: Facts, message: Message) -> tuple[Row, ...]:
    """Its recipients.  ValueError."""
    given = _of(facts, "recipients", list)
    rows: list[Row] = []
    for each in given:
        if not isinstance(each, dict):
            raise ValueError("a recipient is no object")
        rows.append(_row(each, message, rows[-1].id if rows else message.id))
    if not rows:
        raise ValueError("recipients are none")
    return tuple(rows)


def _row(facts: Facts, message: Message, before: int) -> Row:
    state = STATES.get(_text(facts, "state"))
    if state is None:
        raise ValueError(f"state {_text(facts, 'state')[:40]!r} is not known")
    if not (dest := _text(facts, "dest")):
        raise ValueError("dest is empty")
    reply = _text_or_none(facts, "last_reply")
    return Row(
        _id(facts, "recipient", before + 1, message.id + message.nrcpt),
        message.id,
        message.sender,
        _text(facts, "to"),
        dest,
        state,
        _number(facts, "due"),
        _number(facts, "attempts", 0),
        message.created,
        message.size,
        _number_or_none(facts, "last_code"),
        None if reply is None else cut_reply(reply),
        _number_or_none(facts, "last_try"),
        _text_or_none(facts, "failed_dest"),
        _number(facts, "lane"),
        message.account,
        message.expires,
        message.flags,
        _text_or_none(facts, "orcpt"),
        _bits(facts, "notify", Notify),
        _text_or_none(facts, "last_host"),
    )


def _of(facts: Facts, key: str, *kinds: type) -> Any:
    if type(value := facts.get(key, ...)) not in kinds:
        raise ValueError(f"{key} is missing, or of another kind")
    return value


def _number(facts: Facts, key: str, least: int = -LARGEST, most: int = LARGEST) -> int:
    value: int = _of(facts, key, int)
    if not least <= value <= most:
        raise ValueError(f"{key} is {value}: out of its bounds")
    return value


def _number_or_none(facts: Facts, key: str) -> int | None:
    return None if _of(facts, key, int, type(None)) is None else _number(facts, key)


def _text(facts: Facts, key: str) -> str:
    value: str = _of(facts, key, str)
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate: JSON can say it, a column cannot
        raise ValueError(f"{key} is no text") from error
    return value


def _text_or_none(facts: Facts, key: str) -> str | None:
    return None if _of(facts, key, str, type(None)) is None else _text(facts, key)


def _id(facts: Facts, key: str, least: int, most: int) -> int:
    id = parse_id(_text(facts, key))
    if not least <= id <= most:
        raise ValueError(f"{key} {id_text(id)} is out of its order or block")
    return id


def _bits(facts: Facts, key: str, kind: type[F]) -> int:
    names = _of(facts, key, list)
    known = {flag.name: flag for flag in kind}
    if unknown := [name for name in names if not isinstance(name, str) or name not in known]:
        raise ValueError(f"{key} has {str(unknown[0])[:40]!r}, which is not known")
    return int(sum({known[name] for name in names}))
