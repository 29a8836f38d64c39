"""Command lines and their arguments: RFC 5321 4.1.1, with the parameters of RFC 1870, 3030, 3461, 4954, 6152, 6531 and 8689.

Reading: `split` takes a line apart, the `parse_` functions read an argument and give the event for it; what they cannot
read raises MailError with the reply for the client (never a piece of its input).  One blank after "FROM:" and "TO:" is
tolerated, for many clients send it.  Writing: `mail_line` and `rcpt_line` give the bytes to send, ValueError for an
address with a control character: no address ever becomes two commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Final

from mta.envelope import Flag
from mta.smtp.address import Path, parse_path
from mta.smtp.dsn import BAD_PARAMETER, XTEXT, mail_parameters, parse_envid, parse_notify, parse_orcpt, parse_ret
from mta.smtp.event import MailFrom, RcptTo
from mta.smtp.grammar import CONTROL, HELLO_NAME, MAX_DOMAIN, PARAMETER
from mta.smtp.terms import PARAMETERS as TERMS
from mta.status import MailError, Reply

__all__ = [
    "BINARYMIME",
    "EIGHTBITMIME",
    "REQUIRETLS",
    "RET",
    "SMTPUTF8",
    "mail_line",
    "parse_hello",
    "parse_mail",
    "parse_nothing",
    "parse_rcpt",
    "parse_vrfy",
    "rcpt_line",
    "split",
]

EIGHTBITMIME: Final = int(Flag.EIGHTBITMIME)  # plain numbers: arithmetic with enum flags is slow
SMTPUTF8: Final = int(Flag.SMTPUTF8)
REQUIRETLS: Final = int(Flag.REQUIRETLS)
BINARYMIME: Final = int(Flag.BINARYMIME)
RET: Final = int(Flag.RET_FULL | Flag.RET_HDRS)

_BAD_NAME: Final = Reply(501, "5.5.4", "A domain or an address literal is wanted")
_BAD_MAIL: Final = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
_BAD_RCPT: Final = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
_BAD_SENDER: Final = Reply(501, "5.1.7", "Bad sender address syntax")
_BAD_RECIPIENT: Final = Reply(501, "5.1.3", "Bad recipient address syntax")
_BAD_VRFY: Final = Reply(501, "5.5.4", "Syntax: VRFY address")
_UNKNOWN_PARAMETER: Final = Reply(555, "5.5.4", "Parameter not recognized or not implemented")
_NO_ARGUMENT: Final = Reply(501, "5.5.4", "No argument is allowed")
_TOO_BIG: Final = Reply(552, "5.3.4", "Message size exceeds the limit")
_NEEDS_UTF8: Final = Reply(553, "5.6.7", "Address needs SMTPUTF8")

_NO_PARAMETERS: Final[Mapping[str, str | None]] = MappingProxyType({})
_NONE: Final[Set[str]] = frozenset()
_BODY: Final = {"7BIT": 0, "8BITMIME": EIGHTBITMIME, "BINARYMIME": BINARYMIME}


def split(line: bytes) -> tuple[bytes, bytes]:
    """Verb in upper case, and argument without blanks around it."""
    verb, _, argument = line.rstrip(b" \t").partition(b" ")
    return verb.upper(), argument.strip(b" ")


def parse_hello(argument: bytes) -> str:
    """The name in HELO or EHLO.  Whether it is true is no question of syntax (RFC 5321 4.1.4)."""
    if len(argument) > MAX_DOMAIN or not HELLO_NAME.fullmatch(argument):
        raise MailError(_BAD_NAME)
    return argument.decode("ascii")


def parse_nothing(argument: bytes) -> None:
    """For the commands without argument."""
    if argument:
        raise MailError(_NO_ARGUMENT)


def parse_mail(argument: bytes, max_size: int, extras: Set[str] = _NONE, withheld: Set[str] = _NONE) -> MailFrom:
    """RFC 5321 4.1.1.2.  max_size: bytes, 0 for no limit.

    extras: what not everybody may use: AUTH, REQUIRETLS, BINARYMIME (a value of BODY), and those of terms.py, which reads
    them.  withheld: parameters that are unknown here.
    """
    if argument[:5].upper() != b"FROM:":
        raise MailError(_BAD_MAIL)
    try:
        sender, rest = parse_path(argument[5:].lstrip(b" "), utf8=True)
    except MailError as error:
        raise MailError(Reply(error.reply.code, "5.1.7", error.reply.text)) from None
    if sender.local and not sender.domain:  # a reverse-path has no <postmaster>
        raise MailError(_BAD_SENDER)
    parameters = _parameters(rest)
    if withheld and not withheld.isdisjoint(parameters):
        raise MailError(_UNKNOWN_PARAMETER)
    size, flags, envid = _known(parameters, extras) if parameters else (0, 0, None)
    if max_size and size > max_size:  # RFC 1870 6.1
        raise MailError(_TOO_BIG)
    if not (flags & SMTPUTF8 or sender.is_ascii):
        raise MailError(_NEEDS_UTF8)
    return MailFrom(sender, size, flags, parameters, envid)


def parse_rcpt(argument: bytes, utf8: bool, withheld: Set[str] = _NONE) -> RcptTo:
    """RFC 5321 4.1.1.3, RFC 3461 4.1 and 4.2.  utf8: MAIL had SMTPUTF8.  withheld: as in `parse_mail`."""
    if argument[:3].upper() != b"TO:":
        raise MailError(_BAD_RCPT)
    recipient, rest = parse_path(argument[3:].lstrip(b" "), utf8)
    if not recipient.local and not recipient.domain:
        raise MailError(_BAD_RECIPIENT)
    parameters = _parameters(rest, utf8)
    if withheld and not withheld.isdisjoint(parameters):
        raise MailError(_UNKNOWN_PARAMETER)
    notify, orcpt = 0, None
    for keyword, value in parameters.items():
        if keyword == "NOTIFY":
            notify = parse_notify(value)
        elif keyword == "ORCPT":
            orcpt = parse_orcpt(value)
        else:
            raise MailError(_UNKNOWN_PARAMETER)
    return RcptTo(recipient, parameters, notify, orcpt)


def parse_vrfy(argument: bytes) -> Path | None:
    """RFC 5321 4.1.1.6: an address, with brackets or without; None for other words, which may be a person's name."""
    if not argument:
        raise MailError(_BAD_VRFY)
    try:
        address, rest = parse_path(argument if argument[:1] == b"<" else b"<%b>" % argument, utf8=False)
    except MailError:
        return None
    return None if rest or not address.domain else address


