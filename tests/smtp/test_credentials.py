"""The values of AUTH: what they show of themselves, and texts out of octets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.credentials import (
    CramCredentials,
    ExternalCredentials,
    Held,
    JudgedCredentials,
    PassedOn,
    PlainCredentials,
    Terms,
    Undecodable,
    Verifier,
    VerifierWanted,
    name_in,
    saslname_in,
    text_in,
)


class ValuesTests(SynchronousTestCase):
    """What travels."""

    def test_for_the_log(self) -> None:
        """Each has a mechanism and a user; EXTERNAL has what the client said."""
        for value, wanted in (
            (PlainCredentials("LOGIN", "", "tim", "p"), ("LOGIN", "tim")),
            (CramCredentials("tim", b"c", b"d"), ("CRAM-MD5", "tim")),
            (JudgedCredentials("SCRAM-SHA-256", "", "tim"), ("SCRAM-SHA-256", "tim")),
            (ExternalCredentials("tim"), ("EXTERNAL", "tim")),
            (VerifierWanted("SCRAM-SHA-256", "tim"), ("SCRAM-SHA-256", "tim")),
            (PassedOn("X", b"r", Held()), ("X", "")),
        ):
            self.assertEqual((value.mechanism, value.user), wanted)

    def test_secrets(self) -> None:
        """No repr shows a password, a key, what binds a channel, or what a client said to somebody else."""
        for value in (
            PlainCredentials("PLAIN", "", "tim", "xyzzy"),
            Verifier(b"salt", 4096, b"xyzzy", b"xyzzy"),
            Terms(b"fresh", b"xyzzy"),
            PassedOn("X", b"xyzzy", Held()),
        ):
            self.assertNotIn("xyzzy", repr(value))


class TextTests(SynchronousTestCase):
    """`name_in` and `text_in`."""

    def test_names(self) -> None:
        """UTF-8, not empty, nothing that a terminal obeys; passwords may have that."""
        self.assertEqual((name_in("jörg".encode()), text_in(b"a\nb")), ("jörg", "a\nb"))
        for octets in (b"", b"\xff", b"a\nb", b"\0", "\x85".encode()):
            self.assertRaises(Undecodable, name_in, octets)
        for octets in (b"", b"\xff"):
            self.assertRaises(Undecodable, text_in, octets)


class HeldTests(SynchronousTestCase):
    def test_over(self):
        """Whoever holds an exchange is told once, now or when it has been over for long."""
        for order in ("before", "behind"):
            told, held = [], Held()
            if order == "behind":
                held.end()
            held.when_over(lambda told=told: told.append(1))
            self.assertEqual([1] * (order == "behind"), told)
            held.end()
            held.end()
            self.assertEqual([1], told)


class SaslnameTests(SynchronousTestCase):
    def test_written_out(self):
        """RFC 5802 5.1: comma and "=" are written out, and nothing else is."""
        for octets, name in ((b"a=2Cb=3Dc", "a,b=c"), (b"=3D2C", "=2C"), ("jörg".encode(), "jörg")):
            self.assertEqual(name, saslname_in(octets))
        for octets in (b"", b"a=", b"a=2c", b"a==3D", b"a=41", b"\xff", b"a\nb"):
            self.assertRaises(Undecodable, saslname_in, octets)
