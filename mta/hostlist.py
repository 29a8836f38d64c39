"""Host lists as Exim writes them: which hosts an option speaks of (docs/tls.md, "Host lists").  Pure.

An item is `*`, a name, `*.tail` or `.tail` (names below it), `^regex`, an IPv4 or IPv6 address or network, `@[]` (our own
addresses), `+name` (a list of `[[hostlist]]`) or `/file` (one item a line, `#` begins a comment); `!` in front
negates it.  The first item that matches decides; when none does the answer is no, but yes if the last item is negated
(Exim's rule: `!a` alone means "all but a").  Names are compared with the MX host's name as looked up, addresses with the
peer's IP address, never with what the peer says of itself.  A string may hold several items separated by `:`, or by the
character that follows a leading `<` (`<; 2001:db8::/32 ; !*.example`); a doubled separator stands for itself.
Lists are parsed once; a bad item raises ValueError that quotes it.  A list that has addresses and networks alone can be
asked for these (`networks`): so rules of access use it, whose index knows networks only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
    summarize_address_range,
)
from types import MappingProxyType

import attrs
import idna

__all__ = ["HostList", "HostLists"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Test = Callable[[str, Address | None], bool]
Networks = Callable[[], tuple[Network, ...]]

EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@attrs.frozen(slots=True)
class Item:
    """One item, ready to ask.  negated: it says no where it matches.  networks: all that match; None: more is asked for."""

    text: str
    negated: bool
    test: Test = attrs.field(eq=False, repr=False)
    networks: Networks | None = attrs.field(eq=False, repr=False)


@attrs.frozen(slots=True)
class HostLists:
    """What an item may lean on.

    named: the lists that `+name` speaks of.  own: our addresses in text, read at each question.  read: the text of a file;
    OSError when it cannot be read.
    """

    named: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    own: Collection[str] = ()
    read: Callable[[str], str] | None = None


@attrs.frozen(slots=True)
class HostList:
    """A parsed list."""

    items: tuple[Item, ...]

    @classmethod
    def parse(cls, strings: Iterable[str], lists: HostLists | None = None) -> HostList:
        """Read the strings of a TOML array (or one Exim string in a tuple of one).  ValueError quotes a bad item."""
        return cls(tuple(_parse(strings, lists or HostLists(), ())))

    def match(self, name: str, address: str) -> bool:
        """Is the host in the list?  name: in lower case without final dot, or the address again where there is none."""
        peer = _address(address)
        if name == address:
            name = ""
        for item in self.items:
            if item.test(name, peer):
                return not item.negated
        return bool(self.items) and self.items[-1].negated

    def networks(self) -> tuple[Network, ...]:
        """All addresses to which it says yes.  ValueError quotes an item that asks for more than the address."""
        yes: list[Network] = []
        no: list[Network] = []
        for item in self.items:
            if item.networks is None:
                raise ValueError(f"host list item {item.text!r}: addresses and networks are wanted here")
            if item.negated:
                no += item.networks()
            else:
                yes += _without(item.networks(), no)
        if self.items and self.items[-1].negated:
            yes += _without(EVERYTHING, no)
        return _collapsed(yes)


def _parse(strings: Iterable[str], lists: HostLists, within: tuple[str, ...]) -> Iterator[Item]:
    """The items of a list.  within: the named lists that we are in already: a circle has no meaning."""
    for string in strings:
        for text in _split(string):
            yield _item(text, lists, within)


def _split(string: str) -> Iterator[str]:
    """The items of one string, without blanks and empty ones."""
    string = string.strip()
    if _network(string.removeprefix("!").strip()) is not None:
        yield string  # an IPv6 address needs no other separator when it stands alone
        return
    separator = ":"
    if string.startswith("<") and len(string) > 1:
        separator, string = string[1], string[2:]
    for text in string.replace(separator * 2, "\0").split(separator):
        if item := text.replace("\0", separator).strip():
            yield item


def _item(text: str, lists: HostLists, within: tuple[str, ...]) -> Item:
    """Understand one item."""
    body = text.removeprefix("!").strip()
    negated = text.startswith("!")
    try:
        if body.startswith(("+", "/")):
            inner = _inner(body, lists, within)
            return Item(text, negated, lambda name, peer: inner.match(name, "" if peer is None else str(peer)), inner.networks)
        if body == "@[]":
            return Item(text, negated, _own(lists.own), None)
        return Item(text, negated, *_test(body))
    except OSError as error:
        raise ValueError(f"host list item {text!r}: {error.strerror}") from None
    except (ValueError, re.error) as error:
        raise ValueError(f"host list item {text!r}: {error}") from None


def _inner(body: str, lists: HostLists, within: tuple[str, ...]) -> HostList:
    """`+name` and `/file`: a list of its own, whose answer is the item's."""
    if body in within:
        raise ValueError("the list is a part of itself")
    if body.startswith("+"):
        if body[1:] not in lists.named:
            raise ValueError("no [[hostlist]] has this name")
        strings: Iterable[str] = lists.named[body[1:]]
    else:
        if lists.read is None:
            raise ValueError("a file cannot be named here")
        strings = [line.partition("#")[0] for line in lists.read(body).splitlines()]
    return HostList(tuple(_parse(strings, lists, (*within, body))))


def _own(own: Collection[str]) -> Test:
    """Our own addresses."""
    return lambda name, peer: peer is not None and any(_address(mine) == peer for mine in own)


def _test(body: str) -> tuple[Test, Networks | None]:
    """The question that one item asks of a name and an address, and to which networks it says yes where it asks no name."""
    if body == "*":
        return lambda name, peer: True, lambda: EVERYTHING
    if body.startswith("^"):
        found = re.compile(body, re.IGNORECASE).search
        return lambda name, peer: bool(name) and found(name) is not None, None
    network = _network(body)
    if network is not None:
        return lambda name, peer: peer is not None and peer in network, lambda: (network,)
    if body.startswith((".", "*.")):
        tail = "." + _name(body[body.index(".") + 1 :])
        return lambda name, peer: name.endswith(tail), None
    wanted = _name(body)
    return lambda name, peer: name == wanted, None


def _name(text: str) -> str:
    """A host name as it is looked up: A-labels, lower case, no final dot."""
    name = text.lower().removesuffix(".")
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode("ascii")
    if not NAME.fullmatch(name):
        raise ValueError("neither a name, an address, a network, *, *.tail, ^regex, @[], +name nor /file")
    if name.replace(".", "").isdigit():
        raise ValueError("not an IP address")
    return name


def _network(text: str) -> Network | None:
    """An address or network in text, else None."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _without(networks: Iterable[Network], holes: Iterable[Network]) -> Iterator[Network]:
    """What is left of networks."""
    gone = [(hole.version, int(hole[0]), int(hole[-1])) for hole in _collapsed(holes)]
    for network in networks:
        address = type(network[0])
        first, last = int(network[0]), int(network[-1])
        for version, begin, end in gone:
            if version != network.version or end < first or last < begin:
                continue
            if first < begin:
                yield from summarize_address_range(address(first), address(begin - 1))
            first = end + 1
        if first <= last:
            yield from summarize_address_range(address(first), address(last))


def _collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    """The fewest that are the same, in order."""
    given = list(networks)
    v4 = [network for network in given if isinstance(network, IPv4Network)]
    v6 = [network for network in given if isinstance(network, IPv6Network)]
    return (*collapse_addresses(v4), *collapse_addresses(v6))


def _address(text: str) -> Address | None:
    """The peer's address; an IPv4 address that came by IPv6 is the IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
