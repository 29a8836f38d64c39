"""Which name servers to ask: the words of the configuration and of /etc/resolv.conf.

resolv.conf(5): at most three `nameserver` lines count, the rest of the file (search, options, trust-ad) is for stub
resolvers that guess; mail names are fully qualified.  Without any server the one on this machine is asked, as libc does.
Pure: the text is passed in.  A server that is no IP address is a ValueError.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import attrs

__all__ = ["Server", "parse_resolv_conf", "parse_server"]

_PORT = 53
_LOCAL = "127.0.0.1"
_BRACKETS = re.compile(r"\[(?P<host>[^\]]+)\](?::(?P<port>[0-9]{1,5}))?")
_PLAIN = re.compile(r"(?P<host>[0-9.]+)(?::(?P<port>[0-9]{1,5}))?")


@attrs.frozen(slots=True)
class Server:
    """Address and port of a name server."""

    host: str
    port: int = _PORT

    @property
    def is_ipv6(self) -> bool:
        """Its family."""
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def parse_server(text: str) -> Server:
    """ "192.0.2.53", "192.0.2.53:53", "2001:db8::53", "[2001:db8::53]:53", "fe80::1%eth0".  ValueError for anything else."""
    match = _BRACKETS.fullmatch(text) or _PLAIN.fullmatch(text)
    host, port = (match["host"], int(match["port"] or _PORT)) if match else (text, _PORT)
    if not 0 < port < 65536:
        raise ValueError(f"not a port: {text!r}")
    return Server(str(IPv6Address(host) if ":" in host else IPv4Address(host)), port)


def parse_resolv_conf(text: str) -> tuple[Server, ...]:
    """The servers of a resolv.conf, in order; lines that cannot be read are passed over, as libc does."""
    found: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            found.append(parse_server(words[1]))
        except ValueError:
            continue
    return tuple(found[:3]) or (Server(_LOCAL),)
