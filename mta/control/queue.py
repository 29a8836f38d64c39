"""What operators may ask of the queue through the control socket (`control/socket.py`): the commands behind `mta queue`.

    queue.now       {}                                      -> now (ms)
    queue.list      selector, after, limit                  -> rows, after
    queue.summary   limit                                   -> destinations, suspended
    queue.show      id                                      -> message
    queue.alter     selector, action, after                 -> count, after      hold | release | retry | remove | reroute
    queue.flush     dest                                    -> count
    queue.suspend   dest, why                               -> what is remembered of it
    queue.resume    dest                                    -> what is remembered of it
    queue.run       two_stage                               -> destinations, when all have set out

Long work is done in bites: `after` of an answer is what the next request gives, 0 is the end.  So no answer is long, accepting
mail never waits for an operator, and whoever hangs up stops it.  What was altered is in the log (`event=operator`).
A request that makes no sense is refused with the reason, in one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mta.control.backup import Backups
from mta.control.queue_facts import Facts, dest_facts, message_facts, row_facts, selector_of, summary_facts
from mta.control.socket import Answer, Command
from mta.interfaces import IEventLog
from mta.queue.ids import id_text, parse_id
from mta.queue.state import Alteration, Selector, cut_reply
from mta.status import MailError, Scope, permanent

if TYPE_CHECKING:
    from mta.queue.service import QueueService

__all__ = ["ANSWER_SIZE", "DESTINATIONS", "MAX_ID", "PAGE", "QueueCommands", "whole"]

ANSWER_SIZE: Final = 48 << 10  # bytes of rows in one answer, about
PAGE: Final = 100  # rows in one answer
DESTINATIONS: Final = 100  # of a summary
BITE: Final = 500  # recipients altered at once
MAX_ID: Final = (1 << 63) - 1
REROUTE: Final = "reroute"

Request = Mapping[str, Any]
T = TypeVar("T")


class QueueCommands:
    """service: running.  now: ms since the epoch.  log: gets one line for each bite that altered something."""

    def __init__(self, service: QueueService, now: Callable[[], int], log: IEventLog) -> None:
        self._service = service
        self._queue = service.queue
        self._now = now
        self._log = log

    def table(self) -> dict[str, Command]:
        """The commands by name, for the control socket."""
        return {
            "queue.now": self._say_now,
            "queue.list": self._list,
            "queue.summary": self._summary,
            "queue.show": self._show,
            "queue.alter": self._alter,
            "queue.flush": self._flush,
            "queue.suspend": self._suspend,
            "queue.resume": self._resume,
            "queue.run": self._run,
            **Backups(self._queue, self._log).table(),
        }

    async def _say_now(self, _: Request) -> Answer:
        return {"now": self._now()}

    async def _list(self, request: Request) -> Answer:
        selector, after = _selector(request), whole(request, "after", MAX_ID)
        limit = min(whole(request, "limit", MAX_ID) or PAGE, PAGE)
        rows = await self._queue.browse(selector, after, limit)
        shown, size = list[Facts](), 0
        for row in rows:
            facts = row_facts(row)
            size += len(json.dumps(facts))
            if shown and size > ANSWER_SIZE:
                break
            shown.append(facts)
        more = len(rows) == limit or len(shown) < len(rows)
        return {"rows": shown, "after": rows[len(shown) - 1].id if more else 0}

    async def _summary(self, request: Request) -> Answer:
        limit = min(whole(request, "limit", MAX_ID) or DESTINATIONS, DESTINATIONS)
        found = await self._queue.summary(self._now(), limit)
        return summary_facts(found, await self._queue.destinations())

    async def _show(self, request: Request) -> Answer:
        id = _understood(parse_id, _text(request, "id"))
        if not await self._queue.browse(Selector(message=id), 0, 1):
            raise _refused(f"the message {id_text(id)} is not in the queue")
        stored = await self._queue.load(id)
        body = stored.body
        if body is None:
            reader = self._queue.open_body(id)
            try:
                body = await reader.read()
            finally:
                reader.close()
        return {"message": message_facts(stored.message, body)}

    # -- what alters

    async def _alter(self, request: Request) -> Answer:
        selector, after = _selector(request), whole(request, "after", MAX_ID)
        word = _text(request, "action")
        if word == REROUTE:
            count, after = await self._service.reroute(selector, after, BITE)
        else:
            action = _understood(Alteration, word)
            count, after = await self._queue.alter(selector, action, self._now(), BITE, after)
        if not after and word in ("release", "retry", REROUTE):
            await self._service.discover(selector.dest)  # what is due now is found now
        if count:
            self._told(word, {**request["selector"], "recipients": count})
        return {"count": count, "after": after}

    async def _flush(self, request: Request) -> Answer:
        dest = _dest(request) if request.get("dest") is not None else None
        count = await self._service.flush(dest)
        self._told("flush", {"dest": dest, "recipients": count})
        return {"count": count}

    async def _suspend(self, request: Request) -> Answer:
        dest = _dest(request)
        why = _text(request, "why") if "why" in request else ""
        return dest_facts(await self._service.suspend(dest, cut_reply(why)))

    async def _resume(self, request: Request) -> Answer:
        return dest_facts(await self._service.resume(_dest(request)))

    async def _run(self, request: Request) -> Answer:
        return {"destinations": await self._service.run(request.get("two_stage") is True)}

    def _told(self, action: str, fields: Facts) -> None:
        self._log.event("operator", "", {"action": action, **fields})


def _selector(request: Request) -> Selector:
    return _understood(selector_of, request.get("selector"))


def _understood(read: Callable[[Any], T], value: object) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise _refused(str(error)) from None


def whole(request: Request, key: str, most: int) -> int:
    """A number of a request, 0 where it says none.  MailError."""
    value = request.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise _refused(f"{key} is a whole number from 0")
    return value


def _text(request: Request, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str):
        raise _refused(f"{key} is wanted")
    return value


def _dest(request: Request) -> str:
    """A destination's name: what has none ("agent:...") would be remembered for ever and mean nothing."""
    dest = _text(request, "dest")
    if not dest.partition(":")[1]:
        raise _refused(f"not the name of a destination: {dest[:80]!r}")
    return dest


def _refused(why: str) -> MailError:
    return permanent("5.5.4", "the request makes no sense", scope=Scope.MESSAGE, reason=why)
