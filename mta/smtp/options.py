"""What the receiver's machine is told (`ReceiverOptions`) and what it counts (`Counters`).

The counters are the one thing that a fresh machine behind STARTTLS takes over from the old one (docs/tls.md): they are
about the connection, not about what was said in clear.  So every limit here is one of the connection, but for
max_size and max_recipients.  Options that contradict each other raise ValueError when they are made.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from mta.smtp.bearer import BEARER
from mta.smtp.extension import KEYWORDS
from mta.smtp.grammar import MAX_AUTH_LINE, MAX_COMMAND_LINE
from mta.smtp.order import REQUIREMENTS
from mta.smtp.sasl import SERVER, Mechanisms
from mta.smtp.scram import PLUS, SCRAM
from mta.status import Reply

__all__ = ["Counters", "ReceiverOptions"]

_FRESH = frozenset({"CRAM-MD5", SCRAM, PLUS})  # nobody can be asked the same twice


@attrs.frozen(slots=True)
class ReceiverOptions:
    """What this client is shown.  starttls: is it offered; max_size: bytes of a message, 0 for no limit."""

    hostname: str
    max_size: int = 52_428_800
    max_recipients: int = 1000  # of one message
    starttls: bool = False
    starttls_needs_ehlo: bool = True
    starttls_in_transaction: str = "reset"  # reset | refuse
    max_errors: int = 20  # commands that are refused by the machine; the next one ends the conversation
    auth: tuple[str, ...] = ()  # mechanisms offered now
    auth_elsewhere: tuple[str, ...] = ()  # those that would be offered in TLS
    challenge: Callable[[], bytes] | None = None  # a new one at each call: <unforeseeable@name> (RFC 2195 2)
    mechanisms: Mechanisms = attrs.field(default=SERVER, repr=False)  # how each is held
    binding: bytes = attrs.field(default=b"", repr=False)  # the tls-exporter of the connection (RFC 9266), b"" for none
    mail_requires: str = "none"  # none | tls | auth | tls-or-auth | tls+auth
    requiretls: bool = False  # offered, in TLS only (RFC 8689 2)
    binarymime: bool = False  # BODY=BINARYMIME (RFC 3030 3)
    deliver_by: int | None = None  # DELIVERBY: the fewest seconds of BY, 0 when we do not say (RFC 2852 2); None: not offered
    future_release: int = 0  # FUTURERELEASE: the most seconds that mail is held (RFC 4865 3); 0: not offered
    mt_priority: bool = False  # MT-PRIORITY (RFC 6710)
    priority_by_login: bool = False  # and one over 0 is granted to those only who have logged in
    now: Callable[[], float] | None = None  # seconds since the epoch, for FUTURERELEASE
    vrfy: str = "252"  # 252 | off | local: the session answers
    withhold: frozenset[str] = frozenset()  # keywords of extension.py that are not offered; what belongs to them is unknown
    entitled: tuple[str, ...] = ()  # XCLIENT, XFORWARD (xclient.py) as they are offered; without these they are refused
    refuse_all: Reply | None = None  # to every command but QUIT: the client certificate that we require was not shown
    max_line: int = attrs.field(init=False, repr=False)  # octets of a command, with CRLF
    max_auth_failures: int = 3  # the next AUTH ends the conversation; here and below 0 is no limit
    max_transactions: int = 1000
    max_recipients_total: int = 0  # accepted
    max_commands: int = 0

    @max_line.default
    def _max_line(self) -> int:
        """A token comes with its command, and is long (RFC 4954 4 leaves the limit to the server's mechanisms)."""
        return MAX_AUTH_LINE if not {*BEARER}.isdisjoint(self.auth) else MAX_COMMAND_LINE

    def __attrs_post_init__(self) -> None:
        if self.mail_requires not in REQUIREMENTS:
            raise ValueError(f"mail_requires is one of {', '.join(REQUIREMENTS)}")
        if unknown := {*self.auth, *self.auth_elsewhere} - {*self.mechanisms}:
            raise ValueError(f"no such mechanism: {', '.join(sorted(unknown))}")
        if self.vrfy not in ("252", "off", "local"):
            raise ValueError("vrfy is one of 252, off, local")
        if strange := self.withhold - {*KEYWORDS}:
            raise ValueError(f"no such keyword: {', '.join(sorted(strange))}")
        if self.future_release and self.now is None:
            raise ValueError("FUTURERELEASE needs a clock")
        if self.challenge is None and (_FRESH & {*self.auth}):
            raise ValueError("CRAM-MD5 and SCRAM need challenges")
        if PLUS in self.auth and not self.binding:
            raise ValueError(f"{PLUS} needs a channel to bind to")


@attrs.define(slots=True)
class Counters:
    """What is counted over the whole connection, before and in TLS."""

    commands: int = 0
    errors: int = 0  # commands that the machine refused
    transactions: int = 0  # MAIL accepted
    messages: int = 0  # accepted at the end of data
    recipients: int = 0  # accepted
    rejected: int = 0  # recipients refused, by the machine or by the session
    bytes: int = 0  # of bodies read to their end, and of chunks
    starttls: int = 0  # STARTTLS commands that passed the machine's checks
    auth_failures: int = 0  # credentials refused for good by the session
