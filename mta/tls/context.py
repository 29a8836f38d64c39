"""The server's side of TLS: what new handshakes are made from, and why there is nothing to make them from.

RFC 3207 (STARTTLS), RFC 8314 (implicit TLS), RFC 6066 3 (SNI, in `sni.py`).  A context is offered only after it has
passed a handshake with itself in each version it speaks (`certificate.py`).  Mistakes are MailErrors: 454 for a client,
the file and the trouble in `reason` for the operator.  `reload` (SIGHUP) and `look` (the files have changed) keep the
old context on a mistake; running sessions never notice either.  An expired certificate is still offered, with an alarm:
a peer that does not verify, or has it pinned by DANE, is better off with it.  Where sessions are resumed, the context is made
anew once a day, and with it the key of the tickets (RFC 9325 3.4); where that cannot be done there are no tickets any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from weakref import WeakMethod

import attrs
from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mta.config.settings import Tls
from mta.interfaces import IEventLog
from mta.status import MailError
from mta.tls.certificate import ContextMaker, Leaf, Loaded, Pair, mistake, openssl_words, stamp_of
from mta.tls.client_certificate import ClientJudge, chain_shown
from mta.tls.connection import TlsConnection, is_resumed
from mta.tls.policy import Achieved
from mta.tls.sni import Contexts, Names, Selection

__all__ = ["DAY", "Prepared", "ServerTls", "closed_by_peer", "facts"]

DAY = 86400.0  # seconds
SOON = 7 * DAY  # before a certificate expires somebody should hear of it

_HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # RFC 8446 5.1, 6: a record with the fatal alert 40
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # and with 112 (RFC 6066 3)


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen(slots=True)
class Prepared:
    """A connection that was made before 220 was said, so that nothing can fail behind it."""

    connection: _Connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The connection for this one handshake.  A protocol that may be half closed is so by close_notify too."""
        if IHalfCloseableProtocol.providedBy(protocol := tlsProtocol.wrappedProtocol):
            self.connection.heard_all = WeakMethod(protocol.readConnectionLost)
        return self.connection


@attrs.frozen(slots=True, eq=False)
class _Offer:
    """All that handshakes are made from, of one reading of the files, at a time in seconds since the epoch."""

    maker: ContextMaker
    default: Loaded
    selection: Selection
    made: float

    def is_worn(self, now: float) -> bool:
        """The key of its tickets is too old, or the clock has gone back."""
        return self.default.tickets and not 0 <= now - self.made < DAY


