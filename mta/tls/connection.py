"""An OpenSSL connection whose failures Twisted can read.

RFC 8446 6.1: a close_notify that comes in the handshake ends it.  pyOpenSSL says so with `ZeroReturnError`, which has no
arguments; Twisted looks at the first of them (twisted issue 12181, open in 26.10), and what any peer may send became an
IndexError in the reactor, with its traceback.  Here it is an error like the others, with words for the log.
"""

from __future__ import annotations

from OpenSSL import SSL

__all__ = ["TlsConnection"]


class TlsConnection(SSL.Connection):
    """Use it wherever Twisted asks for a connection."""

    def do_handshake(self) -> None:
        """The handshake, one step on.  WantReadError: more bytes are needed; any other SSL.Error: it has failed."""
        try:
            super().do_handshake()
        except SSL.ZeroReturnError as error:
            raise SSL.Error([("SSL routines", "", "close notify in the handshake")]) from error
