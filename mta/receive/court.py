"""Which judges the settings call for, and what they need from outside.

docs/configuration.md, [access].  The order: who exists, for no rule may accept whom there is not; the operator's
rules; the lists of clients; an embedder's policy; greylisting at last, for who is refused anyhow need not be remembered.  A
judge that has nothing to do is not there at all.
"""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime

from mta.config.check_hosts import host_lists
from mta.config.receiving import Greylist
from mta.config.settings import Settings
from mta.interfaces import IEventLog, IHints, IMailResolver, IPolicy, IRecipients
from mta.receive.dnsbl import DnsblJudge
from mta.receive.greylist import GreylistJudge
from mta.receive.inquiry import Inquiries
from mta.receive.judges import Judges, RuleJudge
from mta.receive.recipients import RecipientFiles, RecipientJudge
from mta.receive.rules import Rules, home_of
from mta.status import misconfigured

__all__ = ["Court", "Outside"]


@attrs.frozen(slots=True)
class Outside:
    """Where things are looked up.  recipients: an embedder's."""

    resolver: IMailResolver | None = None
    hints: IHints | None = None
    recipients: IRecipients | None = None


@attrs.frozen(slots=True)
class Court:
    """The judges, and who asks the DNS for them."""

    judges: Judges
    inquiries: Inquiries | None

    @classmethod
    def of(cls, settings: Settings, policy: IPolicy | None, outside: Outside, clock: IReactorTime, log: IEventLog) -> Court:
        """MailError for a file that cannot be read, and for what was not brought."""
        access, home = settings.access, home_of(settings)
        rules = Rules.of(settings, host_lists(settings))
        judges: list[IPolicy] = []
        if access.recipients:
            judges.append(RecipientJudge(RecipientFiles.read(access.recipients)))
        if outside.recipients is not None:
            judges.append(RecipientJudge(outside.recipients))
        if access.rule:
            judges.append(RuleJudge(rules, log))
        if access.dnsbl:
            judges.append(DnsblJudge(access))
        if policy is not None:
            judges.append(policy)
        greylist = greylist_of(settings)
        if greylist is not None:
            if outside.hints is None:
                raise misconfigured("[access.greylist] needs a memory (IHints)")
            judges.append(GreylistJudge(greylist, home, outside.hints, clock.seconds))
        return cls(Judges(judges), _inquiries(settings, rules, outside, clock, log))


def greylist_of(settings: Settings) -> Greylist | None:
    """Of [access.greylist], None where it is off."""
    greylist = settings.access.greylist
    return greylist if greylist is not None and greylist.enabled else None


def _inquiries(settings: Settings, rules: Rules, outside: Outside, clock: IReactorTime, log: IEventLog) -> Inquiries | None:
    access, greylist = settings.access, greylist_of(settings)
    named_at = rules.named_at
    if greylist is not None and greylist.names:
        named_at |= {"rcpt"}
    if not (named_at or access.reverse_dns or access.dnsbl):
        return None
    if outside.resolver is None:
        raise misconfigured("[access] asks for names or lists in the DNS, and there is no resolver")
    return Inquiries(access, named_at, resolver=outside.resolver, clock=clock, log=log)
