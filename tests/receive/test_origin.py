"""Who the client is: sessions behind a PROXY header.  XCLIENT is in test_origin_xclient.py, TLS in test_origin_tls.py."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address

from mta.config.settings import Access, Limits
from mta.receive.ending import Stage
from mta.receive.origin import HEADER_TIME
from mta.status import MailError, Reply
from tests.receive.door import BODY, STRANGER, TRUSTED, DoorCase, FakePolicy, Wire
from tests.receive.headers import block, ssl_tlv, tlv, version1, version2

PROXY = "10.0.0.1"
PROXIES = {"proxy_from": (IPv4Network("10.0.0.0/8"),)}


class ProxyTests(DoorCase):
    """A peer in proxy_from says first for whom it has come."""

    def setUp(self) -> None:
        super().setUp()
        self.begin(listen=PROXIES)

    def test_greeting_waits(self) -> None:
        """Nothing is said, logged or counted before the header is whole; then the client is whom it names."""
        for write in (version1, version2):
            session, wire = self.connect(PROXY)
            header = write(STRANGER)
            for at in range(len(header) - 1):
                self.assertEqual(self.say(session, header[at : at + 1]), [])
            self.assertEqual((self.log.events, self.common.connections.total), ([], 0))
            self.assertEqual(self.say(session, header[-1:]), ["220 mx.example.org ESMTP"])
            connect = {"client": STRANGER, "port": 40001, "proxy": PROXY}
            self.assertEqual(self.log.named("connect"), [connect])
            self.assertEqual((session.client, session.trusted), (ip_address(STRANGER), False))
            wire.lose()
            self.assertEqual(
                (self.log.named("disconnect")[0]["client"], self.log.named("disconnect")[0]["proxy"]), (STRANGER, PROXY)
            )
            self.log.events.clear()

    def test_message(self) -> None:
        """Received, the log and the lane have the client, not the proxy."""
        session, _ = self.connect(PROXY)
        self.say(session, version1(STRANGER))
        self.say(session, b"EHLO client.example\r\n")
        self.envelope(session)
        self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
        [message] = self.accept.accepted
        self.assertIn(f"Received: from client.example ([{STRANGER}])".encode(), message.prefix)
        self.assertNotIn(PROXY.encode(), message.prefix)
        self.assertEqual((message.lane_key, PROXY in message.trace), (ip_address(STRANGER).packed.hex(), False))
        [accepted] = self.log.named("accepted")
        self.assertEqual((accepted["client"], accepted["proxy"]), (STRANGER, PROXY))

    def test_relaying(self) -> None:
        """relay_from looks at the client: a proxy within it opens nothing, a client within it may relay."""
        access = Access(relay_from=(IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/24")))
        self.begin(listen=PROXIES, access=access)
        for header, code in (
            (version1(STRANGER), "550"),
            (version2(STRANGER), "550"),
            (b"PROXY UNKNOWN\r\n", "550"),  # the proxy does not know whom it speaks for
            (block(bytes(216), 0x21, 0x31), "550"),
            (version1(TRUSTED), "250"),
            (block(b"", 0x20, 0), "250"),  # it speaks for itself
        ):
            session, _ = self.connect(PROXY)
            self.say(session, header)
            commands = b"EHLO a.example\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<user@far.example>\r\n"
            self.assertEqual([self.codes(session, command) for command in commands], [["250"], ["250"], [code]], header)

    def test_unknown(self) -> None:
        """UNKNOWN and LOCAL keep the socket's address."""
        for header in (b"PROXY UNKNOWN\r\n", block(b"", 0x20, 0)):
            session, _ = self.connect(PROXY)
            self.assertEqual(self.say(session, header), ["220 mx.example.org ESMTP"])
            self.assertEqual((session.address, session.origin.proxy), (PROXY, None))

    def test_policy(self) -> None:
        """The policy is asked about the client."""
        policy = FakePolicy(connect=MailError(Reply(550, "5.7.1", "Go away")))
        self.begin(policy=policy, listen=PROXIES)
        session, wire = self.connect(PROXY)
        self.assertEqual(policy.asked, [])
        self.assertEqual(self.codes(session, version1(STRANGER)), ["554"])
        self.assertEqual(policy.facts["connect"]["client"], STRANGER)
        self.assertTrue(wire.disconnecting)

    def test_limits(self) -> None:
        """Clients are counted each for itself, however many come by one proxy; an unknown one only in all."""
        self.begin(listen=PROXIES, limits=Limits(connections=5, connections_per_client=1, reserve=0))
        said = []
        for header in (version1(STRANGER), version1(STRANGER), version2("203.0.113.10"), *[b"PROXY UNKNOWN\r\n"] * 4):
            session, _ = self.connect(PROXY)
            said += self.codes(session, header)
        self.assertEqual(said, ["220", "421", "220", "220", "220", "220", "421"])
        self.assertEqual(self.common.connections.total, 5)

    def test_reserve(self) -> None:
        """A client whom a proxy in reserve_for does not know has none of its places; the proxy for itself has."""
        self.begin(listen=PROXIES, limits=Limits(connections=2, reserve=1, reserve_for=PROXIES["proxy_from"]))
        said = []
        for header in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN\r\n", block(b"", 0x20, 0)):
            session, _ = self.connect(PROXY)
            said += self.codes(session, header)
        self.assertEqual(said, ["220", "421", "220"])

    def test_early_talker(self) -> None:
        """What lies behind the header came before the greeting: 554, as for anybody; also where the service is not ready."""
        for is_open in (True, False):
            self.common.roster.open = is_open
            session, wire = self.connect(PROXY)
            said = self.codes(session, version2(STRANGER) + b"EHLO a.example\r\n")
            session.begin()
            self.assertEqual(said or [wire.value()[:3].decode()], ["554"])
            self.assertTrue(wire.disconnecting)
            wire.lose()

    def test_not_ready(self) -> None:
        """The header is read before the service is ready; the greeting comes when it is."""
        self.common.roster.open = False
        session, wire = self.connect(PROXY)
        self.assertEqual(self.say(session, version1(STRANGER)), [])
        self.assertEqual(session.stage, Stage.WAITING)
        session.begin()
        self.assertEqual(wire.value(), b"220 mx.example.org ESMTP\r\n")

    def test_ready_before_the_header(self) -> None:
        """That the service is ready now is no matter to a proxy that has said nothing yet."""
        self.common.roster.open = False
        session, wire = self.connect(PROXY)
        session.begin()
        self.assertEqual((session.stage, wire.value()), (Stage.HEADER, b""))

    def test_garbage(self) -> None:
        """No header: closed without a word, and logged."""
        for data in (b"EHLO a.example\r\n", b"\x16\x03\x01", b"PROXY TCP4 x\r\n", version2(STRANGER, more=b"\x01")):
            session, wire = self.connect(PROXY)
            self.assertEqual(self.say(session, data), [])
            self.assertTrue(wire.disconnecting)
            wire.lose()
            [rejected] = self.log.named("rejected")
            self.assertEqual((rejected["stage"], rejected["client"]), ("proxy", PROXY))
            self.assertEqual((self.log.named("connect"), self.log.named("disconnect")), ([], []))
            self.log.events.clear()

    def test_silence(self) -> None:
        """Five seconds for a header, and no second more for one that comes byte by byte."""
        session, wire = self.connect(PROXY)
        self.clock.advance(HEADER_TIME - 1)
        self.say(session, version1(STRANGER)[:-1])
        self.assertFalse(wire.lost)
        self.clock.advance(2)
        self.assertEqual((wire.lost, wire.value()), (True, b""))
        self.assertEqual([event["why"] for event in self.log.named("rejected")], ["no PROXY header in time"])

    def test_goes_away(self) -> None:
        """A proxy that goes before it has said anything, by its whole connection or by its half."""
        _, wire = self.connect(PROXY)
        wire.lose()
        session, wire = self.connect(PROXY)
        session.readConnectionLost()
        self.assertEqual((wire.disconnecting, wire.value()), (True, b""))
        wire.lose()
        self.assertEqual([event["stage"] for event in self.log.named("rejected")], ["proxy", "proxy"])

    def test_stop(self) -> None:
        """The service stops: nobody is told who is not known yet."""
        session, wire = self.connect(PROXY)
        session.stop()
        self.assertEqual((wire.lost, wire.value()), (True, b""))

    def test_strangers_header(self) -> None:
        """Whoever is not listed is no proxy: a header is garbage like any other, before the greeting and behind it."""
        for header, codes in ((version1(TRUSTED), ["500"]), (version2(TRUSTED), ["500", "500", "500"])):
            session, _ = self.connect(STRANGER)
            self.assertEqual(self.codes(session, header)[:1], codes[:1])
            self.assertEqual((session.address, session.trusted), (STRANGER, False))
        self.common.roster.open = False
        session, wire = self.connect(STRANGER)
        session.dataReceived(version1(TRUSTED))
        session.begin()
        self.assertEqual(wire.value()[:3], b"554")

    def test_avoid_tls_for(self) -> None:
        """Whom STARTTLS is hidden from is a question of the client's address; the proxy's TLS is for the log."""
        session, _ = self.connect(PROXY)
        self.say(session, version2(STRANGER, more=ssl_tlv(tlv(0x21, b"TLSv1.3"), tlv(0x22, b"c"), client=3)))
        [connect] = self.log.named("connect")
        self.assertEqual((connect["proxy_tls"], connect["proxy_name"]), ("TLSv1.3", "c"))
        self.assertEqual(session.achieved.version, "")

    def test_twice(self) -> None:
        """A second header is the client's: it came before the greeting."""
        session, _ = self.connect(PROXY)
        self.assertEqual(self.codes(session, version1(STRANGER) + version1(TRUSTED)), ["554"])
        self.assertEqual(session.address, STRANGER)


class WireOrderTests(DoorCase):
    """The transport is one that reads only what it is asked to."""

    def test_reading(self) -> None:
        """While the header is awaited the transport reads; while the service is not ready it does not."""
        self.begin(listen=PROXIES)
        self.common.roster.open = False
        session, wire = self.connect(PROXY)
        assert isinstance(wire, Wire)
        self.assertEqual(wire.producerState, "producing")
        session.dataReceived(version1(STRANGER))
        self.assertEqual(wire.producerState, "paused")
