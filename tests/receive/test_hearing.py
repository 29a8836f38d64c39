"""Rules and policies in a conversation: what is said, what is stored, what the log tells."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from ipaddress import ip_network
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from mta.config.receiving import Access, AccessRule
from mta.envelope import Action, Ruling
from mta.interfaces import IAccount
from mta.status import permanent, transient
from tests.receive.door import SETTINGS, STRANGER, TRUSTED, DoorCase, FakePolicy

MAIL, RCPT, DATA = b"MAIL FROM:<s@client.example>\r\n", b"RCPT TO:<user@example.org>\r\n", b"DATA\r\n"
BODY = b"Subject: x\r\n\r\nbody\r\n.\r\n"
ABROAD = b"RCPT TO:<user@abroad.example>\r\n"


@implementer(IRealm)
class Realm:
    """Everybody has an account of his name."""

    def requestAvatar(self, avatar_id: Any, mind: object, *interfaces: Any) -> Any:
        """See IRealm."""

        @implementer(IAccount)
        class Account:
            name = avatar_id.decode()

        return IAccount, Account(), lambda: None


class RuleCase(DoorCase):
    """A server with rules."""

    def rules(self, *rules: AccessRule, policy: FakePolicy | None = None, **more: Any) -> None:
        """With these rules, and what else `begin` takes."""
        access = Access(relay_from=SETTINGS.access.relay_from, relay_domains=SETTINGS.access.relay_domains, rule=rules)
        self.begin(policy=policy, access=access, **more)

    def talk(self, *lines: bytes, address: str = STRANGER) -> list[str]:
        """The codes of the answers to these lines, behind EHLO."""
        session, _ = self.hello(address)
        return [code for line in lines for code in self.codes(session, line)]


class RuleTests(RuleCase):
    """[[access.rule]]."""

    def test_only_where_there_are_rules(self) -> None:
        """At a stage without a rule nobody is asked: the answers before RCPT come without it."""
        self.rules(AccessRule("no", "reject", recipient=("user@example.org",), reply="550 5.2.1 Gone"))
        self.assertEqual(frozenset({"rcpt"}), self.common.judges.stages)
        session, _ = self.hello()
        self.assertEqual(["250", "550", "250"], self.codes(session, MAIL + RCPT + b"RCPT TO:<other@example.org>\r\n"))
        [rejected] = self.log.named("rejected")
        self.assertEqual(("rcpt", "550 5.2.1 Gone", "rule no"), tuple(rejected[key] for key in ("stage", "reply", "why")))
        self.assertEqual(["no"], [line["rule"] for line in self.log.named("rule")])

    def test_each_stage(self) -> None:
        """Connect, HELO, MAIL, RCPT; defer is 4xx."""
        network = (ip_network("203.0.113.0/24"),)
        self.rules(AccessRule("net", "reject", client=network))
        _, wire = self.connect()
        self.assertEqual(b"554 5.7.1", wire.value()[:9])
        _, wire = self.connect(TRUSTED)
        self.assertEqual(b"220", wire.value()[:3])
        self.rules(AccessRule("net", "defer", "mail", client=network))
        self.assertEqual(["450"], self.talk(MAIL))
        self.rules(AccessRule("name", "reject", helo=("*.example",)))
        session, _ = self.connect()
        self.assertEqual(["550"], self.codes(session, b"EHLO client.example\r\n"))
        self.assertEqual(["250"], self.codes(session, b"EHLO client.invalid\r\n"))
        self.rules(AccessRule("bounces", "reject", sender=("<>",)))
        self.assertEqual(["550", "250"], self.talk(b"MAIL FROM:<>\r\n", MAIL))

    def test_accept_is_no_relay(self) -> None:
        """It ends the questions of its stage, nothing else: a stranger still sends to nobody but us."""
        policy = FakePolicy(rcpt=permanent("5.7.1", "Not you"))
        self.rules(AccessRule("friend", "accept", "rcpt", client=(ip_network("203.0.113.0/24"),)), policy=policy)
        self.assertEqual(["250", "550", "250"], self.talk(MAIL, ABROAD, RCPT))
        self.assertNotIn("rcpt", policy.asked)
        self.assertIn("mail", policy.asked)
        self.assertIn("Relaying denied", str(self.log.named("rejected")[0]["reply"]))

    def test_discard(self) -> None:
        """The client hears what it always hears, nothing is stored, the log says who threw it away."""
        self.rules(AccessRule("junk", "discard", sender=("client.example",)))
        session, _ = self.hello()
        self.assertEqual(["250", "250", "354"], self.codes(session, MAIL + RCPT + DATA))
        [reply] = self.say(session, BODY)
        self.assertRegex(reply, r"^250 2\.0\.0 Ok: queued as ")
        self.assertEqual(([], True), (self.accept.accepted, self.accept.sinks[0].aborted))
        [(_, name, line)] = [event for event in self.log.events if event[0] == "discarded"]
        self.assertEqual(("rule junk", "s@client.example", "user@example.org"), (line["why"], line["from"], line["to"]))
        self.assertIn(name, reply)
        self.assertEqual([], self.log.named("accepted"))

    def test_discard_is_of_one_message(self) -> None:
        """The next one on the connection is as it ever was."""
        self.rules(AccessRule("junk", "discard", sender=("client.example",)))
        self.assertEqual(["250", "250", "354", "250"], self.talk(MAIL, RCPT, DATA, BODY))
        session, _ = self.hello()
        self.codes(session, MAIL + b"RSET\r\n")
        self.assertEqual(["250", "250", "354"], self.codes(session, b"MAIL FROM:<x@b.example>\r\n" + RCPT + DATA))
        self.assertEqual(["250"], self.codes(session, BODY))
        self.assertEqual(1, len(self.accept.accepted))

    def test_bad_body_is_refused_all_the_same(self) -> None:
        """What is thrown away must be mail."""
        self.rules(AccessRule("junk", "discard", sender=("client.example",)))
        codes = self.talk(MAIL, RCPT, DATA, b"Subject: x\r\n\r\nbare \r cr\r\n.\r\n")
        self.assertEqual("5", codes[-1][0])
        self.assertEqual([], self.log.named("discarded"))

    def test_hold(self) -> None:
        """The message is stored with the reason; the log says so too."""
        self.rules(AccessRule("look", "hold", recipient=("user@example.org",)))
        self.assertEqual(["250", "250", "354", "250"], self.talk(MAIL, RCPT, DATA, BODY))
        [message] = self.accept.accepted
        self.assertEqual("rule look", message.hold)
        self.assertEqual(("rule look", "client.example"), tuple(json.loads(str(message.trace))[key] for key in ("hold", "helo")))
        self.assertEqual("rule look", self.log.named("accepted")[0]["hold"])

    def test_reload(self) -> None:
        """Those who come later have the new rules, those who are here the old ones."""
        self.rules(AccessRule("no", "reject", sender=("client.example",)))
        session, _ = self.hello()
        new = self.common.renewed(SETTINGS, self.common.router, self.common.tls)
        self.assertEqual(frozenset(), new.judges.stages)
        self.assertEqual(["550"], self.codes(session, MAIL))


class AuthStageTests(RuleCase):
    """Before the portal is asked."""

    def log_in(self, **more: Any) -> tuple[list[str], list[str]]:
        """The codes of two logins, the second with a wrong password, and the stages asked."""
        policy = more.pop("policy", FakePolicy())
        portal = Portal(Realm(), [InMemoryUsernamePasswordDatabaseDontUse(user=b"secret")])
        self.rules(*more.pop("rules", ()), policy=policy, portal=portal, listen={"auth_clear": ("PLAIN",)})
        session, _ = self.hello()
        lines = [b"AUTH PLAIN " + b64encode(b"\0user\0" + word) + b"\r\n" for word in (b"wrong", b"secret")]
        return [code for line in lines for code in self.codes(session, line)], policy.asked

    def test_asked(self) -> None:
        """With the name and the mechanism; nothing to say means that the portal decides."""
        policy = FakePolicy()
        codes, asked = self.log_in(policy=policy)
        self.assertEqual((["535", "235"], 2), (codes, asked.count("auth")))
        self.assertEqual(("user", "PLAIN"), (policy.facts["auth"]["user"], policy.facts["auth"]["mechanism"]))

    def test_refused(self) -> None:
        """535 or 454 (RFC 4954 6), whatever code the policy gave, and the portal is not asked: a right password is refused too."""
        for error, code in ((permanent("5.7.1", "Not from there"), "535"), (transient("4.7.1", "Later"), "454")):
            self.assertEqual([code, code], self.log_in(policy=FakePolicy(auth=error))[0])
        self.assertEqual(["454", "454"], self.log_in(policy=FakePolicy(auth=ZeroDivisionError()))[0])
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual([], self.log.named("auth"))

    def test_rule(self) -> None:
        """No logins from there."""
        rule = AccessRule("abroad", "reject", "auth", client=(ip_network("203.0.113.0/24"),))
        self.assertEqual(["535", "535"], self.log_in(rules=[rule])[0])


class ActionTests(RuleCase):
    """An embedder's HOLD, DISCARD and ACCEPT."""

    def end(self, **answers: Any) -> list[str]:
        """A whole message under that policy."""
        self.begin(policy=FakePolicy(**answers))
        session, wire = self.connect()
        lines = (b"EHLO client.example\r\n", MAIL, RCPT, DATA, BODY)
        return [code for line in lines if not wire.disconnecting for code in self.codes(session, line)]

    def test_where_there_is_mail(self) -> None:
        """At MAIL, RCPT, DATA and the end, as a value, a Deferred or a coroutine."""

        async def later() -> Action:
            return Action.HOLD

        for stage in ("mail", "rcpt", "data", "end"):
            for answer in (Action.HOLD, lambda: succeed(Action.HOLD), lambda: later()):
                self.assertEqual(["250", "250", "250", "354", "250"], self.end(**{stage: answer}), stage)
                self.assertEqual("policy", self.accept.accepted.pop().hold)
            self.assertEqual(["250", "250", "250", "354", "250"], self.end(**{stage: Ruling(Action.DISCARD, "x")}), stage)
            self.assertEqual([], self.accept.accepted)

    def test_where_there_is_none(self) -> None:
        """Elsewhere it is the policy's mistake, and never an open door."""
        self.assertEqual("451", self.end(helo=Action.HOLD)[0])
        self.begin(policy=FakePolicy(connect=Action.DISCARD))
        _, wire = self.connect()
        self.assertEqual(b"421 4.3.0", wire.value()[:9])

    def test_accept(self) -> None:
        """As usual, at every stage."""
        self.assertEqual("250", self.end(**dict.fromkeys(("connect", "helo", "mail", "rcpt", "data", "end"), Action.ACCEPT))[-1])

    def test_never_answers(self) -> None:
        """At each stage the question ends with the command's time, and with no."""
        for stage, lines in (("helo", [b"EHLO x.example\r\n"]), ("rcpt", [MAIL, RCPT]), ("end", [MAIL, RCPT, DATA, BODY])):
            for answer in (Deferred, self.bears_it):
                self.begin(policy=FakePolicy())
                session, wire = self.hello()
                assert isinstance(self.common.policy, FakePolicy)
                self.common.policy.answers[stage] = answer
                for line in lines:
                    self.say(session, line)
                self.clock.pump([1.0] * 302)
                self.assertEqual(b"451 4.3.0", wire.value()[:9], stage)
                self.assertEqual([], self.accept.accepted)

    async def bears_it(self) -> None:
        """A policy that takes being cancelled for "as usual"."""
        with contextlib.suppress(CancelledError):
            await Deferred()
