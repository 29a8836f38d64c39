"""A client goes on with TLS sessions of before (RFC 8446 2.2, RFC 5077): with real handshakes in memory."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from mta.config.settings import TlsClient
from mta.dns.answer import Tlsa
from mta.testing.pki import Authority, Issued
from mta.tls import connection
from mta.tls.client import ClientTls
from mta.tls.connection import is_resumed
from mta.tls.policy import Achieved, Level, Parameters, Required, judge
from mta.tls.resumption import HOLDS
from tests.tls.client_case import AUTHORITY, ISSUED, ClientCase, owed, server_context, shake
from tests.tls.contexts import VERSIONS, carry

NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET


class ResumingCase(ClientCase):
    """One server, whose context lives as long as the test, and connections to it."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.serving()
        self.open: list[SSL.Connection] = []

    def folder(self) -> Path:
        path = Path(self.mktemp())
        path.mkdir()
        return path

    def serving(self, version: str = "TLSv1.3", issued: Issued = ISSUED, options: int = 0) -> SSL.Context:
        context = server_context(issued)
        context.set_session_id(b"server")
        context.set_max_proto_version(VERSIONS[version])
        context.set_options(options)
        return context

    def go(
        self, required: Required | None = None, key: Hashable = "key", answers: bool = True, closes: bool = True
    ) -> tuple[bool, Achieved]:
        """A whole connection: was a session gone on with, and what has come of it."""
        creator = self.tls.creator(required or owed(), key)
        client, server = creator.clientConnectionForTLS(None), SSL.Connection(self.server, None)
        shake(client, server)
        achieved = creator.achieved(client)
        if answers:
            server.send(b"250 ok\r\n")
            carry(server, client)
            self.assertEqual(client.recv(100), b"250 ok\r\n")
            creator.keep(client, achieved)
        if closes:
            client.shutdown()
        else:
            self.open.append(client)  # OpenSSL spoils the session of a connection that goes without close_notify
        self.assertEqual(is_resumed(client), achieved.resumed)
        return achieved.resumed, achieved


class ResumedTests(ResumingCase):
    """Sessions that are gone on with."""

    def test_each_version(self) -> None:
        """The second connection shows no certificate, and has the chain and the verdict of the first; so has the third."""
        for version in VERSIONS:
            self.server = self.serving(version)
            before = self.go(key=version)[1]
            for _ in range(2):
                resumed, achieved = self.go(key=version)
                self.assertTrue(resumed, version)
                self.assertEqual(attrs.evolve(achieved, resumed=False), before)
            self.assertEqual((before.version, before.verified, len(before.chain)), (version, "verified", 2))

    def test_a_ticket_is_for_one_connection(self) -> None:
        """RFC 8446 C.4: two at the same time need two tickets, and there is one; the newest is taken for the next."""
        self.go()
        creators = [self.tls.creator(owed(), "key") for _ in range(2)]
        for creator in creators:
            creator.connection()
        self.assertEqual([creator.offers for creator in creators], [True, False])

    def test_no_new_ticket(self) -> None:
        """A server that gives none to who comes with one, as Postfix: the old one is used again; one that gives none at all."""
        certificate, key = ISSUED.write(self.folder())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # of the standard library, which can set their number
        context.load_cert_chain(certificate, key)
        self.assertFalse(self.go_to(context))
        context.num_tickets = 0
        self.assertEqual([self.go_to(context) for _ in range(3)], [True] * 3)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.num_tickets = 0
        self.assertEqual([self.go_to(context) for _ in range(3)], [False] * 3)

    def go_to(self, context: ssl.SSLContext) -> bool:
        """A whole connection to such a server: was a session gone on with?"""
        sent, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(heard, sent, server_side=True)
        creator = self.tls.creator(owed(), "key")
        client = creator.connection()
        client.set_connect_state()
        for _ in range(4):
            for step in (client.do_handshake, server.do_handshake):
                try:
                    step()
                except (SSL.WantReadError, ssl.SSLWantReadError):
                    pass
            try:
                heard.write(client.bio_read(65536))
            except SSL.WantReadError:
                pass
            if said := sent.read():
                client.bio_write(said)
        server.write(b"250 ok\r\n")
        client.bio_write(sent.read())
        self.assertEqual(client.recv(100), b"250 ok\r\n")
        achieved = creator.achieved(client)
        creator.keep(client, achieved)
        client.shutdown()
        return achieved.resumed

    def test_beside_the_first(self) -> None:
        """A session is of use while its connection is open, and whatever becomes of that."""
        self.go(closes=False)
        self.assertTrue(self.go()[0])


