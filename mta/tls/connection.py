"""An OpenSSL connection whose failures Twisted can read, and what pyOpenSSL does not tell of its session.

RFC 8446 6.1: a close_notify that comes in the handshake ends it.  pyOpenSSL says so with `ZeroReturnError`, which has no
arguments; Twisted looks at the first of them (twisted issue 12181, open in 26.10), and what any peer may send became an
IndexError in the reactor, with its traceback.  Here it is an error like the others, with words for the log.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL

from mta.tls.binding import has_extended_master_secret

__all__ = ["TlsConnection", "is_resumed", "session_of"]

_lib: Final[Any] = SSL._lib  # type: ignore[attr-defined]  # pyOpenSSL has no method for this question


class TlsConnection(SSL.Connection):
    """Use it wherever Twisted asks for a connection."""

    def do_handshake(self) -> None:
        """The handshake, one step on.  WantReadError: more bytes are needed; any other SSL.Error: it has failed."""
        try:
            super().do_handshake()
        except SSL.ZeroReturnError as error:
            raise SSL.Error([("SSL routines", "", "close notify in the handshake")]) from error


def is_resumed(handle: SSL.Connection) -> bool:
    """The handshake, which is done, went on with an old session: no certificate was shown."""
    return _can_say() and bool(_lib.SSL_session_reused(handle._ssl))


def session_of(handle: SSL.Connection) -> SSL.Session | None:
    """With what the client's next connection may go on, None: with nothing.

    To be asked when something was heard inside TLS: the tickets of TLS 1.3 come behind the handshake (RFC 8446 4.6.1).  In
    TLS 1.2 a session without extended master secret is nobody's in particular (RFC 7627 5.4).
    """
    version = handle.get_protocol_version_name()
    if _can_say() and (version == "TLSv1.3" or (version == "TLSv1.2" and has_extended_master_secret(handle))):
        return handle.get_session()
    return None


def _can_say() -> bool:
    """Not when the library has dropped the question, as it does with what pyOpenSSL does not ask: then nothing may be resumed."""
    return hasattr(_lib, "SSL_session_reused")
