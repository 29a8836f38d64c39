"""When a [[access.rule]] can be asked, and what it answers: what its check and its compiler both must know.  Pure.

docs/configuration.md, [[access.rule]].  A rule is asked once all that it asks about is known: the client as soon as it
connects, its TLS and its login when it begins a message, the recipient at RCPT.  An explicit `at` may be later, never
earlier; at AUTH all is known but what only a message has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mta.config.receiving import AccessRule
from mta.config.units import Client, Network
from mta.hostlist import HostList, HostLists
from mta.smtp.reply import BadReply, parse_reply
from mta.status import Reply

__all__ = ["FACTS", "STAGES", "clients", "conditions", "first_stage", "may_be_at", "read_reply"]

AUTH: Final = "auth"
STAGES: Final = ("connect", "helo", "mail", "rcpt")  # in their order; AUTH may come at any time behind helo
FACTS: Final = {  # condition -> the stage from which on it is known; what narrows most comes first
    "recipient": "rcpt",
    "sender": "mail",
    "client": "connect",
    "helo": "helo",
    "account": "mail",
    "client_name": "connect",
    "tls_name": "mail",
    "listen": "connect",
    "tls": "mail",  # till then STARTTLS may come
}
OF_MAIL: Final = frozenset({"hold", "discard"})  # actions that need a message

_KNOWN_AT_AUTH: Final = frozenset({"client", "client_name", "helo", "listen", "tls", "tls_name"})
_MAX_REPLY: Final = 400  # characters


def conditions(rule: AccessRule) -> list[str]:
    """Those that are given."""
    return [fact for fact in FACTS if getattr(rule, fact)]


def clients(given: Iterable[Client], lists: HostLists) -> tuple[Network, ...]:
    """The networks in `client`, those of the lists that it names among them.  ValueError for a list that asks for more."""
    named = [item for item in given if isinstance(item, str)]
    listed = [network for item in named for network in HostList.parse((item,), lists).networks()]
    return (*[item for item in given if not isinstance(item, str)], *listed)


def first_stage(rule: AccessRule) -> str:
    """The first at which all is known, and the action can be done."""
    stages = [FACTS[fact] for fact in conditions(rule)]
    if rule.action in OF_MAIL:
        stages.append("mail")
    return max(stages, key=STAGES.index, default="connect")


def may_be_at(rule: AccessRule, stage: str) -> bool:
    """Is all known at that stage?"""
    if stage == AUTH:
        return rule.action not in OF_MAIL and _KNOWN_AT_AUTH.issuperset(conditions(rule))
    return STAGES.index(stage) >= STAGES.index(first_stage(rule))


def read_reply(text: str) -> Reply | None:
    """The reply of "550 5.7.1 text", None where it is not exactly that."""
    if not (text.isascii() and text.isprintable() and len(text) <= _MAX_REPLY):
        return None
    try:
        reply = parse_reply([text.encode("ascii")])
    except BadReply:
        return None
    return reply if reply.enhanced and reply.text.strip() else None
