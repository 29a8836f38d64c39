"""TLS contexts of a sender-SMTP: one for each way that TLS is spoken with some destination (`policy.Parameters`).

TLS 1.2 at least (RFC 8996) unless the operator lowers it for a destination, no compression, no renegotiation, and at most
64 cipher suites, because old Exchange servers see only the first 64.  OpenSSL keeps no sessions, `resumption.py` does.
Whatever cannot be used, a cipher string, a certificate, its key, is found here, before STARTTLS is sent (RFC 3207 4.1: who
sends it must be able to go on): MailError 4.7.5 with the file's name.  A certificate of ours is shown only where one is
named, without the self-signed root (some servers refuse a chain for the signature of its root), and is read again when
its file has changed; a context's app data is the SHA-256 of its leaf, in hex, "" for none.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.logger import Logger

from mta.config.settings import TlsClient
from mta.status import MailError, transient
from mta.tls.certificate import openssl_words, stamp_of
from mta.tls.policy import Parameters
from mta.tls.verify import WEAK_DIGESTS

__all__ = ["Contexts", "cipher_string", "unusable"]

VERSIONS: Final = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
TLS13_SUITES: Final = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
# What any server of the last twenty years shares with us, without what is broken: opportunistic TLS with an old suite
# is better than clear text (RFC 7435 3), 3DES and RC4 are not much better than that.
SUITES: Final = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:AES:!aNULL:!eNULL:!PSK:!SRP:!DSS:!AESCCM:!3DES:!RC4"
)
_UNREADABLE: Final = (OSError, ValueError, TypeError, UnsupportedAlgorithm, SSL.Error)


class Contexts:
    """Contexts, made when they are first wanted and kept; the oldest goes when `limit` is reached."""

    _log = Logger()

    def __init__(self, settings: TlsClient, limit: int = 100) -> None:
        self._settings = settings
        self._limit = limit
        self._known: OrderedDict[object, SSL.Context] = OrderedDict()

    def get(self, parameters: Parameters, opportunistic: bool) -> SSL.Context:
        """The context for these parameters.  opportunistic: any encryption is better than none.  Raises MailError."""
        wanted = parameters
        files = [path for path in (wanted.certificate, wanted.key) if path is not None]
        spoken = (wanted.min_version, wanted.max_version, wanted.ciphers, opportunistic)
        key = (*spoken, *files, stamp_of(files)) if files else spoken
        context = self._known.get(key)
        if context is None:
            context = self._known[key] = self._make(parameters, opportunistic)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        return context

    def _make(self, parameters: Parameters, opportunistic: bool) -> SSL.Context:
        """VERIFY_NONE only means that OpenSSL does not end the handshake: what the peer sent is judged afterwards, for
        every level with the same function and with the dates of our clock."""
        lowest, highest = parameters.min_version or self._settings.min_version, parameters.max_version
        if highest and VERSIONS[lowest] > VERSIONS[highest]:
            raise unusable(f"no version of TLS is left between {lowest} and {highest}")
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(VERSIONS[lowest])
        if highest:
            context.set_max_proto_version(VERSIONS[highest])
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_NONE)
        ciphers = cipher_string(self._settings, parameters, opportunistic)
        try:
            context.set_cipher_list(ciphers.encode("ascii"))
        except (SSL.Error, UnicodeEncodeError):
            raise unusable(f"OpenSSL finds no cipher in {ciphers!r}") from None
        context.set_tls13_ciphersuites(TLS13_SUITES)
        shown = ""
        if parameters.certificate is not None:
            shown = self._show(context, parameters.certificate, parameters.key or parameters.certificate)
        context.set_app_data(shown)
        return context

    def _show(self, context: SSL.Context, certificate: Path, key: Path) -> str:
        """Our own certificate, for the server that asks for one (RFC 8446 4.4.2.2: the root may be left out); its SHA-256."""
        try:
            leaf, *others = x509.load_pem_x509_certificates(certificate.read_bytes())
            self._warn(certificate, [leaf, *others])
            context.use_certificate(leaf)
            for other in others:
                if other.subject != other.issuer:
                    context.add_extra_chain_cert(other)
        except _UNREADABLE as error:
            raise unusable(f"our certificate {certificate} cannot be used: {_words(error)}") from error
        try:
            context.use_privatekey(load_pem_private_key(key.read_bytes(), None))  # type: ignore[arg-type]
            context.check_privatekey()
        except _UNREADABLE as error:
            raise unusable(f"our key {key} cannot be used with {certificate}: {_words(error)}") from error
        return leaf.fingerprint(SHA256()).hex()

    def _warn(self, path: Path, chain: list[x509.Certificate]) -> None:
        """Schannel refuses a chain with one weak signature, even that of the root, which we do not send."""
        for certificate in chain:
            digest = certificate.signature_hash_algorithm
            if digest is not None and digest.name in WEAK_DIGESTS:
                self._log.warn("{path}: signed with {digest}; there are servers that refuse it", path=path, digest=digest.name)


def cipher_string(settings: TlsClient, parameters: Parameters, opportunistic: bool) -> str:
    """What OpenSSL is told.  Its higher security levels refuse peers with short keys, and TLS 1.0 and 1.1 altogether: they
    are lowered where clear text would be the other choice, and where the operator asks for an old version."""
    ciphers = parameters.ciphers or settings.ciphers or SUITES
    is_old = VERSIONS[parameters.min_version or settings.min_version] < SSL.TLS1_2_VERSION
    return f"{ciphers}:@SECLEVEL=0" if (opportunistic or is_old) and "@SECLEVEL" not in ciphers else ciphers


def unusable(why: str) -> MailError:
    """Our own side of TLS cannot be set up."""
    return transient("4.7.5", f"Cannot start TLS: {why}")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return openssl_words(error)
