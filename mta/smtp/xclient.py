"""XCLIENT and XFORWARD: a client that is listed says for whom it speaks.  Postfix's XCLIENT_README and XFORWARD_README.

XCLIENT changes who the client *is* (access, limits, log), XFORWARD only what the log says about the next message.  The
parsers take the argument of the command and raise MailError, 501 5.5.4, for whatever is not by the grammar: an attribute that is
not offered, one named twice, bad xtext, an address or port that is none.  [UNAVAILABLE] and [TEMPUNAVAIL] are None: the
client itself does not know; but XCLIENT's NAME=[TEMPUNAVAIL] is TEMPORARY, a lookup that failed for now.  Values are xtext; a
blank, a control character or anything beyond ASCII in them is refused, for they go into the log and the trace.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final

from mta.smtp.dsn import XTEXT, from_xtext
from mta.smtp.event import XClient
from mta.smtp.grammar import HELLO_NAME
from mta.status import MailError, Reply

__all__ = ["NOT_FORWARDED", "TEMPORARY", "XCLIENT", "XFORWARD", "parse_xclient", "parse_xforward"]

XCLIENT: Final = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"  # as EHLO offers it
XFORWARD: Final = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
NOT_FORWARDED: Final[Mapping[str, str]] = MappingProxyType({})

TEMPORARY: Final = "[TEMPUNAVAIL]"  # no host name looks like that

MAX_VALUE: Final = 255

_BAD: Final = Reply(501, "5.5.4", "Bad attribute")
_SYNTAX: Final = Reply(501, "5.5.4", "Syntax: command attribute=value ...")
_UNKNOWN: Final = frozenset({"[UNAVAILABLE]", TEMPORARY})
_GRAPHIC: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)


def parse_xclient(argument: bytes) -> XClient:
    """XCLIENT's attributes, in lower case -> value."""
    return XClient(_attributes(argument, _OF_XCLIENT, doubt="name"))


def parse_xforward(argument: bytes, so_far: Mapping[str, str]) -> Mapping[str, str]:
    """What is forwarded now, as fields for the log: `so_far` with what this command says; what is unavailable leaves."""
    said = {_FIELDS[name]: value for name, value in _attributes(argument, _OF_XFORWARD).items()}
    return {name: value for name, value in {**so_far, **said}.items() if value is not None}


def _attributes(argument: bytes, known: Mapping[str, Callable[[str], str]], doubt: str = "") -> dict[str, str | None]:
    """doubt: the attribute that may be known another time."""
    found: dict[str, str | None] = {}
    for word in argument.split():
        name, equals, value = word.decode("latin-1").partition("=")
        name = name.lower()
        if not equals or name in found or name not in known or not XTEXT.fullmatch(value):
            raise MailError(_BAD)
        text = from_xtext(value)
        if len(text) > MAX_VALUE or not _GRAPHIC.fullmatch(text):
            raise MailError(_BAD)
        if text.upper() in _UNKNOWN:
            found[name] = TEMPORARY if name == doubt and text.upper() == TEMPORARY else None
        else:
            found[name] = known[name](text)
    if not found:
        raise MailError(_SYNTAX)
    return found


# ---- the values


def _any(text: str) -> str:
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise MailError(_BAD)
    return text


def _name(text: str) -> str:
    """What EHLO may say too: nothing that means something in a Received line."""
    if not HELLO_NAME.fullmatch(text.encode("ascii")):
        raise MailError(_BAD)
    return text


def _any_address(text: str) -> str:
    return text[5:] if text[:5].upper() == "IPV6:" else text


def _address(text: str) -> str:
    """An IPv4 address, or an IPv6 one behind "IPV6:"."""
    family = IPv6Address if text[:5].upper() == "IPV6:" else IPv4Address
    try:
        return str(family(text[5:] if family is IPv6Address else text))
    except ValueError:
        raise MailError(_BAD) from None


def _port(text: str) -> str:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise MailError(_BAD)
    return text


def _protocol(text: str) -> str:
    if text.upper() not in ("SMTP", "ESMTP"):
        raise MailError(_BAD)
    return text.upper()


_OF_XCLIENT: Final[Mapping[str, Callable[[str], str]]] = {
    "name": _host,
    "addr": _address,
    "port": _port,
    "proto": _protocol,
    "helo": _name,
    "login": _any,
    "destaddr": _address,
    "destport": _port,
}
_OF_XFORWARD: Final[Mapping[str, Callable[[str], str]]] = {  # names and addresses need not be of the Internet
    "name": _any,
    "addr": _any_address,
    "port": _port,
    "proto": _any,
    "helo": _any,
    "ident": _any,
    "source": _any,
}
_FIELDS: Final = {"addr": "orig_client"} | {name: f"orig_{name}" for name in _OF_XFORWARD if name != "addr"}
