"""Who we are at the next hop of a route: `auth = {...}` of a `[[route]]` (RFC 4954).

The password is the first line of its file, read once, at the start.  It stands in no repr, and what goes into reuse keys and
logs is its keyed digest.  A file that cannot be read, or whose first line can be no password, raises MailError with
its name: the service does not start, for every message of the route would wait.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from mta.config.settings import RouteAuth
from mta.smtp.credentials import Login
from mta.smtp.grammar import CONTROL
from mta.smtp.sasl import identity
from mta.status import MailError, transient

__all__ = ["Credentials"]


@attrs.frozen(slots=True)
class Credentials:
    """mechanisms: those we may use, in our order.  clear: PLAIN and LOGIN also where the TLS level is not mandatory."""

    login: Login
    mechanisms: tuple[str, ...]
    clear: bool
    identity: str

    @classmethod
    def load(cls, auth: RouteAuth, key: bytes) -> Credentials:
        """Those of a route.  key: secret octets of this process, for the digest in `identity`."""
        login = Login(auth.user, _password(auth.password_file))
        return cls(login, auth.mechanisms, auth.clear, identity(login, auth.mechanisms, key))


def _password(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            password = file.readline().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, getattr(error, "strerror", None) or "not in UTF-8") from None
    if not password or CONTROL.search(password):
        raise _bad(path, "the first line is wanted to be a password")
    return password


def _bad(path: Path, why: str) -> MailError:
    return transient("4.3.5", f"route auth: password_file {path}: {why}")
