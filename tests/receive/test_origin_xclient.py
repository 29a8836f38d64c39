"""Sessions of clients that say for whom they speak: XCLIENT and XFORWARD."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.receiving import AccessRule
from mta.config.settings import Limits
from mta.receive.court import Outside
from mta.receive.session import Session
from mta.status import MailError, Reply
from mta.testing.dns import FakeResolver
from tests.receive.door import BODY, SETTINGS, STRANGER, TRUSTED, DoorCase, FakePolicy
from tests.receive.headers import version1

PROXY = "10.0.0.1"
PROXIES = {"proxy_from": (IPv4Network("10.0.0.0/8"),)}
INSIDE = "198.51.100.7"
NETWORK = (IPv4Network("198.51.100.0/24"), IPv6Network("2001:db8:7::/48"))


class XclientCase(DoorCase):
    """INSIDE may say XCLIENT and XFORWARD."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, *arguments: Any, **changes: Any) -> None:
        """With those who may."""
        access = attrs.evolve(SETTINGS.access, xclient_from=NETWORK, xforward_from=NETWORK)
        super().begin(*arguments, **{"access": access, **changes})

    def passed(self, *attributes: str, address: str = INSIDE) -> Session:
        """A session in which the client has said EHLO, XCLIENT, EHLO."""
        session, _ = self.hello(address)
        for each in attributes:
            self.assertEqual(self.codes(session, f"XCLIENT {each}\r\n".encode()), ["220"])
        self.say(session, b"EHLO other.example\r\n")
        return session

    def rcpt(self, session: Session) -> str:
        """May it relay?"""
        return self.codes(session, b"MAIL FROM:<>\r\nRCPT TO:<user@far.example>\r\n")[1]


