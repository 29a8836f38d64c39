"""What is answered, and what an embedder's policy may decide: never more than to refuse."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from mta.config.settings import Limits
from mta.receive.judges import Judges
from mta.receive.session import Session
from mta.status import MailError, Reply, permanent, transient
from tests.receive.door import STRANGER, DoorCase, FakePolicy

STAGES = {
    "helo": b"EHLO again\r\n",
    "mail": b"MAIL FROM:<sender@client.example>\r\n",
    "rcpt": b"RCPT TO:<user@example.org>\r\n",
    "data": b"DATA\r\n",
    "end": b"Subject: x\r\n\r\nbody\r\n.\r\n",
}


class CommandTests(DoorCase):
    """Answers without a policy."""

    def test_hello(self) -> None:
        """EHLO is answered with our name and the extensions, HELO with our name."""
        session, _ = self.connect()
        lines = self.say(session, b"EHLO client.example\r\n")
        self.assertEqual(lines[0], "250-mx.example.org")
        self.assertIn("250-PIPELINING", lines)
        self.assertEqual(self.say(session, b"HELO client.example\r\n"), ["250 mx.example.org"])

    def test_s43_s07_s02_starttls_misused(self) -> None:
        """Not offered here: S43 an argument is 501, S02/S07 the rest is refused, and the session lives on."""
        session, _ = self.connect()
        self.assertEqual(self.codes(session, b"STARTTLS example.com\r\n"), ["501"])
        self.assertEqual(self.codes(session, b"STARTTLS\r\n"), ["502"])
        self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])
        self.assertEqual({fields["stage"] for fields in self.log.named("rejected")}, {"starttls"})

    def test_s48_other_protocols(self) -> None:
        """S48: a browser, a proxy and a POP client are turned off at their first line; nothing behind it is read."""
        for line in (
            b"GET / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\n",
            b"CONNECT mx:25 HTTP/1.0\r\n",
            b"USER x\r\n",
            b"Host: mx\r\n",
        ):
            session, wire = self.connect()
            [code] = self.codes(session, line + b"MAIL FROM:<>\r\n")
            self.assertIn(code, ("421", "554"), line)
            self.assertTrue(wire.disconnecting)

    def test_data_without_recipients(self) -> None:
        """DATA before RCPT is refused, and reserves nothing."""
        session, _ = self.hello()
        self.assertEqual(self.codes(session, b"DATA\r\n"), ["503"])
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\n"), ["250"])
        self.assertEqual(self.codes(session, b"DATA\r\n"), ["503"])
        self.assertEqual(self.accept.sinks, [])

    def test_wrong_order_is_logged(self) -> None:
        """A refused MAIL, RCPT or DATA gets a line; garbage is only counted."""
        session, wire = self.hello()
        self.codes(session, b"RCPT TO:<user@example.org>\r\n")
        self.codes(session, b"XYZZY\r\n")
        [rejected] = self.log.named("rejected")
        self.assertEqual((rejected["stage"], rejected["helo"], str(rejected["reply"])[:3]), ("rcpt", "client.example", "503"))
        wire.lose()
        self.assertEqual(self.log.named("disconnect")[0]["errors"], 2)

    def test_errors_limit(self) -> None:
        """[limits] errors holds."""
        self.begin(limits=Limits(errors=2))
        session, wire = self.hello()
        self.assertEqual(self.codes(session, b"XYZZY\r\n" * 5), ["500", "500", "421"])
        self.assertTrue(wire.disconnecting)


class PolicyTests(DoorCase):
    """IPolicy at each of its stages."""

    def walk(self, **answers: Any) -> list[str]:
        """A whole conversation under that policy, as far as it gets; the codes after the greeting."""
        self.policy = FakePolicy(**answers)
        self.begin(policy=self.policy)
        session, wire = self.connect()
        codes = []
        for line in (b"EHLO client.example\r\n", *list(STAGES.values())[1:]):
            if not wire.disconnecting:
                codes += self.codes(session, line)
        return codes

    def test_asked_at_each_stage(self) -> None:
        """A policy that has nothing to say is asked at each stage, in order, with the facts known by then."""
        self.assertEqual(self.walk(), ["250", "250", "250", "354", "250"])
        assert self.policy is not None
        self.assertEqual(self.policy.asked, ["connect", *STAGES])
        facts = self.policy.facts
        self.assertEqual((facts["connect"]["client"], facts["connect"]["trusted"]), (STRANGER, False))
        self.assertEqual((facts["helo"]["name"], facts["helo"]["extended"]), ("client.example", True))
        self.assertEqual(facts["mail"]["sender"], "sender@client.example")
        self.assertEqual((facts["rcpt"]["recipient"], facts["rcpt"]["helo"]), ("user@example.org", "client.example"))
        self.assertEqual((facts["end"]["recipients"], facts["end"]["size"]), (("user@example.org",), 20))

    def test_every_kind_of_yes(self) -> None:
        """None, a Deferred and a coroutine that end with None all mean: as usual."""

        async def coroutine() -> None:
            return None

        for answer in (None, lambda: succeed(None), lambda: coroutine()):
            self.assertEqual(self.walk(**dict.fromkeys(["connect", *STAGES], answer))[-1], "250")

    def test_refusals(self) -> None:
        """A MailError, given, awaited or raised, is the answer at its stage, with a line in the log."""
        error = permanent("5.7.1", "Not you")

        async def coroutine() -> MailError:
            return error

        def raised() -> None:
            raise error

        for answer in (error, lambda: succeed(error), lambda: fail(error), lambda: coroutine(), raised):
            for number, stage in enumerate(STAGES):
                codes = self.walk(**{stage: answer})
                self.assertEqual(codes[number], "550", (stage, codes))
                self.assertEqual(self.accept.accepted, [])
                rejected = self.log.named("rejected")[0]
                self.assertEqual((rejected["stage"], rejected["reply"]), (stage, "550 5.7.1 Not you"))
                self.log.events.clear()

    def test_refused_connection(self) -> None:
        """At the connection a refusal takes the greeting's place: 554, or 421 when it may pass."""
        for error, code in ((permanent("5.7.1", "Not you"), b"554 5.7.1"), (transient("4.7.1", "Not now"), b"421 4.7.1")):
            self.begin(policy=FakePolicy(connect=error))
            _, wire = self.connect()
            self.assertEqual((wire.value()[:9], wire.disconnecting), (code, True))

    def test_broken_policy(self) -> None:
        """An exception, a failure and an answer that is none are 451 4.3.0: the door stays shut."""
        for answer in (ZeroDivisionError(), lambda: fail(ZeroDivisionError()), True, MailError(Reply(250, "2.0.0", "Ok"))):
            for number, stage in enumerate(STAGES):
                codes = self.walk(**{stage: answer})
                self.assertEqual(codes[number], "451", (stage, answer, codes))
                self.assertEqual(self.accept.accepted, [])
            self.begin(policy=FakePolicy(connect=answer))
            _, wire = self.connect()
            self.assertEqual(wire.value()[:9], b"421 4.3.0")
        self.flushLoggedErrors(ZeroDivisionError)

    def test_slow_policy_keeps_order(self) -> None:
        """Pipelined commands wait for slow answers: replies come in the order of the commands, whenever the policy speaks."""
        thinking: list[Deferred[Any]] = []

        def think() -> Deferred[Any]:
            thinking.append(Deferred())
            return thinking[-1]

        policy = FakePolicy(mail=think, rcpt=think)
        self.begin(policy=policy)
        session, wire = self.hello()
        batch = b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<b@example.org>\r\nNOOP\r\n"
        self.assertEqual(self.say(session, batch), [])
        for number, answer in enumerate([None, permanent("5.7.1", "no a"), None]):
            self.assertEqual(len(thinking), number + 1)
            thinking[number].callback(answer)
        replies = wire.value().decode().splitlines()
        self.assertEqual([line[:9] for line in replies], ["250 2.1.0", "550 5.7.1", "550 5.1.1", "250 2.1.5", "250 2.0.0"])
        self.assertEqual(policy.asked, ["connect", "helo", "mail", "rcpt", "rcpt"])

    def test_client_goes_while_policy_thinks(self) -> None:
        """The question is cancelled, and a late answer changes nothing."""
        cancelled: list[object] = []
        thinking: Deferred[None] = Deferred(cancelled.append)
        self.begin(policy=FakePolicy(mail=lambda: thinking))
        session, wire = self.hello()
        session.dataReceived(b"MAIL FROM:<>\r\n")
        wire.lose()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(wire.value(), b"")

    def test_late_yes(self) -> None:
        """A yes that comes with the end of the client reserves no body, and nothing is logged as refused."""
        self.begin(policy=FakePolicy(data=lambda: Deferred(lambda thinking: thinking.callback(None))))
        session, wire = self.hello()
        session.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
        wire.lose()
        self.assertEqual((self.accept.sinks, self.log.named("rejected")), ([], []))

    def test_policy_never_answers(self) -> None:
        """After the command's time the question is cancelled and answered 451; the connection lives on."""
        self.begin(policy=FakePolicy(mail=lambda: Deferred()))
        session, wire = self.hello()
        session.dataReceived(b"MAIL FROM:<>\r\n")
        self.clock.pump([1.0] * 302)
        self.assertEqual((wire.value()[:9], wire.disconnecting), (b"451 4.3.0", False))
        self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    def test_client_talks_before_the_greeting(self) -> None:
        """While the policy thinks about the connection a client that does not wait gets 554 in place of the greeting."""
        thinking: Deferred[None] = Deferred()
        self.begin(policy=FakePolicy(connect=lambda: thinking))
        session, wire = self.connect()
        session.dataReceived(b"EHLO early.example\r\n")
        self.assertEqual(wire.value(), b"")
        thinking.callback(None)
        self.assertEqual((wire.value()[:3], wire.disconnecting), (b"554", True))

    def test_no_policy_no_deferred(self) -> None:
        """Without a policy nobody is asked, no facts are gathered, and no Deferred is made for it."""

        def asked(*args: object) -> None:
            raise AssertionError("somebody was asked")

        self.patch(Judges, "judge", asked)
        self.patch(Session, "_facts", asked)
        self.patch(Session, "wait", asked)
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, STAGES["end"]), ["250"])
