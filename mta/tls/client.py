"""TLS as a sender-SMTP speaks it (RFC 3207, RFC 7435): the connection to one host, and what came of it.

The handshake itself never fails for a certificate: the session decides afterwards with `policy.judge`, so that it can
still say QUIT inside TLS, and at level "may" any certificate will do.  The same judgement is made again, over the chain
that was kept, whenever a connection is picked up for another delivery: certificates expire, TLSA records and policies change
meanwhile.  And it is made before an old TLS session is gone on with (`resumption.py`), where no certificate is shown.  What was
found is remembered, so that asking again costs no cryptography.  Trust: the system's roots and the files of `[tls_client] trust`,
or those that a policy names instead.

A trust file of `[tls_client]` that cannot be read raises MailError at construction, with its name; `creator` raises it for
what one destination needs, before anything is said to the server; nothing else raises.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
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
from mta.tls.connection import TlsConnection, is_resumed, session_of
from mta.tls.policy import Achieved, Level, Required, judge
from mta.tls.resumption import Resumable, Sessions
from mta.tls.verify import RememberedVerdicts, match_names

__all__ = ["ClientTls", "Creator"]

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
        self._sessions = Sessions()

    def creator(self, required: Required, key: Hashable = None) -> Creator:
        """For `transport.startTLS`.  MailError 4.7.5 when our own side of TLS cannot be set up: then never say STARTTLS.

        key: equal for those deliveries that may go on with one another's TLS sessions; None: with nobody's.
        """
        parameters = required.parameters
        self._trust(parameters.trust)  # a file that cannot be read is found now
        context = self._contexts.get(parameters, required.level is Level.MAY)
        return Creator(self, context, required, None if key is None else (context, key))

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
        achieved = Achieved(chain=chain, client_certificate=handle.get_context().get_app_data())
        return self.again(required, _agreed(handle, achieved))

    def resumed(self, handle: SSL.Connection, required: Required, found: Resumable) -> Achieved:
        """What a handshake that went on with an old session has achieved: by the chain that was shown then, judged now."""
        return self.again(required, attrs.evolve(_agreed(handle, found.achieved), resumed=True))

    def take(self, key: Hashable, required: Required) -> Resumable | None:
        """A session under this key whose server was what is owed today.  It is given out once."""
        while (found := self._sessions.take(key, self._now())) is not None:
            if not judge(required, self.again(required, found.achieved)):
                return found
        return None

    def put(self, key: Hashable, session: SSL.Session, achieved: Achieved, before: Resumable | None) -> None:
        """Store a session.  before: what its connection has gone on with; None: the handshake was a full one."""
        now = self._now()
        self._sessions.put(key, Resumable(session, achieved, now if before is None else before.since), now)

    def refuse(self, key: Hashable) -> None:
        """With that server no session is gone on with for a while."""
        self._sessions.refuse(key, self._now())

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
class Creator:
    """Makes the TLS side of one connection to one host, and says what came of it.

    certificate: SHA-256 of the one of ours that it shows, "" for none.  offers: the handshake may go on with an old session.
    """

    def __init__(self, tls: ClientTls, context: SSL.Context, required: Required, key: Hashable) -> None:
        self.certificate: str = context.get_app_data()
        self._tls = tls
        self._context = context
        self._required = required
        self._key = key
        self._offered: Resumable | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Called by `startTLS`."""
        return self.connection()

    def connection(self) -> SSL.Connection:
        """A new connection, not begun, without socket."""
        connection = TlsConnection(self._context, None)
        if _is_sni(self._required.sni):
            connection.set_tlsext_host_name(self._required.sni.encode("ascii"))
        if self._key is not None:
            found = self._offered = self._tls.take(self._key, self._required)
            if found is not None:
                connection.set_session(found.session)
        return connection

    @property
    def offers(self) -> bool:
        """What fails now may fail for the old session: a full handshake may be all that it takes."""
        return self._offered is not None

    def achieved(self, handle: SSL.Connection) -> Achieved:
        """What the handshake has achieved, judged for what is owed."""
        found = self._offered
        if found is not None and is_resumed(handle):
            return self._tls.resumed(handle, self._required, found)
        self._offered = None
        return self._tls.achieved(handle, self._required)

    def keep(self, handle: SSL.Connection, achieved: Achieved) -> None:
        """TLS works, the server has said something inside it, and with that its tickets have come."""
        found, self._offered = self._offered, None
        session = None if self._key is None else session_of(handle)
        if session is not None:
            self._tls.put(self._key, session, achieved, found)

    def refuse(self) -> None:
        """TLS has failed, and an old session was offered: none is, for a while."""
        self._offered = None
        self._tls.refuse(self._key)


def _agreed(handle: SSL.Connection, achieved: Achieved) -> Achieved:
    """With what a handshake has agreed on."""
    version, cipher = handle.get_protocol_version_name(), handle.get_cipher_name() or ""
    return attrs.evolve(achieved, version=version, cipher=cipher, bits=handle.get_cipher_bits() or 0)


def _is_sni(name: str) -> bool:
    """RFC 6066 3: a DNS name in ASCII, never an address literal."""
    return name.isascii() and 0 < len(name) <= 253 and ":" not in name and not name.rpartition(".")[2].isdigit()


def _fingerprint(data: bytes) -> str:
    return sha256(data).hexdigest()
