"""A bounce agent with a queue that is a list, and jobs for it."""

from __future__ import annotations

import email
from email.message import Message as Parsed

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.bounce.service import BounceAgent
from mta.config.settings import Dsn, Size
from mta.envelope import BodyRef, Claim, Job, Message, NewMessage, Settlement
from mta.interfaces import IAccept, IBodyReader, IBodySink, IEventLog
from mta.status import transient

NOW = 1_790_000_000_000
FULL = transient("4.3.1", "disk full", code=452, reason="ENOSPC")


@implementer(IBodySink)
class Sink:
    """A body in memory; `trouble` comes out of write or finish."""

    size = 0

    def __init__(self, number: int, trouble: dict[str, Exception]) -> None:
        self.id, self.name = number, f"REPORT{number}"
        self.trouble, self.data, self.aborted = trouble, b"", False
        self.paused: Deferred[None] | None = None

    def write(self, data: bytes) -> Deferred[None] | None:
        self.data += data
        return fail(self.trouble["write"]) if "write" in self.trouble else self.paused

    def finish(self) -> Deferred[BodyRef]:
        return fail(self.trouble["finish"]) if "finish" in self.trouble else succeed(BodyRef(len(self.data), self.data))

    def abort(self) -> None:
        self.aborted = True


@implementer(IAccept)
class Accept:
    """Gives out sinks and remembers them."""

    pressure = 0.0

    def __init__(self) -> None:
        self.trouble: dict[str, Exception] = {}
        self.sinks: list[Sink] = []

    def create_body(self, recipients: int) -> Sink:
        if "create" in self.trouble:
            raise self.trouble["create"]
        assert recipients == 1
        self.sinks.append(Sink(len(self.sinks) + 1, self.trouble))
        return self.sinks[-1]


@implementer(IEventLog)
class Log:
    def __init__(self) -> None:
        self.lines: list[tuple] = []

    def event(self, name, queue_id, fields) -> None:
        self.lines.append((name, queue_id, dict(fields)))


@implementer(IBodyReader)
class Reader:
    """Pieces, or a failure, and a note of what was read and closed."""

    def __init__(self, pieces) -> None:
        self.pieces, self.reads, self.closed = list(pieces), 0, False

    def read(self) -> Deferred[bytes]:
        self.reads += 1
        piece = self.pieces.pop(0) if self.pieces else b""
        return fail(piece) if isinstance(piece, Exception) else succeed(piece)

    def close(self) -> None:
        self.closed = True


class AgentCase(SynchronousTestCase):
    """An agent; `now` is its clock, `bodies` what its reader reads."""

    dsn = Dsn(return_size=Size(1000))

    def setUp(self) -> None:
        self.accept, self.log = Accept(), Log()
        self.now = NOW
        self.bodies: dict[int, Reader] = {}
        self.agent = BounceAgent(
            "mx1.example.org",
            self.accept,
            now=lambda: self.now,
            random=lambda n: b"\x5a" * n,
            log=self.log,
            name_of=lambda number: f"ID{number}",
            open_body=self.bodies.__getitem__,
            dsn=self.dsn,
            lifetime=5000,
        )

    def job(
        self,
        sender="alice@example.org",
        body=b"Subject: hi\r\n\r\nsecret\r\n",
        reader=None,
        to=("bob@b.test", "eve@b.test"),
        flags=0,
        notify=(),
        replies=(),
        source="smtp",
        size=None,
    ) -> Job:
        prefix = b"Received: x\r\n"
        size = len(prefix) + len(body or b"") if size is None else size
        message = Message(64, sender, NOW - 1, NOW, size, int(flags), 2, prefix, source)
        claims = tuple(
            Claim(
                65 + n,
                64,
                "bounce:",
                0,
                0,
                1,
                address,
                notify=int((notify or (0, 0, 0, 0))[n]),
                last_reply=(replies or ("550 5.1.1 no",) * len(to))[n],
                failed_dest="smtp:mx/b.test",
            )
            for n, address in enumerate(to)
        )
        return Job(message, claims, "bounce:", body, lambda: reader)

    def settled(self, job: Job) -> Settlement:
        return self.successResultOf(self.agent.deliver(job))

    def parsed(self, spawn: NewMessage) -> Parsed:
        return email.message_from_bytes(spawn.prefix + spawn.body.data)

    def told(self, spawn: NewMessage) -> list[tuple[str, str]]:
        """(action, recipient) of each group."""
        groups = self.parsed(spawn).get_payload(1).get_payload()[1:]
        return [(group["Action"], group["Final-Recipient"].removeprefix("rfc822; ")) for group in groups]

    def reasons(self, settlement: Settlement) -> list[object]:
        """What the log will say of each claim: its report, or why there is none."""
        return [outcome.facts.get("report") or outcome.facts["reason"] for outcome in settlement.outcomes]