class ServerTls:
    """The contexts that new handshakes use, or none.

    fault: what is wrong with the default certificate's files as last read, "" when nothing is.  not_after: when the
    default certificate expires (seconds since the epoch).  loads: how often the default certificate was read with success.
    """

    __slots__ = ("_before", "_log", "_now", "_offer", "_settings", "fault", "loads")

    def __init__(self, log: IEventLog | None = None, now: Callable[[], float] = time.time) -> None:
        self._log = log
        self._now = now
        self._settings = Tls()
        self._offer: _Offer | None = None
        self._before: _Offer | None = None
        self.fault = ""
        self.loads = 0

    @classmethod
    def load(
        cls,
        settings: Tls,
        log: IEventLog | None = None,
        now: Callable[[], float] = time.time,
        after: ServerTls | None = None,
    ) -> ServerTls:
        """Read the files and test them.  Raises MailError, or offers nothing where the settings say so.

        log: for what goes wrong later.  now: seconds since the epoch, for the dates of client certificates.  after: whom
        this one takes the place of; its certificates of [[tls.sni]] are used on while nothing about them has changed.
        """
        tls = cls(log, now)
        tls._settings = settings
        tls._before = after._offer if after is not None else None
        try:
            tls.reload()
        except MailError:
            if settings.error != "offer-nothing":
                raise
        return tls

    @property
    def offered(self) -> bool:
        """There is a context that has passed its test."""
        return self._offer is not None

    @property
    def not_after(self) -> float:
        """When the default certificate expires; 0 when there is none."""
        return self._offer.default.not_after if self._offer else 0.0

    @property
    def cached(self) -> int:
        """How many certificates of [[tls.sni]] are in memory."""
        return len(self._offer.selection.contexts) if self._offer else 0

    @property
    def watch(self) -> float:
        """Seconds between two looks at the files, 0 for none."""
        return self._settings.watch

    def reload(self, settings: Tls | None = None) -> None:
        """Read the files anew, under new settings if given; for new handshakes only.

        Raises MailError on a mistake, and what was in use stays in use.  Without a certificate nothing is offered.
        Certificates of [[tls.sni]] are not read here: those in memory are used on while their files are the same.
        """
        settings = self._settings if settings is None else settings
        try:
            offer = self._made(settings) if settings.certificate else None
        except MailError as error:
            self.fault = error.reason
            raise
        self._offer, self._before, self._settings, self.fault = offer, None, settings, ""
        self.loads += 1

    def _made(self, settings: Tls) -> _Offer:
        if settings.certificate is None or settings.key is None:
            raise mistake("tls.key: a certificate needs its key")
        maker = ContextMaker(settings, self._now)
        names = Names(settings.sni)
        contexts = Contexts(maker, settings.sni_cached, self._report)
        selection = Selection(names, contexts, maker.refusing() if settings.sni_unknown == "reject" else None)
        choose = selection.choose if names.pairs or selection.refusing else None
        default = maker.make([Pair(settings.certificate, settings.key), *names.everywhere], choose, alone=choose is None)
        names.add_default(name for leaf in default.leaves for name in leaf.names)
        if before := self._offer or self._before:
            contexts.adopt(before.selection.contexts, names.pairs)
        return _Offer(maker, default, selection, self._now())

    def look(self) -> None:
        """Have the files changed?  Then they are read; what cannot be used is logged once and tried at each look."""
        offer, settings = self._offer, self._settings
        if settings.certificate is None:
            return
        is_changed = True
        if offer is not None:
            offer.selection.contexts.look()
            is_changed = bool(self.fault) or offer.maker.changed or _changed(offer.default, settings, offer.selection.names)
            if not (is_changed or offer.is_worn(self._now())):
                return
        known = self.fault
        try:
            self.reload()
        except MailError as error:
            if error.reason != known:
                self._tell("certificate_fault", {"certificate": str(settings.certificate), "reason": error.reason})
        else:
            if is_changed:
                expires = _date(self.not_after)
                self._tell("certificate_loaded", {"certificate": str(settings.certificate), "expires": expires})

    def alarms(self, now: float) -> Iterator[tuple[str, Mapping[str, object]]]:
        """What an operator should hear once a day, as (event, fields): faults, and certificates that end or are weak."""
        if self.fault:
            yield "certificate_fault", {"certificate": str(self._settings.certificate), "reason": self.fault}
        if self._offer is None:
            return
        contexts = self._offer.selection.contexts
        for pairs, reason in contexts.faults():
            yield "certificate_fault", {"certificate": _shown(pairs), "reason": reason}
        for loaded in (self._offer.default, *contexts.loaded()):
            for leaf in loaded.leaves:
                yield from _judged(leaf, now)

    def prepare(self) -> Prepared:
        """What `transport.startTLS` takes.  Raises MailError (454) when no connection can be made."""
        if self._offer is None:
            raise mistake(self.fault or "no certificate is configured")
        offer = self._offer
        try:
            connection = _Connection(offer.default.context, offer.selection.refusing)
            connection.set_accept_state()
            if offer.is_worn(self._now()):
                connection.set_options(SSL.OP_NO_TICKET)
        except Exception as error:  # whatever it is: behind 220 it would be too late, and before it no reason to end a session
            raise mistake(f"no TLS connection can be made: {openssl_words(error)}") from error
        return Prepared(connection)

    def _report(self, pairs: Sequence[Pair], reason: str) -> None:
        self._tell("certificate_fault", {"certificate": _shown(pairs), "reason": reason})

    def _tell(self, event: str, fields: Mapping[str, object]) -> None:
        if self._log is not None:
            self._log.event(event, "", fields)


