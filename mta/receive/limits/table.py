"""The table of limits: who may have how much of what, under which key of [limits], and what is said to who is over it.

One row for each limit, in `TABLE`; docs/operators.md has the same rows, and a test compares them.  RFC 5321 4.2.4, 4.5.3.1
and 7.8 (a server may refuse for want of resources and under attack).  No row is begun anew by STARTTLS, EHLO or RSET
(docs/tls.md): what is counted is the connection, the client behind it or the account, never what was said.

Whoever is over a limit hears 4yz or 421 and keeps its mail: no message is lost to a limit of ours.  Pure.
"""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

import attrs

from mta.smtp import wording
from mta.status import Reply

__all__ = ["RATED", "SAID_BY_MACHINE", "TABLE", "TOO_LONG", "Limit", "Scope", "What", "Who", "login_key"]


class Scope(Enum):
    """Whose count it is."""

    ALL = "all"  # the whole server
    CLIENT = "client"  # an IPv4 address or an IPv6 /64, over all its connections
    LOGIN = "login"  # an account, from wherever
    LOGIN_AT_CLIENT = "login at a client"  # the two together: no stranger can use up what belongs to the account
    CONNECTION = "connection"


class What(Enum):
    """What is counted."""

    __hash__ = object.__hash__  # Enum's own runs Python, and every command is counted

    CONNECTION = "connections"
    HANDSHAKE = "TLS handshakes"
    COMMAND = "commands"
    ERROR = "refused commands"
    AUTH_FAILURE = "failed logins"
    MESSAGE = "messages"
    RECIPIENT = "recipients"
    REJECTED = "refused recipients"
    BYTES = "bytes"
    TIME = "time"


@attrs.frozen(slots=True, eq=False)
class Limit:
    """One row.  reply: None where it is never refused, only slower.  exempt: clients in relay_from are not counted."""

    scope: Scope
    what: What
    key: str  # of [limits]; the log says `limit=key`
    reply: Reply | None
    exempt: bool = False


@attrs.frozen(slots=True)
class Who:
    """Whose counts a connection draws on: a `client_key` and a `login_key`, b"" where there is none."""

    client: bytes
    exempt: bool = False  # it is in relay_from
    login: bytes = b""

    def key(self, scope: Scope) -> bytes:
        """Under which it is counted in this scope, b"" where it is not."""
        if scope is Scope.CLIENT:
            return self.client
        if scope is Scope.LOGIN:
            return self.login
        return self.login + self.client if self.login and self.client else b""


def login_key(name: str) -> bytes:
    """Of the name of an account, b"" of none: short, however long a name a stranger invents, and blind to case."""
    return blake2b(name.strip().casefold().encode("utf-8", "surrogatepass"), digest_size=16).digest() if name else b""


_LATER: Final = "try again later"
_FULL: Final = Reply(421, "4.3.2", f"Too many connections, {_LATER}")
_GUESSING: Final = Reply(421, "4.7.0", f"Too many failed logins, {_LATER}")
_HARVESTING: Final = Reply(421, "4.7.0", f"Too many refused recipients, {_LATER}")

TOO_LONG: Final = Reply(421, "4.4.2", "Session has lasted too long, closing connection")

# ---- the whole server

CONNECTIONS: Final = Limit(Scope.ALL, What.CONNECTION, "connections", _FULL)
RESERVE: Final = Limit(Scope.ALL, What.CONNECTION, "reserve", _FULL)  # clients in reserve_for are exempt, see Connections

# ---- one client, over all its connections

CONNECTIONS_PER_CLIENT: Final = Limit(
    Scope.CLIENT,
    What.CONNECTION,
    "connections_per_client",
    Reply(421, "4.7.0", f"Too many connections from your address, {_LATER}"),
    exempt=True,
)
CONNECTION_RATE: Final = Limit(
    Scope.CLIENT,
    What.CONNECTION,
    "connection_rate",
    Reply(421, "4.7.0", f"Too many new connections from your address, {_LATER}"),
    exempt=True,
)
TLS_SESSIONS: Final = Limit(
    Scope.CLIENT,
    What.HANDSHAKE,
    "tls_sessions_per_minute",
    Reply(454, "4.7.0", f"Too many new TLS sessions from your address, {_LATER}"),
    exempt=True,
)
MESSAGE_RATE: Final = Limit(
    Scope.CLIENT, What.MESSAGE, "message_rate", Reply(450, "4.7.1", f"Too many messages from your address, {_LATER}"), exempt=True
)
RECIPIENT_RATE: Final = Limit(
    Scope.CLIENT,
    What.RECIPIENT,
    "recipient_rate",
    Reply(452, "4.7.1", f"Too many recipients from your address, {_LATER}"),
    exempt=True,
)
REJECTED_RATE: Final = Limit(Scope.CLIENT, What.REJECTED, "rejected_rate", _HARVESTING, exempt=True)
AUTH_FAILURE_RATE: Final = Limit(Scope.CLIENT, What.AUTH_FAILURE, "auth_failure_rate", _GUESSING, exempt=True)

