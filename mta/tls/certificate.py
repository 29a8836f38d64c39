"""Certificate and key files become an OpenSSL context that has passed its test.

RFC 9325 (TLS 1.2 at least, no renegotiation, no compression), RFC 7301 (ALPN, refused as ALPACA demands where "smtp" is
not in the client's list), RFC 8446 4.4.2 (chains).  A context may have several certificates with keys of different
kinds; OpenSSL picks by what the client can verify.  The chain is sent as the file has it, a root included, for DANE-TA
records may need it (RFC 7672 3.1.2).  No early data.  Tickets (RFC 5077, RFC 8446 2.2) only where a context stands alone: OpenSSL
opens one with the key of the context that the connection began with, before it reads the name that the client asks for, so a
session of one name could be resumed under another; and one that is resumed shows no client certificate.
Every mistake is a MailError: 454 for a client, the file and the trouble in `reason` for the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from mta.config.settings import Tls
from mta.status import MailError, Scope, transient
from mta.tls.client_certificate import ClientJudge
from mta.tls.verify import UNREADABLE, WEAK_DIGESTS

__all__ = ["Choose", "ContextMaker", "Leaf", "Loaded", "Pair", "Stamp", "mistake", "openssl_words", "stamp_of"]

Choose = Callable[[SSL.Connection], None]  # called with a connection whose client hello was read
Stamp = tuple[tuple[int, int, int] | None, ...]

_VERSIONS: Final = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
_OPTIONS: Final = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
_TICKET_HOLDS: Final = 3600  # seconds
_FLIGHTS: Final = 10  # round trips of the self-test; a TLS 1.2 handshake needs two


@attrs.frozen(slots=True)
class Pair:
    """A chain of certificates, leaf first, and the leaf's private key; both files in PEM."""

    certificate: Path
    key: Path


@attrs.frozen(slots=True)
class Leaf:
    """What is known of a certificate that is shown.  not_after: seconds since the epoch.

    weak: the digest of a signature in its chain by which old peers or strict ones refuse it, "" for none.
    """

    certificate: Path
    not_after: float
    names: tuple[str, ...]
    weak: str


@attrs.frozen(slots=True, eq=False)
class Loaded:
    """A context that has passed its test, and what it shows.  stamp: of the files, taken before they were read.

    tickets: it gives them out and takes them, for as long as it lives: their key is its own and never changes.
    """

    context: SSL.Context
    leaves: tuple[Leaf, ...]
    stamp: Stamp
    tickets: bool = False

    @property
    def not_after(self) -> float:
        """When the first of its certificates expires."""
        return min(leaf.not_after for leaf in self.leaves)


