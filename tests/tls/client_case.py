"""Handshakes of our client with a server in memory, and a clock that a test can set."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import TlsClient
from mta.testing.pki import Authority, Issued
from mta.tls.client import ClientTls
from mta.tls.policy import Achieved, Level, Required
from tests.tls.contexts import talk

AUTHORITY = Authority.create()
ISSUED = AUTHORITY.issue("mx.example.org", "192.0.2.1")


def server_context(issued: Issued, chain: bool = True) -> SSL.Context:
    """A server that shows this certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    leaf, *others = x509.load_pem_x509_certificates(issued.certificate_pem)
    context.use_certificate(leaf)
    for certificate in others if chain else ():
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(load_pem_private_key(issued.key_pem, None))
    return context


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """A handshake in memory; SSL.Error when it fails."""
    client.set_connect_state()
    server.set_accept_state()
    talk(client, server)


def owed(level: Level = Level.VERIFY, *names: str, **changes: object) -> Required:
    """A requirement for mx.example.org."""
    required = Required(level, "mx.example.org", "192.0.2.1", 25, "example.org", names or ("mx.example.org",), "mx.example.org")
    return attrs.evolve(required, **changes)


class ClientCase(SynchronousTestCase):
    """A client whose clock a test can set, and handshakes with it."""

    def setUp(self) -> None:
        self.trusted = Path(self.mktemp())
        self.trusted.write_bytes(AUTHORITY.certificate_pem)
        self.now = time.time()
        self.tls = ClientTls(TlsClient(trust=(self.trusted,)), lambda: self.now)

    def connect(
        self,
        issued: Issued = ISSUED,
        required: Required | None = None,
        prepare: Callable = lambda context: None,
        **chain: bool,
    ):
        """Both ends after a handshake."""
        context = server_context(issued, **chain)
        prepare(context)
        client = self.tls.creator(required or owed()).clientConnectionForTLS(None)
        server = SSL.Connection(context, None)
        shake(client, server)
        return client, server

    def achieved(self, required: Required, issued: Issued = ISSUED, **more) -> Achieved:
        """What a handshake achieves."""
        return self.tls.achieved(self.connect(issued, required, **more)[0], required)