# ---- one login

LOGIN_FAILURE_RATE: Final = Limit(Scope.LOGIN_AT_CLIENT, What.AUTH_FAILURE, "login_failure_rate", _GUESSING, exempt=True)
LOGIN_FAILURES: Final = Limit(Scope.LOGIN, What.AUTH_FAILURE, "login_failure_rate", None, exempt=True)
LOGIN_MESSAGES: Final = Limit(
    Scope.LOGIN, What.MESSAGE, "login_messages", Reply(450, "4.7.1", f"Too many messages of this account, {_LATER}")
)
LOGIN_RECIPIENTS: Final = Limit(
    Scope.LOGIN, What.RECIPIENT, "login_recipients", Reply(452, "4.7.1", f"Too many recipients of this account, {_LATER}")
)

# ---- one connection; those with a reply of `wording` are counted by the receiver-SMTP itself

ERRORS: Final = Limit(Scope.CONNECTION, What.ERROR, "errors", wording.TOO_MANY_ERRORS)
AUTH_FAILURES: Final = Limit(Scope.CONNECTION, What.AUTH_FAILURE, "auth_failures", wording.TOO_MANY_LOGINS)
COMMANDS: Final = Limit(Scope.CONNECTION, What.COMMAND, "commands_per_connection", wording.TOO_MANY_COMMANDS, exempt=True)
TRANSACTIONS: Final = Limit(
    Scope.CONNECTION, What.MESSAGE, "transactions_per_connection", wording.TOO_MANY_TRANSACTIONS, exempt=True
)
RECIPIENTS: Final = Limit(Scope.CONNECTION, What.RECIPIENT, "recipients_per_connection", wording.TOO_MANY_IN_ALL, exempt=True)
REJECTED: Final = Limit(Scope.CONNECTION, What.REJECTED, "rejected_per_connection", _HARVESTING, exempt=True)
BYTES: Final = Limit(
    Scope.CONNECTION,
    What.BYTES,
    "bytes_per_connection",
    Reply(421, "4.7.0", f"Too much mail in one connection, {_LATER}"),
    exempt=True,
)
SESSION_TIME: Final = Limit(Scope.CONNECTION, What.TIME, "session_time", TOO_LONG)
TARPIT: Final = Limit(Scope.CONNECTION, What.ERROR, "tarpit", None, exempt=True)

TABLE: Final = (
    CONNECTIONS,
    RESERVE,
    CONNECTIONS_PER_CLIENT,
    CONNECTION_RATE,
    TLS_SESSIONS,
    MESSAGE_RATE,
    RECIPIENT_RATE,
    REJECTED_RATE,
    AUTH_FAILURE_RATE,
    LOGIN_FAILURE_RATE,
    LOGIN_FAILURES,
    LOGIN_MESSAGES,
    LOGIN_RECIPIENTS,
    ERRORS,
    AUTH_FAILURES,
    COMMANDS,
    TRANSACTIONS,
    RECIPIENTS,
    REJECTED,
    BYTES,
    SESSION_TIME,
    TARPIT,
)

RATED: Final = (  # by `Counts`; their settings are rates, or so many a minute
    CONNECTION_RATE,
    TLS_SESSIONS,
    MESSAGE_RATE,
    RECIPIENT_RATE,
    REJECTED_RATE,
    AUTH_FAILURE_RATE,
    LOGIN_FAILURE_RATE,
    LOGIN_FAILURES,
    LOGIN_MESSAGES,
    LOGIN_RECIPIENTS,
)

SAID_BY_MACHINE: Final = MappingProxyType({row.reply: row for row in (ERRORS, AUTH_FAILURES, COMMANDS, TRANSACTIONS, RECIPIENTS)})