class ContextMaker:
    """What the contexts of one configuration have in common.  Reads `client_ca`; MailError when that cannot be read.

    now: seconds since the epoch, for the dates of client certificates.
    """

    __slots__ = ("_ciphers", "_judge", "_min_version", "_stamp", "authorities")

    def __init__(self, settings: Tls, now: Callable[[], float]) -> None:
        if settings.min_version not in _VERSIONS:
            raise mistake(f"tls.min_version: {settings.min_version!r} is none of {', '.join(_VERSIONS)}")
        self._min_version = _VERSIONS[settings.min_version]
        self._ciphers = settings.ciphers
        self.authorities = settings.client_ca if settings.client_cert != "none" else ()
        self._stamp = stamp_of(self.authorities)
        self._judge: ClientJudge | None = None
        if settings.client_cert != "none":
            trusted = [certificate for path in self.authorities for certificate in _certificates(path)]
            self._judge = ClientJudge(trusted, now)

    @property
    def changed(self) -> bool:
        """The files of the client authorities are not those that were read."""
        return stamp_of(self.authorities) != self._stamp

    def makes_the_same(self, other: ContextMaker) -> bool:
        """Contexts of the other's making are as good as our own."""
        return self._identity() == other._identity()

    def _identity(self) -> tuple[object, ...]:
        return self._min_version, self._ciphers, self._judge is None, self.authorities, self._stamp

    def make(self, pairs: Sequence[Pair], choose: Choose | None = None, alone: bool = False) -> Loaded:
        """A tested context with these certificates.  choose: may put another context in its place (SNI).

        alone: none ever takes its place nor it another's; then sessions are resumed, unless clients show certificates.
        """
        stamp = stamp_of(path for pair in pairs for path in (pair.certificate, pair.key))
        tickets = alone and self._judge is None
        context = self._context(choose, tickets)
        leaves = tuple([_show(context, pair) for pair in _different(pairs)])
        shown = ", ".join(str(pair.certificate) for pair in pairs)
        for name, version in _VERSIONS.items():
            if version >= self._min_version:
                _test(context, version, f"{shown}: a {name} handshake with it fails")
        return Loaded(context, leaves, stamp, tickets)

    def refusing(self) -> SSL.Context:
        """A context without a certificate: every handshake with it fails, with a fatal alert."""
        return self._context(None)

    def _context(self, choose: Choose | None, tickets: bool = False) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self._min_version)
        context.set_options(_OPTIONS if tickets else _OPTIONS | SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets need none
        context.set_timeout(_TICKET_HOLDS)
        context.set_session_id(b"mta")  # whose sessions they are
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no buffers of 34 KiB
        context.set_alpn_select_callback(_select_protocol)
        try:
            if self._ciphers:
                context.set_cipher_list(self._ciphers.encode("ascii"))
        except (SSL.Error, UnicodeEncodeError) as error:
            raise mistake(f"tls.ciphers: {openssl_words(error)}") from error
        if self._judge is not None:
            self._judge.ask(context)
        if choose is not None:
            context.set_tlsext_servername_callback(choose)
        return context


def mistake(reason: str) -> MailError:
    """The one answer to a client (RFC 3207 4), whatever went wrong."""
    text = "TLS not available due to local problem"
    return transient("4.7.0", text, code=454, scope=Scope.SESSION, reason=reason)


def openssl_words(error: Exception) -> str:
    """The last thing that OpenSSL put on its error stack, in words."""
    stack = error.args[0] if error.args else ()
    if isinstance(stack, Sequence) and not isinstance(stack, str) and stack:
        return str(stack[-1][-1])
    return str(error) or type(error).__name__


def stamp_of(paths: Iterable[Path]) -> Stamp:
    """By what a changed file is known: modification time (ns), size, inode; None for a file that is not there."""
    return tuple([_stamp(path) for path in paths])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _different(pairs: Sequence[Pair]) -> list[tuple[Pair, list[x509.Certificate], PrivateKeyTypes]]:
    """The pairs read, each key fitting its certificate, no two of one kind: OpenSSL has one place for each kind."""
    kinds: dict[type, Path] = {}
    read = []
    for pair in pairs:
        chain, key = _certificates(pair.certificate), _private_key(pair.key)
        try:
            public = chain[0].public_key()
        except UNREADABLE as error:
            raise mistake(f"{pair.certificate}: its key is of no known kind") from error
        if public != key.public_key():
            raise mistake(f"{pair.key} does not fit {pair.certificate}: it is the key of another certificate")
        if other := kinds.get(type(public)):
            raise mistake(f"{pair.certificate} and {other}: two certificates for one name need keys of different kinds")
        kinds[type(public)] = pair.certificate
        read.append((pair, chain, key))
    return read


def _show(context: SSL.Context, read: tuple[Pair, list[x509.Certificate], PrivateKeyTypes]) -> Leaf:
    """Put a certificate with its own chain into the context."""
    pair, chain, key = read
    try:
        # Only from a file does OpenSSL keep the chain with its leaf; another leaf in the context has another chain.
        context.use_certificate_chain_file(str(pair.certificate))
        context.use_privatekey(key)  # type: ignore[arg-type]  # it checks the kind itself
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise mistake(f"{pair.certificate} with {pair.key} cannot be used: {openssl_words(error)}") from error
    return Leaf(pair.certificate, chain[0].not_valid_after_utc.timestamp(), _names(chain[0]), _weakness(chain))


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of its subjectAltName."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _weakness(chain: Sequence[x509.Certificate]) -> str:
    """Schannel refuses a chain for an MD5 signature, even that of the root (docs/tls.md)."""
    for certificate in chain:
        try:
            digest = certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            continue
        if digest is not None and digest.name in WEAK_DIGESTS:
            return digest.name
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise mistake(f"{path}: {error.strerror}") from error


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise mistake(f"{path}: not a chain of certificates in PEM") from error


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(path), None)
    except TypeError as error:
        raise mistake(f"{path}: the key is encrypted; a service cannot ask for its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise mistake(f"{path}: not a private key in PEM") from error


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
        raise mistake(f"{complaint}: {openssl_words(error)}") from error
    raise mistake(f"{complaint}: it does not end")


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
