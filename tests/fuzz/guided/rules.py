"""The operator's rules: whatever they are and whatever a client says, an index answers as a list that is read from its begin to its end.

The facts are what a session knows at RCPT, with words of the client's in them; a rule that matches is one that a naive reading, one
condition and one value at a time, has too.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Final

from mta.config.receiving import AccessRule
from mta.receive.rules import Names, Networks, Rules
from mta.smtp.address import parse_path
from mta.status import MailError
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.target import Target
from tests.receive.test_rules import DOMAINS, HOME, addressed, below, facts

__all__ = ["TARGET"]

NETWORKS: Final = ("192.0.2.0/24", "192.0.2.9/32", "0.0.0.0/0", "2001:db8::/32", "::/0")
CLIENTS: Final = ("192.0.2.9", "192.0.2.77", "198.51.100.1", "2001:db8::1", "2002::1")
PATTERNS: Final = (*DOMAINS, *(f"*.{domain}" for domain in DOMAINS), "xn--bcher-kva.org")
ADDRESSES: Final = (*PATTERNS, "s@a.org", "r@example.org", "postmaster@example.org", "ü@bücher.org")
ACTIONS: Final = ("reject", "accept", "defer", "warn")


def rule(draw: Draw, number: int) -> AccessRule:
    """One or two conditions, each of one or two values."""
    given: dict[str, Any] = {}
    for _ in range(1 + draw.below(2)):
        fact = draw.pick(("helo", "client", "sender", "recipient", "client_name"))
        values = NETWORKS if fact == "client" else ADDRESSES if fact in ("sender", "recipient") else PATTERNS
        words = tuple(draw.pick(values) for _ in range(1 + draw.below(2)))
        given[fact] = tuple(map(ip_network, words)) if fact == "client" else words
    return AccessRule(f"rule{number}", draw.pick(ACTIONS), at="rcpt", **given)


def holds(given: AccessRule, known: dict[str, Any]) -> bool:
    """All of its conditions, each by one of its values."""
    tests = {
        "helo": lambda value: below(known["helo"].rstrip("."), value),
        "client": lambda value: known["address"].version == value.version and known["address"] in value,
        "sender": lambda value: addressed(known["sender"], value),
        "recipient": lambda value: addressed(known["recipient"], value),
        "client_name": lambda value: below(known["client_name"], value),
    }
    return all(not getattr(given, fact) or any(map(test, getattr(given, fact))) for fact, test in tests.items())


def said(words: list[bytes]) -> dict[str, Any]:
    """HELO name, sender and recipient as the machine gives them."""
    known: dict[str, Any] = {}
    for fact, word in zip(("helo", "sender", "recipient"), words, strict=False):
        text = word.decode("ascii", "replace")
        try:
            known[fact] = text if fact == "helo" else parse_path(b"<%b>" % word, utf8=True)[0].address
        except MailError:
            continue
    if not known.get("recipient"):  # RCPT TO:<> is no recipient
        known.pop("recipient", None)
    return known


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    given = [rule(draw, number) for number in range(1 + draw.below(5))]
    known = facts(client=draw.pick(CLIENTS), **said(draw.segments()))
    wanted = []
    for one in given:
        if holds(one, known):
            wanted.append(one.name)
            if one.action != "warn":
                break
    if all(known[fact].isascii() for fact in ("helo", "sender", "recipient")):  # names in U-labels: tests/receive/test_rules.py
        assert [match.name for match in Rules(given, HOME).matching("rcpt", known)] == wanted
    else:
        list(Rules(given, HOME).matching("rcpt", known))
    assert (known["address"] in Networks(map(ip_network, NETWORKS[:2]))) == known["client"].startswith("192.0.2.")
    Names(ADDRESSES).has_address(known["recipient"], HOME)


def seeds() -> Iterator[bytes]:
    """Words of each kind."""
    for choices in ([], [4, 1, 0, 0, 7], [2, 1, 2, 0, 3, 1, 3, 0, 14], [1, 3, 0, 0, 13, 3, 0, 1], [0, 0, 0, 0, 0, 3]):
        yield joined(choices, b"mail.a.org\xffs@a.org\xffr@example.org")
        yield joined(choices, "c.b.a.org.\xff".encode("latin-1") + "ü@bücher.org".encode() + b"\xffPostmaster")


WORDS = (b"a.org", b"b.a.org", b"@", b"\xff", b".", b"xn--", b"\xc3\xbc", b"Postmaster", b"[192.0.2.9]", b'"a@b"')
TARGET = Target("rules", check, seeds, WORDS, max_length=512)
