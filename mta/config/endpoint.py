"""The syntax of [[listen]] endpoints: any Twisted server endpoint string, as far as it can be judged without a reactor.

`tcp:` and `unix:` are read whole, other kinds must be known to Twisted (built in, or by a plugin) and are left to it.
Kinds that would break a promise are refused: `ssl:` and `tls:` hide TLS from the session, `haproxy:` speaks before the client's
address is known.
"""

from __future__ import annotations

import re

from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from mta.config.mistake import did_you_mean, shown
from mta.config.name import is_address, port_fault

__all__ = ["endpoint_fault"]

_COLON = re.compile(r"(?<!\\):")  # the others are escaped: part of a value
_OPTIONS = {"tcp": ("port", "interface", "backlog"), "unix": ("address", "mode", "backlog", "lockfile")}
_IMPLICIT = 'did you mean "tcp:..." with tls = "implicit"?'
_REFUSED = {
    "ssl": _IMPLICIT,
    "tls": _IMPLICIT,
    "stdio": "it is one connection, not a port",
    "haproxy": 'did you mean "tcp:..." with proxy_from?',
}


def endpoint_fault(text: str) -> str | None:
    """What is wrong with an endpoint string, None when nothing is known to be."""
    kind, *words = _COLON.split(text)
    if kind in _REFUSED:
        return f"{kind}: cannot be used here; {_REFUSED[kind]}"
    if kind not in _OPTIONS:
        return _other_fault(kind, text)
    options: dict[str, str] = {}
    for word in words:
        name, equals, setting = word.partition("=")
        if not equals and options:
            return f"{shown(word)} is out of place; a colon within an address is written '\\:'"
        if not equals:
            name, setting = _OPTIONS[kind][0], word
        if name not in _OPTIONS[kind]:
            return f"{kind}: has no option {name!r}{did_you_mean(name, _OPTIONS[kind])}"
        options[name] = re.sub(r"\\(.)", r"\1", setting)
    return _tcp_fault(options) if kind == "tcp" else _unix_fault(options)


def _tcp_fault(options: dict[str, str]) -> str | None:
    interface = options.get("interface", "")
    if interface and not is_address(interface):
        return f"interface: an address is wanted, not {shown(interface)}"
    if not options.get("backlog", "1").isdecimal():
        return f"backlog: a whole number is wanted, not {shown(options['backlog'])}"
    return port_fault(options.get("port", ""), lowest=0)


def _unix_fault(options: dict[str, str]) -> str | None:
    return None if options.get("address") else "the path of a socket is wanted, as in 'unix:/run/mta.sock'"


def _other_fault(kind: str, text: str) -> str | None:
    kinds = {str(plugin.prefix) for plugin in getPlugins(IStreamServerEndpointStringParser)}
    if kind in kinds:
        return None
    known = sorted((kinds | set(_OPTIONS)) - set(_REFUSED))
    if text.isdecimal():
        return f"an endpoint is wanted; did you mean 'tcp:{text}'?"
    return f"{shown(text)} is no server endpoint ({', '.join(known)}){did_you_mean(kind, known)}"
