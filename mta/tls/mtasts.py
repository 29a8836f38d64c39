"""MTA-STS (RFC 8461) without I/O: the record that announces a policy, the policy, and which hosts it allows.

`record_id` reads the TXT records of `_mta-sts.DOMAIN` (3.1), `parse_policy` the text behind
https://mta-sts.DOMAIN/.well-known/mta-sts.txt (3.2), and `StsPolicy.allows` compares an MX host with its patterns (4.1).
A record that is not right is no record.  A policy that is not right raises `StsError`, and nothing else is ever raised:
both texts come from strangers.  What is unknown in them is ignored, as the RFC wants.  Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs
import idna

from mta.config.name import domain_fault

__all__ = ["MAX_AGE", "MAX_POLICY", "Mode", "Result", "StsError", "StsPolicy", "parse_policy", "record_id"]

MAX_AGE = 31_557_600  # seconds: 3.2, about a year
MAX_POLICY = 65_536  # bytes: 3.3

_VERSION = "STSv1"
_RECORD = re.compile(rb"v=STSv1[ \t]*(?:;|$)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_FIELD = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,31})=(?P<value>[!-:<>-~]+)")
_SECONDS = re.compile(r"[0-9]{1,10}")
_WSP = " \t"


class Mode(StrEnum):
    """What is wanted of a sender (5)."""

    ENFORCE = "enforce"  # to a host that fails, nothing goes
    TESTING = "testing"  # mail goes all the same, and a report
    NONE = "none"  # as if there were no policy


class Result(StrEnum):
    """Why there is no policy, in the words of the report (RFC 8460 4.3.2.2)."""

    FETCH = "sts-policy-fetch-error"
    INVALID = "sts-policy-invalid"
    WEBPKI = "sts-webpki-invalid"


class StsError(Exception):
    """A policy that could not be had.  result: for the report; detail: for people."""

    def __init__(self, result: Result, detail: str) -> None:
        super().__init__(result, detail)
        self.result = result
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.result}: {self.detail}"


@attrs.frozen(slots=True)
class StsPolicy:
    """A policy.  id: of the record that announced it; mx: A-labels, lower case; max_age: seconds from the fetch on."""

    id: str
    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def allows(self, host: str) -> bool:
        """Is this MX host (an A-label name in any case) one of the policy's?  "*" stands for exactly one label (4.1)."""
        name = host.lower().removesuffix(".")
        label, _, rest = name.partition(".")
        return name in self.mx or (bool(label) and f"*.{rest}" in self.mx)

    @property
    def lines(self) -> tuple[str, ...]:
        """The policy's text, line by line: what TLSRPT quotes (RFC 8460 4.2, policy-string)."""
        patterns = (f"mx: {pattern}" for pattern in self.mx)
        return (f"version: {_VERSION}", f"mode: {self.mode}", *patterns, f"max_age: {self.max_age}")

    def as_hint(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"id": self.id, "mode": str(self.mode), "mx": list(self.mx), "max_age": self.max_age}

    @classmethod
    def of_hint(cls, value: object) -> StsPolicy | None:
        """What `as_hint` gave; None for anything else: the file it comes from may be damaged."""
        match value:
            case {"id": str(name), "mode": str(mode), "mx": [*patterns], "max_age": int(age)} if _ID.fullmatch(name):
                if isinstance(age, bool) or not 0 <= age <= MAX_AGE or not all(isinstance(each, str) for each in patterns):
                    return None
                try:
                    return _policy(name, mode, patterns, str(age))
                except StsError:
                    return None
        return None


def record_id(texts: Iterable[bytes]) -> str:
    """The id in the one record of ours among the TXT records; "" where there is none, more than one, or a broken one (3.1)."""
    ours = [text for text in texts if _RECORD.match(text)]
    if len(ours) != 1:
        return ""
    _, *fields = [field.strip(_WSP) for field in ours[0].decode("latin-1").split(";")]
    if fields and not fields[-1]:  # the delimiter may also stand at the end
        del fields[-1]
    found: dict[str, str] = {}
    for field in fields:
        match = _FIELD.fullmatch(field)
        if match is None:
            return ""
        found.setdefault(match["name"], match["value"])
    return found.get("id", "") if _ID.fullmatch(found.get("id", "")) else ""


def parse_policy(policy_id: str, body: bytes) -> StsPolicy:
    """The policy of the text, announced as `policy_id`.  StsError (sts-policy-invalid) says what is wrong with it.

    Lines end with CRLF or LF; of any key but mx the first one counts (3.2).  A max_age beyond `MAX_AGE` means `MAX_AGE`.
    """
    if len(body) > MAX_POLICY:
        raise _invalid(f"longer than {MAX_POLICY} bytes")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid("not UTF-8") from None
    keys, patterns = _fields(text)
    if keys.get("version") != _VERSION:
        raise _invalid(f"no version: {_VERSION}")
    return _policy(policy_id, keys.get("mode", ""), patterns, keys.get("max_age", ""))


def _policy(policy_id: str, mode: str, patterns: Sequence[str], max_age: str) -> StsPolicy:
    try:
        meant = Mode(mode)
    except ValueError:
        raise _invalid("mode is none of enforce, testing, none") from None
    if not _SECONDS.fullmatch(max_age):
        raise _invalid("max_age is no number of seconds")
    if meant is not Mode.NONE and not patterns:
        raise _invalid(f"mode {mode} without mx")
    return StsPolicy(policy_id, meant, tuple(dict.fromkeys(map(_pattern, patterns))), min(int(max_age), MAX_AGE))


def _fields(text: str) -> tuple[Mapping[str, str], list[str]]:
    """The first value of each key but mx, and all of mx."""
    keys: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.split("\n"):
        stripped = line.removesuffix("\r").strip(_WSP)
        if not stripped:
            continue
        key, colon, value = stripped.partition(":")
        if not colon:
            raise _invalid("a line without a colon")
        name, value = key.rstrip(_WSP), value.strip(_WSP)
        if name == "mx":
            patterns.append(value)
        else:
            keys.setdefault(name, value)
    return keys, patterns


def _pattern(text: str) -> str:
    """An mx pattern in the one spelling that `allows` compares with."""
    domain = text.removesuffix(".").lower()
    star = "*." if domain.startswith("*.") else ""
    domain = domain.removeprefix("*.")
    if domain_fault(domain):
        raise _invalid(f"mx: {text[:80]!r} is no host name")
    return star + (domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii"))


def _invalid(detail: str) -> StsError:
    return StsError(Result.INVALID, detail)
