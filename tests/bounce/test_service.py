"""The bounce agent: failures, and what may go wrong while they are reported."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mta.bounce.original import is_sound
from mta.envelope import Flag, Kind, NewRecipient, Notify
from mta.interfaces import IDeliveryAgent
from tests.bounce.station import FULL, NOW, AgentCase, Reader, Sink


class BounceAgentTests(AgentCase):
    """Settlements."""

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
            (1, "", "dsn", NOW, NOW + 5000, 0),
            (spawn.id, spawn.sender, spawn.source, spawn.created, spawn.expires, spawn.flags),
        )
        self.assertEqual((NewRecipient("alice@example.org", notify=int(Notify.NEVER)),), spawn.recipients)  # RFC 3461 6.1
        text = self.parsed(spawn)
        self.assertEqual(3, len(text.get_payload(1).get_payload()))
        self.assertEqual("<REPORT1@mx1.example.org>", text["Message-ID"])
        self.assertEqual("Received: x\nSubject: hi\n", text.get_payload(2).get_payload().replace("\r", ""))
        self.assertEqual({"report": "REPORT1"}, dict(settlement.outcomes[0].facts))

    def test_q15_null_sender_makes_no_report(self) -> None:
        """RFC 5321 6.1: no bounce of a bounce; it is dropped, and said so."""
        settlement = self.successResultOf(self.agent.deliver(self.job(sender="")))
        self.assertEqual((), settlement.spawn)
        self.assertEqual([Kind.DELIVERED] * 2, [o.kind for o in settlement.outcomes])
        self.assertEqual([], self.accept.sinks)
        self.assertEqual(["double bounce"] * 2, self.reasons(settlement))  # its line in the log is the settlement's
        self.assertEqual([], self.log.lines)

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
        """P43, RFC 8689 5: the report carries the flag and headers only, even where RET=FULL was asked for."""
        for flags, expected in (
            (Flag.REQUIRETLS, Flag.REQUIRETLS),
            (Flag.REQUIRETLS | Flag.RET_FULL | Flag.TLS_REQUIRED_NO, Flag.REQUIRETLS),
            (Flag.TLS_REQUIRED_NO | Flag.RET_HDRS, Flag(0)),
        ):
            spawn = self.successResultOf(self.agent.deliver(self.job(flags=int(flags)))).spawn[0]
            self.assertEqual(expected, spawn.flags)
            self.assertIn(b"Subject: hi", spawn.body.data)
            self.assertNotIn(b"secret", spawn.body.data)
        utf8 = self.successResultOf(self.agent.deliver(self.job(sender="älice@example.org", flags=int(Flag.REQUIRETLS)))).spawn[0]
        self.assertEqual(Flag.REQUIRETLS | Flag.SMTPUTF8 | Flag.EIGHTBITMIME, utf8.flags)

    def test_return_of_the_whole_message(self) -> None:
        """RFC 3461 4.3: RET=FULL of a failure, up to return_size; else, and where RET is not given, the header."""
        for flags, size, whole in (
            (Flag.RET_FULL, None, True),
            (Flag.RET_FULL, 1001, False),
            (Flag.RET_FULL, 999, False),  # less is there than was stored: not the whole of it
            (Flag.RET_HDRS, None, False),
            (0, None, False),
        ):
            report = self.parsed(self.settled(self.job(flags=flags, size=size)).spawn[0]).get_payload(2)
            self.assertEqual("message/rfc822" if whole else "text/rfc822-headers", report.get_content_type(), (flags, size))
            self.assertEqual(whole, "secret" in report.as_string())

    def test_binary(self) -> None:
        """RFC 3030 3: octets that no line can hold do not go back, whatever RET says; the header does; in lines all of it may."""
        head = b"Subject: hi\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        for secret, whole in ((b"secret\0", False), (b"secret\n", False), (b"\rsecret", False), (b"secret\r\n", True)):
            for body, reader in ((head + secret, None), (None, Reader([head, secret]))):
                size = len(b"Received: x\r\n" + head + secret)
                job = self.job(body=body, reader=reader, flags=Flag.RET_FULL | Flag.BINARYMIME, size=size)
                (spawn,) = self.settled(job).spawn
                self.assertTrue(is_sound(spawn.body.data))
                self.assertFalse(spawn.flags & Flag.BINARYMIME)
                report = self.parsed(spawn).get_payload(2)
                self.assertEqual("message/rfc822" if whole else "text/rfc822-headers", report.get_content_type(), secret)
                self.assertEqual((True, whole), (b"Subject: hi\r\n" in spawn.body.data, b"secret" in spawn.body.data))

    def test_whole_message_from_its_file(self) -> None:
        """Read piece by piece to its end; one that is longer than it says is not read on."""
        pieces = [b"Subject: a\r\n\r\n", b"secret\r\n", b"more\r\n"]
        size = len(b"Received: x\r\n") + len(b"".join(pieces))
        for given, read, whole in ((size, 3, True), (size - 6, 2, True), (size - 1, 3, False), (size + 1, 4, False)):
            reader = Reader(pieces)
            job = self.job(body=None, reader=reader, flags=Flag.RET_FULL, size=given)
            report = self.parsed(self.settled(job).spawn[0]).get_payload(2)
            self.assertEqual((read, True), (reader.reads, reader.closed), given)
            self.assertEqual(whole, report.get_content_type() == "message/rfc822", given)
