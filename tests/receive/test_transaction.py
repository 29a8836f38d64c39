"""From MAIL to the queue's answer: "250" only behind the commit, and every other way out leaves nothing behind."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from mta.config.settings import Limits, Size, TlsClient
from mta.envelope import Flag, NewRecipient, Notify
from mta.status import permanent
from tests.receive.door import BODY, FULL, STRANGER, TRUSTED, DoorCase


class EnvelopeTests(DoorCase):
    """MAIL and RCPT."""

    def test_relaying_denied(self) -> None:
        """A stranger's foreign recipient is refused and logged; the others of the transaction are not."""
        session, _ = self.hello()
        batch = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<x@example.net>\r\nRCPT TO:<user@example.org>\r\n"
        replies = self.say(session, batch)
        self.assertEqual(replies[1:], ["550 5.7.1 Relaying denied", "250 2.1.5 Recipient ok"])
        [rejected] = self.log.named("rejected")
        self.assertEqual((rejected["from"], rejected["to"]), ("a@client.example", "x@example.net"))
        self.assertEqual((rejected["client"], rejected["reply"]), (STRANGER, "550 5.7.1 Relaying denied"))

    def test_relay_for_ours(self) -> None:
        """A client in relay_from sends anywhere."""
        session, _ = self.hello(TRUSTED)
        self.envelope(session, "x@example.net")

    def test_router_refuses(self) -> None:
        """A recipient for whom there is no way gets the router's reply."""
        session, _ = self.hello()
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n"), ["250", "550", "554"])

    def test_too_many_recipients(self) -> None:
        """Over the limit 452 4.5.3; those within it are kept."""
        self.begin(limits=Limits(recipients_per_message=2))
        session, _ = self.hello()
        batch = b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<%d@example.org>\r\n" % n for n in range(4)) + b"DATA\r\n"
        self.assertEqual(self.codes(session, batch), ["250", "250", "250", "452", "452", "354"])
        self.assertEqual(self.accept.recipients, [2])

    def test_same_recipient_twice(self) -> None:
        """Both are answered 250; one copy is delivered."""
        session, _ = self.hello()
        batch = b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"
        self.assertEqual(self.codes(session, batch), ["250", "250", "250", "354"])
        self.codes(session, BODY + b".\r\n")
        self.assertEqual(self.accept.accepted[0].recipients, (NewRecipient("user@example.org"),))

    def test_terms(self) -> None:
        """RFC 2852, RFC 6710: by when, counted from MAIL, and what then; how urgent it is, from a client that may say so."""
        session, _ = self.hello(TRUSTED)
        for terms, by, flags, priority in (
            (b"BY=120;RT MT-PRIORITY=-3", 120, Flag.BY_RETURN | Flag.BY_TRACE, -3),
            (b"BY=60;N", 60, Flag(0), 0),
            (b"BY=-5;N", -5, Flag.DELAY_WARNED, 0),
        ):
            began = self.clock.seconds()
            self.assertEqual(self.codes(session, b"MAIL FROM:<a@b.example> " + terms + b"\r\n"), ["250"])
            self.clock.advance(3)
            self.assertEqual(self.codes(session, b"RCPT TO:<user@example.org>\r\nDATA\r\n"), ["250", "354"])
            self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
            message = self.accept.accepted.pop()
            self.assertEqual((message.deliver_by, message.flags, message.priority), ((began + by) * 1000, flags, priority))
        self.envelope(session)
        self.codes(session, BODY + b".\r\n")
        self.assertEqual((self.accept.accepted[0].deliver_by, self.accept.accepted[0].flags), (0, 0))

    def test_terms_of_strangers(self) -> None:
        """Nobody whose mail we do not relay says how urgent it is; by when, he may say, but not within a minute."""
        session, _ = self.hello()
        for terms, code in ((b"MT-PRIORITY=1", "555"), (b"BY=59;R", "555"), (b"BY=60;R", "250")):
            self.assertEqual(self.codes(session, b"MAIL FROM:<a@b.example> " + terms + b"\r\n"), [code])

    def test_dsn(self) -> None:
        """RFC 3461 4: what is asked of reports is stored with message and recipients, as it was given."""
        session, _ = self.hello()
        batch = (
            b"MAIL FROM:<a@client.example> RET=HDRS ENVID=id+2B1\r\nRCPT TO:<a@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;A+2Bb\r\n"
            b"RCPT TO:<b@example.org> NOTIFY=NEVER\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org> NOTIFY=NONE\r\nDATA\r\n"
        )
        self.assertEqual(self.codes(session, batch), ["250", "250", "250", "250", "501", "354"])
        self.codes(session, BODY + b".\r\n")
        [message] = self.accept.accepted
        self.assertEqual((message.envid, message.flags), ("id+2B1", int(Flag.RET_HDRS)))
        first = NewRecipient("a@example.org", "rfc822;A+2Bb", int(Notify.SUCCESS | Notify.DELAY))
        never = NewRecipient("b@example.org", notify=int(Notify.NEVER))
        self.assertEqual(message.recipients, (first, never, NewRecipient("c@example.org")))

    def test_dsn_of_the_same_recipient_twice(self) -> None:
        """One copy, and every report that either of them asked for; nothing said is FAILURE and DELAY."""
        for first, second, notify in (
            (b" NOTIFY=SUCCESS ORCPT=rfc822;x", b" NOTIFY=FAILURE ORCPT=rfc822;y", Notify.SUCCESS | Notify.FAILURE),
            (b" NOTIFY=NEVER ORCPT=rfc822;x", b" NOTIFY=SUCCESS", Notify.SUCCESS),
            (b" ORCPT=rfc822;x", b" NOTIFY=SUCCESS", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
            (b" NOTIFY=NEVER", b" NOTIFY=NEVER ORCPT=rfc822;x", Notify.NEVER),
            (b" ORCPT=rfc822;x", b"", 0),
        ):
            session, _ = self.hello()
            rcpt = b"RCPT TO:<user@example.org>%s\r\n"
            self.codes(session, b"MAIL FROM:<>\r\n" + rcpt % first + rcpt % second + b"DATA\r\n")
            self.codes(session, BODY + b".\r\n")
            self.assertEqual(self.accept.accepted.pop().recipients, (NewRecipient("user@example.org", "rfc822;x", int(notify)),))

    def test_pressure(self) -> None:
        """Above 1 MAIL gets 452 4.3.1, from 0.8 its 250 comes later, up to a second; below nothing waits."""
        session, wire = self.hello()
        self.accept.pressure = 1.1
        self.assertEqual(self.say(session, b"MAIL FROM:<>\r\n")[0][:9], "452 4.3.1")
        for pressure, delay in ((0.9, 0.5), (1.0, 1.0)):
            self.accept.pressure = pressure
            self.assertEqual(self.say(session, b"MAIL FROM:<>\r\n"), [])
            self.clock.advance(delay - 0.01)
            self.assertEqual(wire.value(), b"")
            self.clock.advance(0.02)
            self.assertEqual(wire.value(), b"250 2.1.0 Sender ok\r\n")
            self.say(session, b"RSET\r\n")
        self.accept.pressure = 0.8
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\n"), ["250"])

    def test_goes_while_slowed_down(self) -> None:
        """A client that goes during the delay leaves no timer (see tearDown)."""
        session, wire = self.hello()
        self.accept.pressure = 0.95
        session.dataReceived(b"MAIL FROM:<>\r\n")
        wire.lose()


class AcceptTests(DoorCase):
    """A message that is taken."""

    def test_message(self) -> None:
        """What the queue gets: envelope, times, flags, prefix, trace and lane."""
        session, _ = self.hello()
        commands = b"MAIL FROM:<s@client.example> SIZE=20 BODY=8BITMIME\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
        self.codes(session, commands)
        self.assertEqual(self.say(session, BODY + b".\r\n"), ["250 2.0.0 Ok: queued as Q1000"])
        [message] = self.accept.accepted
        self.assertEqual((message.id, message.sender, message.source), (1000, "s@client.example", "smtp"))
        self.assertEqual([recipient.address for recipient in message.recipients], ["a@example.org", "b@example.org"])
        self.assertEqual((message.body.size, message.body.data), (20, BODY))
        self.assertEqual((message.created, message.expires - message.created), (int(self.clock.seconds() * 1000), 5 * 86_400_000))
        self.assertEqual(message.flags, Flag.EIGHTBITMIME)
        self.assertTrue(
            message.prefix.startswith(
                b"Received: from client.example ([203.0.113.9])\r\n\tby mx.example.org with ESMTP id Q1000;\r\n"
            )
        )
        assert message.trace is not None
        self.assertEqual(json.loads(message.trace), {"client": STRANGER, "helo": "client.example", "tls": ""})
        self.assertEqual(self.accept.recipients, [2])

    def test_single_recipient(self) -> None:
        """Only a single recipient is named in Received."""
        session, _ = self.hello()
        self.envelope(session)
        self.codes(session, BODY + b".\r\n")
        self.assertIn(b"for <user@example.org>;", self.accept.accepted[0].prefix)

    def test_logged(self) -> None:
        """One line, under the queue id."""
        session, wire = self.hello()
        self.envelope(session)
        self.clock.advance(0.5)
        self.codes(session, BODY + b".\r\n")
        [(queue_id, fields)] = [(queue_id, fields) for name, queue_id, fields in self.log.events if name == "accepted"]
        self.assertEqual(queue_id, "Q1000")
        self.assertEqual((fields["from"], fields["nrcpt"], fields["size"]), ("sender@client.example", 1, 20))
        self.assertEqual((fields["client"], fields["helo"], fields["delay"]), (STRANGER, "client.example", 0.5))
        self.assertIsNone(fields["tls_version"])
        wire.lose()
        self.assertEqual(self.log.named("disconnect")[0]["messages"], 1)

    def test_lane(self) -> None:
        """Ours by the sender's domain; a stranger by network, whatever sender it invents; a null sender by network."""
        for address, sender in (
            (TRUSTED, b"a@One.example"),
            (TRUSTED, b""),
            (STRANGER, b"a@one.example"),
            (STRANGER, b"b@two.example"),
        ):
            session, _ = self.hello(address)
            self.codes(session, b"MAIL FROM:<%s>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n" % sender)
            self.codes(session, BODY + b".\r\n")
        lanes = [message.lane_key for message in self.accept.accepted]
        self.assertEqual(lanes, ["one.example", "c0000207", "cb007109", "cb007109"])

    def test_no_250_before_the_commit(self) -> None:
        """Nothing is said until the queue's commit has returned; what was pipelined behind waits for it."""
        self.accept.slow = True
        session, wire = self.hello()
        self.envelope(session)
        self.assertEqual(self.say(session, BODY + b".\r\nNOOP\r\n"), [])
        self.clock.pump([1.0] * 400)
        self.assertEqual((wire.value(), wire.disconnecting), (b"", False))
        self.accept.commits[0].callback(1000)
        self.assertEqual(wire.value(), b"250 2.0.0 Ok: queued as Q1000\r\n250 2.0.0 Ok\r\n")

    def test_two_messages(self) -> None:
        """The next transaction of a connection begins with nothing of the last one."""
        session, _ = self.hello()
        for recipient in ("a@example.org", "b@example.org"):
            self.envelope(session, recipient)
            self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
        self.assertEqual([m.recipients[0].address for m in self.accept.accepted], ["a@example.org", "b@example.org"])
        self.assertFalse(any(sink.aborted for sink in self.accept.sinks))

    def test_dots(self) -> None:
        """The body arrives without the dots of transparency, however it is cut."""
        session, _ = self.hello()
        self.envelope(session)
        for byte in b"..dot\r\n...\r\n.\r\n":
            session.dataReceived(bytes([byte]))
        self.assertEqual(self.accept.accepted[0].body.data, b".dot\r\n..\r\n")


class TlsRequiredTests(DoorCase):
    """The header "TLS-Required: No" (RFC 8689 5)."""

    def flags(self, header: bytes) -> int:
        """Of a message with that header, sent in pieces."""
        session, _ = self.hello()
        self.envelope(session)
        for number in range(0, len(header), 7):
            session.dataReceived(header[number : number + 7])
        self.assertEqual(self.codes(session, b"\r\nbody\r\n.\r\n"), ["250"])
        return self.accept.accepted[-1].flags

    def test_said(self) -> None:
        """The message is marked, and none is that does not say so."""
        self.assertEqual(self.flags(b"Subject: x\r\nTls-Required: no\r\n"), Flag.TLS_REQUIRED_NO)
        self.assertEqual(self.flags(b"Subject: x\r\nTLS-Required: never\r\n"), 0)
        self.assertEqual(self.flags(b"Subject: x\r\n"), 0)

    def test_switched_off(self) -> None:
        """Where the operator does not obey it, it is a line like any other."""
        self.begin(tls_client=TlsClient(allow_tls_required_no=False))
        self.assertEqual(self.flags(b"TLS-Required: No\r\n"), 0)


class RefusalTests(DoorCase):
    """Messages that are not taken."""

    def refused(self, body: bytes, reply: str) -> None:
        """The body is refused with that; nothing is left, and the connection is good for another message."""
        session, _ = self.hello()
        self.envelope(session)
        answers = self.say(session, body + b"\r\n.\r\n")
        self.assertEqual([line[: len(reply)] for line in answers], [reply])
        self.assertEqual(self.accept.accepted, [])
        self.assertTrue(self.accept.sinks[-1].aborted)
        self.assertFalse(self.accept.sinks[-1].finished)
        self.assertEqual(self.log.named("rejected")[-1]["stage"], "end")
        self.envelope(session)
        self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
        self.accept.accepted.clear()

    def test_body_not_framed(self) -> None:
        """Bare LF, bare CR, NUL, a smuggled end and a line too long: 550."""
        for body in (b"a\nb", b"a\rb", b"a\0b", b"a\n.\nMAIL FROM:<smuggled@example.org>", b"A" * 1100):
            self.refused(body, "550 5.6.0")

    def test_too_big(self) -> None:
        """Over the limit 552, though it was not declared."""
        self.begin(limits=Limits(message_size=Size(1000)))
        self.refused((b"A" * 70 + b"\r\n") * 20, "552 5.3.4")

    def test_loop(self) -> None:
        """More Received lines than received_hops: 554 5.4.6; as many as that pass."""
        self.begin(limits=Limits(received_hops=5))
        self.refused(b"Received: x\r\n" * 6 + b"\r\nx", "554 5.4.6")
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, b"Received: x\r\n" * 5 + b"\r\nx\r\n.\r\n"), ["250"])

    def test_no_room_at_data(self) -> None:
        """The queue takes no more: its reply to DATA, and the connection lives on."""
        self.accept.refusal = FULL
        session, _ = self.hello()
        commands = b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"
        self.assertEqual(self.codes(session, commands), ["250", "250", "452"])
        self.assertEqual(self.log.named("rejected")[0]["why"], "disk full")
        self.accept.refusal = None
        self.assertEqual(self.codes(session, b"DATA\r\n"), ["354"])

    def test_disk_fills_while_receiving(self) -> None:
        """452 4.3.1 at the end of data, whether write raises or fails later; the rest of the body is read and dropped."""
        for later in (False, True):
            session, _ = self.hello()
            self.envelope(session)
            sink = self.accept.sinks[-1]
            if later:
                sink.wait = Deferred()
                wait = sink.wait
                session.dataReceived(b"first\r\n")
                wait.errback(FULL)
            else:
                sink.full = FULL
            session.dataReceived(b"more\r\n" * 100)
            self.assertTrue(sink.aborted)
            self.assertEqual(self.say(session, b".\r\n")[0][:9], "452 4.3.1")
            self.assertLessEqual(len(sink.pieces), 1)
            self.envelope(session)
            self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])

    def test_finish_fails(self) -> None:
        """A disk that is full at the last moment: 452, nothing accepted."""
        session, wire = self.hello()
        self.envelope(session)
        self.accept.sinks[0].finishing = Deferred()
        self.assertEqual(self.say(session, BODY + b".\r\n"), [])
        self.accept.sinks[0].finishing.errback(FULL)
        self.assertEqual(wire.value()[:9], b"452 4.3.1")
        self.assertEqual(self.accept.accepted, [])
        self.assertTrue(self.accept.sinks[0].aborted)

    def test_commit_fails(self) -> None:
        """The commit's failure is the answer, a bug's is 451; the body is forgotten, the connection lives on."""
        self.accept.slow = True
        session, wire = self.hello()
        for failure, code in ((permanent("5.2.0", "No"), b"550"), (FULL, b"452"), (ZeroDivisionError(), b"451")):
            self.envelope(session)
            self.say(session, BODY + b".\r\n")
            self.accept.commits[-1].errback(failure)
            self.assertEqual(wire.value()[:3], code)
            self.assertTrue(self.accept.sinks[-1].aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.log.named("accepted"), [])
