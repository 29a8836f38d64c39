"""The server resumes sessions by tickets (RFC 5077, RFC 8446 2.2), with keys that are made anew, and never across names (X18)."""

from __future__ import annotations

import time

import attrs
from OpenSSL import SSL

from mta.testing.pki import Authority
from mta.tls.context import DAY, ServerTls, facts
from tests.tls.contexts import AUTHORITY, VERSIONS, ContextCase, KeptLog, Prepare, only, talk


class Visitor:
    """A client that comes again and again, with its last session.  prepare: its context."""

    def __init__(self, prepare: Prepare) -> None:
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        prepare(self.context)
        self.session: SSL.Session | None = None

    def visit(self, tls: ServerTls, name: bytes = b"") -> bool:
        """Connect, and come away with what there is to come back with; was the old session gone on with?"""
        client, server = SSL.Connection(self.context, None), tls.prepare().connection
        client.set_connect_state()
        if name:
            client.set_tlsext_host_name(name)
        if self.session is not None:
            client.set_session(self.session)
        talk(client, server)
        server.send(b"250 ok\r\n")
        talk(client, server)
        assert client.recv(100) == b"250 ok\r\n"  # with it come the tickets of TLS 1.3, where there are any
        self.session = client.get_session()
        client.shutdown()  # OpenSSL spoils the session of a connection that goes without close_notify
        return facts(server).resumed


class ResumptionCase(ContextCase):
    """A clock that a test can set."""

    def setUp(self) -> None:
        super().setUp()
        self.now = time.time()
        self.log = KeptLog()

    def loaded(self, **changes: object) -> ServerTls:
        return ServerTls.load(attrs.evolve(self.settings, **changes), self.log, lambda: self.now)

    def visits(self, tls: ServerTls, *names: bytes, prepare: Prepare = lambda context: None) -> list[list[bool]]:
        """In each version a client that asks for these names, one after the other."""
        found = []
        for version in VERSIONS:
            visitor = Visitor(lambda context, version=version: (only(version)(context), prepare(context)))
            found.append([visitor.visit(tls, name) for name in names])
        return found


class ResumedTests(ResumptionCase):
    """Where one certificate is shown to everybody."""

    def test_resumed(self) -> None:
        """The second and third connection go on with the session; whatever name is asked for, it is the same certificate."""
        self.assertEqual(self.visits(self.loaded(), b"", b"", b"mx.example.org"), [[False, True, True]] * 2)

    def test_second_key_beside_the_first(self) -> None:
        """An RSA certificate beside the default one makes no second name."""
        tls = self.loaded(sni=(self.entry("rsa", "*", key="rsa", shows="mx.example.org"),))
        self.assertEqual(self.visits(tls, b"", b"mx.example.org"), [[False, True]] * 2)

    def test_no_early_data(self) -> None:
        """RFC 8446 8: a ticket promises none."""
        visitor = Visitor(only("TLSv1.3"))
        visitor.visit(self.loaded())
        assert visitor.session is not None
        self.assertEqual(SSL._lib.SSL_SESSION_get_max_early_data(visitor.session._session), 0)


class FullTests(ResumptionCase):
    """Where nothing is resumed."""

    def test_x18_several_names(self) -> None:
        """X18: with certificates of further names a session is resumed neither under its name nor under another."""
        tls = self.loaded(sni=(self.entry("a", "a.example"), self.entry("b", "b.example")))
        names = (b"a.example", b"a.example", b"b.example", b"mx.example.org", b"mx.example.org")
        self.assertEqual(self.visits(tls, *names), [[False] * 5] * 2)

    def test_x18_unknown_names_are_refused(self) -> None:
        """X18: a ticket of the known name is no way in for an unknown one."""
        tls = self.loaded(sni_unknown="reject")
        self.assertEqual(self.visits(tls, b"mx.example.org", b"mx.example.org"), [[False, False]] * 2)

    def test_s24_client_certificates(self) -> None:
        """S24: where they are asked for each connection shows one, so that nobody goes by the certificate of another."""
        authorities = self.directory / "clients.pem"
        clients = Authority.create("CA of clients")
        authorities.write_bytes(clients.certificate_pem)
        folder = self.directory / "client"
        folder.mkdir()
        certificate, key = clients.issue("client.example").write(folder)

        def shows(context: SSL.Context) -> None:
            context.use_certificate_file(str(certificate))
            context.use_privatekey_file(str(key))

        for client_cert in ("ask", "require"):
            tls = self.loaded(client_cert=client_cert, client_ca=(authorities,))
            self.assertEqual(self.visits(tls, b"", b"", prepare=shows), [[False, False]] * 2)

    def test_another_server(self) -> None:
        """Two servers in one process have keys of their own."""
        visitor, one, two = Visitor(only("TLSv1.3")), self.loaded(), self.loaded()
        self.assertEqual([visitor.visit(tls) for tls in (one, two, two, one)], [False, False, True, False])


class KeyTests(ResumptionCase):
    """RFC 9325 3.4: the key of the tickets is changed."""

    def test_once_a_day(self) -> None:
        """The look of the next day makes a new one, without a word: no certificate is new."""
        tls, visitor = self.loaded(), Visitor(only("TLSv1.3"))
        visitor.visit(tls)
        self.now += DAY - 1
        tls.look()
        self.assertTrue(visitor.visit(tls))
        self.now += 1
        tls.look()
        self.assertEqual([visitor.visit(tls), visitor.visit(tls)], [False, True])
        self.assertEqual(self.log.events, [])

    def test_new_certificate(self) -> None:
        """A session of the old certificate is not resumed under the new one."""
        tls, visitor = self.loaded(), Visitor(only("TLSv1.3"))
        visitor.visit(tls)
        AUTHORITY.issue("mx.example.org").write(self.directory)
        tls.look()
        self.assertEqual([visitor.visit(tls), visitor.visit(tls)], [False, True])
        self.assertEqual([name for name, _ in self.log.events], ["certificate_loaded"])

    def test_it_cannot_be_changed(self) -> None:
        """Files that cannot be read any more: the certificate is shown on, and there are no tickets until they are mended."""
        tls = self.loaded()
        visitors = [Visitor(only(version)) for version in VERSIONS]
        for visitor in visitors:
            visitor.visit(tls)
        key = self.key.read_bytes()
        self.key.unlink()
        self.now += DAY
        tls.look()
        for visitor in visitors:
            self.assertEqual([visitor.visit(tls), visitor.visit(tls)], [False, False])
        self.key.write_bytes(key)
        tls.look()
        for visitor in visitors:
            self.assertEqual([visitor.visit(tls), visitor.visit(tls)], [False, True])

    def test_nobody_looks(self) -> None:
        """Without a look (`watch = 0`) tickets end with the day, and so they do when the clock goes back."""
        for seconds in (DAY, -1):
            tls, visitor = self.loaded(), Visitor(only("TLSv1.3"))
            visitor.visit(tls)
            self.now += seconds
            self.assertEqual([visitor.visit(tls), visitor.visit(tls)], [False, False])

    def test_where_there_are_no_tickets(self) -> None:
        """Without tickets nothing is read anew for the sake of their key."""
        tls = self.loaded(sni=(self.entry("a", "a.example"),))
        loads, self.now = tls.loads, self.now + 2 * DAY
        tls.look()
        self.assertEqual(tls.loads, loads)
