"""Client certificates: asked for only where configured, accepted whatever they are, judged by us (S23, S24, C1.10)."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from OpenSSL import SSL

from mta.testing.pki import Authority, Issued
from mta.tls.context import ServerTls, facts
from tests.tls.chains import Made, at, make
from tests.tls.contexts import AUTHORITY, VERSIONS, ContextCase, Prepare, client_of, only
from tests.tls.hello import answer, client_hello, messages, server_name

CLIENTS = Authority.create("CA of clients")
CERTIFICATE_REQUEST = 13


def with_certificate(version: str, chain: list[x509.Certificate], key: object) -> Prepare:
    """A client that shows this when it is asked."""

    def prepare(context: SSL.Context) -> None:
        only(version)(context)
        context.use_certificate(chain[0])
        context.use_privatekey(key)  # type: ignore[arg-type]
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)

    return prepare


def issued(version: str, certificate: Issued) -> Prepare:
    chain = x509.load_pem_x509_certificates(certificate.certificate_pem)
    return with_certificate(version, chain, load_pem_private_key(certificate.key_pem, None))


class ClientCertificateCase(ContextCase):
    """Authorities whose clients are trusted: CLIENTS, in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.authorities = self.directory / "clients.pem"
        self.authorities.write_bytes(CLIENTS.certificate_pem)
        self.now = datetime.now(UTC).timestamp()

    def asking(self, client_cert: str = "ask", **changes: object) -> ServerTls:
        settings = attrs.evolve(self.settings, client_cert=client_cert, client_ca=(self.authorities,), **changes)
        return ServerTls.load(settings, now=lambda: self.now)


class RequestTests(ClientCertificateCase):
    """What the client is asked."""

    def test_s24_not_asked(self) -> None:
        """S24: without `client_cert` there is no CertificateRequest on the wire, and a client that has one shows none."""
        tls = self.asking("none")
        flight = answer(tls.prepare().connection, client_hello())
        self.assertNotIn(CERTIFICATE_REQUEST, dict(messages(flight)))
        for version in VERSIONS:
            _, server = client_of(tls, issued(version, CLIENTS.issue("client.example")))
            self.assertIsNone(server.get_peer_certificate())
            self.assertEqual((facts(server).chain, facts(server).chain_error), ((), ""))

    def test_s24_asked_where_configured(self) -> None:
        """S24: "ask" and "require" send it, for every name, with the names of the authorities."""
        entry = self.entry("a", "a.example")
        for client_cert in ("ask", "require"):
            tls = self.asking(client_cert, sni=(entry,))
            for name in (b"mx.example.org", b"a.example"):
                asked = dict(messages(answer(tls.prepare().connection, client_hello(server_name(name)))))
                self.assertIn(CLIENTS.certificate.subject.public_bytes(), asked[CERTIFICATE_REQUEST])

    def test_authorities_that_cannot_be_read(self) -> None:
        """A mistake in client_ca ends the start; where nobody is asked the files are not looked at."""
        self.authorities.write_bytes(b"nothing")
        reason = self.refused(client_cert="ask", client_ca=(self.authorities,))
        self.assertIn(f"{self.authorities}: not a chain", reason)
        self.assertTrue(self.asking("none").offered)


class JudgedTests(ClientCertificateCase):
    """What `facts` says; the handshake works in every case."""

    def check(self, prepare: Prepare, error: str, length: int) -> None:
        for client_cert in ("ask", "require"):
            client, server = client_of(self.asking(client_cert), prepare)
            achieved = facts(server)
            self.assertEqual(len(achieved.chain), length)
            self.assertIn(error, achieved.chain_error)
            self.assertEqual(bool(error), bool(achieved.chain_error))
            client.send(b"EHLO x\r\n")
            server.bio_write(client.bio_read(65536))
            self.assertEqual(server.recv(100), b"EHLO x\r\n")

    def test_s23_none(self) -> None:
        """S23: no certificate is no reason to fail, and said."""
        for version in VERSIONS:
            self.check(only(version), "no certificate", 0)

    def test_s23_trusted(self) -> None:
        """S23: one of an authority in client_ca is good; the chain begins with the leaf."""
        for version in VERSIONS:
            certificate = CLIENTS.issue("client.example")
            self.check(issued(version, certificate), "", 2)
            _, server = client_of(self.asking(), issued(version, certificate))
            leaf = x509.load_der_x509_certificate(facts(server).chain[0])
            self.assertIn(leaf.public_bytes(Encoding.PEM), certificate.certificate_pem)

    def test_s23_untrusted(self) -> None:
        """S23: one of another authority, a self-signed one and an expired one are accepted by the handshake and not by us."""
        for version in VERSIONS:
            self.check(issued(version, AUTHORITY.issue("client.example")), "self-signed certificate in", 2)
            self.check(issued(version, CLIENTS.issue("client.example", expired=True)), "expired", 2)
            alone = make(days=900)
            self.check(with_certificate(version, [alone.certificate], alone.key), "self-signed", 1)

    def test_extended_key_usage(self) -> None:
        """A certificate for servers only is not for clients; the dates are those of our clock."""
        root = make(ca=True, days=900)
        self.authorities.write_bytes(root.certificate.public_bytes(Encoding.PEM))
        self.now = at(10)
        for uses, error in (([Use.SERVER_AUTH], "not for clients"), ([Use.CLIENT_AUTH], ""), ([], "")):
            self.check(self.shows(make(root, uses=uses)), error, 1)
        self.now = at(101)
        self.check(self.shows(make(root, uses=[Use.CLIENT_AUTH])), "expired", 1)

    def shows(self, made: Made) -> Prepare:
        return with_certificate("TLSv1.3", [made.certificate], made.key)

    def test_behind_sni(self) -> None:
        """The context of another name knows the same authorities."""
        tls = self.asking(sni=(self.entry("a", "a.example"),))
        _, server = client_of(tls, issued("TLSv1.3", CLIENTS.issue("client.example")), b"a.example")
        self.assertEqual((facts(server).chain_error, len(facts(server).chain)), ("", 2))

    def test_new_authorities(self) -> None:
        """Authorities that are replaced are known at the next look, for names in memory too."""
        tls = self.asking(sni=(self.entry("a", "a.example"),))
        prepare = issued("TLSv1.3", AUTHORITY.issue("client.example"))
        for name in (b"", b"a.example"):
            self.assertTrue(facts(client_of(tls, prepare, name)[1]).chain_error)
        self.authorities.write_bytes(CLIENTS.certificate_pem + AUTHORITY.certificate_pem)
        tls.look()
        for name in (b"", b"a.example"):
            self.assertEqual(facts(client_of(tls, prepare, name)[1]).chain_error, "")
