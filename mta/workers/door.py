"""The commands of the control socket where there are several workers: each goes to all that it concerns, the answers become one.

    queue.list      rows of all, in the order of ids; each says its worker
    queue.summary   destinations of the same name added up
    queue.show      the worker that has the message
    queue.alter     worker after worker: `after` has the worker's number above its 64 bits
    queue.flush     all; counts added              queue.run      all; destinations added
    queue.suspend   all; the worst of each         queue.resume   the same
    queue.backup    all at once, into a folder for each in one that has its name when all of them are whole
    queue.now       the first that answers

A worker that does not answer hinders nobody: what the others say is the answer, and `warning` in it names who is missing.
When all refuse, or nobody answers, it is refused, with the first reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredList

from mta.control.merge import merged_dest, merged_page, merged_summary
from mta.control.queue import DESTINATIONS, MAX_ID, PAGE, whole
from mta.control.queue_facts import Facts
from mta.control.socket import Answer, Command
from mta.interfaces import IEventLog
from mta.status import MailError, Scope, permanent, transient
from mta.workers.copies import Copies

__all__ = ["Commands", "Gathered", "Worker", "gathered"]

_SHIFT: Final = 64  # bits of an `after` of a worker
Request = Mapping[str, Any]


class Worker(Protocol):
    """Who is asked."""

    number: int

    def ask(self, request: Request) -> Deferred[Answer]:
        """Errbacks with a MailError when nobody is there."""


class Gathered:
    """Who said what: by the numbers of the workers.  warning: who said nothing, "" when all did."""

    def __init__(self, said: Mapping[int, Facts], warning: str) -> None:
        self.said = said
        self.warning = warning

    def answer(self, merged: Answer) -> Answer:
        """It, with the warning."""
        return {**merged, "warning": self.warning} if self.warning else merged


async def gathered(workers: Sequence[Worker], request: Request, one_will_do: bool = False) -> Gathered:
    """The answers of all.  MailError when there is none but refusals.  one_will_do: who refuses has not got it, that is all."""
    results: Any = await DeferredList([worker.ask(request) for worker in workers], consumeErrors=True)
    said: dict[int, Facts] = {}
    refused: list[str] = []
    unlike: list[str] = []  # the same, with who said it
    missing: list[str] = []
    for worker, (succeeded, answer) in zip(workers, results, strict=True):
        if not succeeded:
            missing.append(answer.value.reason or str(answer.value) if answer.check(MailError) else answer.getErrorMessage())
        elif answer.get("ok"):
            said[worker.number] = answer
        else:
            refused.append(str(answer.get("error")))
            unlike.append(f"worker {worker.number}: {answer.get('error')}")
    if not said:
        why = [*refused, *missing, "no worker runs"][0]
        raise permanent("5.5.4", "the request is refused", scope=Scope.MESSAGE, reason=why)
    return Gathered(said, "; ".join(missing if one_will_do else [*missing, *unlike]))


class Commands:
    """workers: those that there are when it is asked."""

    def __init__(self, workers: Callable[[], Sequence[Worker]], reactor: Any, log: IEventLog) -> None:
        self._workers = workers
        self._copies = Copies(workers, reactor, log)

    def table(self) -> dict[str, Command]:
        """The commands by name, for the control socket."""
        return {
            "queue.now": self._any,
            "queue.list": self._list,
            "queue.summary": self._summary,
            "queue.show": self._any,
            "queue.alter": self._alter,
            "queue.flush": self._counted("count"),
            "queue.suspend": self._known,
            "queue.resume": self._known,
            "queue.run": self._counted("destinations"),
            "queue.backup": self._copies.asked,
        }

    async def _any(self, request: Request) -> Answer:
        """What one says."""
        found = await gathered(self._workers(), request, one_will_do=True)
        return found.answer(next(iter(found.said.values())))

    async def _list(self, request: Request) -> Answer:
        limit = min(whole(request, "limit", MAX_ID) or PAGE, PAGE)
        found = await gathered(self._workers(), request)
        pages = []
        for number, each in found.said.items():
            pages.append(([{**row, "worker": number} for row in each["rows"]], each["after"]))
        rows, after = merged_page(pages, limit)
        return found.answer({"rows": rows, "after": after})

    async def _summary(self, request: Request) -> Answer:
        limit = min(whole(request, "limit", MAX_ID) or DESTINATIONS, DESTINATIONS)
        found = await gathered(self._workers(), {**request, "limit": DESTINATIONS})
        return found.answer(merged_summary(list(found.said.values()), limit))

    async def _alter(self, request: Request) -> Answer:
        """A bite of one worker; behind its last the next one's first."""
        workers = sorted(self._workers(), key=lambda worker: worker.number)
        place, after = divmod(whole(request, "after", (len(workers) << _SHIFT) - 1), 1 << _SHIFT)
        if not workers:
            raise transient("4.3.2", "no worker runs", reason="no worker runs")
        try:
            answer: Any = await workers[place].ask({**request, "after": after})
        except MailError as error:
            answer = {"ok": True, "count": 0, "after": 0, "warning": error.reason}
        if not answer.get("ok"):
            raise permanent("5.5.4", "the request is refused", scope=Scope.MESSAGE, reason=str(answer.get("error")))
        if after := answer["after"]:
            return {**answer, "after": place << _SHIFT | after}
        return {**answer, "after": (place + 1) << _SHIFT if place + 1 < len(workers) else 0}

    def _counted(self, key: str) -> Command:
        async def command(request: Request) -> Answer:
            found = await gathered(self._workers(), request)
            return found.answer({key: sum(each[key] for each in found.said.values())})

        return command

    async def _known(self, request: Request) -> Answer:
        found = await gathered(self._workers(), request)
        return found.answer(merged_dest(list(found.said.values())))
