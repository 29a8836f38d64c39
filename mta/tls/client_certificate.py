"""Certificates that clients show: asked for where the operator wants them, accepted by the handshake, judged by us.

RFC 8446 4.3.2 and RFC 5246 7.4.4 (CertificateRequest), RFC 3207 4.1 (what a server may refuse then).  A handshake never
fails for what the client shows or does not show: under TLS 1.3 the client believes that it has worked and would see only
a dead session.  Whoever wants a good certificate reads `chain_error` of `context.facts` and says so in SMTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from OpenSSL import SSL, crypto

from mta.tls.verify import CLIENT_USES, RememberedVerdicts

__all__ = ["ClientJudge", "chain_shown"]


class ClientJudge:
    """Knows the authorities whose client certificates are good.  now: seconds since the epoch."""

    __slots__ = ("_authorities", "_now", "_verdicts")

    def __init__(self, authorities: Sequence[x509.Certificate], now: Callable[[], float]) -> None:
        store = crypto.X509Store()
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        self._authorities = authorities
        self._verdicts = RememberedVerdicts(store, uses=CLIENT_USES)
        self._now = now

    def ask(self, context: SSL.Context) -> None:
        """Let the context ask clients for a certificate, naming our authorities, and remember who judges it."""
        context.set_verify(SSL.VERIFY_PEER, _accept_any)
        for authority in self._authorities:
            context.add_client_ca(authority)
        context.set_app_data(self)

    def error(self, chain: Sequence[bytes]) -> str:
        """Why this chain (DER, leaf first) is not good now; "" when it is."""
        return self._verdicts.verdict(chain, self._now()).error


def chain_shown(handle: SSL.Connection) -> tuple[bytes, ...]:
    """What the client has shown, DER, leaf first; empty when it showed nothing."""
    leaf = handle.get_peer_certificate()
    if leaf is None:
        return ()
    above = handle.get_peer_cert_chain() or []  # on the server's side without the leaf
    return tuple([crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in (leaf, *above)])


def _accept_any(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    return True
