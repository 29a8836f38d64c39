"""The parameters of delivery status notifications: RFC 3461 4 and 5.2 (RET, ENVID, NOTIFY, ORCPT), RFC 6533 3.

RFC 6533 3 adds the address type utf-8.  Reading is strict: what is not by the grammar, too long or said twice raises
MailError with 501 5.5.4 (RFC 3461 5.1).  ENVID and ORCPT are kept encoded, as they were given, for the next server must
get the same (5.2.1); a report shows them decoded.  Writing: what a next server is told that has offered DSN.  No value
that is written can end a command line: one that nobody has parsed, and that is by no grammar, is left out.
"""

from __future__ import annotations

import re
from typing import Final

from mta.envelope import Flag, Notify
from mta.status import MailError, Reply

__all__ = [
    "BAD_PARAMETER",
    "XTEXT",
    "both",
    "from_xtext",
    "mail_parameters",
    "original_recipient",
    "parse_envid",
    "parse_notify",
    "parse_orcpt",
    "parse_ret",
    "rcpt_parameters",
    "to_xtext",
]

BAD_PARAMETER: Final = Reply(501, "5.5.4", "Bad parameter")
MAX_ENVID: Final = 100  # RFC 3461 4.4, characters
MAX_ORCPT: Final = 500  # RFC 3461 4.2

XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 4
_PRINTABLE: Final = re.compile(r"(?:[!-*,-<>-~]|\+(?:09|[2-6][0-9A-F]|7[0-9A-E]))+")  # xtext of graphic and white space: 4.2, 4.4
_ATOM: Final = re.compile(r"[!#-'*+\-/-9?A-Z^-~]+")  # addr-type; RFC 822 3.3, less what no parameter can hold
# RFC 6533 3: QCHAR, and what is beyond ASCII, is all but this (said so for the reason of the classes in grammar.py).
_NO_UNITEXT: Final = r"\x00- +=\\\x7f-\x9f\ud800-\udfff"
_UTF8: Final = re.compile(rf"(?:[^{_NO_UNITEXT}]|\\x\{{[0-9A-F]{{2,6}}\}})+")  # both forms for ORCPT
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_CONTROLS: Final = (range(0x20), range(0x7F, 0xA0), range(0xD800, 0xE000), range(0x110000, 0x1000000))
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_NOT_XTEXT: Final = re.compile(r"[^!-*,-<>-~]")
_NOT_UNITEXT: Final = re.compile(f"[{_NO_UNITEXT}]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")

_RET: Final = {"FULL": int(Flag.RET_FULL), "HDRS": int(Flag.RET_HDRS)}
_WORDS: Final = {"SUCCESS": int(Notify.SUCCESS), "FAILURE": int(Notify.FAILURE), "DELAY": int(Notify.DELAY)}
_NEVER: Final = int(Notify.NEVER)
_USUAL: Final = int(Notify.FAILURE | Notify.DELAY)
_SAID: Final = {_NEVER: "NEVER"} | {
    bits: ",".join(word for word, bit in _WORDS.items() if bits & bit) for bits in range(2, 2 + sum(_WORDS.values()), 2)
}

# ---- reading


def parse_ret(value: str | None) -> int:
    """RFC 3461 4.3: the flag (envelope.Flag)."""
    return _known(_RET, value)


def parse_envid(value: str | None) -> str:
    """RFC 3461 4.4: at most 100 characters of xtext that stand for printable ones."""
    if value is None or len(value) > MAX_ENVID or not _PRINTABLE.fullmatch(value):
        raise MailError(BAD_PARAMETER)
    return value


def parse_notify(value: str | None) -> int:
    """RFC 3461 4.1: NEVER alone, or each of the others at most once (envelope.Notify)."""
    if value is not None and value.upper() == "NEVER":
        return _NEVER
    bits = 0
    for word in (value or "").split(","):
        bit = _known(_WORDS, word)
        if bits & bit:
            raise MailError(BAD_PARAMETER)
        bits |= bit
    return bits


