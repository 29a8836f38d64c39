"""TLS as a sender-SMTP speaks it (RFC 3207, RFC 7435): contexts, the connection for one host, and what came of it.

The handshake itself never fails for a certificate: the session decides afterwards with `policy.judge`, so that it can
still say QUIT inside TLS, and at level "may" any certificate will do.  TLS 1.2 at least (RFC 8996), no compression, no
renegotiation, no session resumption (a resumed session is not verified again), and at most 64 cipher suites, because
old Exchange servers see only the first 64.  Trust: the system's roots and the files of `[tls_client] trust`.
A trust file that cannot be read raises MailError at construction, with its name; nothing here raises afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.config.settings import TlsClient
from mta.status import transient
from mta.tls.policy import Achieved
from mta.tls.verify import RememberedVerdicts, match_names

__all__ = ["ClientTls"]

TLS13_SUITES = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
# What any server of the last twenty years shares with us, without what is broken: opportunistic TLS with an old suite
# is better than clear text (RFC 7435 3), 3DES and RC4 are not much better than that.
SUITES = (
    b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:AES:!aNULL:!eNULL:!PSK:!SRP:!DSS:!AESCCM:!3DES:!RC4"
)


class ClientTls:
    """Everything that a relay needs of TLS: one frozen context, and the verdicts on the chains seen.

    now: seconds since the epoch, for the dates in certificates.
    """

    def __init__(self, settings: TlsClient, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._context = _context()
        self._anchors = _anchors(settings)  # kept: its store lives as long as the context
        self._verdicts = RememberedVerdicts(_store(self._anchors))

    def creator(self, server_name: str) -> _Creator:
        """For `transport.startTLS`.  server_name: the MX host for SNI (RFC 6066 3), "" or an address for none."""
        return _Creator(self._context, server_name)

    def achieved(self, handle: SSL.Connection, names: Sequence[str]) -> Achieved:
        """What the handshake has achieved.  names: the reference identifiers that would do."""
        sent = handle.get_peer_cert_chain() or []  # as bytes: OpenSSL takes certificates that `cryptography` cannot read
        chain = tuple([crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in sent])
        return Achieved(
            version=handle.get_protocol_version_name(),
            cipher=handle.get_cipher_name() or "",
            bits=handle.get_cipher_bits() or 0,
            chain_error=self._verdicts.verdict(chain, self._now()).error,
            names_ok=bool(chain) and match_names(chain[0], names),
            chain=chain,
        )

    def again(self, achieved: Achieved) -> str:
        """Is the chain of a kept connection still good?  "" or why not; a comparison while its dates hold."""
        return self._verdicts.verdict(achieved.chain, self._now()).error


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes the TLS side of one connection to one host."""

    def __init__(self, context: SSL.Context, server_name: str) -> None:
        self._context = context
        self._server_name = server_name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        connection = SSL.Connection(self._context, None)
        if _is_sni(self._server_name):
            connection.set_tlsext_host_name(self._server_name.encode("ascii"))
        return connection


def _is_sni(name: str) -> bool:
    """RFC 6066 3: a DNS name in ASCII, never an address literal."""
    return name.isascii() and 0 < len(name) <= 253 and ":" not in name and not name.rpartition(".")[2].isdigit()


def _context() -> SSL.Context:
    """The context of all our connections; pyOpenSSL freezes it at the first of them.

    VERIFY_NONE only means that OpenSSL does not end the handshake: `achieved` judges what the peer sent, for every
    level with the same function and with the dates of our clock.
    """
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(SUITES)
    context.set_tls13_ciphersuites(TLS13_SUITES)
    context.set_verify(SSL.VERIFY_NONE)
    return context


def _anchors(settings: TlsClient) -> SSL.Context:
    """A context that only carries trust anchors: OpenSSL knows the system's roots by way of contexts alone."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_default_verify_paths()
    for path in settings.trust:
        try:
            context.load_verify_locations(str(path))
        except SSL.Error:
            raise transient("4.3.5", f"[tls_client] trust: {path} cannot be read as certificates (PEM)") from None
    return context


def _store(context: SSL.Context) -> crypto.X509Store:
    """The trust store that the context was given."""
    store = context.get_cert_store()
    if store is None:  # pragma: no cover - OpenSSL makes one with every context
        raise transient("4.3.0", "OpenSSL gave no certificate store")
    return store
