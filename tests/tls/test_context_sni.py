"""What clients see that ask for a name: the right certificate, the default, or a refusal (S40, S41, S42, X24, A37)."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import attrs
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols.tls import TLSMemoryBIOFactory

from mta.config.settings import Sni
from mta.tls.context import ServerTls
from tests.tls.contexts import AUTHORITY, VERSIONS, ContextCase, KeptLog, client_of, leaf_of, only, shown
from tests.tls.hello import SUITES, UNRECOGNIZED_NAME, answer, client_hello, server_name


class MapTests(ContextCase):
    """Known and unknown names."""

    def test_s40_right_certificate(self) -> None:
        """S40: exact, wildcard, default; unknown, none; upper case, a final dot; A-labels; in both versions."""
        tls = self.serving(
            self.entry("a", "a.example"),
            self.entry("b", "*.b.example"),
            self.entry("u", "bücher.example", shows="xn--bcher-kva.example"),
        )
        for version in VERSIONS:
            for asked, certificate in (
                (b"a.example", "a.example"),
                (b"A.Example", "a.example"),
                (b"a.example.", "a.example"),
                (b"x.b.example", "*.b.example"),
                (b"x.y.b.example", "mx.example.org"),
                (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
                (b"mx.example.org", "mx.example.org"),
                (b"unknown.example", "mx.example.org"),
                (b"", "mx.example.org"),
            ):
                self.assertEqual(shown(tls, asked, only(version)), certificate, (version, asked))

    def test_s40_two_kinds_for_a_name(self) -> None:
        """S40: two entries with one name are one context with two keys; each client sees what it can verify."""
        tls = self.serving(self.entry("ec", "a.example"), self.entry("rsa", "a.example", key="rsa"))
        for ciphers, kind in ((b"ECDHE+aECDSA", "EC"), (b"ECDHE+aRSA", "RSA")):
            client, _ = client_of(tls, only("TLSv1.2", ciphers), b"a.example")
            self.assertIn(f"{kind}PublicKey", type(leaf_of(client).public_key()).__name__)
        self.assertEqual(tls.cached, 1)

    def test_s35_reload_between_two_hellos(self) -> None:
        """S35, S40: OpenSSL asks the first context for the name again when it wants a second hello: a reload does not free it."""
        tls = self.serving(self.entry("a", "a.example"))
        client, server = client_of(tls, name=b"a.example")
        before = weakref.ref(tls._offer.default.context)
        tls.reload()
        gc.collect()
        self.assertIsNotNone(before(), "its callback is freed memory")
        del client, server
        gc.collect()
        self.assertIsNone(before(), "it is kept for ever")

    def test_alpn_behind_sni(self) -> None:
        """S44, S40: the context of a name has the same rules: smtp is selected, other protocols end the handshake."""
        tls = self.serving(self.entry("a", "a.example"))
        client, _ = client_of(tls, lambda context: context.set_alpn_protos([b"smtp"]), b"a.example")
        self.assertEqual(client.get_alpn_proto_negotiated(), b"smtp")
        with self.assertRaises(SSL.Error) as refused:
            client_of(tls, lambda context: context.set_alpn_protos([b"h2"]), b"a.example")
        self.assertIn("no application protocol", str(refused.exception))

    def test_minimum_version_behind_sni(self) -> None:
        """The version is bounded for every name."""
        tls = self.serving(self.entry("a", "a.example"), min_version="TLSv1.3")
        self.assertRaises(SSL.Error, client_of, tls, only("TLSv1.2"), b"a.example")

    def test_fault_shows_the_default(self) -> None:
        """A name whose files cannot be used shows the default certificate; the log and the alarms name the file once."""
        log = KeptLog()
        entry = self.entry("a", "a.example")
        entry.key.unlink()
        tls = ServerTls.load(attrs.evolve(self.settings, sni=(entry,)), log)
        for _ in range(2):
            self.assertEqual(shown(tls, b"a.example"), "mx.example.org")
        (fault,) = log.named("certificate_fault")
        self.assertEqual(fault["certificate"], str(entry.certificate))
        self.assertIn(str(entry.key), str(fault["reason"]))
        self.assertEqual(list(tls.alarms(0.0)), [("certificate_fault", fault)])
        self.assertEqual(tls.fault, "", "the default certificate is good")
        AUTHORITY.issue("a.example").write(entry.key.parent)
        tls.look()
        self.assertEqual(shown(tls, b"a.example"), "a.example")


class RejectTests(ContextCase):
    """`sni_unknown = "reject"`."""

    def test_s41_unknown_name(self) -> None:
        """S41: an unknown name gets the fatal alert unrecognized_name, and our own error says so; in both versions."""
        tls = self.serving(self.entry("a", "a.example"), sni_unknown="reject")
        for version in VERSIONS:
            with self.assertRaises(SSL.Error) as refused:
                client_of(tls, only(version), b"unknown.example")
            self.assertIn("unrecognized name", str(refused.exception))
        self.assertEqual(answer(tls.prepare().connection, client_hello(server_name(b"x.example"))), UNRECOGNIZED_NAME)

    def test_s41_known_names_and_none(self) -> None:
        """S41: no name is the default's business; those in the default certificate are known without an entry."""
        tls = self.serving(self.entry("a", "a.example"), sni_unknown="reject")
        for asked, certificate in ((b"", "mx.example.org"), (b"MX.example.org", "mx.example.org"), (b"a.example", "a.example")):
            self.assertEqual(shown(tls, asked), certificate)

    def test_s41_without_entries(self) -> None:
        """S41: it holds where there is the default certificate only, too."""
        tls = self.serving(sni_unknown="reject")
        self.assertEqual(shown(tls, b"mx.example.org"), "mx.example.org")
        self.assertRaises(SSL.Error, client_of, tls, name=b"a.example")

    def test_other_failures_keep_their_alert(self) -> None:
        """A handshake that fails for another reason says that reason: 40 where no cipher is shared."""
        tls = self.serving(sni_unknown="reject", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
        hello = client_hello(server_name(b"mx.example.org")).replace(SUITES[0].to_bytes(2, "big"), b"\xc0\x2c", 1)
        self.assertEqual(answer(tls.prepare().connection, hello)[-2:], b"\x02\x28")

    def test_s41_under_twisted(self) -> None:
        """S41: Twisted sends the alert, closes, and neither log nor standard error sees a traceback."""
        self.patch(sys, "excepthook", lambda *what: self.fail(f"a traceback: {what}"))
        tls = self.serving(sni_unknown="reject")
        lost = []

        class Server(Protocol):
            def connectionLost(self, reason) -> None:
                lost.append(reason)

        inner = TLSMemoryBIOFactory(tls.prepare(), False, Factory.forProtocol(Server))
        protocol, wire = inner.buildProtocol(None), StringTransportWithDisconnection()
        wire.protocol = protocol
        protocol.makeConnection(wire)
        protocol.dataReceived(client_hello(server_name(b"x.example")))
        self.assertEqual(wire.value(), UNRECOGNIZED_NAME)
        self.assertEqual([reason.value.args[0][-1][-1] for reason in lost], ["unrecognized name"])


class HostileNameTests(ContextCase):
    """Names that no client sends by mistake."""

    def test_x24_nul_and_length(self) -> None:
        """X24: a NUL in the name and a name of 300 bytes end the handshake with an alert; nothing crashes, for either setting."""
        for unknown in ("default", "reject"):
            tls = self.serving(self.entry("a", "a.example"), sni_unknown=unknown)
            for name in (b"a.example\0.evil.example", b"\0", b"a" * 300):
                said = answer(tls.prepare().connection, client_hello(server_name(name)))
                self.assertEqual((said[:1], said[5:6]), (b"\x15", b"\x02"), (unknown, name))

    def test_x24_odd_names(self) -> None:
        """X24: 255 bytes, bytes above 127, a lone dot, an address: unknown names and nothing else."""
        tls = self.serving(self.entry("a", "a.example"))
        strict = self.serving(self.entry("a", "a.example"), sni_unknown="reject")
        for name in (b"a" * 255, b"\xff\xfe", b".", b"..", b"192.0.2.1", b"*.", b"%s"):
            self.assertEqual(answer(tls.prepare().connection, client_hello(server_name(name)))[:1], b"\x16", name)
            self.assertEqual(answer(strict.prepare().connection, client_hello(server_name(name))), UNRECOGNIZED_NAME)


class ThousandsTests(ContextCase):
    """A37, S42: many names on one address."""

    def setUp(self) -> None:
        super().setUp()
        real = [self.entry(f"n{number}", f"n{number}.example") for number in range(6)]
        absent = [
            Sni((f"n{number}.example",), Path(f"/nowhere/{number}.pem"), Path(f"/nowhere/{number}.key"))
            for number in range(6, 5000)
        ]
        self.log = KeptLog()
        self.tls = ServerTls.load(attrs.evolve(self.settings, sni=(*real, *absent), sni_cached=4), self.log)

    def test_s42_nothing_is_read_before_it_is_asked_for(self) -> None:
        """S42: 4,994 of the 5,000 names have no files, and neither start nor reload nor look notices."""
        self.assertEqual(self.tls.cached, 0)
        self.tls.reload()
        self.tls.look()
        self.assertEqual((self.tls.cached, self.log.events), (0, []))

    def test_s42_memory_is_bounded(self) -> None:
        """S42: no more than `sni_cached` are in memory, faulty ones among them, and every name is served all the same."""
        for number in (0, 1, 2, 3, 4, 5, 0, 4711, 4712, 5):
            expected = f"n{number}.example" if number < 6 else "mx.example.org"
            self.assertEqual(shown(self.tls, b"n%d.example" % number), expected)
            self.assertLessEqual(self.tls.cached, 4)
        self.assertEqual(self.tls.cached, 4)

    def test_s42_reload_keeps_what_is_in_memory(self) -> None:
        """S42, S36: a reload reads none of the names; one whose file is broken meanwhile goes on with the old certificate."""
        client, _ = client_of(self.tls, name=b"n0.example")
        serial = leaf_of(client).serial_number
        (self.directory / "n0" / "cert.pem").write_bytes(b"-----BEGIN CERT")
        self.tls.reload()
        self.assertEqual((self.tls.cached, self.log.events), (1, []))
        client, _ = client_of(self.tls, name=b"n0.example")
        self.assertEqual(leaf_of(client).serial_number, serial)
        self.assertEqual(len(self.log.named("certificate_fault")), 1)

    def test_s42_a_new_configuration_keeps_what_is_in_memory(self) -> None:
        """S42, S36: the same where a new configuration takes the place of the old one."""
        serial = leaf_of(client_of(self.tls, name=b"n0.example")[0]).serial_number
        (self.directory / "n0" / "cert.pem").write_bytes(b"-----BEGIN CERT")
        settings = attrs.evolve(self.settings, sni=self.tls._settings.sni[:3], sni_cached=2)
        newer = ServerTls.load(settings, self.log, after=self.tls)
        self.assertEqual(newer.cached, 1)
        self.assertEqual(leaf_of(client_of(newer, name=b"n0.example")[0]).serial_number, serial)
