"""The queue in words that programs understand: rows, destinations and messages as plain JSON values, and selectors (pure).

The same facts come out of the control socket and, while the service is down, out of the file.  Ids are in their text form,
times are ms since the epoch, sizes bytes; a recipient's `id` is that of its message, which the log has too.  A selector
that cannot be understood is a ValueError with one line for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mta.envelope import Flag, Message, Notify
from mta.queue.ids import id_text, parse_id
from mta.queue.state import DestState, DestSummary, Row, Selector, State

__all__ = [
    "HEADER_LIMIT",
    "STATES",
    "Facts",
    "dest_facts",
    "header_of",
    "message_facts",
    "row_facts",
    "selector_of",
    "summary_facts",
]

Facts = dict[str, Any]
STATES: Final = {state.name.lower(): state for state in State}
HEADER_LIMIT: Final = 32 << 10  # bytes of a header that are shown
_TEXTS: Final = {"to": "to", "from": "sender", "dest": "dest", "account": "account"}  # key -> field of a Selector


def selector_of(asked: object) -> Selector:
    """A selector out of its JSON form: any of id, to, from, dest, state, account (text) and before (ms)."""
    if not isinstance(asked, dict):
        raise ValueError("a selector is an object")
    fields: dict[str, Any] = {}
    for key, value in asked.items():
        if key == "before" and type(value) is int and abs(value) < 1 << 63:
            fields["before"] = value
        elif key == "state" and isinstance(value, str) and value in STATES:
            fields["state"] = STATES[value]
        elif key == "id" and isinstance(value, str):
            fields["message"] = parse_id(value)
        elif key in _TEXTS and isinstance(value, str):
            fields[_TEXTS[key]] = value
        else:
            raise ValueError(f"not a condition of a selector: {str(key)[:40]} = {str(value)[:40]!r}")
    return Selector(**fields)


def row_facts(row: Row) -> Facts:
    """One recipient."""
    return {
        "id": id_text(row.message),
        "recipient": id_text(row.id),
        "from": row.sender,
        "to": row.address,
        "dest": row.dest,
        "state": row.state.name.lower(),
        "due": row.due,
        "attempts": row.attempts,
        "created": row.created,
        "expires": row.expires,
        "size": row.size,
        "last_try": row.last_try,
        "last_code": row.last_code,
        "last_reply": row.last_reply,
        "failed_dest": row.failed_dest,
        "lane": row.lane,
        "account": row.account,
        "flags": _flags(row.flags),
        "orcpt": row.orcpt,
        "notify": [notify.name for notify in Notify if notify & row.notify],
        "last_host": row.last_host,
    }


def _flags(flags: int) -> list[str]:
    return [flag.name for flag in Flag if flag & flags and flag.name]


def dest_facts(state: DestState) -> Facts:
    """What is remembered about a destination."""
    return {
        "dest": state.name,
        "suspended": state.suspended,
        "blocked_until": state.blocked_until,
        "why": state.blocked_why,
        "fails": state.fails,
        "first_fail": state.first_fail,
    }


def summary_facts(found: Sequence[DestSummary], states: Sequence[DestState]) -> Facts:
    """The largest destinations with what is remembered about them, and the suspended ones that are not among those."""
    known = {state.name: state for state in states}
    listed = {summary.name for summary in found}
    return {
        "destinations": [
            {
                **dest_facts(known.get(each.name) or DestState(each.name)),
                "total": sum(each.ages),
                "waiting": each.waiting,
                "due": each.due,
                "held": each.held,
                "taken": each.taken,
                "oldest": each.oldest,
                "ages": list(each.ages),
            }
            for each in found
        ],
        "suspended": [state.name for state in states if state.suspended and state.name not in listed],
    }


def message_facts(message: Message, body: bytes) -> Facts:
    """A message.  body: its beginning, as much as there is at hand."""
    header, cut = header_of(message.prefix + body)
    return {
        "id": id_text(message.id),
        "from": message.sender,
        "created": message.created,
        "expires": message.expires,
        "size": message.size,
        "accepted_recipients": message.nrcpt,
        "source": message.source,
        "account": message.account,
        "envid": message.envid,
        "flags": _flags(message.flags),
        "priority": message.priority,
        "deliver_by": message.deliver_by,
        "trace": message.trace,
        "header": header,
        "header_cut": cut,
    }


def header_of(start: bytes) -> tuple[str, bool]:
    """The header section (RFC 5322 2.1) of a message that begins so, and whether it was cut at HEADER_LIMIT."""
    end = (b"\r\n" + start[: HEADER_LIMIT + 4]).find(b"\r\n\r\n")  # an empty header has no line at all
    cut = end < 0 and len(start) > HEADER_LIMIT
    header = start[: max(end - 2, 0)] if end >= 0 else start[:HEADER_LIMIT]
    return header.decode("utf-8", "replace").replace("\r\n", "\n"), cut
