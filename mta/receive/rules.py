"""The operator's rules: which of [[access.rule]] match what is known of a client and its mail.

docs/configuration.md, [[access.rule]].  A rule is asked at one stage of the conversation: at the first at which all that it
asks about is known, or where its `at` says.  All of its conditions must hold, each by one of its values.  The first
rule of the stage that matches decides, those that only warn stand aside.

A fact is turned into the keys under which a rule may have listed it (example.org, *.org; the network of each length in
use), a condition is a set of keys.  So each stage has an index, and what a message costs does not grow with the number of
rules.  Pure: the facts are given, the answer is the rules that matched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from mta.config.receiving import AccessRule
from mta.config.rule import clients, conditions, first_stage, read_reply
from mta.config.settings import Network, Settings
from mta.hostlist import HostLists
from mta.smtp.address import Path, parse_address
from mta.status import Reply

__all__ = [
    "UNKNOWN",
    "Kind",
    "Names",
    "Networks",
    "Rule",
    "Rules",
    "home_of",
]

UNKNOWN: Final = "unknown"  # the name of a client that has no confirmed one
NAME: Final = "client_name"
_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

REFUSED: Final = Reply(550, "5.7.1", "Refused by the policy of this server")
NOT_NOW: Final = Reply(450, "4.7.1", "Not now by the policy of this server, try again later")

Facts = Mapping[str, Any]
Keys = Iterable[Hashable]


class Kind(Enum):
    """What a rule does."""

    ACCEPT = "accept"
    REJECT = "reject"
    DEFER = "defer"
    HOLD = "hold"
    DISCARD = "discard"
    WARN = "warn"


@attrs.frozen(slots=True)
class Rule:
    """A rule made ready.  reply: of REJECT and DEFER.  conditions: fact -> the keys of which it must have one."""

    name: str
    kind: Kind
    reply: Reply
    stage: str
    conditions: tuple[tuple[str, frozenset[Hashable]], ...]

    @property
    def asks_name(self) -> bool:
        """It asks for the client's name in the DNS."""
        return any(fact == NAME for fact, _ in self.conditions)


class Rules:
    """All rules.  stages: at which there are any.  named_at: at which the client's name in the DNS must be known."""

    __slots__ = ("_by_stage", "asks_tls_name", "named_at", "stages")

    def __init__(self, rules: Sequence[AccessRule], home: str, lists: HostLists | None = None) -> None:
        """home: the domain that a bare <postmaster> means.  lists: what "+name" speaks of.  ValueError for a bad one."""
        made = [_made(rule, lists or HostLists()) for rule in rules]
        self.stages = frozenset(rule.stage for rule in made)
        self._by_stage = {stage: _Stage([rule for rule in made if rule.stage == stage], home) for stage in self.stages}
        self.named_at = frozenset(rule.stage for rule in made if rule.asks_name)
        self.asks_tls_name = any(rule.tls_name for rule in rules)

    @classmethod
    def of(cls, settings: Settings, lists: HostLists) -> Rules:
        """Those of a configuration.  ValueError, MailError for what `mta check` refuses."""
        return cls(settings.access.rule, home_of(settings), lists)

    def matching(self, stage: str, facts: Facts) -> Iterator[Rule]:
        """In the order of the file, up to the one that decides: only the last may be another than WARN."""
        at = self._by_stage.get(stage)
        return at.matching(facts) if at is not None else iter(())

    def but_for_the_name(self, stage: str, facts: Facts, decides: Rule | None) -> Iterator[Rule]:
        """Those in front of the rule that decides (None: all) that miss nothing but the right name of the client."""
        at = self._by_stage.get(stage)
        return at.but_for_the_name(facts, decides) if at is not None else iter(())


class _Stage:
    """The rules of one stage, each indexed by the condition that is likely to be the narrowest."""

    __slots__ = ("_anyway", "_index", "_keys", "_named", "_rules")

    def __init__(self, rules: Sequence[Rule], home: str) -> None:
        self._rules = rules
        self._keys = _readers(rules, home)
        self._index: dict[str, dict[Hashable, list[int]]] = {}
        self._anyway: list[int] = []  # without conditions
        self._named = [number for number, rule in enumerate(rules) if rule.asks_name]
        for number, rule in enumerate(rules):
            if not rule.conditions:
                self._anyway.append(number)
                continue
            fact, keys = rule.conditions[0]
            index = self._index.setdefault(fact, {})
            for key in keys:
                index.setdefault(key, []).append(number)

    def matching(self, facts: Facts) -> Iterator[Rule]:
        known: dict[str, frozenset[Hashable]] = {}
        likely = set(self._anyway)
        for fact, index in self._index.items():
            known[fact] = keys = frozenset(self._keys[fact](facts))
            for key in keys:
                likely.update(index.get(key, ()))
        for number in sorted(likely):
            rule = self._rules[number]
            if self._holds(rule, facts, known):
                yield rule
                if rule.kind is not Kind.WARN:
                    return

    def but_for_the_name(self, facts: Facts, decides: Rule | None) -> Iterator[Rule]:
        end = len(self._rules) if decides is None else self._rules.index(decides)
        known: dict[str, frozenset[Hashable]] = {}
        for number in self._named:
            if number < end and self._holds(self._rules[number], facts, known, but_for=NAME):
                yield self._rules[number]

    def _holds(self, rule: Rule, facts: Facts, known: dict[str, frozenset[Hashable]], but_for: str = "") -> bool:
        for fact, wanted in rule.conditions:
            if fact == but_for:
                continue
            keys = known.get(fact)
            if keys is None:
                known[fact] = keys = frozenset(self._keys[fact](facts))
            if keys.isdisjoint(wanted):
                return False
        return True


