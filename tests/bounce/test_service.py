"""The bounce agent with a queue that is a list."""

from __future__ import annotations

import email

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mta.bounce.service import BounceAgent
from mta.envelope import BodyRef, Claim, Flag, Job, Kind, Message, NewRecipient
from mta.interfaces import IAccept, IBodyReader, IBodySink, IDeliveryAgent, IEventLog
from mta.status import transient

NOW = 1_790_000_000_000
FULL = transient("4.3.1", "disk full", code=452, reason="ENOSPC")


@implementer(IBodySink)
class Sink:
    """A body in memory; `trouble` comes out of write or finish."""

    id, name, size = 4711, "REPORT", 0

    def __init__(self, trouble: dict[str, Exception]) -> None:
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
        self.sinks.append(Sink(self.trouble))
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


class BounceAgentTests(SynchronousTestCase):
    """Settlements."""

    def setUp(self) -> None:
        self.accept, self.log = Accept(), Log()
        self.agent = BounceAgent(
            "mx1.example.org",
            self.accept,
            now=lambda: NOW,
            random=lambda n: b"\x5a" * n,
            log=self.log,
            name_of=lambda number: f"ID{number}",
            lifetime=5000,
        )

    def job(
        self,
        sender="alice@example.org",
        body=b"Subject: hi\r\n\r\nsecret\r\n",
        reader=None,
        to=("bob@b.test", "eve@b.test"),
        flags=0,
    ):
        message = Message(64, sender, NOW - 1, NOW, 50, flags, 2, b"Received: x\r\n")
        claims = tuple(Claim(65 + n, 64, "bounce:", 0, 0, 1, a, last_reply="550 5.1.1 no") for n, a in enumerate(to))
        return Job(message, claims, "bounce:", body, lambda: reader)

    def test_provides_the_interface(self) -> None:
        """A delivery agent like every other."""
        verifyObject(IDeliveryAgent, self.agent)

    def test_one_report_for_all_recipients(self) -> None:
        """Outcomes and report come in one settlement (queue law R5): stored and removed together."""
        job = self.job()
        settlement = self.successResultOf(self.agent.deliver(job))
        self.assertEqual([(claim, Kind.DELIVERED) for claim in job.claims], [(o.claim, o.kind) for o in settlement.outcomes])
        (spawn,) = settlement.spawn
        self.assertEqual(
            (4711, "", "dsn", NOW, NOW + 5000, 0),
            (spawn.id, spawn.sender, spawn.source, spawn.created, spawn.expires, spawn.flags),
        )
        self.assertEqual((NewRecipient("alice@example.org"),), spawn.recipients)
        text = email.message_from_bytes(spawn.prefix + spawn.body.data)
        self.assertEqual(3, len(text.get_payload(1).get_payload()))
        self.assertEqual("<REPORT@mx1.example.org>", text["Message-ID"])
        self.assertEqual("Received: x\nSubject: hi\n", text.get_payload(2).get_payload().replace("\r", ""))
        self.assertEqual({"report": "REPORT"}, dict(settlement.outcomes[0].facts))

    def test_q15_null_sender_makes_no_report(self) -> None:
        """RFC 5321 6.1: no bounce of a bounce; it is dropped, and said so."""
        settlement = self.successResultOf(self.agent.deliver(self.job(sender="")))
        self.assertEqual((), settlement.spawn)
        self.assertEqual([Kind.DELIVERED] * 2, [o.kind for o in settlement.outcomes])
        self.assertEqual([], self.accept.sinks)
        names = [(name, queue_id, fields["reason"], fields["to"]) for name, queue_id, fields in self.log.lines]
        self.assertEqual(
            [("removed", "ID64", "double bounce", "bob@b.test"), ("removed", "ID64", "double bounce", "eve@b.test")], names
        )

    def test_disk_full_keeps_the_bounce_owed(self) -> None:
        """At every step: all recipients deferred with the reply of the error, the sink forgotten."""
        for step in ("create", "write", "finish"):
            self.accept.trouble = {step: FULL}
            settlement = self.successResultOf(self.agent.deliver(self.job()))
            self.assertEqual((), settlement.spawn)
            self.assertEqual([(Kind.DEFERRED, FULL.reply)] * 2, [(o.kind, o.reply) for o in settlement.outcomes], step)
        self.assertEqual([True, True], [sink.aborted for sink in self.accept.sinks])

    def test_a_bug_defers_and_is_logged(self) -> None:
        """An exception that is no mail error neither escapes nor loses the bounce."""
        self.accept.trouble = {"finish": RuntimeError("boom")}
        settlement = self.successResultOf(self.agent.deliver(self.job()))
        self.assertEqual([Kind.DEFERRED] * 2, [o.kind for o in settlement.outcomes])
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_slow_disk_is_waited_for(self) -> None:
        """A Deferred of write holds the report back."""
        waiting: Deferred[None] = Deferred()
        create = self.accept.create_body

        def paused(recipients: int) -> Sink:
            sink = create(recipients)
            sink.paused = waiting
            return sink

        self.accept.create_body = paused
        result = self.agent.deliver(self.job())
        self.assertNoResult(result)
        waiting.callback(None)
        self.assertEqual(1, len(self.successResultOf(result).spawn))

    def test_large_body_is_read_no_further_than_its_headers(self) -> None:
        """The reader is asked until the empty line, then closed."""
        reader = Reader([b"Subject: a\r\n", b"X: y\r\n\r\nsecret", b"more"])
        settlement = self.successResultOf(self.agent.deliver(self.job(body=None, reader=reader)))
        self.assertEqual((2, True), (reader.reads, reader.closed))
        self.assertIn(b"X: y\r\n", settlement.spawn[0].body.data)
        self.assertNotIn(b"secret", settlement.spawn[0].body.data)

    def test_endless_headers_are_bounded(self) -> None:
        """A body that is all header is read to 64 KiB and no further."""
        reader = Reader([b"X: y\r\n" * 5000] * 100)
        settlement = self.successResultOf(self.agent.deliver(self.job(body=None, reader=reader)))
        self.assertLessEqual(reader.reads, 3)
        self.assertLess(settlement.spawn[0].body.size, 70_000)

    def test_unreadable_body_defers(self) -> None:
        """The reader's failure defers and the reader is closed."""
        reader = Reader([FULL])
        settlement = self.successResultOf(self.agent.deliver(self.job(body=None, reader=reader)))
        self.assertEqual([Kind.DEFERRED] * 2, [o.kind for o in settlement.outcomes])
        self.assertTrue(reader.closed)

    def test_smtputf8_only_for_a_sender_that_needs_it(self) -> None:
        """RFC 6531: the flags of the report are what its own way back demands."""
        utf8 = self.successResultOf(self.agent.deliver(self.job(sender="älice@example.org"))).spawn[0]
        self.assertEqual(Flag.SMTPUTF8 | Flag.EIGHTBITMIME, utf8.flags)
        eight = self.successResultOf(self.agent.deliver(self.job(to=("bób@b.test",)))).spawn[0]
        self.assertEqual(Flag.EIGHTBITMIME, eight.flags)

    def test_requiretls_holds_on_the_way_back(self) -> None:
        """P43, RFC 8689 5: the report carries the flag and headers only, even where RET=FULL was asked for (its own use is issue 4's)."""
        for flags, expected in (
            (Flag.REQUIRETLS, Flag.REQUIRETLS),
            (Flag.REQUIRETLS | Flag.RET_FULL | Flag.TLS_REQUIRED_NO, Flag.REQUIRETLS),
            (Flag.TLS_REQUIRED_NO | Flag.RET_FULL, Flag(0)),
        ):
            spawn = self.successResultOf(self.agent.deliver(self.job(flags=int(flags)))).spawn[0]
            self.assertEqual(expected, spawn.flags)
            self.assertIn(b"Subject: hi", spawn.body.data)
            self.assertNotIn(b"secret", spawn.body.data)
        utf8 = self.successResultOf(self.agent.deliver(self.job(sender="älice@example.org", flags=int(Flag.REQUIRETLS)))).spawn[0]
        self.assertEqual(Flag.REQUIRETLS | Flag.SMTPUTF8 | Flag.EIGHTBITMIME, utf8.flags)
