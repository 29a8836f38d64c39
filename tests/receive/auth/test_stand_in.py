"""Whom unknown users look like: as the users of the file do, and the same whatever else changes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.stand_in import Shape, StandIns
from mta.smtp.scram import serialise, verifier_of
from mta.smtp.secret import Secret, secret_in

NAMES = [f"nobody{number}".encode() for number in range(400)]
PLAIN = secret_in("secret")
MADE = Shape(16, 4096, is_made=True)


def key() -> bytes:
    """The server's."""
    return b"k" * 32


def scram(iterations: int, salt: bytes = b"s" * 12) -> Secret:
    """A verifier of the file; its work is not done here."""
    return secret_in("{SCRAM-SHA-256}" + serialise(verifier_of("x", salt, 1)).replace("$1:", f"${iterations}:"))


def hashed(cost: str) -> Secret:
    """A hash that SCRAM can do nothing with."""
    return Secret(lambda given: False, cost)


class DrawTests(SynchronousTestCase):
    """Costs and shapes."""

    def test_as_common_as_in_the_file(self) -> None:
        """Each cost and each shape as often as the file has it; nobody can tell who is there by having a rare one."""
        stand_ins = StandIns([scram(4096)] * 6 + [scram(10_000)] * 3 + [hashed("argon2")], key)
        secrets = {name: stand_ins.secret(name) for name in NAMES}
        costs = Counter(secret.cost for secret in secrets.values())
        for cost, share in (("scram 12 4096", 0.6), ("scram 12 10000", 0.3), ("argon2", 0.1)):
            self.assertLess(abs(costs[cost] / len(NAMES) - share), 0.07)
        for name, secret in secrets.items():
            shape = stand_ins.shape(name, secret)
            if secret.verifier is not None:
                self.assertEqual(shape, Shape(12, secret.verifier.iterations), "cost and shape are of one user")
        drawn = Counter(stand_ins.shape(name, hashed("argon2")) for name in NAMES)
        self.assertEqual({*drawn}, {Shape(12, 4096), Shape(12, 10_000)})
        self.assertLess(abs(drawn[Shape(12, 10_000)] / len(NAMES) - 1 / 3), 0.07)

    def test_plain(self) -> None:
        """Of plain passwords verifiers are made: so they are for unknown users; and where there is no verifier at all."""
        for secrets in ([PLAIN, hashed("argon2")], [hashed("argon2")], []):
            stand_ins = StandIns(secrets, key)
            self.assertEqual({stand_ins.shape(name, stand_ins.secret(name)) for name in NAMES[:50]}, {MADE})
        self.assertEqual(StandIns([], key).secret(b"x").cost, "plain")

    def test_others_come_and_go(self) -> None:
        """A new kind of user takes a few names, all others stay; whose shape is another has another salt too, as after a new password."""
        before = StandIns([scram(4096)] * 19, key)
        after = StandIns([*[scram(4096)] * 19, scram(8192)], key)
        moved = 0
        for name in NAMES:
            old, new = (ins.verifier(name, ins.shape(name, ins.secret(name))) for ins in (before, after))
            if old.iterations == new.iterations:
                self.assertEqual(old, new)
            else:
                moved += 1
                self.assertEqual(len({old.salt, new.salt, old.stored_key, new.stored_key}), 4)
        self.assertTrue(5 <= moved <= 40, moved)

    def test_order(self) -> None:
        """Neither the order of the file nor the hashes in it count."""
        one = StandIns([PLAIN, scram(4096), hashed("argon2")], key)
        other = StandIns([hashed("argon2"), scram(4096, b"t" * 12), secret_in("other")], key)
        for name in NAMES[:100]:
            self.assertEqual(one.secret(name).cost, other.secret(name).cost)
            self.assertEqual(one.shape(name, hashed("")), other.shape(name, hashed("")))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=30), st.integers(1, 100), st.integers(1, 100_000), st.booleans())
    def test_verifiers(self, user: bytes, size: int, iterations: int, is_made: bool) -> None:
        """Of the shape that was asked for, nobody's, the same for the same name, another one under another key."""
        shape = Shape(size, iterations, is_made)
        made_up = StandIns([], key).verifier(user, shape)
        self.assertEqual((len(made_up.salt), made_up.iterations, made_up.exists), (size, iterations, False))
        self.assertEqual((len(made_up.stored_key), len(made_up.server_key)), (32, 32))
        self.assertEqual(made_up, StandIns([PLAIN], key).verifier(user, shape))
        self.assertNotEqual(made_up.stored_key, StandIns([], lambda: b"K" * 32).verifier(user, shape).stored_key)

    def test_long_salts(self) -> None:
        """Salts of more than one digest are as random as real ones: none repeats itself."""
        salt = StandIns([], key).verifier(b"nobody", Shape(96, 4096)).salt
        self.assertEqual(len({salt[at : at + 16] for at in range(0, 96, 16)}), 6)

    def test_written(self) -> None:
        """What is made up stays so in all versions to come: who compares would see the upgrade."""
        stand_ins = StandIns([scram(4096), scram(8192), PLAIN, hashed("argon2")], key)
        self.assertEqual(stand_ins.verifier(b"nobody", MADE).salt.hex(), "f7a12c8a7f83c9a34d37c322a498bcd2")
        self.assertEqual("".join(stand_ins.secret(name).cost[0] for name in NAMES[:12]), "spsaspaaspps")