class XclientTests(XclientCase):
    """XCLIENT: somebody else is the client from now on."""

    def test_session(self) -> None:
        """Greeted anew, EHLO must come again, and all that looks at the client sees the other one."""
        session, _ = self.hello(INSIDE)
        before, counters = session.machine, session.counters
        said = self.say(session, f"XCLIENT ADDR={STRANGER} PORT=77 NAME=c.example HELO=h.example\r\n".encode())
        self.assertEqual(said, ["220 mx.example.org ESMTP"])
        self.assertIsNot(session.machine, before)
        self.assertIs(session.counters, counters)
        self.assertEqual((session.helo, session.address, session.whence.port), ("h.example", STRANGER, 77))
        self.assertEqual(self.codes(session, b"MAIL FROM:<>\r\n"), ["503"])
        self.say(session, b"EHLO client.example\r\n")
        self.envelope(session)
        self.say(session, BODY + b".\r\n")
        [message], [accepted] = self.accept.accepted, self.log.named("accepted")
        self.assertIn(f"Received: from client.example (c.example [{STRANGER}])".encode(), message.prefix)
        self.assertEqual((accepted["client"], accepted["proxy"]), (STRANGER, INSIDE))
        [event] = self.log.named("xclient")
        self.assertEqual((event["client"], event["proxy"], event["client_name"]), (STRANGER, INSIDE, "c.example"))

    def test_trust(self) -> None:
        """Whoever it is said to be may do what that one may, and no more; of an unknown one nothing is believed."""
        inside = attrs.evolve(self.common.settings.access, relay_from=(*SETTINGS.access.relay_from, *NETWORK))
        self.begin(access=inside)
        self.assertEqual(self.rcpt(self.hello(INSIDE)[0]), "250")
        for attributes, code in (
            (f"ADDR={STRANGER}", "550"),
            (f"ADDR={TRUSTED}", "250"),
            ("ADDR=IPV6:2001:db8:7::9", "250"),
            ("ADDR=IPV6:::ffff:203.0.113.9", "550"),
            ("ADDR=[UNAVAILABLE]", "550"),
            ("ADDR=[TEMPUNAVAIL]", "550"),
            ("NAME=x.example", "250"),
        ):
            self.assertEqual(self.rcpt(self.passed(attributes)), code, attributes)

    def test_again(self) -> None:
        """Who may say it may say it again, whoever it was last: the right belongs to the connection."""
        session = self.passed(f"ADDR={STRANGER} PORT=7", "NAME=x", f"ADDR={TRUSTED}")
        self.assertEqual((session.address, session.whence.port, session.trusted), (TRUSTED, 0, True))

    def test_name(self) -> None:
        """NAME is what rules and Received call the client, with no word from the DNS; another ADDR forgets it.

        One that cannot be known now is what a lookup of ours that fails is.
        """
        policy = FakePolicy()
        self.begin(policy=policy)
        session, _ = self.hello(INSIDE)
        for attributes, name, failed in (
            ("NAME=c.example", "c.example", False),
            ("PORT=7", "c.example", False),
            ("NAME=[TEMPUNAVAIL]", "unknown", True),
            ("PORT=8", "unknown", True),
            ("NAME=[UNAVAILABLE]", "unknown", False),
            (f"NAME=d.example ADDR={STRANGER}", "d.example", False),
            ("ADDR=203.0.113.10", "", False),
        ):
            self.assertEqual(self.codes(session, f"XCLIENT {attributes}\r\n".encode()), ["220"])
            told = policy.facts["connect"]
            self.assertEqual(
                (name, name, failed), (session.client_name, told["client_name"], told["client_name_failed"]), attributes
            )
        self.say(session, b"XCLIENT NAME=e.example\r\n")
        self.say(session, b"EHLO client.example\r\n")
        self.envelope(session)
        self.say(session, BODY + b".\r\n")
        self.assertIn(b"from client.example (e.example [203.0.113.10])", self.accept.accepted[0].prefix)

    def test_name_not_now(self) -> None:
        """NAME=[TEMPUNAVAIL]: rules on names put off what they would refuse; [UNAVAILABLE] is refused (Postfix: 450, 550)."""
        network = (IPv4Network("203.0.113.0/24"),)
        nameless = AccessRule("nameless", "reject", "mail", client_name=("unknown",))
        partner = AccessRule("partner", "accept", "mail", client_name=("*.partner.example",))
        for rules in ((nameless,), (partner, AccessRule("network", "reject", "mail", client=network))):
            self.begin(access=attrs.evolve(SETTINGS.access, xclient_from=NETWORK, rule=rules), outside=Outside(FakeResolver({})))
            for said, code in (("[TEMPUNAVAIL]", "450"), ("[UNAVAILABLE]", "550")):
                session = self.passed(f"ADDR=203.0.113.10 NAME={said}")
                self.assertEqual([code], self.codes(session, b"MAIL FROM:<>\r\n"), (said, rules))

    def test_not_for_others(self) -> None:
        """Neither a stranger nor a client of relay_from may; XCLIENT to an address of the list does not open it either."""
        for address in (STRANGER, TRUSTED):
            session, _ = self.hello(address)
            self.assertEqual(self.codes(session, f"XCLIENT ADDR={INSIDE}\r\nXFORWARD NAME=x\r\n".encode()), ["550", "550"])
            self.assertEqual(session.address, address)

    def test_through_a_proxy(self) -> None:
        """It is the client behind a proxy that is listed or not, and an unknown one never is."""
        access = attrs.evolve(self.common.settings.access, xclient_from=(*NETWORK, IPv4Network("10.0.0.0/8")))
        self.begin(listen=PROXIES, access=access)
        for header, code in ((version1(INSIDE), "220"), (version1(STRANGER), "550"), (b"PROXY UNKNOWN\r\n", "550")):
            session, _ = self.connect(PROXY)
            self.say(session, header)
            self.say(session, b"EHLO a.example\r\n")
            self.assertEqual(self.codes(session, b"XCLIENT ADDR=192.0.2.99\r\n"), [code])
            if code == "220":
                self.assertEqual((session.address, session.origin.proxy), ("192.0.2.99", PROXY))

    def test_login(self) -> None:
        """LOGIN= is a login without AUTH; without it the login of before is over."""
        session = self.passed(f"ADDR={STRANGER} LOGIN=user@example.org")
        self.assertEqual((session.account, self.rcpt(session)), ("user@example.org", "250"))
        self.say(session, b"RSET\r\n")
        self.say(session, f"XCLIENT ADDR={STRANGER}\r\n".encode())
        self.say(session, b"EHLO other.example\r\n")
        self.assertEqual((session.account, self.rcpt(session)), ("", "550"))
        self.assertEqual(self.passed("LOGIN=[UNAVAILABLE]").account, "")

    def test_limits(self) -> None:
        """The connection is counted as the new client's, who may have too many: 421, and the count is right in the end."""
        self.begin(limits=Limits(connections=3, connections_per_client=1, reserve=0))
        self.hello(STRANGER)
        session, wire = self.hello(INSIDE)
        self.assertEqual(self.codes(session, f"XCLIENT ADDR={STRANGER}\r\n".encode()), ["421"])
        self.assertTrue(wire.disconnecting)
        wire.lose()
        session, _ = self.hello(INSIDE)
        self.say(session, b"XCLIENT ADDR=203.0.113.10\r\n")
        self.hello(INSIDE)
        self.assertEqual((self.common.connections.total, len(self.common.roster)), (3, 3))

    def test_rate(self) -> None:
        """It is a new connection of that client, who may have so many a minute."""
        self.begin(limits=Limits(connection_rate=("2/min",)))
        session, wire = self.hello(INSIDE)
        said = [
            self.codes(session, f"XCLIENT ADDR={address}\r\n".encode()) for address in (STRANGER, STRANGER, TRUSTED, STRANGER)
        ]
        self.assertEqual(said, [["220"], ["220"], ["220"], ["421"]])
        self.assertTrue(wire.disconnecting)

    def test_policy(self) -> None:
        """The policy is asked about the new client as about any that connects; its no ends the session."""
        policy = FakePolicy()
        self.begin(policy=policy)
        session, wire = self.hello(INSIDE)
        policy.answers["connect"] = MailError(Reply(550, "5.7.1", "Not that one"))
        self.assertEqual(self.codes(session, f"XCLIENT ADDR={STRANGER} HELO=h.example\r\n".encode()), ["554"])
        self.assertEqual((policy.facts["connect"]["client"], policy.facts["connect"]["helo"]), (STRANGER, "h.example"))
        self.assertTrue(wire.disconnecting)

    def test_answers_of_before(self) -> None:
        """What was said in front of it in the same group is answered first."""
        session, _ = self.hello(INSIDE)
        self.assertEqual(self.codes(session, f"NOOP\r\nXCLIENT ADDR={STRANGER}\r\n".encode()), ["250", "220"])
        self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])

    def test_counters(self) -> None:
        """It begins no count anew: errors go on where they were."""
        session, _ = self.hello(INSIDE)
        self.say(session, b"FOO\r\nBAR\r\n")
        self.assertEqual(session.counters.errors, 2)
        self.say(session, f"XCLIENT ADDR={STRANGER}\r\n".encode())
        self.assertEqual(session.counters.errors, 2)


