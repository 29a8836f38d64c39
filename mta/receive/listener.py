"""What the clients of one port are shown: a [[listen]] entry made ready for the receiver-SMTP.

RFC 3207 (who is offered STARTTLS), RFC 4954 (mechanisms in clear and in TLS), RFC 8689 (REQUIRETLS in TLS only).  All
that differs from client to client is chosen here, from options that were made once: in clear or in TLS, with STARTTLS or
without, with the limits of a stranger or without those that clients in relay_from are exempt from.  MT-PRIORITY is for those
only whose mail we relay (RFC 6710 5: a stranger would have all of his urgent): relay_from, and logins.  It is offered
wherever AUTH is, for nobody says EHLO again behind AUTH; a higher priority without a login is lowered.  DELIVERBY is for all,
from a minute on.  A listener that demands logins which nobody can check is a MailError at the start.
"""

from __future__ import annotations

from typing import Final

import attrs

from mta.config.settings import Limits, Listen
from mta.receive.access import Address, is_in
from mta.receive.common import Common
from mta.receive.origin import Whence
from mta.smtp.sasl import SERVER, TLS_ONLY
from mta.smtp.scram import PLUS
from mta.smtp.server import ReceiverOptions
from mta.smtp.xclient import XCLIENT, XFORWARD
from mta.status import MailError, Reply, misconfigured

__all__ = ["Listener"]

LEAST_BY: Final = 60  # seconds in which mail can be returned (RFC 2852 2): the queue looks for what is too old once a minute
LATEST_RELEASE: Final = 30 * 86_400  # seconds that submitted mail may be held back (RFC 4865 3)


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
            raise _mistake(listen, "AUTH needs [auth] passwords or dovecot, or a portal")
        for mechanism in TLS_ONLY:
            if mechanism in listen.auth_clear:
                raise _mistake(listen, f"{mechanism} is for TLS: it goes into auth_tls")
        for mechanism in (*listen.auth_clear, *listen.auth_tls):
            if common.accounts is not None and (missing := common.accounts.lacks(mechanism)):
                raise _mistake(listen, f"{mechanism} needs what is not there: {missing}")
        plain = _options(common, listen)
        in_tls = attrs.evolve(plain, auth=_usual(listen.auth_tls), auth_elsewhere=(), requiretls=True)
        in_tls = attrs.evolve(in_tls, mt_priority=listen.submission or bool(listen.auth_tls))
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
        if listen.tls != "starttls" or not self.common.tls.offered or is_in(client, listen.avoid_tls_for):
            return self._plain[trusted]
        return self._starttls[trusted]

    def is_proxy(self, peer: Address | None) -> bool:
        """Must it say first for whom it has come?"""
        return is_in(peer, self.listen.proxy_from)

    def entitle(self, options: ReceiverOptions, client: Whence) -> ReceiverOptions:
        """With XCLIENT and XFORWARD for those who may say them; whom XCLIENT has named counts for nothing here."""
        access = self.common.settings.access
        offered = ((XCLIENT, access.xclient_from), (XFORWARD, access.xforward_from))
        words = tuple([word for word, networks in offered if networks and client.known and is_in(client.client, networks)])
        return attrs.evolve(options, entitled=words) if words else options

    def in_tls(self, trusted: bool, distrust: str = "", certified: bool = False, binding: bytes = b"") -> ReceiverOptions:
        """For a client behind a handshake.

        distrust: why the certificate it showed is worth nothing here.  certified: it showed one that is verified.  binding: the
        tls-exporter, b"" where there is none.
        """
        options = self._in_tls[trusted]
        also = {name for name, had in (("EXTERNAL", certified), (PLUS, bool(binding))) if had}
        if also.intersection(self.listen.auth_tls):
            auth = tuple([name for name in self.listen.auth_tls if name in also or name in options.auth])
            options = attrs.evolve(options, auth=auth, binding=binding)
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
        mechanisms=common.accounts.mechanisms if common.accounts is not None else SERVER,
        mail_requires=listen.mail_requires,
        max_auth_failures=limits.auth_failures,
        max_transactions=limits.transactions_per_connection,
        max_recipients_total=limits.recipients_per_connection,
        max_commands=limits.commands_per_connection,
        vrfy=listen.vrfy,
        withhold=frozenset(listen.withhold),
        binarymime=True,
        deliver_by=LEAST_BY,
        mt_priority=listen.submission or bool(listen.auth_clear),
        priority_by_login=True,
        future_release=LATEST_RELEASE if listen.submission else 0,
        now=common.clock.seconds,
    )


def _usual(mechanisms: tuple[str, ...]) -> tuple[str, ...]:
    """Without those that want more of a connection than others have."""
    return tuple([name for name in mechanisms if name not in ("EXTERNAL", PLUS)])


def _both(options: ReceiverOptions) -> tuple[ReceiverOptions, ReceiverOptions]:
    """For a stranger, and for clients in relay_from: without the limits that they are exempt from ([limits])."""
    exempt = attrs.evolve(options, max_transactions=0, max_recipients_total=0, max_commands=0)
    return options, attrs.evolve(exempt, mt_priority=True, priority_by_login=False)


def _mistake(listen: Listen, what: str) -> MailError:
    return misconfigured(f"{listen.endpoint}: {what}")
