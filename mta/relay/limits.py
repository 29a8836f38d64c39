"""What a server says of its own limits (RFC 9422), and which recipients one transaction with it may have (pure).

MAILMAX: transactions in a connection; RCPTMAX: recipients of one; RCPTDOMAINMAX: domains among them.  What cannot be read is no
limit: the server's replies count in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["admitted", "limit"]


def limit(extensions: Mapping[str, str], name: str) -> int:
    """A limit of LIMITS, 0 where there is none that can be read (RFC 9422 4.1: at most six digits)."""
    for word in extensions.get("LIMITS", "").upper().split():
        key, _, value = word.partition("=")
        if key == name and value.isascii() and value.isdigit() and len(value) <= 6:
            return int(value)
    return 0


def admitted(recipients: Sequence[str], extensions: Mapping[str, str]) -> Sequence[int] | None:
    """The places of those that fit into one transaction, in order; None for all of them."""
    most, most_domains = limit(extensions, "RCPTMAX"), limit(extensions, "RCPTDOMAINMAX")
    places: Sequence[int] = range(len(recipients))
    if most_domains:
        domains: set[str] = set()
        chosen = []
        for place in places:
            domain = recipients[place].rpartition("@")[2].lower()
            if domain in domains or len(domains) < most_domains:
                domains.add(domain)
                chosen.append(place)
        places = chosen
    if most:
        places = places[:most]
    return None if len(places) == len(recipients) else places
