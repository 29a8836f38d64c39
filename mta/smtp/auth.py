"""The exchange of AUTH as the receiver holds it: RFC 4954 4, from the command to the credentials, without I/O.

`begin` reads the command's argument, `Exchange.answer` a line of the client's, `Exchange.supply` what the session knows; all give
the next thing to do: a 334 to say, a question to the session, or the credentials to judge.  What ends the exchange without
credentials is a MailError with the reply for the client (501, 504, 538).  No line of the exchange is kept, logged or echoed;
order and limits are the machine's (server.py).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from mta.smtp import wording
from mta.smtp.bearer import why_refused
from mta.smtp.credentials import Credentials, Question, ServerExchange, Step, Terms, Undecodable, Verifier, decode, encode
from mta.smtp.options import ReceiverOptions
from mta.smtp.sasl import SERVER_FIRST
from mta.smtp.scram import PLUS
from mta.status import MailError, Reply

__all__ = ["Exchange", "Next", "Refusal", "begin", "refuse"]

_ARGUMENT: Final = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: +([^ ]+))?")  # RFC 4422 3.1: sasl-mech
_CANCEL: Final = b"*"
_EMPTY: Final = b"="  # an initial response of no octets

Next: TypeAlias = Reply | Question | Credentials


class Exchange:
    """One AUTH on its way."""

    __slots__ = ("_steps",)

    def __init__(self, steps: ServerExchange) -> None:
        self._steps = steps

    def answer(self, line: bytes) -> Next:
        """The client's response to the last challenge, without its CRLF.  MailError ends the exchange."""
        if line == _CANCEL:
            raise MailError(wording.AUTH_CANCELLED)
        try:
            return self._send(decode(line))
        except Undecodable:
            raise MailError(wording.AUTH_UNDECODABLE) from None

    def supply(self, answer: bytes | Verifier | Credentials) -> Next:
        """What the session was asked for."""
        return self._send(answer)

    def _send(self, answer: bytes | Verifier | Credentials) -> Next:
        try:
            step = self._steps.send(answer)
        except StopIteration as end:
            credentials: Credentials = end.value
            return credentials
        return _next(step)


class Refusal:
    """Behind an exchange whose client must hear what is wrong before it is refused (RFC 7628 3.2.3)."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def answer(self, line: bytes) -> Next:
        """Whatever the client says to it."""
        if line == _CANCEL:
            raise MailError(wording.AUTH_CANCELLED)
        return self._reply


def begin(argument: bytes, options: ReceiverOptions) -> tuple[Exchange, Next]:
    """The exchange that the argument of AUTH asks for, and what comes first."""
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise MailError(wording.AUTH_SYNTAX)
    mechanism, initial = match[1].decode("ascii").upper(), match[2]
    if mechanism not in options.auth:
        raise MailError(wording.AUTH_NEEDS_TLS if mechanism in options.auth_elsewhere else wording.AUTH_UNKNOWN)
    if initial is not None and mechanism in SERVER_FIRST:
        raise MailError(wording.AUTH_NOT_FIRST)
    fresh = options.challenge() if options.challenge is not None else b""
    steps = options.mechanisms[mechanism](Terms(fresh, options.binding, PLUS in options.auth))
    first, exchange = next(steps), Exchange(steps)
    if initial is None:
        return exchange, _next(first)
    return exchange, exchange.answer(b"" if initial == _EMPTY else initial)


def refuse(mechanism: str, reply: Reply) -> tuple[Refusal, Reply] | None:
    """What comes before this refusal, and the challenge that says why; None where there is nothing to be said."""
    why = why_refused(mechanism) if reply.is_permanent else b""
    return (Refusal(reply), _challenge(why)) if why else None


def _next(step: Step) -> Next:
    return _challenge(step) if isinstance(step, bytes) else step


def _challenge(octets: bytes) -> Reply:
    return Reply(334, "", encode(octets).decode("ascii"))  # nothing but base64: "334 " for no octets
