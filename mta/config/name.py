"""The syntax of names in mta.toml: host names, domains, endpoint strings, next hops, patterns.  Pure.

RFC 1123 2.1 and RFC 5321 4.1.2 (host names), RFC 5890 (A-labels).  Each function says what is wrong with a text, or None.
Nothing is looked up: whether a name exists is found out when it is used.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import idna

from mta.config.mistake import shown
from mta.smtp.address import parse_address
from mta.status import MailError

__all__ = [
    "address_fault",
    "destination_fault",
    "domain_fault",
    "hostname_fault",
    "is_address",
    "next_hop_fault",
    "pattern_fault",
    "port_fault",
    "reference_fault",
    "server_fault",
]

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # "_": not of hosts, but domains have it
_NEXT_HOP = re.compile(r"\[(?P<host>[^\[\]]+)\](?::(?P<port>[^:]*))?")
_SERVER = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[^:]*))?")
REFERENCES = ("nexthop", "dot-nexthop", "hostname")


def domain_fault(text: str) -> str | None:
    """A domain: labels of letters, digits, "-" and "_"; U-labels too."""
    try:
        ascii_text = text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError:
        ascii_text = ""
    labels = ascii_text.split(".")
    if len(ascii_text) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        return f"a domain name is wanted, not {shown(text)}"
    return None


def hostname_fault(text: str) -> str | None:
    """The name that we say in EHLO (RFC 5321 2.3.5): fully qualified, A-labels, no "_"."""
    if domain_fault(text) or "_" in text or "." not in text:
        return f"a full host name is wanted, like mx1.example.org, not {shown(text)}"
    if not text.isascii():
        return f"a host name in A-labels is wanted; did you mean {idna.encode(text, uts46=True).decode('ascii')!r}?"
    return None


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def port_fault(text: str, lowest: int = 1) -> str | None:
    """A port number."""
    if text.isascii() and text.isdigit() and len(text) < 6 and lowest <= int(text) < 65536:
        return None
    return f"a port from {lowest} to 65535 is wanted, not {shown(text)}"


def next_hop_fault(text: str) -> str | None:
    """A domain whose MX are used, or a host in brackets, with or without port, that is used as it is."""
    if match := _NEXT_HOP.fullmatch(text):
        host, port = match["host"], match["port"]
        literal = host[5:] if host[:5].lower() == "ipv6:" else host
        fault = None if is_address(literal) else domain_fault(host)
        return fault or (None if port is None else port_fault(port))
    host, colon, port = text.rpartition(":")
    if colon and not domain_fault(host):
        return f"a port is for a host in brackets (no MX lookup); did you mean '[{host}]:{port}'?"
    if is_address(text):
        return f"an address is written in brackets; did you mean '[{text}]'?"
    if domain_fault(text):
        return f"a domain, '[host]' or '[host]:port' is wanted, not {shown(text)}"
    return None


def server_fault(text: str) -> str | None:
    """A name server: an address, with or without port."""
    match = _SERVER.fullmatch(text)
    host = (match["v6"] or match["v4"]) if match else text
    if not is_address(host):
        return f'an address is wanted ("127.0.0.1:53", "[::1]:53"), not {shown(text)}'
    return port_fault(match["port"]) if match and match["port"] is not None else None


def destination_fault(text: str) -> str | None:
    """What next hops a [[tls_policy]] is for: a domain, ".domain" (names below it), "[host]", "[host]:port"."""
    if text.startswith("["):
        return next_hop_fault(text)
    if text.startswith("*."):
        return f"names below a domain are written {text[1:]!r} here, not {shown(text)}"
    if is_address(text) or domain_fault(text.removeprefix(".")):
        return next_hop_fault(text) or f"a domain, '.domain', '[host]' or '[host]:port' is wanted, not {shown(text)}"
    return None


def reference_fault(text: str) -> str | None:
    """What name a server's certificate must have: a domain, ".domain", or Postfix's words for the names of the delivery."""
    if text in REFERENCES or not domain_fault(text.removeprefix(".")):
        return None
    return f"a domain, {', '.join(map(repr, REFERENCES))} is wanted, not {shown(text)}"


def address_fault(text: str) -> str | None:
    """A mail address, user@domain."""
    try:
        right = not domain_fault(parse_address(text).domain)
    except MailError:
        right = False
    return None if right else f"an address is wanted, user@domain, not {shown(text)}"


def pattern_fault(text: str) -> str | None:
    """What recipients a route is for: "local", "*", a domain, "*.domain", user@domain."""
    if text in ("*", "local"):
        return None
    if not (address_fault(text) if "@" in text else domain_fault(text.removeprefix("*."))):
        return None
    return f"a domain, '*.domain', 'user@domain', 'local' or '*' is wanted, not {shown(text)}"
