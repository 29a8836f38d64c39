"""The router: which way a recipient goes, or why it cannot go.

docs/configuration.md, [[route]]; RFC 5321 4.5.1 (postmaster), RFC 3463 (5.1.1, 5.1.3).  Used at RCPT, so that what cannot be
delivered is refused while the client still knows whom to tell, and again at enqueue.  Synchronous.

A local domain that no route speaks of is refused: 550 5.1.1 where routes list its addresses one by one (this one is not
among them), else 451 4.3.5, for then the operator has forgotten the route and the mail should find it mended when it comes
again.  It is never accepted, and never sent to its MX, which is us.
"""

from __future__ import annotations

import pathlib
import stat
from collections.abc import Callable

from zope.interface import implementer

from mta.config.settings import RouteAuth, RouteEntry, Settings
from mta.envelope import Refusal, Route
from mta.interfaces import IRouter
from mta.route.table import DEFAULT, POSTMASTER, RouteTable, is_safe, maildir_paths, maildir_template
from mta.smtp.address import Path, parse_address
from mta.status import MailError, Reply

__all__ = ["Router", "maildir_exists"]

_NO_SUCH_USER = Reply(550, "5.1.1", "No such mailbox here")
_BAD_MAILBOX = Reply(550, "5.1.3", "No mailbox here can have this name")
_NO_ROUTE = Reply(451, "4.3.5", "No delivery is configured for this domain")
_STORE_FAILS = Reply(451, "4.3.0", "Mailboxes cannot be looked up now")


REMEMBERED = 10_000  # ways to other servers


def maildir_exists(path: str) -> bool:
    """Is there a directory?  OSError when that cannot be told (a dead mount, no permission): then nobody is "unknown"."""
    try:
        return stat.S_ISDIR(pathlib.Path(path).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


@implementer(IRouter)
class Router:
    """See IRouter.

    mailbox_exists: is there a Maildir at this path?  It may raise OSError: the recipient is asked to come again.
    relays: the next hops that the operator wrote.  levels, auth: what its routes demand of TLS, and who we are there, by
    the name that `route` gives.
    """

    def __init__(self, settings: Settings, *, mailbox_exists: Callable[[str], bool] = maildir_exists) -> None:
        self._table = RouteTable(settings)
        self._mailbox_exists = mailbox_exists
        self._relayed: dict[str, Route] = {}
        self.digest: str = self._table.digest
        self.relays: frozenset[str] = self._table.relays
        self.levels: dict[str, str] = self._table.levels
        self.auth: dict[str, RouteAuth] = self._table.auth

    def route(self, address: str) -> Route | Refusal:
        """See IRouter.  Ways to other servers are remembered: each is asked for twice, at RCPT and when the mail is filed."""
        known = self._relayed.get(address)
        if known is not None:
            return known
        way = self._find(address)
        if isinstance(way, Route) and way.agent == "smtp":
            if len(self._relayed) >= REMEMBERED:
                self._relayed.clear()
            self._relayed[address] = way
        return way

    def _find(self, address: str) -> Route | Refusal:
        try:
            path = self._parse(address)
        except MailError as error:
            return Refusal(error.reply)
        domain = path.domain_key
        entry = self._table.find(path.local, domain)
        if entry is None:
            return Refusal(_NO_SUCH_USER if self._table.names_mailboxes_of(domain) else _NO_ROUTE)
        if entry.relay is not None:
            return Route(entry.name, "smtp", entry.relay.lower(), entry.tls)
        if entry is DEFAULT:
            # A bare <postmaster> that no route knows has no mailbox here, and its next hop would be us.
            return Route(entry.name, "smtp", domain) if "@" in address else Refusal(_NO_SUCH_USER)
        return self._to_maildir(entry, path)

    def mailbox(self, address: str) -> str | None:
        """The Maildir of a recipient: it is there, or may be created (postmaster's, and one that all share).

        None when there is none (any more).  MailError (transient) when that cannot be told now, and where no route leads to
        a Maildir any more: the mail was accepted for one, and the change may be a mistake.
        """
        try:
            path = self._parse(address)
        except MailError:
            return None
        entry = self._table.find(path.local, path.domain_key)
        if entry is None and self._table.names_mailboxes_of(path.domain_key):
            return None
        template = maildir_template(entry) if entry is not None else None
        if template is None:
            raise MailError(_NO_ROUTE)
        if not _is_safe_mailbox(path):
            return None
        try:
            return self._maildir(template, path)
        except OSError as error:
            raise MailError(_STORE_FAILS, str(error)) from error

    def _parse(self, address: str) -> Path:
        path = parse_address(address)
        if not path.local:
            raise MailError(_BAD_MAILBOX)
        return path if path.domain else Path(path.local, self._table.home)

    def _to_maildir(self, entry: RouteEntry, path: Path) -> Route | Refusal:
        if not _is_safe_mailbox(path):
            return Refusal(_BAD_MAILBOX)
        template = maildir_template(entry)
        assert template is not None
        try:
            found = self._maildir(template, path)
        except OSError:
            return Refusal(_STORE_FAILS)
        return Route(entry.name, "maildir", "") if found is not None else Refusal(_NO_SUCH_USER)

    def _maildir(self, template: str, path: Path) -> str | None:
        choices = maildir_paths(template, path.local, path.domain_key)
        if "{" not in template:
            return choices[0]
        for choice in choices:
            if self._mailbox_exists(choice):
                return choice
        return choices[-1] if path.local.lower() == POSTMASTER else None


def _is_safe_mailbox(path: Path) -> bool:
    return is_safe(path.local) and is_safe(path.domain_key)
