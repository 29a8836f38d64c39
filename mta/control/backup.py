"""`queue.backup`: begin a backup of the queue, and say how far it is.

    {"command": "queue.backup", "dest": "/absolute/path"}   begins one
    {"command": "queue.backup"}                             the one that was begun last

Both answer `state`: none | running (with `what`, `done`, `total`) | done (with `messages`, `recipients`, `files` and
`refused`, pairs of id and reason) | failed (with `why`).  It goes on whether or not somebody asks; one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

from mta.control.queue_facts import Facts
from mta.control.socket import Answer, Command
from mta.interfaces import IEventLog, IQueue
from mta.queue.ids import id_text
from mta.queue.state import CopyReport
from mta.status import MailError, Scope, permanent

__all__ = ["Backups", "report_facts"]

SHOWN = 1000  # refused messages in an answer


class Backups:
    """log: gets one line when a backup has ended."""

    def __init__(self, queue: IQueue, log: IEventLog) -> None:
        self._queue = queue
        self._log = log
        self._last: Facts = {"state": "none"}

    def table(self) -> dict[str, Command]:
        """The command by its name, for the control socket."""
        return {"queue.backup": self._asked}

    async def _asked(self, request: Mapping[str, Any]) -> Answer:
        if "dest" in request:
            self._begin(request["dest"])
        return self._last

    def _begin(self, dest: object) -> None:
        if not isinstance(dest, str) or not dest.startswith("/") or "\0" in dest:
            raise _refused("dest is an absolute path")
        if self._last["state"] == "running":
            raise _refused("a backup is under way")
        self._last = {"state": "running", "what": "pages", "done": 0, "total": 0}
        self._queue.backup(Path(dest), self._progress).addCallbacks(
            self._done, self._failed, callbackArgs=(dest,), errbackArgs=(dest,)
        )

    def _progress(self, what: str, done: int, total: int) -> None:
        self._last = {"state": "running", "what": what, "done": done, "total": total}

    def _done(self, report: CopyReport, dest: str) -> None:
        self._last = {"state": "done", **report_facts(report)}
        told = {"messages": report.messages, "recipients": report.recipients, "refused": len(report.refused)}
        self._log.event("operator", "", {"action": "backup", "to": dest, **told})

    def _failed(self, failure: Failure, dest: str) -> None:
        error = failure.value
        why = (error.reason or str(error)) if isinstance(error, MailError) else failure.getErrorMessage()
        self._last = {"state": "failed", "why": why}
        self._log.event("operator", "", {"action": "backup", "to": dest, "failed": why})


def report_facts(report: CopyReport) -> Facts:
    """What was done, as plain JSON values."""
    return {
        "messages": report.messages,
        "recipients": report.recipients,
        "files": report.files,
        "refused": [[id_text(id), why] for id, why in report.refused[:SHOWN]],
        "refused_count": len(report.refused),
    }


def _refused(why: str) -> MailError:
    return permanent("5.5.4", "the request makes no sense", scope=Scope.MESSAGE, reason=why)