def _parameters(rest: bytes, utf8: bool = False) -> Mapping[str, str | None]:
    """RFC 5321 4.1.2, Mail-parameters and Rcpt-parameters: keyword in upper case -> value.

    utf8: values may have more than ASCII (RFC 6531 3.3).  Those of MAIL never need it, and we read none.
    """
    if not rest:
        return _NO_PARAMETERS
    parameters: dict[str, str | None] = {}
    if rest[0] != 0x20:
        raise MailError(BAD_PARAMETER)
    for word in rest.split():
        match = PARAMETER.fullmatch(word)
        if match is None:
            raise MailError(BAD_PARAMETER)
        keyword = match[1].decode("ascii").upper()
        if keyword in parameters:
            raise MailError(BAD_PARAMETER)
        parameters[keyword] = None if match[2] is None else _value(match[2], utf8)
    return parameters


def _value(data: bytes, utf8: bool) -> str:
    try:
        return data.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        raise MailError(BAD_PARAMETER) from None


def _known(parameters: Mapping[str, str | None], extras: Set[str]) -> tuple[int, int, str | None]:
    """Declared size, flags and ENVID."""
    size, flags, envid = 0, 0, None
    for keyword, value in parameters.items():
        if keyword == "SIZE":  # RFC 1870 3: 1*20DIGIT
            if value is None or not value.isdigit() or len(value) > 20:
                raise MailError(BAD_PARAMETER)
            size = int(value)
        elif keyword == "BODY":  # RFC 6152 3
            body = _BODY.get((value or "").upper())
            if body is None or (body == BINARYMIME and "BINARYMIME" not in extras):
                raise MailError(BAD_PARAMETER if value is None else _UNKNOWN_PARAMETER)
            flags |= body
        elif keyword == "SMTPUTF8":  # RFC 6531 3.4: no value
            if value is not None:
                raise MailError(BAD_PARAMETER)
            flags |= SMTPUTF8
        elif keyword == "RET":
            flags |= parse_ret(value)
        elif keyword == "ENVID":
            envid = parse_envid(value)
        elif keyword in extras:
            flags |= _extra(keyword, value)
        else:
            raise MailError(_UNKNOWN_PARAMETER)
    return size, flags, envid


def _extra(keyword: str, value: str | None) -> int:
    """The flag of AUTH or REQUIRETLS; the terms have none."""
    if keyword in TERMS:
        return 0
    if keyword not in ("AUTH", "REQUIRETLS"):  # it belongs to RCPT, or is no keyword
        raise MailError(_UNKNOWN_PARAMETER)
    if keyword == "REQUIRETLS":  # RFC 8689 2: no value
        if value is not None:
            raise MailError(BAD_PARAMETER)
        return REQUIRETLS
    if value is None or not XTEXT.fullmatch(value):
        raise MailError(BAD_PARAMETER)
    return 0  # RFC 4954 5: we trust nobody to say who has written a message, so whatever it is means AUTH=<>


def mail_line(sender: str, size: int | None = None, flags: int = 0, envid: str | None = None, terms: str = "") -> bytes:
    """MAIL with SIZE and ENVID where they are given, BODY, SMTPUTF8, REQUIRETLS and RET where the flags say so.

    terms: further parameters, each with a space in front.
    """
    line = f"MAIL FROM:<{_safe(sender)}>"
    if size is not None:
        line += f" SIZE={size}"
    if flags & BINARYMIME:
        line += " BODY=BINARYMIME"
    elif flags & EIGHTBITMIME:
        line += " BODY=8BITMIME"
    if flags & SMTPUTF8:
        line += " SMTPUTF8"
    if flags & REQUIRETLS:
        line += " REQUIRETLS"
    if flags & RET or envid:
        line += mail_parameters(flags, envid)
    return f"{line}{terms}\r\n".encode()


def rcpt_line(recipient: str, parameters: str = "") -> bytes:
    """RCPT.  parameters: of `dsn.rcpt_parameters`."""
    return f"RCPT TO:<{_safe(recipient)}>{parameters}\r\n".encode()


def _safe(address: str) -> str:
    if CONTROL.search(address):
        raise ValueError("a control character in an address")
    return address
