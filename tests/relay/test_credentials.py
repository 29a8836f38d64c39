"""The password file of a route: what is read, what is refused, and what nobody gets to see."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import RouteAuth
from mta.relay.credentials import Credentials
from mta.status import MailError


class CredentialsTests(SynchronousTestCase):
    """`Credentials.load`."""

    def load(self, text: bytes | None, user: str = "me", key: bytes = b"key", **auth) -> Credentials:
        path = Path(self.mktemp())
        if text is not None:
            path.write_bytes(text)
        return Credentials.load(RouteAuth(user, path, **auth), key)

    def test_first_line(self) -> None:
        """The first line without its end, blanks and all; what follows is for people."""
        for text, password in (
            (b"secret", "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\nrotate in May\n", "secret"),
            (b" two words \n", " two words "),
            ("\u00fcml\u00e4ut\n".encode(), "\u00fcml\u00e4ut"),
        ):
            self.assertEqual(self.load(text).login.password, password)

    def test_what_cannot_be_a_password(self) -> None:
        """Missing, empty, with a control character, not UTF-8: MailError with the file's name and nothing of its text."""
        for text in (None, b"", b"\n", b"\nsecret\n", b"sec\0ret\n", b"secret\xff\n", b"a\rb\n"):
            error = self.assertRaises(MailError, self.load, text)
            self.assertIn("password_file", error.reply.text)
            self.assertNotIn("sec", error.reply.text.partition(": ")[2].partition(": ")[2])

    def test_identity(self) -> None:
        """Equal for equal credentials; user, password, mechanisms and the process's key each make another; no password in it."""
        known = self.load(b"secret")
        self.assertEqual(known.identity, self.load(b"secret\n").identity)
        others = (
            self.load(b"other"),
            self.load(b"secret", user="you"),
            self.load(b"secret", mechanisms=("PLAIN",)),
            self.load(b"secret", key=b"another"),
        )
        self.assertEqual(len({known.identity, *(other.identity for other in others)}), 5)
        self.assertNotIn("secret", repr(known) + known.identity)
