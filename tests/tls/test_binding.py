"""The tls-exporter: both ends have the same, no two connections have; without extended master secret there is none."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mta.testing.pki import Authority
from mta.tls.binding import tls_exporter

ISSUED = Authority.create().issue("mx.example.org")
NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET, since OpenSSL 3.0


def pair(version: int, options: int = 0) -> tuple[SSL.Connection, SSL.Connection]:
    """A client and a server that have shaken hands."""
    server_context, client_context = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    server_context.use_certificate(x509.load_pem_x509_certificates(ISSUED.certificate_pem)[0])
    server_context.use_privatekey(load_pem_private_key(ISSUED.key_pem, None))  # type: ignore[arg-type]
    client_context.set_min_proto_version(version)
    client_context.set_max_proto_version(version)
    client_context.set_options(options)
    client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
    client.set_connect_state()
    server.set_accept_state()
    for one, other in [(client, server), (server, client)] * 3:
        try:
            one.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            other.bio_write(one.bio_read(65536))
        except SSL.WantReadError:
            pass
    return client, server


class ExporterTests(SynchronousTestCase):
    """`tls_exporter`."""

    def test_both_ends(self) -> None:
        """RFC 9266 2: 32 octets, the same at both ends and at no other connection; with an empty context, as others take it."""
        seen = set()
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION) * 2:
            client, server = pair(version)
            octets = tls_exporter(client)
            self.assertEqual((octets, len(octets)), (tls_exporter(server), 32))
            self.assertEqual(octets, client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))
            seen.add(octets)
        self.assertEqual(len(seen), 4)

    def test_without_extended_master_secret(self) -> None:
        """RFC 9266 3: in TLS 1.2 without RFC 7627 two connections can be made to have the same: there is nothing to bind to."""
        client, server = pair(SSL.TLS1_2_VERSION, NO_EXTENDED_MASTER_SECRET)
        self.assertEqual(client.get_protocol_version_name(), "TLSv1.2")
        self.assertEqual((tls_exporter(client), tls_exporter(server)), (b"", b""))
