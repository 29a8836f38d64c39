"""Where the server ends itself by kill -9: the numbered points of the crash table (docs/queue.md, "What each crash leaves
behind"; section 7.1 of the design).

`arm(point)` is called once, in the process that is to die, before its server is made.  It wraps a method of the server,
which knows nothing of it.  Names: the number, and a word where a number has several moments.  What one compiled module
calls in another (build_compiled.py) cannot be wrapped: the points of INSIDE want a server of the sources.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from mta.envelope import BOUNCE, Kind
from mta.queue import service
from mta.queue.body import INLINE_LIMIT, BodySink
from mta.queue.dispatch import Dispatch
from mta.queue.sqlite import writer
from mta.queue.sqlite.engine import SqliteQueue
from mta.queue.sqlite.operation import Enqueue, Operation, Settle
from mta.queue.sqlite.writer import Writer
from mta.receive.session import Session as Receiving
from mta.relay.session import Session as Relaying
from mta.smtp.client import Sender

__all__ = ["INSIDE", "POINTS", "arm"]

TORN = 4  # writes into the log: its header, the header and the page of a frame, and half of the next

Predicate = Callable[[Operation], bool]


def arm(point: str) -> None:
    """Lay the trap."""
    POINTS[point]()


def die() -> None:
    """No cleanup, no flush: as the power switch does it, for a process."""
    os.kill(os.getpid(), signal.SIGKILL)


# -- what may be wrapped


def before(owner: type, name: str, wanted: Callable[..., object] = lambda *_: True) -> None:
    """Die where the method is called and `wanted` says so."""
    method = getattr(owner, name)

    def wrapped(*arguments: Any) -> Any:
        if wanted(*arguments):
            die()
        return method(*arguments)

    setattr(owner, name, wrapped)


def after(owner: type, name: str, wanted: Callable[..., object] = lambda *_: True) -> None:
    """Die where the method returns."""
    method = getattr(owner, name)

    def wrapped(*arguments: Any) -> Any:
        result = method(*arguments)
        if wanted(*arguments):
            die()
        return result

    setattr(owner, name, wrapped)


def while_writing(wanted: Predicate) -> Callable[..., bool]:
    """True while the writer's transaction has an operation of that kind."""
    running: list[Operation] = []
    transact = Writer._transact

    def wrapped(self: Writer, operations: Sequence[Operation], *more: Any) -> None:
        running[:] = operations
        transact(self, operations, *more)
        running.clear()

    Writer._transact = wrapped  # type: ignore[method-assign,assignment]
    return lambda *_: any(map(wanted, running))


def body_has(size: int) -> Callable[..., bool]:
    """The body that comes in has more bytes than that."""
    return lambda sink, _: sink.size > size


# -- operations


def accepts(operation: Operation) -> bool:
    """A message comes in."""
    return isinstance(operation, Enqueue)


def settles(kind: Kind) -> Predicate:
    """A delivery ended so."""
    return lambda operation: (
        isinstance(operation, Settle)
        and any(outcome.kind is kind and outcome.claim.dest != BOUNCE for outcome in operation.outcomes)
    )


def reports(operation: Operation) -> bool:
    """A report is stored, and what it reports removed."""
    return isinstance(operation, Settle) and bool(operation.spawn)


# -- inside SQLite


class TrapVFS(apsw.VFS):
    """The layer under SQLite.  spring(file, call, count): die in the count-th call of that kind since the last sync?"""

    def __init__(self, spring: Callable[[str, str, int], bool]) -> None:
        super().__init__("trap", "")
        self._spring = spring

    def xOpen(self, name: Any, flags: Any) -> TrapFile:
        return TrapFile(self._spring, name, flags)


class TrapFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, spring: Callable[[str, str, int], bool], name: Any, flags: Any) -> None:
        super().__init__("", name, flags)
        self._spring = spring
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name
        self._writes = 0

    def xWrite(self, data: bytes, offset: int) -> None:
        self._writes += 1
        if self._spring(self._name, "write", self._writes):
            super().xWrite(data[: len(data) // 2], offset)  # a torn write
            die()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._spring(self._name, "sync", 1):
            die()
        self._writes = 0
        super().xSync(flags)


def in_file(spring: Callable[[str, str, int], bool]) -> None:
    """The engine works on the layer above."""
    vfs = TrapVFS(spring)
    init = SqliteQueue.__init__

    def wrapped(self: SqliteQueue, *arguments: Any, **settings: Any) -> None:
        self.trap = vfs  # type: ignore[attr-defined]  # or it is collected
        init(self, *arguments, **settings, vfs="trap")

    SqliteQueue.__init__ = wrapped  # type: ignore[method-assign]


def in_commit(call: str, count: int) -> None:
    """In the commit of a message, at a call that concerns the log."""
    running = while_writing(accepts)
    in_file(lambda name, called, number: running() and name.endswith("-wal") and (called, number) == (call, count))


def in_checkpoint() -> None:
    """While the log is moved into the file, after the first message."""
    writer.CHECKPOINT = 1
    running = while_writing(accepts)
    stored: list[bool] = []

    def note(*_: object) -> bool:
        stored.append(running())
        return False

    after(Writer, "commit", note)
    in_file(lambda name, call, _: any(stored) and name.endswith(".db") and call == "write")


# -- and moments that need more than one wrapper


def held_until_the_client_has_gone() -> None:
    """No attempt begins; the client hears its answer and goes."""
    Dispatch.take = lambda *_: None  # type: ignore[method-assign]
    before(Receiving, "connectionLost")


def poison() -> None:
    """One mail is the end of whoever delivers it."""
    before(Dispatch, "_deliver", lambda _, __, flight: any(claim.address.startswith("poison") for claim in flight.batch.claims))


def quick_sweep() -> None:
    """No crash: the sweep of every minute comes at once."""
    service.SWEEP = service.MORE = 20


def commit(when: Callable[..., None], wanted: Predicate) -> Callable[[], None]:
    """Before the writer's COMMIT, or behind it: it is durable and nobody knows yet."""
    return lambda: when(Writer, "commit", while_writing(wanted))


POINTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "sweep": quick_sweep,
    "1 small": lambda: after(BodySink, "write", body_has(0)),
    "1 large": lambda: after(BodySink, "write", body_has(INLINE_LIMIT)),
    "2": lambda: before(service.QueueService, "accept"),
    "3": lambda: before(Writer, "_do", lambda _, batch, __: any(map(accepts, batch))),
    "4 torn": lambda: in_commit("write", TORN),
    "4 sync": lambda: in_commit("sync", 1),
    "5": commit(after, accepts),
    "6": held_until_the_client_has_gone,
    "7": lambda: before(Sender, "end_body"),
    "8": lambda: before(Relaying, "dataReceived", lambda session, _: session.after_dot),
    "9": commit(before, settles(Kind.DELIVERED)),
    "10": commit(after, settles(Kind.DELIVERED)),
    "11": commit(before, settles(Kind.DEFERRED)),
    "12": commit(after, settles(Kind.FAILED)),
    "13 before": commit(before, reports),
    "13 after": commit(after, reports),
    "15": in_checkpoint,
    "48": poison,
}

INSIDE = {"7"}
