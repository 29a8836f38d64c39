"""Who exists where the mailboxes are not ours: lists of the recipients of relayed domains, and an embedder's `IRecipients`.

RFC 5321 3.4 and 3.6.1 (550 at RCPT), RFC 3463 (5.1.1).  What is delivered here is asked of the router, which knows the
Maildirs.  For domains that are passed on, [[access.recipients]] names a file with an address a line; whoever is not in it
is refused at RCPT, while the client still knows whom to tell, and no bounce ever goes to a forged sender.  A provider that
fails means 451.  The postmaster of a domain always exists (RFC 5321 4.5.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutine
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.config.address_list import key_of, read_addresses
from mta.config.receiving import RecipientTable
from mta.interfaces import IPolicy, IRecipients
from mta.smtp.address import Path as MailPath
from mta.status import MailError, Reply, misconfigured

__all__ = ["RecipientFiles", "RecipientJudge"]

NO_SUCH_USER: Final = Reply(550, "5.1.1", "No such mailbox here")


@implementer(IRecipients)
class RecipientFiles:
    """[[access.recipients]], read once.  Addresses are compared without regard to case."""

    def __init__(self, addresses: Mapping[str, frozenset[str]]) -> None:
        """By domain, as `Path.domain_key` gives it."""
        self._addresses = addresses

    @classmethod
    def read(cls, tables: tuple[RecipientTable, ...]) -> RecipientFiles:
        """Raises MailError with file and line."""
        addresses: dict[str, frozenset[str]] = {}
        for table in tables:
            found = _addresses_in(table.file)
            for domain in table.domains:
                key = MailPath("", domain.rstrip(".")).domain_key
                addresses[key] = addresses.get(key, frozenset()) | found
        return cls(addresses)

    def exists(self, address: str) -> bool | None:
        """See IRecipients: None for the domains of which no file speaks."""
        key, domain = key_of(address)
        known = self._addresses.get(domain)
        return None if known is None else key in known


@implementer(IPolicy)
class RecipientJudge:
    """Refuses at RCPT whom a provider of IRecipients says not to be there."""

    stages = frozenset({"rcpt", "vrfy"})

    def __init__(self, recipients: IRecipients) -> None:
        self._recipients = recipients

    def judge(self, stage: str, facts: Mapping[str, Any]) -> Any:
        """See IPolicy."""
        address: str = facts["recipient"]
        if address.partition("@")[0].lower() == "postmaster":
            return None
        exists: Any = self._recipients.exists(address)
        if isinstance(exists, Deferred) or iscoroutine(exists):
            return _later(exists)
        return _refusal(exists)


async def _later(exists: Any) -> MailError | None:
    return _refusal(await exists)


def _refusal(exists: object) -> MailError | None:
    if exists is None or exists is True:
        return None
    if exists is False:
        return MailError(NO_SUCH_USER, "no such recipient")
    raise TypeError(f"IRecipients.exists answered {exists!r}")


def _addresses_in(path: Path) -> frozenset[str]:
    try:
        return read_addresses(path.read_bytes())
    except OSError as error:
        raise _mistake(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise _mistake(f"{path} is {error}") from None


def _mistake(reason: str) -> MailError:
    return misconfigured(f"[[access.recipients]]: {reason}")
