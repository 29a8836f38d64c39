"""What the receiver's machine is told (`ReceiverOptions`) and what it counts (`Counters`).

The counters are the one thing that a fresh machine behind STARTTLS takes over from the old one (docs/tls.md): they are
about the connection, not about what was said in clear.
"""

from __future__ import annotations

import attrs

__all__ = ["Counters", "ReceiverOptions"]


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


@attrs.define(slots=True)
class Counters:
    """What is counted over the whole connection, before and in TLS."""

    commands: int = 0
    errors: int = 0  # commands that the machine refused
    transactions: int = 0  # MAIL accepted
    messages: int = 0  # accepted at the end of data
    recipients: int = 0  # accepted
    rejected: int = 0  # recipients refused, by the machine or by the session
    bytes: int = 0  # of bodies read to their end
    starttls: int = 0  # STARTTLS commands that passed the machine's checks
