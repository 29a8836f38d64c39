"""Which judges the settings call for, in which order, and what happens when somebody was not brought."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.receiving import Access, AccessRule, Dnsbl, Greylist, RecipientTable
from mta.config.settings import HostListEntry
from mta.envelope import Action
from mta.hints import MemoryHints
from mta.interfaces import IRecipients
from mta.receive.court import Court, Outside
from mta.status import MailError, permanent
from mta.testing.dns import FakeResolver
from tests.receive.door import SETTINGS, STRANGER, DoorCase, FakeLog, FakePolicy

POINTER = "9.113.0.203.in-addr.arpa"
HIT = {"9.113.0.203.bl.example": {"A": ["127.0.0.2"]}}
MAIL, RCPT = b"MAIL FROM:<s@client.example>\r\n", b"RCPT TO:<user@example.org>\r\n"


@implementer(IRecipients)
class Nobody:
    """Says so."""

    def exists(self, address: str) -> bool:
        """See IRecipients."""
        return False


class CourtTests(SynchronousTestCase):
    """`Court.of`."""

    def court(self, outside: Outside, **access: Any) -> Court:
        """For these keys of [access]."""
        return Court.of(attrs.evolve(SETTINGS, access=Access(**access)), None, outside, Clock(), FakeLog())

    def test_nothing_for_nothing(self) -> None:
        """Without rules nobody is there to be asked, nor to ask the DNS."""
        court = self.court(Outside(FakeResolver({}), MemoryHints(Clock())))
        self.assertEqual((frozenset(), None), (court.judges.stages, court.inquiries))

    def test_switched_off(self) -> None:
        """enabled = false is no greylisting."""
        self.assertEqual(frozenset(), self.court(Outside(), greylist=Greylist(enabled=False)).judges.stages)

    def test_what_was_not_brought(self) -> None:
        """Is an error at the start, never a rule that is quietly off."""
        for access in (
            {"dnsbl": (Dnsbl("bl.example"),)},
            {"reverse_dns": True},
            {"rule": (AccessRule("r", "reject", client_name=("unknown",)),)},
            {"greylist": Greylist()},
            {"recipients": (RecipientTable(("friend.example",), Path("/nowhere")),)},
        ):
            self.assertRaises(MailError, self.court, Outside(), **access)


class ConversationTests(DoorCase):
    """All of them in a conversation."""

    def setUp(self) -> None:
        super().setUp()
        self.records: dict[str, Any] = {}
        self.resolver = FakeResolver(self.records)

    def door(self, *, policy: FakePolicy | None = None, recipients: IRecipients | None = None, **access: Any) -> None:
        """With these keys of [access]."""
        outside = Outside(self.resolver, MemoryHints(self.clock), recipients)
        self.begin(policy=policy, outside=outside, access=attrs.evolve(SETTINGS.access, **access))

    def rcpt(self, recipient: bytes = b"user@example.org", address: str = STRANGER) -> str:
        """The answer to RCPT."""
        session, _ = self.hello(address)
        return self.say(session, MAIL + b"RCPT TO:<" + recipient + b">\r\n")[-1]

    def test_order(self) -> None:
        """Recipients, rules, lists, the embedder, greylisting: the first that says no is heard, and costs the others nothing."""
        self.records.update(HIT)
        policy = FakePolicy(rcpt=permanent("5.7.9", "The embedder"))
        usual: dict[str, Any] = {"dnsbl": (Dnsbl("bl.example"),), "greylist": Greylist()}
        rule = AccessRule("r", "reject", "rcpt", reply="550 5.7.8 The rule")
        self.door(policy=policy, recipients=Nobody(), rule=(rule,), **usual)
        self.assertEqual("550 5.1.1", self.rcpt()[:9])
        self.door(policy=policy, rule=(rule,), **usual)
        self.assertEqual("550 5.7.8 The rule", self.rcpt())
        self.door(policy=policy, **usual)
        self.assertEqual("550 5.7.1 Client host [203.0.113.9] is listed by bl.example", self.rcpt())
        self.door(policy=policy, greylist=Greylist())
        self.assertEqual("550 5.7.9 The embedder", self.rcpt())
        self.door(greylist=Greylist())
        self.assertEqual("450 4.7.1 Greylisted, please try again in 300 seconds", self.rcpt())

    def test_embedder_exempts_from_greylisting(self) -> None:
        """Its ACCEPT ends the questions."""
        self.door(policy=FakePolicy(rcpt=Action.ACCEPT), greylist=Greylist())
        self.assertEqual("250 2.1.5", self.rcpt()[:9])

    def test_dnsbl(self) -> None:
        """At RCPT, with sender and recipient in the log; the postmaster is reached; who may relay is not looked up."""
        self.records.update(HIT)
        self.door(dnsbl=(Dnsbl("bl.example", 2), Dnsbl("dead.example", 9)), dnsbl_reject=2)
        self.resolver.fail["9.113.0.203.dead.example"] = "SERVFAIL"
        self.assertEqual("550 5.7.1", self.rcpt()[:9])
        [line] = self.log.named("rejected")
        self.assertEqual(("rcpt", "s@client.example", "dnsbl score 2: bl.example"), (line["stage"], line["from"], line["why"]))
        self.assertEqual("250", self.rcpt(b"Postmaster")[:3])
        self.resolver.asked.clear()
        self.assertEqual("250", self.rcpt(address="192.0.2.7")[:3])
        self.assertEqual(0, self.resolver.asked.total())

    def test_lists_and_listeners(self) -> None:
        """A rule for one port by its name, for clients in a list by theirs."""
        rule = AccessRule("no", "reject", "rcpt", client=("+bad",), listen=("mx",))
        access = attrs.evolve(SETTINGS.access, rule=(rule,))
        lists = (HostListEntry("bad", ("!203.0.113.10", "203.0.113.0/24")),)
        for name, address, code in (("mx", STRANGER, "550"), ("mx", "203.0.113.10", "250"), ("", STRANGER, "250")):
            self.begin(listen={"name": name}, access=access, hostlist=lists)
            self.assertEqual(code, self.rcpt(address=address)[:3], (name, address))

    def test_dnsbl_text(self) -> None:
        """What the list says is in the answer, asked for once however many recipients there are; nobody else costs a question."""
        self.records.update({**HIT, "9.113.0.203.bl.example": {**HIT["9.113.0.203.bl.example"], "TXT": ["spam\r\nseen"]}})
        self.door(dnsbl=(Dnsbl("bl.example"),))
        session, _ = self.hello()
        wanted = "550 5.7.1 Client host [203.0.113.9] is listed by bl.example: spam seen"
        self.assertEqual([wanted, wanted], self.say(session, MAIL + RCPT + RCPT)[1:])
        self.assertEqual(1, self.resolver.asked["9.113.0.203.bl.example", "TXT"])
        self.assertEqual("250", self.rcpt(address="203.0.113.10")[:3])
        self.assertEqual(0, self.resolver.asked["10.113.0.203.bl.example", "TXT"])

    def test_name_at_connect(self) -> None:
        """A rule that judges names at the connection makes the greeting wait; one that judges at RCPT does not."""
        waiting: list[Any] = []
        self.patch(type(self.resolver), "query", lambda resolver, name, rdtype: waiting.append(Deferred()) or waiting[-1])
        nameless = {"client_name": ("unknown",), "reply": "550 5.7.25 No name"}
        self.door(rule=(AccessRule("nameless", "reject", **nameless),))
        _, wire = self.connect()
        self.assertEqual(b"", wire.value())
        waiting.pop().callback(self.resolver.answer(POINTER, "PTR"))
        self.assertEqual(b"554 5.7.25 No name\r\n", wire.value())
        self.door(rule=(AccessRule("nameless", "reject", "rcpt", **nameless),))
        session, wire = self.connect()
        self.assertEqual(b"220", wire.value()[:3])
        self.assertEqual(["250"], self.codes(session, b"EHLO client.example\r\n"))
        self.assertEqual(["250"], self.codes(session, MAIL + RCPT))
        wire.clear()
        waiting.pop().callback(self.resolver.answer(POINTER, "PTR"))
        self.assertEqual(b"550 5.7.25 No name\r\n", wire.value())

    def test_name_that_cannot_be_had(self) -> None:
        """Is put off."""
        self.resolver.fail[POINTER] = "SERVFAIL"
        self.door(rule=(AccessRule("nameless", "reject", "rcpt", client_name=("unknown",)),))
        self.assertEqual("450 4.7.25", self.rcpt()[:10])

    def test_nobody_knows_whom(self) -> None:
        """A client of which its proxy knows nothing has no name either: who refuses the nameless refuses it."""
        self.door(rule=(AccessRule("nameless", "reject", "rcpt", client_name=("unknown",)),))
        self.listen = attrs.evolve(self.listen, proxy_from=(ip_network("10.0.0.0/8"),))
        session, _ = self.connect("10.0.0.1")
        for line in (b"PROXY UNKNOWN\r\n", b"EHLO a.example\r\n"):
            self.say(session, line)
        self.assertEqual("550 5.7.1", self.say(session, MAIL + RCPT)[-1][:9])

    def test_received(self) -> None:
        """With reverse_dns the name stands in the Received line, without it nobody asks."""
        self.records.update({POINTER: {"PTR": ["mx.client.example"]}, "mx.client.example": {"A": [STRANGER]}})
        for wanted, access in ((b"(mx.client.example [203.0.113.9])", {"reverse_dns": True}), (b"([203.0.113.9])", {})):
            self.door(**access)
            session, _ = self.hello()
            self.envelope(session)
            self.codes(session, b"Subject: x\r\n\r\n.\r\n")
            self.assertIn(b"Received: from client.example " + wanted, self.accept.accepted.pop().prefix)

    def test_client_goes(self) -> None:
        """While it waits for the DNS: nothing is left of it, no timer and no question."""
        self.patch(type(self.resolver), "query", lambda resolver, name, rdtype: Deferred())
        self.door(rule=(AccessRule("n", "reject", client_name=("unknown",)),), dnsbl=(Dnsbl("bl.example"),))
        _, wire = self.connect()
        wire.lose()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_greylist(self) -> None:
        """The second time it passes."""
        self.door(greylist=Greylist())
        self.assertEqual("450", self.rcpt()[:3])
        self.clock.advance(300)
        self.assertEqual("250", self.rcpt()[:3])
