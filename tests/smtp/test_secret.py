"""What stands behind the colon of a password file: each scheme as its own libraries and other programs write it."""

from __future__ import annotations

import sys
from unittest import mock

import argon2
import bcrypt
from hypothesis import given, settings
from hypothesis import strategies as st
from passlib.hash import sha256_crypt, sha512_crypt
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.scram import serialise, verifier_of
from mta.smtp.secret import SCHEMES, hashed, secret_in

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("pässword")
BCRYPT = bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode()
SHA256 = sha256_crypt.using(rounds=1000).hash("pässword")
SHA512 = sha512_crypt.using(rounds=1000).hash("pässword")
SCRAM = serialise(verifier_of("pässword", b"salt"))
# openssl passwd -6 -salt saltsalt secret
OPENSSL = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"
ALL = (
    QUICK, "{ARGON2ID}" + QUICK, BCRYPT, "{BLF-CRYPT}" + BCRYPT, "{CRYPT}" + BCRYPT, SHA256, SHA512, "{SHA512-CRYPT}" + SHA512,
    "{crypt}" + SHA256, "{SCRAM-SHA-256}" + SCRAM, "{SCRAM-SHA-256}" + SCRAM[14:].replace(":", ",").replace("$", ","),
)  # fmt: skip


class SecretTests(SynchronousTestCase):
    """`secret_in`."""

    def test_hashes(self) -> None:
        """The password matches, others do not, and no octets at all make it raise; it is to be asked in a thread."""
        for text in ALL:
            secret = secret_in(text)
            self.assertTrue(secret.matches("pässword".encode()), text)
            for wrong in (b"", b"password", b"p\xffssword", b"p" * 73, b"p" * 5000, "pässword\0".encode(), b"\0"):
                self.assertFalse(secret.matches(wrong), (text, wrong))
            self.assertEqual((secret.is_slow, secret.plain, secret.verifier is not None), (True, None, "SCRAM" in text))

    def test_of_openssl(self) -> None:
        """What `openssl passwd -6` has made."""
        secret = secret_in(OPENSSL)
        self.assertEqual((secret.matches(b"secret"), secret.matches(b"Secret")), (True, False))

    def test_plain(self) -> None:
        """As it is, or behind {PLAIN}, where it may begin like a hash."""
        for text, password in (
            ("secret", b"secret"),
            (" a:b ", b" a:b "),
            ("{PLAIN}{x}", b"{x}"),
            ("{plain}$6$x$y", b"$6$x$y"),
            ("$", b"$"),
            ("{", b"{"),
        ):
            secret = secret_in(text)
            self.assertEqual((secret.plain, secret.is_slow, secret.matches(password)), (password, False, True))
            self.assertFalse(secret.matches(password + b" "))

    def test_unreadable(self) -> None:
        """A scheme nobody knows, a hash that is none: an error with no word of it."""
        for text in (
            "{MD5}xyzzy", "$1$xyzzy$xyzzy", "$y$j9T$xyzzy", "{SHA512-CRYPT}xyzzy", "{BLF-CRYPT}xyzzy", "{ARGON2ID}xyzzy", "$argon2id$xyzzy",
            "$2b$xyzzy", "$6$", "$6$xyzzy", "{SCRAM-SHA-256}xyzzy", "$pbkdf2-sha256$1$xyzzy", "{PBKDF2_SHA256}xyzzy", "{CRYPT}$xyzzy", "$pbkdf2_1$xyzzy", "{PLAIN}", "{CRYPT}xyzzyxyzzyxyz", BCRYPT + "x", "{SCRAM-SHA-1}xyzzy",
        ):  # fmt: skip
            error = self.assertRaises(ValueError, secret_in, text)
            self.assertNotIn("xyzzy", str(error))

    def test_without_the_library(self) -> None:
        """A hash whose library is not there says at once what to install; others need it not."""
        for library, text in (("argon2", QUICK), ("bcrypt", BCRYPT), ("passlib.hash", SHA512)):
            with mock.patch.dict(sys.modules, {library: None}):
                self.assertIn("pip install 'mta[passwords]'", str(self.assertRaises(ValueError, secret_in, text)))
                secret_in("{SCRAM-SHA-256}" + SCRAM)

    def test_no_repr(self) -> None:
        """What is printed tells nothing."""
        for text in (*ALL, "xyzzy"):
            self.assertNotRegex(repr(secret_in(text)), "xyzzy|salt|[$]")

    @settings(deadline=None, max_examples=150)
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
    def test_anything(self, text: str) -> None:
        """Any text is a secret, or a ValueError."""
        try:
            secret = secret_in(text)
        except ValueError:
            return
        self.assertTrue(secret.plain is None or secret.matches(secret.plain))


class NewTests(SynchronousTestCase):
    """`hashed`."""

    def test_every_scheme(self) -> None:
        """What is written can be read again, and is that password."""
        for scheme in SCHEMES:
            text = hashed("pa:ss wörd", scheme, lambda size: b"r" * size)
            self.assertTrue(secret_in(text).matches("pa:ss wörd".encode()), scheme)

    def test_too_long(self) -> None:
        """bcrypt would be cut off behind 72 bytes."""
        self.assertRaises(ValueError, hashed, "x" * 73, "bcrypt", lambda size: b"r" * size)