STEPS = (
    b"EHLO a.example\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<user@example.org>\r\n",
    b"RSET\r\n",
    b"XFORWARD NAME=x\r\n",
    b"XFORWARD NAME=[UNAVAILABLE] IDENT=1\r\n",
    b"XCLIENT ADDR=[UNAVAILABLE] LOGIN=user\r\n",
    b"XCLIENT PORT=1\r\n",
    b"XCLIENT ADDR=nonsense\r\n",
    *[f"XCLIENT ADDR={address}\r\n".encode() for address in (STRANGER, TRUSTED, INSIDE, "203.0.113.10", "IPV6:2001:db8::1")],
)


class AnyOrderTests(XclientCase):
    """Whatever is said in whatever order."""

    @settings(deadline=None, max_examples=150)
    @given(lives=st.lists(st.lists(st.sampled_from(STEPS), max_size=12), min_size=1, max_size=4))
    def test_counts(self, lives: list[list[bytes]]) -> None:
        """Each connection is counted once, as who it is now, and in the end nothing is; nobody is trusted but by the list."""
        self.begin(limits=Limits(connections=6, connections_per_client=2, reserve=0, errors=1000))
        wires = []
        for life in lives:
            session, wire = self.connect(INSIDE)
            wires.append(wire)
            for step in life:
                self.say(session, step)
                known = session.whence.known and session.address == TRUSTED
                self.assertEqual(session.trusted, known)
                if wire.disconnecting:
                    break
        self.assertLessEqual(self.common.connections.total, len(lives))
        for wire in wires:
            wire.lose()
        self.assertEqual((self.common.connections.total, len(self.common.roster)), (0, 0))


class XforwardTests(XclientCase):
    """XFORWARD: the log of the next message names who was there first."""

    def test_log(self) -> None:
        """With this message and the refusals of its recipients, and with no other; nothing else has changed."""
        session, _ = self.hello(INSIDE)
        commands = f"XFORWARD NAME=c.example ADDR={STRANGER}\r\nXFORWARD HELO=h.example\r\n".encode()
        self.assertEqual(self.codes(session, commands), ["250", "250"])
        self.codes(session, b"MAIL FROM:<>\r\nRCPT TO:<user@far.example>\r\nRSET\r\n")
        self.say(session, commands)
        for _ in range(2):
            self.envelope(session)
            self.say(session, BODY + b".\r\n")
        [refused], accepted = self.log.named("rejected"), self.log.named("accepted")
        names = [(event["client"], event.get("orig_client"), event.get("orig_helo")) for event in (refused, *accepted)]
        self.assertEqual(names, [(INSIDE, STRANGER, "h.example")] * 2 + [(INSIDE, None, None)])
        self.assertNotIn(STRANGER.encode(), self.accept.accepted[0].prefix)
        self.assertEqual((session.address, session.trusted), (INSIDE, False))

    def test_no_way_over_xclient(self) -> None:
        """Another client has said nothing yet."""
        session, _ = self.hello(INSIDE)
        self.say(session, b"XFORWARD NAME=x\r\n")
        self.say(session, f"XCLIENT ADDR={STRANGER}\r\n".encode())
        self.assertEqual(session.machine.forwarded, {})
