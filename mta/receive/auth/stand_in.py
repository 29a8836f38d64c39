"""Whom a user who does not exist looks like: always like somebody of the file, always like the same one.

Who asks must not learn who exists, by what he is told, by how long it takes, or by asking again: after a reload, a restart, at
another process, or after other users have come and gone.  So for a name that is not in the file one of the *costs* that the
secrets of the file have is drawn, each as likely as it is common there, and one of the *shapes* that SCRAM shows (salt size and
iterations), the one that goes with this cost; for users whose secret SCRAM can do nothing with, one is drawn too.  Draws and
salts rest on the name and a lasting secret alone: when the file changes only names whose draw falls on what is new change,
and then their salt does too, as that of a user does who has got a new password.  Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import digest as keyed_digest
from math import log
from typing import Final

import attrs

from mta.smtp.credentials import Verifier
from mta.smtp.scram import ITERATIONS
from mta.smtp.secret import Secret, secret_in

__all__ = ["Shape", "StandIns"]

_NOBODYS: Final = secret_in("nobody's")  # of an empty file
_SALT: Final = 16  # octets


@attrs.frozen(slots=True)
class Shape:
    """What SCRAM shows of a user.  size: octets of the salt.  is_made: out of a plain password, anew each time."""

    size: int
    iterations: int
    is_made: bool = False

    @property
    def name(self) -> str:
        """Which it is: the same in all versions, for what is made up rests on it."""
        return f"{self.size} {self.iterations} {'made' if self.is_made else 'stored'}"


_MADE: Final = Shape(_SALT, ITERATIONS, is_made=True)


class StandIns:
    """key: gives secret octets, always the same."""

    __slots__ = ("_costs", "_key", "_models", "_named", "_shapes")

    def __init__(self, secrets: Iterable[Secret], key: Callable[[], bytes]) -> None:
        listed = list(secrets)
        shapes = [shape for shape in map(_shape_of, listed) if shape is not None]
        self._key = key
        self._costs = Counter(secret.cost for secret in listed)
        self._models = {secret.cost: secret for secret in listed}
        self._shapes = Counter(shape.name for shape in shapes)
        self._named = {shape.name: shape for shape in shapes}

    def secret(self, user: bytes) -> Secret:
        """One that costs as much as this user would, if he were one."""
        return self._models.get(self._draw("cost", self._costs, user), _NOBODYS)

    def shape(self, user: bytes, secret: Secret) -> Shape:
        """What SCRAM is to show of a user with that secret, or with such a one."""
        drawn = self._named.get(self._draw("shape", self._shapes, user), _MADE)
        return _shape_of(secret) or drawn

    def verifier(self, user: bytes, shape: Shape) -> Verifier:
        """Nobody's."""
        stored, server = (self._digest(what, shape.name, user) for what in ("stored", "server"))
        salt = b"".join(self._digest(f"salt{at or ''}", shape.name, user) for at in range(0, shape.size, 32))
        return Verifier(salt[: shape.size], shape.iterations, stored, server, exists=False)

    def _draw(self, what: str, options: Mapping[str, int], user: bytes) -> str:
        """Each has its own number for this user, which no other changes; the commoner it is, the likelier this is the least."""

        def number(option: str) -> float:
            chance = int.from_bytes(self._digest(what, option, user)[:8], "big") + 1
            return (64 * log(2) - log(chance)) / options[option]

        return min(options, key=number, default="")

    def _digest(self, what: str, option: str, user: bytes) -> bytes:
        return keyed_digest(self._key(), f"{what}\0{option}\0".encode() + user, sha256)


def _shape_of(secret: Secret) -> Shape | None:
    """None where SCRAM cannot do anything with it."""
    if secret.verifier is not None:
        return Shape(len(secret.verifier.salt), secret.verifier.iterations)
    return None if secret.plain is None else _MADE