class _Connection(TlsConnection):
    """A server's connection that refuses unknown names as RFC 6066 3 wants it.

    pyOpenSSL has no way to end a handshake from the SNI callback but an exception that it prints as a traceback.  So the
    callback puts a context without certificate in place; that fails with the alert handshake_failure before anything is
    encrypted, and the alert's number is set right here, for both ends to know what was wrong.
    """

    def __init__(self, context: SSL.Context, refusing: SSL.Context | None) -> None:
        super().__init__(context, None)
        self._first = context  # a second hello (RFC 8446 4.1.2) asks *its* callback again, though a reload has let go of it
        self._refusing = refusing
        self.heard_all: WeakMethod[Callable[[], None]] | None = None

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """What the client has said.

        Twisted closes at close_notify, with answers still to be given; it ends the client's side only (RFC 8446 6.1).
        Behind our own it is the answer to it: nothing is left to be said.
        """
        try:
            return super().recv(bufsiz, flags)
        except SSL.ZeroReturnError:
            tell = self.heard_all() if self.heard_all is not None else None
            if tell is None or self.get_shutdown() & SSL.SENT_SHUTDOWN:
                raise
            tell()
            raise SSL.WantReadError from None

    def do_handshake(self) -> None:
        """The handshake, one step on."""
        try:
            super().do_handshake()
        except SSL.WantReadError:
            raise
        except SSL.Error as error:
            if self._refused:
                raise SSL.Error([("SSL routines", "", "unrecognized name")]) from error
            raise

    def bio_read(self, bufsiz: int) -> bytes:
        """What goes to the client."""
        data = super().bio_read(bufsiz)
        return _UNRECOGNIZED_NAME if data == _HANDSHAKE_FAILURE and self._refused else data

    @property
    def _refused(self) -> bool:
        return self._refusing is not None and self.get_context() is self._refusing


def facts(handle: SSL.Connection) -> Achieved:
    """What the handshake of a live connection has agreed on.

    chain and chain_error are about the client's certificate, where one was asked for; else both are empty.
    """
    judge = handle.get_context().get_app_data()
    chain: tuple[bytes, ...] = ()
    chain_error = ""
    if isinstance(judge, ClientJudge):
        chain = chain_shown(handle)
        chain_error = judge.error(chain)
    return Achieved(
        version=handle.get_protocol_version_name(),
        cipher=handle.get_cipher_name() or "",
        bits=handle.get_cipher_bits() or 0,
        chain=chain,
        chain_error=chain_error,
        resumed=is_resumed(handle),
    )


def closed_by_peer(handle: SSL.Connection) -> bool:
    """The peer has said close_notify: an end that nobody on the path could forge."""
    return bool(handle.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def _changed(default: Loaded, settings: Tls, names: Names) -> bool:
    assert settings.certificate is not None and settings.key is not None, "they were loaded"
    pairs = (Pair(settings.certificate, settings.key), *names.everywhere)
    return stamp_of(path for pair in pairs for path in (pair.certificate, pair.key)) != default.stamp


def _judged(leaf: Leaf, now: float) -> Iterator[tuple[str, Mapping[str, object]]]:
    fields = {"certificate": str(leaf.certificate), "expires": _date(leaf.not_after)}
    if leaf.not_after <= now:
        yield "certificate_expired", fields
    elif leaf.not_after - now < SOON:
        yield "certificate_expires", fields
    if leaf.weak:
        yield "certificate_weak", {"certificate": str(leaf.certificate), "signature": leaf.weak}


def _shown(pairs: Sequence[Pair]) -> str:
    return ", ".join(str(pair.certificate) for pair in pairs)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
