"""The table of routes: which entry a recipient falls under, and which Maildir a template means.

docs/configuration.md, [[route]].  The first entry of the file that matches wins; below the last one stands MX delivery
for every domain (RFC 5321 5.1).  Patterns: "local" (the local_domains), a domain (that name only), "*.domain" (what is
below it, not itself), "*" (all), user@domain.  Domains are compared as A-labels in lower case, local parts of patterns
without regard to case (RFC 5321 2.4 leaves that to the host that delivers, and for a route that is us).

A local domain never falls through to MX delivery: its mail would come back to us.  Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import attrs

from mta.config.settings import RouteEntry, Settings
from mta.smtp.address import Path, parse_address

__all__ = ["DEFAULT", "POSTMASTER", "RouteTable", "is_safe", "maildir_paths", "maildir_template"]

POSTMASTER = "postmaster"
MAILDIR = "maildir:"
# An operator's route begins with a letter or digit, so that this name is never one of theirs.
DEFAULT = RouteEntry(match=("*",), name="_mx")


@attrs.frozen(slots=True)
class _Index:
    """Where the patterns of one kind stand: key -> number of the first entry that has it."""

    domains: dict[str, int] = attrs.Factory(dict)
    parents: dict[str, int] = attrs.Factory(dict)
    addresses: dict[tuple[str, str], int] = attrs.Factory(dict)
    everything: dict[str, int] = attrs.Factory(dict)


class RouteTable:
    """The routes, indexed: a look-up costs one dictionary access for each label, however many entries there are.

    home: the domain that a bare <postmaster> means.  digest: of everything that decides where mail goes.
    relays: the next hops that the operator wrote.  levels, auth: TLS level and credentials of each entry that has them, by its
    name.
    """

    def __init__(self, settings: Settings) -> None:
        self._local = frozenset(_key(domain) for domain in settings.local_domains)
        self._entries = tuple(_named(entry, at) for at, entry in enumerate(settings.route, 1))
        self._index = _Index()
        for number, entry in enumerate(self._entries):
            for pattern in entry.match:
                self._add(pattern, number)
        self._listed = frozenset(domain for _, domain in self._index.addresses)
        self.home = _key(settings.local_domains[0]) if settings.local_domains else _key(settings.hostname)
        self.relays = frozenset(entry.relay.lower() for entry in self._entries if entry.relay)
        self.levels = {entry.name: entry.tls for entry in self._entries if entry.tls}
        self.auth = {entry.name: entry.auth for entry in self._entries if entry.auth}
        self.digest = _digest(self._local, self.home, self._entries)

    def _add(self, pattern: str, number: int) -> None:
        index = self._index
        if pattern == "local":
            for domain in self._local:
                index.domains.setdefault(domain, number)
        elif pattern == "*":
            index.everything.setdefault("*", number)
        elif pattern.startswith("*."):
            index.parents.setdefault(_key(pattern[2:]), number)
        elif "@" in pattern:
            path = parse_address(pattern)
            index.addresses.setdefault((path.local.lower(), path.domain_key), number)
        else:
            index.domains.setdefault(_key(pattern), number)

    def find(self, local: str, domain: str) -> RouteEntry | None:
        """The entry for a recipient; None for one of a local domain that no entry speaks of.

        domain: as `Path.domain_key` gives it.
        """
        index = self._index
        found = [
            index.addresses.get((local.lower(), domain)),
            index.domains.get(domain),
            index.everything.get("*"),
            *(index.parents.get(parent) for parent in _parents(domain)),
        ]
        first = min((number for number in found if number is not None), default=None)
        if first is not None:
            return self._entries[first]
        return None if domain in self._local else DEFAULT

    def names_mailboxes_of(self, domain: str) -> bool:
        """Some entry lists addresses of this domain: then the addresses that are not listed do not exist."""
        return domain in self._listed


def _key(domain: str) -> str:
    return Path("", domain).domain_key


def _parents(domain: str) -> list[str]:
    """What "*.parent" may say: example.org and org for mx.example.org."""
    labels = domain.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels))]


def _named(entry: RouteEntry, position: int) -> RouteEntry:
    return entry if entry.name else attrs.evolve(entry, name=f"route{position}")


def _digest(local: frozenset[str], home: str, entries: Sequence[RouteEntry]) -> str:
    text = json.dumps([sorted(local), home, [attrs.astuple(entry) for entry in entries]], default=str)  # str: paths
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def maildir_template(entry: RouteEntry) -> str | None:
    """The path behind "maildir:", None for an entry that relays."""
    return entry.deliver.removeprefix(MAILDIR) if entry.deliver is not None else None


def maildir_paths(template: str, local: str, domain: str) -> tuple[str, ...]:
    """The directories that a template may mean, in the order to look: the local part as it came, then in lower case.

    local must be safe (`is_safe`): it becomes part of a path.  One path when there is nothing to choose.
    """
    users = dict.fromkeys((local, local.lower()))
    # One pass each, and the user last: a local part "{domain}" is a name like any other.
    return tuple(dict.fromkeys(template.replace("{domain}", domain).replace("{user}", user) for user in users))


def is_safe(name: str) -> bool:
    """May this stand in a path?  No separator, no way up, no hidden file, nothing that a terminal obeys."""
    return bool(name) and not name.startswith(".") and "/" not in name and ".." not in name and name.isprintable()
