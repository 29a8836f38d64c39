"""TLS as a sender-SMTP speaks it (RFC 3207, RFC 7435): the connection to one host, and what came of it.

The handshake itself never fails for a certificate: the session decides afterwards with `policy.judge`, so that it can
still say QUIT inside TLS, and at level "may" any certificate will do.  The same judgement is made again, over the chain
that was kept, whenever a connection is picked up for another delivery: certificates expire, TLSA records and policies change
meanwhile.  What was found is remembered, so that asking again costs no cryptography.  Trust: the system's roots and the files of
`[tls_client] trust`, or those that a policy names instead.

A trust file of `[tls_client]` that cannot be read raises MailError at construction, with its name; `creator` raises it for
what one destination needs, before anything is said to the server; nothing else raises.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.config.settings import TlsClient
from mta.status import MailError, transient
from mta.tls import dane
from mta.tls.certificate import stamp_of
from mta.tls.client_context import Contexts, unusable
from mta.tls.connection import TlsConnection
from mta.tls.policy import Achieved, Level, Required
from mta.tls.verify import RememberedVerdicts, match_names

__all__ = ["ClientTls"]

REMEMBERED: Final = 1000  # verdicts of each kind
MOST_TRUSTS: Final = 100  # sets of authorities that policies name
DANE_HOLDS: Final = 60.0  # seconds that a judgement over TLSA records is used again: dates may pass meanwhile


class ClientTls:
    """Everything that a relay needs of TLS.

    now: seconds since the epoch, for the dates in certificates.
    """

    def __init__(self, settings: TlsClient, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._contexts = Contexts(settings)
        try:
            self._usual = _Trust(settings.trust, usual=True)
        except _BadTrust as error:
            raise transient("4.3.5", f"[tls_client] trust: {error}") from None
        self._named: OrderedDict[object, _Trust] = OrderedDict()
        self._match_names = lru_cache(REMEMBERED)(match_names)
        self._match_tlsa = lru_cache(REMEMBERED)(dane.match)

    def creator(self, required: Required) -> _Creator:
        """For `transport.startTLS`.  MailError 4.7.5 when our own side of TLS cannot be set up: then never say STARTTLS."""
        parameters = required.parameters
        self._trust(parameters.trust)  # a file that cannot be read is found now
        return _Creator(self._contexts.get(parameters, required.level is Level.MAY), required.sni)

    def shown(self, required: Required) -> str:
        """SHA-256 of the certificate of ours that a new connection would show: "" for none, no digest when it is unusable."""
        if required.parameters.certificate is None:
            return ""
        try:
            return self.creator(required).certificate
        except MailError:  # the attempt finds it too, and says so
            return "unusable"

    def achieved(self, handle: SSL.Connection, required: Required) -> Achieved:
        """What the handshake has achieved, judged for this requirement."""
        sent = handle.get_peer_cert_chain() or []  # as bytes: OpenSSL takes certificates that `cryptography` cannot read
        chain = tuple([crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in sent])
        achieved = Achieved(
            version=handle.get_protocol_version_name(),
            cipher=handle.get_cipher_name() or "",
            bits=handle.get_cipher_bits() or 0,
            chain=chain,
            client_certificate=handle.get_context().get_app_data(),
        )
        return self.again(required, achieved)

    def again(self, required: Required, achieved: Achieved) -> Achieved:
        """The same connection as it stands for this requirement, now.  Nothing but comparisons while nothing has changed."""
        chain = achieved.chain
        if not chain:
            return achieved
        now = self._now()
        error = self._chain_error(required.parameters.trust, chain, now)
        names_ok = self._match_names(chain[0], required.names)
        match_error = self._match_error(required, chain, now)
        if (error, names_ok, match_error) == (achieved.chain_error, achieved.names_ok, achieved.match_error):
            return achieved
        return attrs.evolve(achieved, chain_error=error, names_ok=names_ok, match_error=match_error)

    def _chain_error(self, files: tuple[Path, ...], chain: tuple[bytes, ...], now: float) -> str:
        try:
            return self._trust(files).verdict(chain, now)
        except MailError as error:
            return error.reply.text

    def _match_error(self, required: Required, chain: tuple[bytes, ...], now: float) -> str:
        if required.tlsa:
            return self._match_tlsa(required.tlsa, chain, required.names, now // DANE_HOLDS * DANE_HOLDS)
        if required.level is Level.FINGERPRINT:
            pins = required.parameters.fingerprints
            is_pinned = _fingerprint(chain[0]) in pins or _fingerprint(dane.public_key(chain[0])) in pins
            return "" if is_pinned else "certificate and public key are none of those that were pinned"
        return ""

    def _trust(self, files: tuple[Path, ...]) -> _Trust:
        """The authorities that count.  MailError when a file of a policy cannot be read any more."""
        if not files:
            return self._usual
        key = (files, stamp_of(files))
        trust = self._named.get(key)
        if trust is None:
            try:
                trust = self._named[key] = _Trust(files, usual=False)
            except _BadTrust as error:
                raise unusable(str(error)) from None
            if len(self._named) > MOST_TRUSTS:
                self._named.popitem(last=False)
        return trust


class _BadTrust(Exception):
    """A file of authorities cannot be read."""


class _Trust:
    """Trust anchors, and the verdicts on the chains seen."""

    def __init__(self, files: Sequence[Path], usual: bool) -> None:
        """usual: the system's roots as well, which OpenSSL knows by way of contexts alone."""
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)  # kept: its store lives as long as the context
        if usual:
            context.set_default_verify_paths()
        for path in files:
            try:
                context.load_verify_locations(str(path))
            except SSL.Error:
                raise _BadTrust(f"{path} cannot be read as certificates (PEM)") from None
        store = context.get_cert_store()
        assert store is not None, "OpenSSL makes one with every context"
        self._verdicts = RememberedVerdicts(store, REMEMBERED)

    def verdict(self, chain: Sequence[bytes], now: float) -> str:
        """Why the chain is not trusted at this time, "" when it is."""
        return self._verdicts.verdict(chain, now).error


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes the TLS side of one connection to one host.  certificate: SHA-256 of the one of ours that it shows, "" for none."""

    def __init__(self, context: SSL.Context, server_name: str) -> None:
        self.certificate: str = context.get_app_data()
        self._context = context
        self._server_name = server_name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        return self.connection()

    def connection(self) -> SSL.Connection:
        """A new connection, not begun, without socket."""
        connection = TlsConnection(self._context, None)
        if _is_sni(self._server_name):
            connection.set_tlsext_host_name(self._server_name.encode("ascii"))
        return connection


def _is_sni(name: str) -> bool:
    """RFC 6066 3: a DNS name in ASCII, never an address literal."""
    return name.isascii() and 0 < len(name) <= 253 and ":" not in name and not name.rpartition(".")[2].isdigit()


def _fingerprint(data: bytes) -> str:
    return sha256(data).hexdigest()