def parse_orcpt(value: str | None) -> str:
    """RFC 3461 4.2: a type, and at most 500 characters of xtext; RFC 6533 3 for the type utf-8.

    Postfix 3.7 writes the octets of UTF-8 as xtext of the type rfc822, which is of ASCII only: that becomes the type utf-8.
    """
    kind, _, address = (value or "").partition(";")
    if value is None or len(value) > MAX_ORCPT or not _ATOM.fullmatch(kind):
        raise MailError(BAD_PARAMETER)
    if kind.lower() == "rfc822" and not _PRINTABLE.fullmatch(address):
        value = _from_octets(address)
        kind, _, address = value.partition(";")
    sound = _is_utf8_address(address) if kind.lower() == "utf-8" else _PRINTABLE.fullmatch(address)
    if not sound:
        raise MailError(BAD_PARAMETER)
    return value


def _known(table: dict[str, int], value: str | None) -> int:
    number = table.get(value.upper(), 0) if value and value.isascii() else 0  # "ſ".upper() is "S"
    if not number:
        raise MailError(BAD_PARAMETER)
    return number


def _from_octets(xtext: str) -> str:
    if not XTEXT.fullmatch(xtext):
        raise MailError(BAD_PARAMETER)
    try:
        return _made(from_xtext(xtext).encode("latin-1").decode())
    except UnicodeDecodeError:
        raise MailError(BAD_PARAMETER) from None


def _is_utf8_address(text: str) -> bool:
    if not _UTF8.fullmatch(text):
        return False
    points = (int(digits, 16) for digits in _EMBEDDED.findall(text))
    return not any(point in controls for point in points for controls in _CONTROLS)


# ---- decoding


def to_xtext(text: str) -> str:
    """RFC 3461 4, for ASCII."""
    return _NOT_XTEXT.sub(lambda match: f"+{ord(match[0]):02X}", text)


def from_xtext(text: str) -> str:
    """What was encoded."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def original_recipient(orcpt: str, utf8: bool) -> tuple[str, str]:
    """Type and address of an ORCPT as a report shows them (RFC 3461 6.3 d).  utf8: may it be of more than ASCII?"""
    kind, _, address = orcpt.partition(";")
    if kind.lower() != "utf-8":
        return kind, from_xtext(address)
    if utf8 and _is_utf8_address(address):  # RFC 6533 3, utf-8-address
        return kind, _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), address)
    return kind, _seven_bit(address)


def _seven_bit(text: str) -> str:
    """RFC 6533 3, utf-8-addr-xtext."""
    return _NOT_ASCII.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", text)


# ---- writing


def mail_parameters(flags: int, envid: str | None) -> str:
    """RET and ENVID as they were given, each with a space in front; "" for none (RFC 3461 5.2.1 a and b)."""
    text = "".join(f" RET={word}" for word, flag in _RET.items() if flags & flag)
    return f"{text} ENVID={envid}" if envid and XTEXT.fullmatch(envid) else text


def rcpt_parameters(address: str, notify: int, orcpt: str | None, utf8: bool) -> str:
    """NOTIFY and ORCPT as they were given (RFC 3461 5.2.1 c and d); "" where the sender had no wish.

    Where he had one without ORCPT we add it, so that his report names the address he knows: `address`, for we do not
    rewrite.  utf8: the transaction has SMTPUTF8.
    """
    if not (notify or orcpt):
        return ""
    words = _SAID.get(notify)
    original = orcpt if orcpt and _is_value(orcpt) else _made(address)
    said = f" NOTIFY={words}" if words else ""
    return f"{said} ORCPT={original if utf8 else _seven_bit(original)}"


def _is_value(orcpt: str) -> bool:
    """Would `parse_orcpt` have taken it?  Rows that somebody else has stored may have anything."""
    try:
        return bool(parse_orcpt(orcpt))
    except MailError:
        return False


def _made(address: str) -> str:
    if address.isascii():
        return f"rfc822;{to_xtext(address)}"
    return "utf-8;" + _NOT_UNITEXT.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)


# ---- a recipient that is named twice


def both(first: int, second: int) -> int:
    """Two wishes (RFC 3461 4.1) for one copy; none at all is FAILURE and DELAY, NEVER is less than anything else."""
    if first == second:
        return first
    return (first or _USUAL) & ~_NEVER | (second or _USUAL) & ~_NEVER