class FullTests(ResumingCase):
    """Full handshakes, though there was a connection before."""

    def test_x18_another_key(self) -> None:
        """X18: nothing is gone on with under another key, or without one."""
        self.go()
        self.assertFalse(self.go(key="other")[0])
        self.go(key=None)
        self.assertFalse(self.go(key=None)[0])

    def test_x18_another_context(self) -> None:
        """X18: nor where TLS is spoken in another way, or another certificate of ours is shown, under the same key."""
        certificate, key = AUTHORITY.issue("relay.example.com").write(self.folder())
        ours = Parameters(certificate=certificate, key=key)
        for parameters in (Parameters(), Parameters(min_version="TLSv1.3"), Parameters(ciphers="ECDHE"), ours):
            self.assertFalse(self.go(owed(parameters=parameters))[0], parameters)
        self.assertTrue(self.go(owed(parameters=ours))[0])
        AUTHORITY.issue("relay.example.com").write(certificate.parent)
        self.assertFalse(self.go(owed(parameters=ours))[0])

    def test_other_sessions(self) -> None:
        """Another `ClientTls`, as after a reload, knows nothing of them."""
        self.go()
        self.tls = ClientTls(TlsClient(trust=(self.trusted,)), lambda: self.now)
        self.assertFalse(self.go()[0])

    def test_the_server_has_another_key(self) -> None:
        """A server that cannot read the ticket any more has a full handshake with us, and is judged by what it shows."""
        self.go()
        self.server = self.serving(issued=Authority.create().issue("mx.example.org"))
        resumed, achieved = self.go(answers=False)
        self.assertEqual((resumed, achieved.verified), (False, "untrusted"))

    def test_nothing_was_heard(self) -> None:
        """What fails before the answer to EHLO leaves no session."""
        self.go(answers=False)
        self.assertFalse(self.go()[0])

    def test_an_hour(self) -> None:
        """An hour behind the full handshake another one is made, however often it was gone on with meanwhile."""
        began = self.now
        self.go()
        for seconds, resumed in ((HOLDS / 2, True), (HOLDS - 1, True), (HOLDS, False)):
            self.now = began + seconds
            self.assertEqual(self.go()[0], resumed, seconds)

    def test_without_extended_master_secret(self) -> None:
        """RFC 7627 5.4: a session of TLS 1.2 without it is not gone on with."""
        self.server = self.serving("TLSv1.2", options=NO_EXTENDED_MASTER_SECRET)
        self.go()
        self.assertFalse(self.go()[0])

    def test_the_library_cannot_say(self) -> None:
        """A library that does not tell whether a session was resumed (pyOpenSSL never asks): none is, and TLS works."""
        self.patch(connection, "_lib", SimpleNamespace())
        for _ in range(2):
            resumed, achieved = self.go()
            self.assertEqual((resumed, achieved.verified, len(achieved.chain)), (False, "verified", 2))

    def test_refused(self) -> None:
        """Behind a handshake that failed with an old session there is none for an hour."""
        self.go()
        creator = self.tls.creator(owed(), "key")
        creator.connection()
        creator.refuse()
        self.assertFalse(creator.offers)
        began = self.now
        for seconds, resumed in ((0, False), (HOLDS - 1, False), (HOLDS, False), (HOLDS, True)):
            self.now = began + seconds
            self.assertEqual(self.go()[0], resumed, seconds)

    def test_refused_by_the_server_alone(self) -> None:
        """A full handshake though a session was offered: what fails from then on is no fault of the session."""
        self.go()
        self.server = self.serving()
        creator = self.tls.creator(owed(), "key")
        client, server = creator.connection(), SSL.Connection(self.server, None)
        self.assertTrue(creator.offers)
        shake(client, server)
        creator.achieved(client)
        self.assertFalse(creator.offers)


class JudgedTests(ResumingCase):
    """H32: the chain that was shown once is judged by what is owed today, before a session of it is offered."""

    def check(self, first: Required, then: Required, resumed: bool) -> None:
        """One connection for each under the same key, which nobody else may use."""
        key = f"{first}{then}"
        self.go(first, key)
        found, achieved = self.go(then, key)
        self.assertEqual(found, resumed, (first, then))
        self.assertEqual(judge(then, achieved) == "", resumed)

    def test_levels(self) -> None:
        """Whatever a key leaves open: who demands more than the stored chain gives has a full handshake."""
        names = owed(Level.VERIFY, "other.example.org")
        leaf = x509.load_pem_x509_certificates(ISSUED.certificate_pem)[0]
        digest = sha256(leaf.public_bytes(Encoding.DER)).digest()
        good, bad = Tlsa(3, 0, 1, digest), Tlsa(3, 0, 1, bytes(32))
        for then, resumed in (
            (owed(), True),
            (names, False),
            (owed(Level.DANE, tlsa=(good,)), True),
            (owed(Level.DANE, tlsa=(bad,)), False),
            (owed(Level.DANE_ONLY), False),
            (owed(Level.FINGERPRINT, parameters=Parameters(fingerprints=(digest.hex(),))), True),
            (owed(Level.FINGERPRINT, parameters=Parameters(fingerprints=("00" * 32,))), False),
        ):
            self.check(owed(Level.ENCRYPT), then, resumed)

    def test_trust(self) -> None:
        """Other authorities are trusted than at the handshake."""
        path = Path(self.mktemp())
        path.write_bytes(Authority.create().certificate_pem)
        self.check(owed(), owed(parameters=Parameters(trust=(path,))), False)

    def test_the_certificate_expires(self) -> None:
        """A session outlives no certificate of its chain at a level that verifies; where none is judged it may."""
        leaf = x509.load_pem_x509_certificates(ISSUED.certificate_pem)[0]
        for level, resumed in ((Level.VERIFY, False), (Level.ENCRYPT, True)):
            self.now = leaf.not_valid_after_utc.timestamp() - 10
            self.go(owed(level), level)
            self.now += 20
            self.assertEqual(self.go(owed(level), level)[0], resumed)

    def test_those_that_will_not_do_are_gone(self) -> None:
        """They are dropped, for the demand does not become weaker under one key; the full handshake's session takes their place."""
        for _ in range(3):
            self.go(owed(Level.ENCRYPT), closes=False)
        wanted = owed(Level.VERIFY, "other.example.org")
        self.assertFalse(self.go(wanted, answers=False)[0])
        self.assertFalse(self.go(owed(Level.ENCRYPT), answers=False)[0])
