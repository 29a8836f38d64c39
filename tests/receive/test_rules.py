"""The operator's rules, against an oracle that knows no index."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.receiving import AccessRule
from mta.hostlist import HostLists
from mta.receive.rules import Kind, Names, Networks, Rules
from mta.status import Reply

HOME = "example.org"
DOMAINS = ("a.org", "b.a.org", "c.b.a.org", "org", "xa.org", "b.org")
VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def facts(**known: Any) -> dict[str, Any]:
    """What a session knows at RCPT."""
    client = known.pop("client", "192.0.2.9")
    usual = {
        "client": client,
        "address": ip_address(client),
        "client_name": "mail.a.org",
        "client_name_failed": False,
        "helo": "mail.a.org",
        "tls_version": "",
        "tls_names": (),
        "sender": "s@a.org",
        "recipient": "r@example.org",
        "account": "",
        "listen": "tcp:25",
        "listen_name": "",
        "trusted": False,
        "dnsbl": {},
        "dnsbl_silent": {},
    }
    return {**usual, **known}


# ---- the oracle: each condition as the manual has it, one value at a time


def below(name: str, pattern: str) -> bool:
    """A name and what may be written for it."""
    name, pattern = name.lower(), pattern.lower()
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def addressed(address: str, pattern: str) -> bool:
    """An address and what may be written for it."""
    if not address:
        return pattern == "<>"
    local, at, domain = address.rpartition("@")
    local, domain = (local, domain) if at else (domain, HOME)
    return f"{local}@{domain}".lower() == pattern.lower() if "@" in pattern else below(domain, pattern)


def in_tls(version: str, wanted: str) -> bool:
    """none, any, or at least that."""
    if wanted in ("none", "any"):
        return bool(version) == (wanted == "any")
    return bool(version) and VERSIONS.index(version) >= VERSIONS.index(wanted)


def matches(rule: AccessRule, known: Mapping[str, Any]) -> bool:
    """All conditions hold, each by one of its values."""
    tests: list[tuple[tuple[Any, ...], Any]] = [
        (rule.client, lambda network: known["address"] in network),
        (rule.client_name, lambda name: below(known["client_name"], name)),
        (rule.helo, lambda name: below(known["helo"], name)),
        (rule.tls, lambda wanted: in_tls(known["tls_version"], wanted)),
        (rule.tls_name, lambda name: any(below(own, name) for own in known["tls_names"])),
        (rule.sender, lambda pattern: addressed(known["sender"], pattern)),
        (rule.recipient, lambda pattern: addressed(known["recipient"], pattern)),
        (rule.account, lambda name: bool(known["account"]) and name in ("*", known["account"])),
        (rule.listen, lambda endpoint: endpoint == known["listen"]),
    ]
    return all(not values or any(map(holds, values)) for values, holds in tests)


def expected(rules: list[AccessRule], known: Mapping[str, Any]) -> list[str]:
    """One rule after the other."""
    found = []
    for rule in rules:
        if matches(rule, known):
            found.append(rule.name)
            if rule.action != "warn":
                break
    return found


NAME = st.sampled_from([*DOMAINS, *(f"*.{name}" for name in DOMAINS)])
HOST = st.sampled_from([*DOMAINS, "B.A.ORG"])
LOCAL = st.sampled_from(["s", "S", "postmaster", '"a b"'])
ADDRESS = st.builds("{}@{}".format, LOCAL, HOST)
NETWORK = st.builds(
    lambda text, length: ip_network(f"{text}/{length if ':' not in text else length * 4}", strict=False),
    st.sampled_from(["192.0.2.9", "192.0.3.1", "10.1.2.3", "2001:db8::1", "2001:db9::1"]),
    st.sampled_from([0, 8, 23, 24, 32]),
)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """None most of the time."""
    return st.just(()) | st.lists(values, min_size=1, max_size=3).map(tuple)


RULE = st.builds(
    AccessRule,
    name=st.uuids().map(str),
    action=st.sampled_from([kind.value for kind in Kind]),
    at=st.just("rcpt"),
    client=some(NETWORK),
    client_name=some(NAME | st.just("unknown")),
    helo=some(NAME),
    tls=some(st.sampled_from(["none", "any", *VERSIONS])),
    tls_name=some(NAME),
    sender=some(NAME | ADDRESS | st.just("<>")),
    recipient=some(NAME | ADDRESS | st.just("postmaster@example.org")),
    account=some(st.sampled_from(["ann", "bob", "*"])),
    listen=some(st.sampled_from(["tcp:25", "tcp:587"])),
)
KNOWN = st.fixed_dictionaries(
    {
        "client": st.sampled_from(["192.0.2.9", "192.0.3.7", "10.9.9.9", "2001:db8::7"]),
        "client_name": HOST | st.just("unknown"),
        "helo": HOST,
        "tls_version": st.sampled_from(["", *VERSIONS]),
        "tls_names": st.lists(HOST, max_size=2).map(tuple),
        "sender": ADDRESS | st.just(""),
        "recipient": ADDRESS | st.just("Postmaster"),
        "account": st.sampled_from(["", "ann", "bob"]),
        "listen": st.sampled_from(["tcp:25", "tcp:587"]),
    }
)


class RulesTests(SynchronousTestCase):
    """`Rules`."""

    def names(self, *rules: AccessRule, stage: str = "rcpt", **known: Any) -> list[str]:
        """The names of those that match."""
        return [rule.name for rule in Rules(rules, HOME).matching(stage, facts(**known))]

    @hypothesis_settings(deadline=None, max_examples=200)
    @given(st.lists(RULE, max_size=6), KNOWN)
    def test_as_the_oracle(self, rules: list[AccessRule], known: dict[str, Any]) -> None:
        """With an index the same rules match, in the same order, as without."""
        self.assertEqual(expected(rules, facts(**known)), self.names(*rules, **known))

    @hypothesis_settings(deadline=None, max_examples=150)
    @given(st.lists(RULE, max_size=6), KNOWN)
    def test_but_for_the_name(self, rules: list[AccessRule], known: dict[str, Any]) -> None:
        """Those in front of the one that decides that ask for a name, and would match without that."""
        told = facts(**{**known, "client_name": "unknown"})
        made = Rules(rules, HOME)
        decides = next((rule for rule in made.matching("rcpt", told) if rule.kind is not Kind.WARN), None)
        before = rules[: [rule.name for rule in rules].index(decides.name)] if decides is not None else rules
        wanted = [rule.name for rule in before if rule.client_name and matches(attrs.evolve(rule, client_name=()), told)]
        self.assertEqual(wanted, [rule.name for rule in made.but_for_the_name("rcpt", told, decides)])

    def test_the_first_decides(self) -> None:
        """What warns is passed by, what decides ends it."""
        rules = [AccessRule(name, action, "rcpt") for name, action in (("w", "warn"), ("a", "accept"), ("r", "reject"))]
        self.assertEqual(["w", "a"], self.names(*rules))

    def test_stages(self) -> None:
        """A rule is asked when all is known that it asks about, and when it can be done; or later, where it says so."""
        for wanted, rule in (
            ("connect", AccessRule("r", "reject", client=(ip_network("192.0.2.0/24"),))),
            ("mail", AccessRule("r", "hold", client=(ip_network("192.0.2.0/24"),))),
            ("connect", AccessRule("r", "reject", client_name=("unknown",))),
            ("helo", AccessRule("r", "reject", helo=("localhost",), listen=("tcp:25",))),
            ("mail", AccessRule("r", "reject", tls=("none",), helo=("a.org",))),
            ("mail", AccessRule("r", "reject", sender=("<>",))),
            ("mail", AccessRule("r", "reject", account=("*",))),
            ("rcpt", AccessRule("r", "reject", sender=("<>",), recipient=("a.org",))),
            ("rcpt", AccessRule("r", "reject", "rcpt", helo=("a.org",))),
            ("auth", AccessRule("r", "reject", "auth", tls=("none",))),
        ):
            self.assertEqual({wanted}, Rules([rule], HOME).stages, rule)

    def test_names_are_waited_for_where_they_count(self) -> None:
        """Only at the stages of the rules that ask for them."""
        rules = Rules([AccessRule("a", "warn", "mail", client_name=("unknown",)), AccessRule("b", "warn", "rcpt")], HOME)
        self.assertEqual((frozenset({"mail"}), frozenset({"mail", "rcpt"})), (rules.named_at, rules.stages))

    def test_lists(self) -> None:
        """ "+name" stands for the networks of a list, beside others; of an empty list nobody is."""
        rule = AccessRule("r", "reject", "rcpt", client=(ip_network("198.51.100.0/24"), "+partners"))
        lists = HostLists({"partners": ("!192.0.2.1", "192.0.2.0/24", "+more"), "more": ("2001:db8::/32",)})
        made = Rules([rule], HOME, lists)
        for client, wanted in (
            ("198.51.100.9", 1),
            ("192.0.2.9", 1),
            ("2001:db8::9", 1),
            ("192.0.2.1", 0),
            ("203.0.113.9", 0),
        ):
            self.assertEqual(wanted, len([*made.matching("rcpt", facts(client=client))]), client)
        nobody = Rules([AccessRule("n", "reject", "rcpt", client=("+none",))], HOME, HostLists({"none": ()}))
        self.assertEqual([], [*nobody.matching("rcpt", facts())])
        self.assertRaises(ValueError, Rules, [rule], HOME)

    def test_listeners(self) -> None:
        """By name, or by endpoint; a listener without a name is not everybody's."""
        for listen in ("mx", "tcp:25"):
            rule = AccessRule("r", "reject", "rcpt", listen=(listen,))
            self.assertEqual(["r"], self.names(rule, listen="tcp:25", listen_name="mx"))
            self.assertEqual([], self.names(rule, listen="tcp:587", listen_name=""))

    def test_replies(self) -> None:
        """The rule's own, else one that fits."""
        made = [
            AccessRule("own", "reject", "rcpt", reply="554 5.7.9 Go away"),
            AccessRule("no", "reject", "rcpt"),
            AccessRule("later", "defer", "rcpt"),
        ]
        replies = [next(iter(Rules([rule], HOME).matching("rcpt", facts()))).reply for rule in made]
        self.assertEqual(Reply(554, "5.7.9", "Go away"), replies[0])
        self.assertEqual([(550, "5.7.1"), (450, "4.7.1")], [(reply.code, reply.enhanced) for reply in replies[1:]])

    def test_no_address(self) -> None:
        """Of a client that has none no network is known, not even that of everybody."""
        rule = AccessRule("all", "accept", client=(ip_network("0.0.0.0/0"), ip_network("::/0")))
        self.assertEqual([], [*Rules([rule], HOME).matching("connect", {**facts(), "address": None})])

    def test_international(self) -> None:
        """U-labels and A-labels are one."""
        rule = AccessRule("r", "reject", sender=("*.Bücher.example", "x@bücher.example"))
        for sender in ("a@b.xn--bcher-kva.example", "a@b.bücher.example", "X@xn--bcher-kva.example"):
            self.assertEqual(["r"], self.names(rule, stage="mail", sender=sender))

    def test_many_cost_no_more(self) -> None:
        """Of a thousand rules only those are looked at that may match."""
        looked: list[str] = []

        many = [AccessRule(f"r{number}", "reject", sender=(f"d{number}.example",), helo=("a.org",)) for number in range(1000)]
        rules = Rules(many, HOME)
        stage = rules._by_stage["mail"]
        holds = type(stage)._holds
        self.patch(type(stage), "_holds", lambda self, rule, *rest: looked.append(rule.name) or holds(self, rule, *rest))
        self.assertEqual(["r7"], [r.name for r in rules.matching("mail", facts(sender="x@d7.example", helo="a.org"))])
        self.assertEqual(["r7"], looked)


class SetTests(SynchronousTestCase):
    """`Networks` and `Names`."""

    def test_networks(self) -> None:
        """Of both families; no address is in none."""
        networks = Networks([ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")])
        for text, wanted in (("192.0.2.200", True), ("192.0.3.1", False), ("2001:db8::5", True), ("2001:db9::", False)):
            self.assertIs(wanted, ip_address(text) in networks)
        self.assertNotIn(None, networks)

    def test_names(self) -> None:
        """A domain is itself, "*." what is below it; a bare postmaster is that of the home domain."""
        names = Names(["a.org", "*.b.org", "postmaster@example.org"])
        self.assertEqual([True, False, True, False], [names.has_name(name) for name in ("A.org.", "x.a.org", "x.b.org", "b.org")])
        self.assertTrue(names.has_address("Postmaster", HOME))
        self.assertFalse(names.has_address("x@example.org", HOME))
        self.assertFalse(names.has_name(""))
