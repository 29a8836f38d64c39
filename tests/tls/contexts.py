"""A server's TLS and clients of it, in memory: what the tests of contexts, names and client certificates share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mta.config.settings import Sni, Tls
from mta.interfaces import IEventLog
from mta.status import MailError
from mta.testing.pki import Authority, KeyKind
from mta.tls.context import ServerTls

AUTHORITY = Authority.create()
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

Prepare = Callable[[SSL.Context], object]


@implementer(IEventLog)
class KeptLog:
    """The events in order: name and fields."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        """See IEventLog."""
        self.events.append((name, fields))

    def named(self, name: str) -> list[Mapping[str, object]]:
        """The fields of every event of that name."""
        return [fields for event, fields in self.events if event == name]


def client_of(
    tls: ServerTls, prepare: Prepare = lambda context: None, name: bytes = b""
) -> tuple[SSL.Connection, SSL.Connection]:
    """A client and a server connection that have spoken until neither has anything to say; SSL.Error when they fail."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    prepare(context)
    client, server = SSL.Connection(context, None), tls.prepare().connection
    client.set_connect_state()
    if name:
        client.set_tlsext_host_name(name)
    talk(client, server)
    return client, server


def talk(client: SSL.Connection, server: SSL.Connection) -> None:
    """Let both shake hands until neither has anything to say."""
    for _ in range(6):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            carry(end, other)


def carry(end: SSL.Connection, other: SSL.Connection) -> None:
    """Give one end's bytes to the other."""
    try:
        other.bio_write(end.bio_read(65536))
    except SSL.WantReadError:
        pass


def only(version: str, ciphers: bytes = b"") -> Prepare:
    """A client that speaks this version, and in TLS 1.2 with these ciphers."""

    def prepare(context: SSL.Context) -> None:
        context.set_min_proto_version(VERSIONS[version])
        context.set_max_proto_version(VERSIONS[version])
        if ciphers:
            context.set_cipher_list(ciphers)

    return prepare


def leaf_of(client: SSL.Connection) -> x509.Certificate:
    """What the server has shown."""
    leaf = client.get_peer_certificate(as_cryptography=True)
    assert leaf is not None
    return leaf


def shown(tls: ServerTls, name: bytes = b"", prepare: Prepare = lambda context: None) -> str:
    """The first name in the certificate that a client sees which asks for `name`."""
    names = leaf_of(client_of(tls, prepare, name)[0]).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return str(names.value.get_values_for_type(x509.DNSName)[0])


class ContextCase(SynchronousTestCase):
    """A directory with a good certificate and key, those of mx.example.org."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.certificate, self.key = AUTHORITY.issue("mx.example.org").write(self.directory)
        self.settings = Tls(certificate=self.certificate, key=self.key)

    def refused(self, **changes: object) -> str:
        """The reason for which these settings end the start."""
        error = self.assertRaises(MailError, ServerTls.load, attrs.evolve(self.settings, **changes))
        self.assertEqual((error.reply.code, error.reply.enhanced), (454, "4.7.0"))
        return error.reason

    def entry(self, folder: str, *names: str, key: KeyKind = "ec", shows: str = "") -> Sni:
        """A [[tls.sni]] entry with a certificate of its own, for its first name unless `shows` says for which."""
        directory = self.directory / folder
        directory.mkdir(exist_ok=True)
        return Sni(names, *AUTHORITY.issue(shows or names[0], key=key).write(directory))

    def serving(self, *entries: Sni, **changes: object) -> ServerTls:
        """A server with these entries."""
        return ServerTls.load(attrs.evolve(self.settings, sni=entries, **changes))
