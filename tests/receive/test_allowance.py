"""Limits as a client meets them: full, too fast, too many recipients that are not there; nothing begins anew by a word of its.

Logins are in test_allowance_login.py, TLS in test_allowance_tls.py.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from twisted.internet.defer import Deferred

from mta.config.settings import Limits, Seconds, Size
from mta.receive.session import Session
from mta.status import transient
from tests.receive.door import BODY, FULL, STRANGER, TRUSTED, DoorCase, FakePolicy

NOBODY = b"RCPT TO:<nobody@example.org>\r\n"
SOMEBODY = b"RCPT TO:<user@example.org>\r\n"
FROM = b"MAIL FROM:<sender@client.example>\r\n"


class AllowanceCase(DoorCase):
    """What all of them want."""

    def limits_logged(self) -> list[object]:
        """The limits that were named in the log, in order."""
        return [fields["limit"] for fields in self.log.named("rejected") if fields.get("limit")]

    def mail(self, session: Session, recipients: int = 1) -> list[str]:
        """A whole message; the codes."""
        rcpt = b"".join(b"RCPT TO:<user%d@example.org>\r\n" % number for number in range(recipients))
        codes = self.codes(session, FROM + rcpt + b"DATA\r\n")
        return codes + (self.codes(session, BODY + b".\r\n") if codes[-1] == "354" else [])


class FullTests(AllowanceCase):
    """Connections."""

    def test_reserve(self) -> None:
        """Strangers have filled the server: 421 4.3.2 for them, and relay_from is served as ever."""
        self.begin(limits=Limits(connections=6, reserve=2))
        for number in range(4):
            self.assertEqual(self.connect(f"198.51.100.{number}")[1].value()[:3], b"220")
        self.assertEqual(self.connect()[1].value()[:9], b"421 4.3.2")
        self.assertEqual([self.connect(TRUSTED)[1].value()[:3] for _ in range(3)], [b"220", b"220", b"421"])
        self.assertEqual(self.limits_logged(), ["reserve", "connections"])

    def test_reserve_for(self) -> None:
        """reserve_for in place of relay_from: those networks, and only those."""
        self.begin(limits=Limits(connections=2, reserve=1, reserve_for=(IPv4Network("203.0.113.0/24"),)))
        self.connect("198.51.100.1")
        self.assertEqual(self.connect(TRUSTED)[1].value()[:3], b"421")
        self.assertEqual(self.connect(STRANGER)[1].value()[:3], b"220")

    def test_flood_of_connections(self) -> None:
        """10 a minute: the eleventh is 421 4.7.0, six seconds later one gets in; relay_from is exempt, the log has a line a minute."""
        self.begin(limits=Limits(connection_rate=("10/min",)))

        def come(address: str = STRANGER) -> bytes:
            wire = self.connect(address)[1]
            said = wire.value()[:9]
            wire.lose()
            return said

        self.assertEqual([come()[:3] for _ in range(20)], [b"220"] * 10 + [b"421"] * 10)
        self.assertEqual(come(), b"421 4.7.0")
        self.assertEqual([come(TRUSTED)[:3] for _ in range(20)], [b"220"] * 20)
        self.clock.advance(6)
        self.assertEqual([come()[:3] for _ in range(2)], [b"220", b"421"])
        self.clock.advance(60)
        self.assertEqual([come()[:3] for _ in range(11)], [b"220"] * 10 + [b"421"])
        lines = [fields for fields in self.log.named("rejected") if fields["limit"] == "connection_rate"]
        self.assertEqual([line["unlogged"] for line in lines], [None, 11])

    def test_a_large_provider(self) -> None:
        """By default 100 connections at once of one client, each with 20 messages, are served without a word."""
        self.begin()
        sessions = [self.connect()[0] for _ in range(100)]
        for session in sessions:
            self.codes(session, b"EHLO client.example\r\n")
            for _ in range(20):
                self.assertEqual(self.mail(session, 3)[-1], "250")
        self.assertEqual(self.log.named("rejected"), [])


class HarvestTests(AllowanceCase):
    """Recipients that are not there."""

    def test_cut(self) -> None:
        """100 refused recipients in one connection, whatever is said between; then 421 for good and bad ones alike."""
        self.begin(limits=Limits(tarpit=Seconds(0.0)))
        session, wire = self.hello()
        for number in range(100):
            self.assertEqual(self.codes(session, FROM + NOBODY), ["250", "550"])
            self.codes(session, b"RSET\r\n" if number % 2 else b"EHLO again.example\r\n")
        self.assertEqual(self.say(session, FROM + SOMEBODY)[-1], "421 4.7.0 Too many refused recipients, try again later")
        self.assertTrue(wire.disconnecting)
        wire.lose()
        self.assertEqual(self.limits_logged(), ["rejected_per_connection"])
        self.assertIn("421 4.7.0 Too many refused", str(self.log.named("disconnect")[0]["why"]))

    def test_over_many_connections(self) -> None:
        """5 an hour: the sixth RCPT is 421 in whichever connection, known or not; an hour's fifth later there is one more."""
        self.begin(limits=Limits(rejected_rate=("5/hour",)))
        said = []
        for _ in range(4):
            session, wire = self.hello()
            said += self.codes(session, FROM + NOBODY + NOBODY)[1:]
            wire.lose()
        self.assertEqual(said, ["550"] * 5 + ["421"] * 2)
        session, wire = self.hello()
        self.assertEqual(self.codes(session, FROM + SOMEBODY), ["250", "421"])
        self.assertEqual(self.codes(self.hello("198.51.100.1")[0], FROM + SOMEBODY), ["250", "250"])
        self.clock.advance(720)
        self.assertEqual(self.codes(self.hello()[0], FROM + SOMEBODY + NOBODY + SOMEBODY), ["250", "250", "550", "421"])
        self.assertEqual(set(self.limits_logged()), {"rejected_rate"})

    def test_come_again_is_no_fault(self) -> None:
        """Recipients that are put off (greylisting) count for nothing."""
        self.begin(
            FakePolicy(rcpt=transient("4.7.1", "Greylisted")), limits=Limits(rejected_per_connection=2, rejected_rate=("2/hour",))
        )
        session, _ = self.hello()
        self.assertEqual(self.codes(session, FROM + SOMEBODY * 10), ["250"] + ["451"] * 10)
        self.assertEqual((session.allowance.rejected, len(self.common.counts)), (0, 1))  # the connection

    def test_relay_from(self) -> None:
        """Our own relays may have as many bounced addresses as they like."""
        self.begin(limits=Limits(rejected_per_connection=2, rejected_rate=("2/hour",), tarpit_errors=1))
        session, _ = self.hello(TRUSTED)
        self.assertEqual(self.codes(session, FROM + NOBODY * 20), ["250"] + ["550"] * 20)


