"""What the clients of one port are shown: a [[listen]] entry made ready for the receiver-SMTP.

RFC 3207 (who is offered STARTTLS), RFC 4954 (mechanisms in clear and in TLS), RFC 8689 (REQUIRETLS in TLS only).  All
that differs from client to client is chosen here, from options that were made once: in clear or in TLS, with STARTTLS or
without, with the limits of a stranger or without those that clients in relay_from are exempt from.  A listener that
demands logins which nobody can check is a MailError at the start.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from mta.config.settings import Limits, Listen, Network
from mta.receive.access import Address
from mta.receive.common import Common
from mta.smtp.server import ReceiverOptions
from mta.status import MailError, Reply, Scope, transient

__all__ = ["Listener"]


@attrs.frozen(slots=True, eq=False)
class Listener:
    """One port."""

    common: Common
    listen: Listen
    _plain: tuple[ReceiverOptions, ReceiverOptions]  # for a stranger, for a client in relay_from
    _starttls: tuple[ReceiverOptions, ReceiverOptions]
    _in_tls: tuple[ReceiverOptions, ReceiverOptions]

    @classmethod
    def of(cls, common: Common, listen: Listen) -> Listener:
        """Make an entry ready.  MailError where it promises what we have not got."""
        if listen.tls == "implicit" and common.settings.tls.certificate is None:
            raise _mistake(listen, 'tls = "implicit" needs a certificate ([tls])')
        if common.accounts is None and (listen.auth_clear or listen.auth_tls):
            raise _mistake(listen, "AUTH needs [auth] passwords, or a portal")
        plain = _options(common, listen)
        in_tls = attrs.evolve(plain, auth=listen.auth_tls, auth_elsewhere=(), requiretls=True)
        return cls(
            common=common,
            listen=listen,
            plain=_both(plain),
            starttls=_both(attrs.evolve(plain, starttls=True)),
            in_tls=_both(in_tls),
        )

    def in_clear(self, client: Address | None, trusted: bool) -> ReceiverOptions:
        """For a client that has just connected."""
        listen = self.listen
        if listen.tls != "starttls" or not self.common.tls.offered or _is_in(client, listen.avoid_tls_for):
            return self._plain[trusted]
        return self._starttls[trusted]

    def in_tls(self, trusted: bool, distrust: str = "") -> ReceiverOptions:
        """For a client behind a handshake.  distrust: why the certificate it showed is worth nothing here."""
        options = self._in_tls[trusted]
        if not distrust:
            return options
        return attrs.evolve(options, refuse_all=Reply(554, "5.7.1", f"A client certificate is required: {distrust}"))


def _options(common: Common, listen: Listen) -> ReceiverOptions:
    """In clear, without STARTTLS, for a stranger."""
    settings = common.settings
    limits: Limits = settings.limits
    return ReceiverOptions(
        hostname=settings.hostname,
        max_size=limits.message_size,
        max_recipients=limits.recipients_per_message,
        starttls=False,
        starttls_needs_ehlo=settings.tls.starttls_needs_ehlo,
        starttls_in_transaction=settings.tls.starttls_in_transaction,
        max_errors=limits.errors,
        auth=listen.auth_clear,
        auth_elsewhere=tuple(mechanism for mechanism in listen.auth_tls if mechanism not in listen.auth_clear),
        challenge=common.challenge,
        mail_requires=listen.mail_requires,
        max_auth_failures=limits.auth_failures,
        max_transactions=limits.transactions_per_connection,
        max_recipients_total=limits.recipients_per_connection,
        max_commands=limits.commands_per_connection,
    )


def _both(options: ReceiverOptions) -> tuple[ReceiverOptions, ReceiverOptions]:
    """For a stranger, and without the limits that clients in relay_from are exempt from ([limits])."""
    return options, attrs.evolve(options, max_transactions=0, max_recipients_total=0, max_commands=0)


def _mistake(listen: Listen, what: str) -> MailError:
    return transient("4.3.5", "Local configuration error", scope=Scope.SITE, reason=f"{listen.endpoint}: {what}")


def _is_in(client: Address | None, networks: Iterable[Network]) -> bool:
    return client is not None and any(client in network for network in networks)
