"""What must hold where somebody must prove who he is: mail_requires, AUTH as server, the credentials of routes.

RFC 3207 4 (a public port must not demand TLS), RFC 4954 4 (PLAIN and LOGIN need TLS); docs/tls.md.  For files only:
embedders who bring a portal of their own make their settings in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from mta.config.mistake import Finding, KeyPath, said
from mta.config.name import destination_fault, next_hop_fault
from mta.config.settings import Auth, Listen, RouteAuth, RouteEntry, Settings
from mta.smtp.bearer import BEARER
from mta.smtp.sasl import TLS_ONLY
from mta.smtp.scram import PLUS
from mta.tls.policy import LEVELS, Level
from mta.tls.policy_table import PolicyTable

__all__ = ["check_auth"]

_PORT_25 = re.compile(r"tcp6?:(?:.*:)?(?:port=)?25(?:$|:)")
_READABLE = frozenset({"PLAIN", "LOGIN"})  # who can read the connection has the password


def check_auth(settings: Settings) -> Iterator[Finding]:
    """All that is wrong with who must log in, and how."""
    for index, listen in enumerate(settings.listen):
        yield from _requires(("listen", index), listen, settings)
        yield from _offers(("listen", index), listen, settings)
    yield from _sources(settings.auth)
    for index, route in enumerate(settings.route):
        if route.auth is not None:
            yield from _credentials(("route", index), route, route.auth, settings)


def _requires(path: KeyPath, listen: Listen, settings: Settings) -> Iterator[Finding]:
    """S22: what mail_requires demands must be there to be had, and may be demanded of everybody only by who knows."""
    words = listen.mail_requires
    requires: KeyPath = (*path, "mail_requires")
    if "tls" in words and listen.tls == "none":
        yield Finding(requires, f"{words!r} on a port with tls = 'none': no client could ever send", ((*path, "tls"),))
    elif "tls" in words and settings.tls.certificate is None:
        yield Finding(requires, f"{words!r} needs the certificate and key of [tls]", (("tls", "certificate"),))
    if words in ("tls", "tls+auth") and _PORT_25.match(listen.endpoint) and not listen.i_know:
        text = f"{words!r} on port 25: a public server must not demand TLS (RFC 3207 4); if this one is not public, i_know = true"
        yield Finding(requires, text, ((*path, "i_know"),))
    for word, keyword in (("tls", "STARTTLS"), ("auth", "AUTH")):
        if word in words.split("+") and keyword in listen.withhold and (word == "auth" or listen.tls == "starttls"):
            yield Finding((*path, "withhold"), f"{keyword} is withheld, and mail_requires = {words!r}: no client could ever send")
    if words in ("auth", "tls+auth") and not (listen.auth_clear or listen.auth_tls):
        yield Finding(requires, f"{words!r} with no mechanism in auth_clear and auth_tls: no client could ever send")


def _offers(path: KeyPath, listen: Listen, settings: Settings) -> Iterator[Finding]:
    """AUTH that is offered can succeed."""
    known = settings.auth.passwords is not None or bool(settings.auth.dovecot)
    for key in ("auth_clear", "auth_tls"):
        if set(getattr(listen, key)) - {"EXTERNAL"} and not known:
            text = "mechanisms are offered, and neither [auth] passwords nor [auth] dovecot says who may log in"
            yield Finding((*path, key), text, (("auth", "passwords"), ("auth", "dovecot")))
    for mechanism in TLS_ONLY:
        if mechanism in listen.auth_clear:
            yield Finding((*path, "auth_clear"), f"{mechanism} is for TLS: it goes into auth_tls")
    if "EXTERNAL" in listen.auth_tls and settings.tls.client_cert == "none":
        text = "EXTERNAL wants a client certificate, and [tls] client_cert does not ask for one"
        yield Finding((*path, "auth_tls"), text, (("tls", "client_cert"),))
    if settings.auth.dovecot:
        if PLUS in listen.auth_tls:
            yield Finding((*path, "auth_tls"), f"{PLUS} is not to be had from [auth] dovecot")
    elif known:
        for mechanism in BEARER:
            if mechanism in listen.auth_tls:
                text = f"{mechanism} is judged by [auth] dovecot; the lines of [auth] passwords know no tokens"
                yield Finding((*path, "auth_tls"), text, (("auth", "dovecot"),))
    if listen.auth_tls and listen.tls == "none":
        yield Finding((*path, "auth_tls"), "never offered on a port with tls = 'none'", ((*path, "tls"),))
    if listen.auth_clear and listen.tls == "implicit":
        yield Finding((*path, "auth_clear"), "never offered on a port with tls = 'implicit'", ((*path, "tls"),))


def _sources(auth: Auth) -> Iterator[Finding]:
    """One place says who may log in."""
    if auth.dovecot and auth.passwords is not None:
        yield Finding(("auth", "dovecot"), "either this or passwords", (("auth", "passwords"),))
    if auth.sender_map is not None and auth.senders != "bound":
        yield Finding(("auth", "sender_map"), "counts with senders = 'bound' only", (("auth", "senders"),))


def _credentials(path: KeyPath, route: RouteEntry, auth: RouteAuth, settings: Settings) -> Iterator[Finding]:
    """The password of a route is for the right server only."""
    if route.deliver is not None:
        yield Finding((*path, "auth"), "a delivery to a mailbox has no AUTH")
        return
    yield from said((*path, "auth", "user"), None if auth.user else "a name is wanted, not ''")
    if not auth.mechanisms:
        yield Finding((*path, "auth", "mechanisms"), "at least one mechanism is wanted")
    level = _level(route, settings)
    sure = level in LEVELS and Level(level).verifies and level != Level.DANE.value  # which is "may" without TLSA records
    if auth.clear or level not in LEVELS or sure or not _READABLE & set(auth.mechanisms):
        return
    text = (
        f"a password is not sent at level {level!r}; tls = 'verify' for this route is wanted, or auth.clear = true to send it"
        " where anybody can read it"
    )
    yield Finding((*path, "auth"), text, ((*path, "tls"),))


def _level(route: RouteEntry, settings: Settings) -> str:
    """A [[tls_policy]] for the next hop stands before the route, unless it ends some day."""
    lasting = [entry for entry in settings.tls_policy if not entry.until and not any(map(destination_fault, entry.match))]
    relay = route.relay or ""
    entry = None if next_hop_fault(relay) else PolicyTable(lasting).entry(relay, date.min)
    return (entry.level if entry else "") or route.tls or settings.tls_client.level