class RateTests(AllowanceCase):
    """Messages, recipients and bytes."""

    def test_messages(self) -> None:
        """2 an hour of a client: 450 4.7.1 to the third MAIL, in another connection too; half an hour later one is taken."""
        self.begin(limits=Limits(message_rate=("2/hour",)))
        session, _ = self.hello()
        self.assertEqual([self.mail(session)[-1] for _ in range(2)], ["250"] * 2)
        self.assertEqual(self.say(self.hello()[0], FROM)[0][:9], "450 4.7.1")
        self.assertEqual(self.codes(session, FROM + b"NOOP\r\n"), ["450", "250"])
        self.clock.advance(1800)
        session, _ = self.hello()
        self.assertEqual(self.mail(session)[-1], "250")
        self.assertEqual(self.limits_logged(), ["message_rate"])

    def test_recipients(self) -> None:
        """5 an hour: the rest of a message's recipients is 452 and may come in another one; only what was stored is counted."""
        self.begin(limits=Limits(recipient_rate=("5/hour",)))
        session, _ = self.hello()
        self.codes(session, FROM + SOMEBODY + b"RSET\r\n")
        self.assertEqual(self.mail(session, 7), ["250"] + ["250"] * 5 + ["452"] * 2 + ["354", "250"])
        self.assertEqual(len(self.accept.accepted[0].recipients), 5)
        self.assertEqual(self.codes(session, FROM + SOMEBODY), ["250", "452"])

    def test_at_the_same_time(self) -> None:
        """Two messages that had room when they began, and have not both at their end: the second is 452, and nothing of it is kept."""
        self.begin(limits=Limits(recipient_rate=("1/hour",)))
        first, second = self.hello()[0], self.hello()[0]
        self.envelope(first)
        self.envelope(second)
        self.assertEqual(self.codes(first, BODY + b".\r\n"), ["250"])
        self.assertEqual(self.say(second, BODY + b".\r\n")[0][:9], "452 4.7.1")
        self.assertEqual([sink.aborted for sink in self.accept.sinks], [False, True])
        self.assertEqual(self.codes(second, b"NOOP\r\n"), ["250"])

    def test_not_stored(self) -> None:
        """What the queue does not take is not counted."""
        self.begin(limits=Limits(recipient_rate=("3/hour",), message_rate=("1/hour",)))
        self.accept.slow = True
        session, _ = self.hello()
        self.envelope(session)
        self.codes(session, BODY + b".\r\n")
        self.accept.commits.pop().errback(FULL)
        self.accept.slow = False
        self.assertEqual(self.mail(session, 3)[-1], "250")

    def test_gone_before_it_is_stored(self) -> None:
        """A client that goes while the disk is awaited has used nothing."""
        self.begin(limits=Limits(message_rate=("1/hour",)))
        session, wire = self.hello()
        self.envelope(session)
        [sink] = self.accept.sinks
        sink.finishing = finishing = Deferred()
        self.codes(session, BODY + b".\r\n")
        wire.lose()
        finishing.callback(sink.body())
        self.assertEqual(self.mail(self.hello()[0])[-1], "250")

    def test_bytes(self) -> None:
        """100 bytes in one connection: whatever goes over it is whole, and the next MAIL is 421."""
        self.begin(limits=Limits(bytes_per_connection=Size(2 * len(BODY))))
        session, wire = self.hello()
        self.assertEqual([self.mail(session)[-1] for _ in range(3)], ["250", "250", "421"])
        self.assertTrue(wire.disconnecting)
        self.assertEqual(self.limits_logged(), ["bytes_per_connection"])

    def test_machine_limits_are_named(self) -> None:
        """What the receiver-SMTP counts itself has its limit in the log too."""
        self.begin(limits=Limits(errors=2, tarpit=Seconds(0.0)))
        self.codes(self.hello()[0], b"XYZZY\r\n" * 3)
        self.begin(limits=Limits(transactions_per_connection=1))
        self.codes(self.hello()[0], FROM + b"RSET\r\n" + FROM)
        self.assertEqual(self.limits_logged(), ["errors", "transactions_per_connection"])

    def test_no_new_beginning(self) -> None:
        """S14: RSET and EHLO give nothing back, of any limit of the connection or the client."""
        self.begin(limits=Limits(message_rate=("1/hour",), rejected_per_connection=1, tarpit=Seconds(0.0)))
        session, _ = self.hello()
        self.mail(session)
        for line in (b"RSET\r\n", b"EHLO other.example\r\n", b"HELO other.example\r\n"):
            self.codes(session, line)
            self.assertEqual(self.codes(session, FROM), ["450"])
        self.begin(limits=Limits(rejected_per_connection=1))
        session, _ = self.hello()
        self.codes(session, FROM + NOBODY)
        for line in (b"RSET\r\n", b"EHLO other.example\r\n"):
            self.codes(session, line)
        self.assertEqual(self.codes(session, FROM + SOMEBODY), ["250", "421"])

    def test_an_honest_client(self) -> None:
        """The default costs an honest client two counts and no timer."""
        session, _ = self.hello()
        self.mail(session)
        self.assertEqual(len(self.common.counts), 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1, "the roster's alone")
        self.assertIs(session.allowance.who, session.allowance.who)


