"""Paths and mailboxes: RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3.

`Path` is what stands between the angle brackets, taken apart: the local part without its quoting and the domain as it
was given.  Parsing never rewrites: `parse_path(b"<" + path.address + b">")` gives the same path.  A source route is
accepted and ignored.  Every failure is a `MailError` with 501 5.1.3 (syntax, sizes) or 553 5.6.7 (needs SMTPUTF8).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import attrs
import idna

from mta.smtp.grammar import DOMAIN, DOT_STRING, MAX_DOMAIN, MAX_LABEL, MAX_LOCAL_PART, MAX_PATH, PATH
from mta.status import MailError, Reply, Scope

__all__ = ["NULL_PATH", "Path", "parse_address", "parse_path"]

_SYNTAX: Final = Reply(501, "5.1.3", "Bad address syntax")
_TOO_LONG: Final = Reply(501, "5.1.3", "Path too long")  # RFC 5321 4.5.3.1.10
_NEEDS_UTF8: Final = Reply(553, "5.6.7", "Address needs SMTPUTF8")  # RFC 6531 3.5
_QUOTED_PAIR = re.compile(r"\\(.)")
_TO_QUOTE = re.compile(r'(["\\])')


@attrs.frozen(slots=True)
class Path:
    """A reverse-path or forward-path.  Both parts are "" for `<>`; only postmaster may lack its domain."""

    local: str
    domain: str

    @property
    def address(self) -> str:
        """The text as it travels in the envelope: quoted where it must be, "" for `<>`."""
        if not self.domain:
            return self.local
        if DOT_STRING.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        quoted = _TO_QUOTE.sub(r"\\\1", self.local)
        return f'"{quoted}"@{self.domain}'

    @property
    def domain_key(self) -> str:
        """The domain for comparing and looking up: lower case, A-labels (RFC 5890)."""
        if self.domain.isascii():
            return self.domain.lower()
        return idna.encode(self.domain, uts46=True).decode("ascii")

    @property
    def is_ascii(self) -> bool:
        """May travel without SMTPUTF8."""
        return self.local.isascii() and self.domain.isascii()


NULL_PATH: Final = Path("", "")


def parse_path(data: bytes, utf8: bool) -> tuple[Path, bytes]:
    """The path that `data` begins with, and what follows its ">".  utf8: may it be of more than ASCII?"""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _error(_SYNTAX) from None
    match = PATH.match(text)
    if match is None:
        raise _error(_SYNTAX)
    rest = text[match.end() :].encode("utf-8")
    local, domain = match.groups()
    if local is None:
        return NULL_PATH, rest
    return _path(local, domain or "", utf8), rest


def parse_address(text: str) -> Path:
    """The path of an address written without brackets, as it stands in a queue or a configuration."""
    path, rest = parse_path(b"<" + text.encode("utf-8", "surrogatepass") + b">", utf8=True)
    if rest:
        raise _error(_SYNTAX)
    return path


def _path(local: str, domain: str, utf8: bool) -> Path:
    if not (utf8 or (local.isascii() and domain.isascii())):
        raise _error(_NEEDS_UTF8)
    _check_sizes(local, domain)
    if local[0] == '"':
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if not domain:
        if local.lower() != "postmaster":  # RFC 5321 4.5.1
            raise _error(_SYNTAX)
    elif domain[0] == "[":
        _check_literal(domain[1:-1])
    path = Path(local, domain)
    if not domain.isascii() or len(domain) > MAX_LABEL:
        _check_labels(path)
    return path


def _check_sizes(local: str, domain: str) -> None:
    """RFC 5321 4.5.3.1.1 to 3, in octets (RFC 6531 3.3)."""
    n_local = len(local) if local.isascii() else len(local.encode("utf-8"))
    n_domain = len(domain) if domain.isascii() else len(domain.encode("utf-8"))
    if n_local > MAX_LOCAL_PART or n_domain > MAX_DOMAIN or n_local + n_domain + 3 > MAX_PATH:
        raise _error(_TOO_LONG)


def _check_literal(text: str) -> None:
    """RFC 5321 4.1.3; tags other than IPv6 are not registered."""
    try:
        if text[:5].lower() == "ipv6:":
            IPv6Address(text[5:])
        else:
            IPv4Address(text)
    except AddressValueError:
        raise _error(_SYNTAX) from None


def _check_labels(path: Path) -> None:
    """No label over 63 octets; a name in U-labels must have A-labels, or no DNS will ever find it."""
    try:
        key = path.domain_key
    except UnicodeError:  # idna.IDNAError is one
        raise _error(_SYNTAX) from None
    if key[0] != "[" and (not DOMAIN.fullmatch(key) or len(key) > MAX_DOMAIN or max(map(len, key.split("."))) > MAX_LABEL):
        raise _error(_SYNTAX)


def _error(reply: Reply) -> MailError:
    return MailError(reply, scope=Scope.RECIPIENT)