# ---- from the configuration


def home_of(settings: Settings) -> str:
    """The domain that a bare <postmaster> means."""
    home = settings.local_domains[0] if settings.local_domains else settings.hostname
    return Path("", home.rstrip(".")).domain_key


def _made(rule: AccessRule, lists: HostLists) -> Rule:
    kind = Kind(rule.action)
    reply = (read_reply(rule.reply) if rule.reply else None) or (NOT_NOW if kind is Kind.DEFER else REFUSED)
    given = {fact: getattr(rule, fact) for fact in conditions(rule)}
    if rule.client:
        given["client"] = clients(rule.client, lists)  # of an empty list nobody is: the condition stays
    wanted = tuple((fact, _WRITTEN[fact](values)) for fact, values in given.items())
    return Rule(rule.name, kind, reply, rule.at or first_stage(rule), wanted)


def _network_key(network: Network) -> Hashable:
    return network.version, network.prefixlen, int(network.network_address) >> (network.max_prefixlen - network.prefixlen)


def _pattern(text: str) -> Hashable:
    """A name, "*.name" or user@name in the one spelling in which it is looked up."""
    if "@" in text:
        path = parse_address(text)
        return f"{path.address.rpartition('@')[0].lower()}@{path.domain_key}"
    if text.startswith("*."):
        return f"*.{Path('', text[2:].rstrip('.')).domain_key}"
    return Path("", text.rstrip(".")).domain_key


def _patterns(given: Iterable[str]) -> frozenset[Hashable]:
    return frozenset(map(_pattern, given))


def _networks(given: Iterable[Network]) -> frozenset[Hashable]:
    return frozenset(map(_network_key, given))


_WRITTEN: Final[Mapping[str, Callable[[Any], frozenset[Hashable]]]] = {
    "recipient": _patterns,
    "sender": _patterns,
    "client": _networks,
    "helo": _patterns,
    "account": frozenset,
    "client_name": _patterns,
    "tls_name": _patterns,
    "listen": frozenset,
    "tls": frozenset,
}


# ---- from the facts


class Networks:
    """A set of networks, asked in as many steps as it has lengths."""

    __slots__ = ("_keys", "_lengths")

    def __init__(self, networks: Iterable[Network]) -> None:
        self._keys = _networks(networks)
        self._lengths = _lengths([self._keys])

    def __contains__(self, client: Any) -> bool:
        """None: no address is known, so it is in no network."""
        return any(key in self._keys for key in _client_keys(client, self._lengths))


class Names:
    """A set of domains, "*.domain" and user@domain."""

    __slots__ = ("_keys",)

    def __init__(self, names: Iterable[str]) -> None:
        self._keys = _patterns(names)

    def has_name(self, name: str) -> bool:
        """Of a host."""
        return bool(self._keys) and not self._keys.isdisjoint(_name_keys(name))

    def has_address(self, address: str, home: str) -> bool:
        """Of a recipient.  home: the domain that a bare <postmaster> means."""
        return bool(self._keys) and not self._keys.isdisjoint(_address_keys(address, home))


def _readers(rules: Sequence[Rule], home: str) -> Mapping[str, Callable[[Facts], Keys]]:
    lengths = _lengths(keys for rule in rules for fact, keys in rule.conditions if fact == "client")
    return {
        "recipient": lambda facts: _address_keys(facts["recipient"], home),
        "sender": lambda facts: _address_keys(facts["sender"], home) if facts["sender"] else ("<>",),
        "client": lambda facts: _client_keys(facts["address"], lengths),
        "helo": lambda facts: _name_keys(facts["helo"]),
        "account": lambda facts: (facts["account"], "*") if facts["account"] else (),
        "client_name": lambda facts: _name_keys(facts["client_name"]),
        "tls_name": lambda facts: [key for name in facts["tls_names"] for key in _name_keys(name)],
        "listen": lambda facts: (facts["listen"], facts["listen_name"]),
        "tls": lambda facts: _tls_keys(facts["tls_version"]),
    }


def _lengths(conditions: Iterable[frozenset[Any]]) -> tuple[tuple[int, int], ...]:
    """(version, prefix length) of every network in use."""
    return tuple(sorted({(version, length) for keys in conditions for version, length, _ in keys}))


def _client_keys(client: Any, lengths: Iterable[tuple[int, int]]) -> Keys:
    if client is None:
        return
    number, mine, bits = int(client), client.version, client.max_prefixlen
    for version, length in lengths:
        if version == mine:
            yield version, length, number >> (bits - length)


def _address_keys(address: str, home: str) -> Keys:
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, home
    elif domain.isascii():
        domain = domain.lower()
    else:
        domain = Path("", domain).domain_key
    yield f"{local.lower()}@{domain}"
    yield from _name_keys(domain)


def _name_keys(name: str) -> Keys:
    name = name.lower().rstrip(".")
    if name:
        yield name
        at = name.find(".")
        while at >= 0:
            yield f"*{name[at:]}"
            at = name.find(".", at + 1)


def _tls_keys(version: str) -> Keys:
    if not version:
        return ("none",)
    known = _VERSIONS.index(version) if version in _VERSIONS else -1
    return ("any", *_VERSIONS[: known + 1])
