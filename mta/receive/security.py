"""TLS of one connection from a client: the slot, the 220, the handshake, and who showed which certificate.

RFC 3207 (STARTTLS), RFC 8314 (implicit TLS); docs/tls.md has the checks in their order.  TLS begins in the same turn as
the 220, and behind it stands a *fresh* machine (only the counters live on): nothing that was said in clear is known any
more, no command that lay behind STARTTLS is ever executed, and no login of before is valid.  A failed handshake ends in
silence, never in SMTP text; close_notify always ends.  Any client certificate or none is taken in the handshake, for in
TLS 1.3 a client would not learn of a refusal; where one is required, the machine then refuses every command (RFC 3207 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mta.smtp.options import ReceiverOptions
from mta.smtp.scram import PLUS
from mta.status import MailError, Reply
from mta.tls.binding import tls_exporter
from mta.tls.certificate import openssl_words
from mta.tls.context import closed_by_peer, facts
from mta.tls.policy import Achieved

if TYPE_CHECKING:
    from mta.receive.connection import Connection

__all__ = ["SLOT_TIME", "Security"]

SLOT_TIME: Final = 1.0  # seconds that a handshake keeps its slot: whoever is silent for longer costs no CPU

READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")


class Security:
    """See the module.  achieved: what the handshake has agreed on, empty in clear.  distrust: why nobody who shows this
    certificate, or none, may do anything here; "" when that is no matter.  certificate: the leaf that was shown, in DER, where it
    is verified, else b"".
    """

    __slots__ = ("_binding", "_connection", "achieved", "certificate", "distrust")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.achieved = Achieved()
        self.distrust = ""
        self.certificate = b""
        self._binding = b""

    # ---- before the handshake

    def ask(self) -> None:
        """The client wants TLS: begin when a slot is free, unless it has had too many new sessions."""
        connection = self._connection
        if not connection.allowance.refuses_tls():
            connection.common.slots.take(self.begin, connection.key)

    def begin(self) -> None:
        """A slot is ours: say 220 and speak TLS from the next byte on."""
        connection = self._connection
        try:
            prepared = connection.common.tls.prepare()
        except MailError as error:
            self.leave()
            self._refuse(error.reply, error.reason)
            return
        if connection.implicit or connection.leave_clear(READY_FOR_TLS):
            connection.shake_hands(prepared, SLOT_TIME)
        else:
            self.leave()

    def _refuse(self, reply: Reply, reason: str = "") -> None:
        """Nothing can be said in clear where TLS comes first."""
        connection = self._connection
        if connection.implicit:
            connection.close(f"no TLS: {reason or reply}")
        else:
            connection.refuse("starttls", reply, why=reason or None)

    # ---- the handshake and after

    def completed(self) -> None:
        """TLS is up: what has it got us?"""
        connection = self._connection
        connection.common.slots.give_back(self.begin)
        handle = connection.transport.getHandle()
        self.achieved = achieved = facts(handle)
        connection.common.tally.completed(achieved.resumed)
        if achieved.chain and not achieved.chain_error:
            self.certificate = achieved.chain[0]
        if PLUS in connection.listener.listen.auth_tls:
            self._binding = tls_exporter(handle)
        if connection.common.settings.tls.client_cert == "require":
            self.distrust = achieved.chain_error if achieved.chain else "the client showed none"
        if self.distrust:
            what = {"stage": "certificate", "client": connection.address, "why": self.distrust}
            connection.common.log.event("rejected", "", what)

    def options(self) -> ReceiverOptions:
        """What the client is shown in TLS."""
        connection = self._connection
        return connection.listener.in_tls(connection.trusted, self.distrust, bool(self.certificate), self._binding)

    def renounce(self) -> None:
        """XCLIENT: what TLS proves is true of the one in front, not of the client that it names."""
        self.certificate = self._binding = b""

    def give_way(self) -> bool:
        """The handshake has had its slot for long enough; False when it held none any more."""
        return self._connection.common.slots.give_back(self.begin)

    def leave(self) -> None:
        """No handshake will come of it: hold no slot, wait for none."""
        slots = self._connection.common.slots
        slots.withdraw(self.begin)
        slots.give_back(self.begin)

    def ending(self, reason: Failure = connectionDone, in_handshake: bool = False) -> str:
        """Why the client's side ended, in words for the log."""
        if in_handshake:
            return f"TLS handshake failed: {_in_words(reason)}"
        if self.achieved.version:
            if closed_by_peer(self._connection.transport.getHandle()):
                return "TLS closed by client"
            return f"TLS broken off: {_in_words(reason)}"
        return "closed by client" if isinstance(reason.value, ConnectionDone) else f"lost: {_in_words(reason)}"


def _in_words(reason: Failure) -> str:
    """The last thing that OpenSSL or the system said."""
    if isinstance(reason.value, SSL.Error):
        return openssl_words(reason.value)
    return reason.getErrorMessage().rstrip(".")
