"""What the reactor asks of the writer: one object for each call, with the Deferred that its caller waits for.

`Enqueue` and `Settle` are written together, whatever arrived, by one set of statements (transaction.py).  `Change` is
anything else that writes, `Ask` what must be read in the writer's order.  An operation that is cancelled before the
writer has begun it is not done at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw
from twisted.internet.defer import Deferred

from mta.envelope import Claim, NewMessage, Outcome
from mta.status import MailError

__all__ = ["Ask", "Change", "Enqueue", "Operation", "Settle", "Take"]


class Operation:
    """size: bytes that it keeps in memory; synced: its commit must be durable before it is answered, even if lazy.

    patient: nobody waits for it, it may be written a moment later.
    """

    __slots__ = ("cancelled", "deferred", "patient", "size", "synced")

    def __init__(self) -> None:
        self.cancelled = False
        self.patient = False
        self.size = 0
        self.synced = False
        self.deferred: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled = True

    def given_up(self) -> bool:
        """Nobody waits for it any more.  Asked once, on the writer's thread, when it is begun: what is begun is done."""
        return self.cancelled

    def answer(self, result: Any, error: MailError | None) -> None:
        """On the reactor's thread: the caller gets it, unless it has cancelled."""
        if self.deferred.called:
            return
        if error is None:
            self.deferred.callback(result)
        else:
            self.deferred.errback(error)


class Enqueue(Operation):
    """Messages to be stored, and which of their recipients are claimed by the caller.

    wanted: False when the caller has given up.  stored: where the call fails, the messages that were stored all the same.
    """

    __slots__ = ("_wanted", "admitted", "claims", "messages", "stored")

    def __init__(self, messages: Sequence[NewMessage], claims: list[Claim], wanted: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self.messages = messages
        self.claims = claims
        self.admitted = {claim.id for claim in claims}
        self.stored: set[int] = set()
        self._wanted = wanted
        self.size = sum(len(message.body.data or b"") for message in messages)
        self.synced = True

    def given_up(self) -> bool:
        """See Operation."""
        return self.cancelled or (self._wanted is not None and not self._wanted())


class Settle(Operation):
    """Outcomes, and the messages born of them."""

    __slots__ = ("outcomes", "spawn")

    def __init__(self, outcomes: Sequence[Outcome], spawn: Sequence[NewMessage]) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.spawn = spawn
        self.size = sum(len(message.body.data or b"") for message in spawn)
        self.synced = bool(spawn)
        self.patient = True


class Change(Operation):
    """A function of the connection that writes; `large` takes the messages whose files are to be removed after it."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[apsw.Connection, list[int]], Any]) -> None:
        super().__init__()
        self.work = work
        self.synced = True


class Ask(Operation):
    """A function of the connection that reads."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[apsw.Connection], Any]) -> None:
        super().__init__()
        self.work = work


class Take(Ask):
    """An Ask whose result is claims: they are given back when nobody waits for them any more."""

    __slots__ = ()
