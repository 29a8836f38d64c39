"""The service extensions: what EHLO's answer says, written and read.  RFC 5321 2.2 and 4.1.1.1.

We offer PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), CHUNKING and BINARYMIME (RFC 3030), ENHANCEDSTATUSCODES
(RFC 2034), DSN (RFC 3461), LIMITS (RFC 9422), SMTPUTF8 (RFC 6531), AUTH with its mechanisms (RFC 4954), STARTTLS (RFC 3207:
never with parameters, never inside TLS), REQUIRETLS (RFC 8689: only inside TLS), DELIVERBY (RFC 2852), FUTURERELEASE (RFC
4865) and MT-PRIORITY (RFC 6710), each where the options say so and do not withhold it.  When reading, keywords are compared
in upper case, the first of two equal ones counts, parameters of STARTTLS are no matter, and a line that is no keyword
("AUTH=LOGIN") is ignored.  How long such a list may be is bounded where replies are read (reply.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mta.smtp.grammar import KEYWORD
from mta.status import Reply

if TYPE_CHECKING:
    from mta.smtp.options import ReceiverOptions

__all__ = ["EXTRAS", "KEYWORDS", "offer", "parameters_of", "parse_extensions", "size_limit"]

# The keywords that we may offer, each with the parameters of MAIL and RCPT that it brings.
_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "PIPELINING": (),
    "SIZE": ("SIZE",),
    "8BITMIME": ("BODY",),
    "CHUNKING": (),
    "BINARYMIME": ("BINARYMIME",),  # a value of BODY
    "ENHANCEDSTATUSCODES": (),
    "LIMITS": (),
    "DSN": ("RET", "ENVID", "NOTIFY", "ORCPT"),
    "SMTPUTF8": ("SMTPUTF8",),
    "AUTH": ("AUTH",),
    "STARTTLS": (),
    "REQUIRETLS": ("REQUIRETLS",),
    "DELIVERBY": ("BY",),
    "FUTURERELEASE": ("HOLDFOR", "HOLDUNTIL"),
    "MT-PRIORITY": ("MT-PRIORITY",),
}
KEYWORDS: Final = tuple(_PARAMETERS)
# Whose parameters not everybody may use; those of the others are known to `parse_mail` unless they are withheld.
EXTRAS: Final = frozenset({"BINARYMIME", "AUTH", "REQUIRETLS", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY"})
_NONE: Final[Set[str]] = frozenset()


def offer(options: ReceiverOptions, secure: bool) -> Mapping[str, str]:
    """Keyword -> its parameters as text, in the order of the answer to EHLO.  secure: in TLS."""
    withhold = options.withhold
    binary = options.binarymime and withhold.isdisjoint(("CHUNKING", "8BITMIME"))
    texts = {
        "PIPELINING": "",
        "SIZE": str(options.max_size),  # RFC 1870 4: 0 is no limit
        "8BITMIME": "",
        "CHUNKING": "",
        "BINARYMIME": "" if binary else None,  # RFC 3030 3: only with CHUNKING
        "ENHANCEDSTATUSCODES": "",
        "LIMITS": _limits(options),
        "DSN": "",
        "SMTPUTF8": "",
        "AUTH": " ".join(options.auth) or None,
        "STARTTLS": "" if options.starttls and not secure else None,
        "REQUIRETLS": "" if options.requiretls and secure else None,
        "DELIVERBY": None if options.deliver_by is None else str(options.deliver_by or ""),
        "FUTURERELEASE": _future(options),
        "MT-PRIORITY": "" if options.mt_priority else None,
    }
    return {keyword: text for keyword, text in texts.items() if text is not None and keyword not in withhold}


def parameters_of(keywords: Set[str]) -> Set[str]:
    """The parameters of MAIL and RCPT that come with these keywords."""
    if not keywords:  # as a rule
        return _NONE
    return frozenset([parameter for keyword in keywords for parameter in _PARAMETERS[keyword]])


def _limits(options: ReceiverOptions) -> str | None:
    """RFC 9422 4: six digits at most; what has no limit is not said."""
    limits = (("RCPTMAX", options.max_recipients), ("MAILMAX", options.max_transactions))
    return " ".join([f"{name}={min(limit, 999_999)}" for name, limit in limits if limit > 0]) or None


def _future(options: ReceiverOptions) -> str | None:
    """RFC 4865 3: the longest interval, and the last moment."""
    if not options.future_release or options.now is None:
        return None
    last = datetime.fromtimestamp(options.now() + options.future_release, UTC)
    return f"{options.future_release} {last:%Y-%m-%dT%H:%M:%SZ}"


def parse_extensions(reply: Reply) -> dict[str, str]:
    """Keyword in upper case -> its parameters as text, from a positive answer to EHLO."""
    extensions: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.partition(" ")
        if KEYWORD.fullmatch(keyword):
            extensions.setdefault(keyword.upper(), parameters.strip())
    return extensions


def size_limit(extensions: Mapping[str, str]) -> int:
    """The largest message the server takes, in bytes; 0 when it did not say."""
    text = extensions.get("SIZE", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
