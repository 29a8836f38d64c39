"""`queue.backup` where there are several workers: each copies its own queue, at the same time, into a folder of its own.

DEST/0, DEST/1 ... are what one server writes as DEST (`queue/sqlite/backup.py`); `mta queue restore DEST` reads both.  DEST has
its name when all of them are whole and durable; until then it is DEST.part, and when one fails that is removed.  Asked
without `dest` it says how far it is, as one server does (`control/backup.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.control.merge import merged_report
from mta.control.queue_facts import Facts
from mta.control.socket import Answer
from mta.interfaces import IEventLog
from mta.queue.body import put_in_place, storage_error
from mta.status import MailError, Scope, permanent, transient

if TYPE_CHECKING:
    from mta.workers.door import Worker

__all__ = ["Copies"]

POLL: Final = 0.2  # seconds between two looks at how far the workers are


class Copies:
    """log: gets a line when a backup has ended."""

    _bugs = Logger()

    def __init__(self, workers: Callable[[], Sequence[Worker]], reactor: Any, log: IEventLog) -> None:
        self._workers = workers
        self._reactor = reactor
        self._log = log
        self._last: Facts = {"state": "none"}

    async def asked(self, request: Mapping[str, Any]) -> Answer:
        """Begin one where it says `dest`; how far it is."""
        if "dest" in request:
            dest = request["dest"]
            if not isinstance(dest, str) or not dest.startswith("/") or "\0" in dest:
                raise _refused("dest is an absolute path")
            if self._last["state"] == "running":
                raise _refused("a backup is under way")
            self._last = {"state": "running", "what": "pages", "done": 0, "total": 0}
            copying = Deferred.fromCoroutine(self._run(Path(dest)))
            copying.addErrback(self._broken)
        return self._last

    async def _run(self, dest: Path) -> None:
        part = dest.with_name(f"{dest.name}.part")
        try:
            await self._in_thread(_begin, dest, part)
        except MailError as error:
            self._failed(dest, error)
            return
        try:
            reports = await self._copied(part)
            await self._in_thread(put_in_place, part, dest)
        except MailError as error:
            await self._in_thread(shutil.rmtree, part, True)
            self._failed(dest, error)
            return
        self._last = {"state": "done", **merged_report(reports)}
        told = {"messages": self._last["messages"], "recipients": self._last["recipients"]}
        self._log.event("operator", "", {"action": "backup", "to": str(dest), **told, "refused": self._last["refused_count"]})

    def _broken(self, failure: Failure) -> None:
        self._bugs.failure("the backup failed", failure)
        self._last = {"state": "failed", "why": failure.getErrorMessage()}

    def _failed(self, dest: Path, error: MailError) -> None:
        why = error.reason or str(error)
        self._last = {"state": "failed", "why": why}
        self._log.event("operator", "", {"action": "backup", "to": str(dest), "failed": why})

    async def _copied(self, part: Path) -> list[Facts]:
        """What each has done.  MailError when one has failed; then nobody copies any more."""
        states: dict[int, Facts] = {}
        workers = list(self._workers())
        for worker in workers:
            states[worker.number] = await _asked(worker, dest=str(part / str(worker.number)))
        while any(state["state"] == "running" for state in states.values()):
            await deferLater(self._reactor, POLL)
            for worker in workers:
                if states[worker.number]["state"] == "running":
                    states[worker.number] = await _asked(worker)
            self._tell([state for state in states.values() if state["state"] == "running"])
        for number, state in states.items():
            if state["state"] != "done":
                raise transient(
                    "4.3.0", "cannot copy the queue now", reason=f"worker {number}: {state.get('why', 'was restarted')}"
                )
        return list(states.values())

    def _tell(self, running: Sequence[Facts]) -> None:
        if running:
            what, done, total = running[0]["what"], sum(each["done"] for each in running), sum(each["total"] for each in running)
            self._last = {"state": "running", "what": what, "done": done, "total": total}

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)


async def _asked(worker: Worker, **dest: str) -> Facts:
    """Its state; a worker that is gone, or refuses, has failed."""
    try:
        answer: Any = await worker.ask({"command": "queue.backup", **dest})
    except MailError as error:
        return {"state": "failed", "why": error.reason}
    return dict(answer) if answer.get("ok") else {"state": "failed", "why": answer.get("error")}


def _begin(dest: Path, part: Path) -> None:
    try:
        if dest.exists():
            raise FileExistsError(f"{dest} is there already")
        part.mkdir(mode=0o700)
    except OSError as error:
        raise storage_error(error) from error


def _refused(why: str) -> MailError:
    return permanent("5.5.4", "the request makes no sense", scope=Scope.MESSAGE, reason=why)