class TarpitTests(AllowanceCase):
    """Slower and slower."""

    def setUp(self) -> None:
        super().setUp()
        self.begin(limits=Limits(tarpit=Seconds(1.0), tarpit_errors=2))

    def slow(self, address: str = STRANGER) -> Session:
        """A client with three errors where two are allowed: the next reply is half a second late."""
        session, wire = self.hello(address)
        self.assertEqual(self.codes(session, FROM + NOBODY * 3), ["250"] + ["550"] * 3)
        wire.clear()
        return session

    def test_grows(self) -> None:
        """Half a second, and with one more error a second; never more; whoever is late with us is not read meanwhile."""
        session = self.slow()
        wire = session.transport
        for delay in (0.5, 1.0, 1.0):
            self.assertEqual(self.say(session, NOBODY), [])
            self.assertEqual(wire.producerState, "paused")
            self.clock.advance(delay - 0.01)
            self.assertEqual(wire.value(), b"")
            self.clock.advance(0.02)
            self.assertEqual((wire.value()[:3], wire.producerState), (b"550", "producing"))
        [slowed] = self.log.named("slowed")
        self.assertEqual((slowed["limit"], slowed["client"]), ("tarpit", STRANGER))

    def test_order(self) -> None:
        """What comes in pieces meanwhile is obeyed in its order, once."""
        session = self.slow()
        self.assertEqual(self.say(session, b"RSET\r\nNO"), [])
        self.assertEqual(self.say(session, b"OP\r\nXYZZY\r\n"), [])
        self.clock.advance(1.1)
        self.assertEqual([line[:3] for line in session.transport.value().decode().splitlines()], ["250", "250", "500"])

    def test_mail_passes(self) -> None:
        """Late commands, but a body at its full speed."""
        session = self.slow()
        self.say(session, SOMEBODY + b"DATA\r\n")
        self.clock.advance(1.1)
        self.assertEqual([line[:3] for line in session.transport.value().decode().splitlines()], ["250", "354"])
        self.assertEqual(self.codes(session, BODY), [])
        self.assertEqual(self.codes(session, b".\r\n"), ["250"])

    def test_no_new_beginning(self) -> None:
        """S14: RSET and EHLO do not lead out of it."""
        session = self.slow()
        for line in (b"RSET\r\n", b"EHLO again.example\r\n", b"NOOP\r\n"):
            self.assertEqual(self.say(session, line), [])
            self.clock.advance(1.1)
            self.assertIn(b"250 ", session.transport.value())

    def test_other_connections(self) -> None:
        """Nobody else waits, and relay_from never does."""
        self.slow()
        self.assertEqual(self.codes(self.hello()[0], b"NOOP\r\n"), ["250"])
        session, _ = self.hello(TRUSTED)
        self.assertEqual(self.codes(session, FROM + NOBODY * 5 + b"NOOP\r\n"), ["250"] + ["550"] * 5 + ["250"])
        self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])

    def test_gone(self) -> None:
        """A client that goes while it waits leaves no timer behind."""
        session = self.slow()
        self.say(session, b"NOOP\r\n")
        session.transport.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ended_its_side(self) -> None:
        """One that ends its side behind the command is answered at once, and that was it."""
        session = self.slow()
        self.say(session, b"RSET\r\nQUIT\r\n")
        session.readConnectionLost()
        self.assertEqual(session.transport.value().count(b"\r\n"), 2)
        self.assertTrue(session.transport.disconnecting)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1, "the roster's alone")

    def test_told_to_go(self) -> None:
        """The service stops while a client waits: it hears so, and what it has sent is not obeyed any more."""
        session = self.slow()
        self.say(session, b"RSET\r\n" + FROM + SOMEBODY + b"DATA\r\n")
        session.cut()
        self.clock.advance(1.1)
        self.assertEqual((session.transport.value()[:9], self.accept.sinks), (b"421 4.3.2", []))

    def test_nothing_slips_behind_starttls(self) -> None:
        """S14, S15: bytes that come behind STARTTLS while its answer is awaited are seen by the machine, tarpit or not."""
        waiting = FakePolicy()
        self.begin(waiting, limits=Limits(tarpit=Seconds(1.0), tarpit_errors=2))
        session = self.slow()
        self.say(session, b"NOOP\r\n")
        self.clock.advance(1.1)
        late: Deferred[None] = Deferred()
        waiting.answers["helo"] = lambda: late
        self.say(session, b"EHLO a\r\n")
        self.clock.advance(1.1)
        self.assertTrue(session.machine.asks)
        self.say(session, b"MAIL FROM:<>\r\n")
        self.assertEqual((session.machine.buffered, session.allowance.delays), (14, False))
        late.callback(None)
        self.assertIn(b"554 5.5.0", session.transport.value())
