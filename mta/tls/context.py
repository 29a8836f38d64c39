"""The server's side of TLS: certificate and key become an OpenSSL context that every handshake is made from.

RFC 3207 (STARTTLS), RFC 8314 (implicit TLS), RFC 9325 (TLS 1.2 at least, no renegotiation, no compression), RFC 7301
(ALPN, refused as ALPACA demands where "smtp" is not in the client's list).  A context is offered only after it has
passed a handshake with itself in each version it speaks.  Mistakes are MailErrors: 454 for a client, the file and the
trouble in `reason` for the operator.  `reload` keeps the old context on a mistake; running sessions never notice it.
One context serves every name for now; further names (SNI) are further contexts of the same making.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mta.config.settings import Tls
from mta.status import MailError, Scope, transient
from mta.tls.policy import Achieved

__all__ = ["Prepared", "ServerTls", "closed_by_peer", "facts"]

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
_OPTIONS = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
_FLIGHTS = 10  # round trips of the self-test; a TLS 1.2 handshake needs two


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen(slots=True)
class Prepared:
    """A connection that was made before 220 was said, so that nothing can fail behind it."""

    connection: SSL.Connection

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """The connection for this one handshake."""
        return self.connection


class ServerTls:
    """The context that new handshakes use, and why there is none.

    fault: what is wrong with the files as last read, "" when nothing is.  not_after: when the certificate expires
    (seconds since the epoch); an expired one is still offered, for a peer that does not verify is better off with it.
    """

    __slots__ = ("_context", "_settings", "fault", "not_after")

    def __init__(self) -> None:
        self._settings = Tls()
        self._context: SSL.Context | None = None
        self.not_after = 0.0
        self.fault = ""

    @classmethod
    def load(cls, settings: Tls) -> ServerTls:
        """Read the files and test them.  Raises MailError, or offers nothing where the settings say so."""
        tls = cls()
        tls._settings = settings
        try:
            tls.reload()
        except MailError:
            if settings.error != "offer-nothing":
                raise
        return tls

    @property
    def offered(self) -> bool:
        """There is a context that has passed its test."""
        return self._context is not None

    def reload(self, settings: Tls | None = None) -> None:
        """Read the files anew, under new settings if given; for new handshakes only.

        Raises MailError on a mistake, and what was in use stays in use.  Without a certificate nothing is offered.
        """
        settings = self._settings if settings is None else settings
        try:
            context, self.not_after = _load(settings) if settings.certificate else (None, 0.0)
        except MailError as error:
            self.fault = error.reason
            raise
        self._context, self._settings, self.fault = context, settings, ""

    def prepare(self) -> Prepared:
        """What `transport.startTLS` takes.  Raises MailError (454) when no connection can be made."""
        if self._context is None:
            raise _mistake(self.fault or "no certificate is configured")
        try:
            connection = SSL.Connection(self._context, None)
            connection.set_accept_state()
        except (SSL.Error, MemoryError) as error:
            raise _mistake(f"no TLS connection can be made: {_openssl(error)}") from error
        return Prepared(connection)


def facts(handle: SSL.Connection) -> Achieved:
    """What the handshake of a live connection has agreed on."""
    return Achieved(
        version=handle.get_protocol_version_name(),
        cipher=handle.get_cipher_name() or "",
        bits=handle.get_cipher_bits() or 0,
    )


def closed_by_peer(handle: SSL.Connection) -> bool:
    """The peer has said close_notify: an end that nobody on the path could forge."""
    return bool(handle.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def _mistake(reason: str) -> MailError:
    """The one answer to a client (RFC 3207 4), whatever went wrong."""
    text = "TLS not available due to local problem"
    return transient("4.7.0", text, code=454, scope=Scope.SESSION, reason=reason)


def _openssl(error: Exception) -> str:
    """The last thing that OpenSSL put on its error stack, in words."""
    stack = error.args[0] if error.args else ()
    if isinstance(stack, Sequence) and not isinstance(stack, str) and stack:
        return str(stack[-1][-1])
    return str(error) or type(error).__name__


def _load(settings: Tls) -> tuple[SSL.Context, float]:
    """A tested context, and when its certificate expires."""
    if settings.certificate is None or settings.key is None:
        raise _mistake("tls.key: a certificate needs its key")
    if settings.min_version not in _VERSIONS:
        raise _mistake(f"tls.min_version: {settings.min_version!r} is none of {', '.join(_VERSIONS)}")
    chain = _certificates(settings.certificate)
    context = _context(settings, chain, _private_key(settings.key))
    for name, version in _VERSIONS.items():
        if version >= _VERSIONS[settings.min_version]:
            _test(context, version, f"{settings.certificate}: a {name} handshake with it fails")
    return context, chain[0].not_valid_after_utc.timestamp()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _mistake(f"{path}: {error.strerror}") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise _mistake(f"{path}: not a chain of certificates in PEM") from error


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(path), None)
    except TypeError as error:
        raise _mistake(f"{path}: the key is encrypted; a service cannot ask for its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _mistake(f"{path}: not a private key in PEM") from error


def _context(settings: Tls, chain: list[x509.Certificate], key: PrivateKeyTypes) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[settings.min_version])
    context.set_options(_OPTIONS)
    # Tickets keep resumption cheap without memory; their key dies with the context, so each reload changes it.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mta")
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no buffers of 34 KiB
    context.set_alpn_select_callback(_select_protocol)
    try:
        if settings.ciphers:
            context.set_cipher_list(settings.ciphers.encode("ascii"))
    except (SSL.Error, UnicodeEncodeError) as error:
        raise _mistake(f"tls.ciphers: {_openssl(error)}") from error
    try:
        context.use_certificate(chain[0])
        for issuer in chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(key)  # type: ignore[arg-type]  # it checks the kind itself
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise _mistake(f"{settings.key} does not fit {settings.certificate}: {_openssl(error)}") from error
    return context


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """ALPN (RFC 7301 3.2): smtp, or the fatal alert 120.  A client that offers nothing never comes here."""
    if b"smtp" in offered:
        return b"smtp"
    # The one exception that pyOpenSSL turns into the alert and Twisted into a lost connection without a traceback.
    raise SSL.Error([("SSL routines", "", "no application protocol")])


def _test(context: SSL.Context, version: int, complaint: str) -> None:
    """A handshake in memory with a client that knows this version only (never offer what cannot work)."""
    theirs = SSL.Context(SSL.TLS_CLIENT_METHOD)
    theirs.set_min_proto_version(version)
    theirs.set_max_proto_version(version)
    client, server = SSL.Connection(theirs, None), SSL.Connection(context, None)
    client.set_connect_state()
    server.set_accept_state()
    waiting = {client: server, server: client}
    try:
        for _ in range(_FLIGHTS):
            for end, other in list(waiting.items()):
                if _advance(end, other):
                    del waiting[end]
            if not waiting:
                return
    except SSL.Error as error:
        raise _mistake(f"{complaint}: {_openssl(error)}") from error
    raise _mistake(f"{complaint}: it does not end")


def _advance(end: SSL.Connection, other: SSL.Connection) -> bool:
    """Take one end as far as it gets, carry its bytes over; True when it is done."""
    done = True
    try:
        end.do_handshake()
    except SSL.WantReadError:
        done = False
    try:
        other.bio_write(end.bio_read(65536))
    except SSL.WantReadError:
        pass
    return done
