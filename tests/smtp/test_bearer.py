"""OAUTHBEARER and XOAUTH2: the message, whatever it is; what is said to a client that is refused."""

from __future__ import annotations

import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.bearer import BEARER, bearer, message_of, why_refused
from mta.smtp.credentials import BearerCredentials, Terms, Undecodable

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="  # RFC 7628 4.1
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
tokens = st.from_regex(r"[A-Za-z0-9._~+/-]{1,40}={0,2}", fullmatch=True)


def read(mechanism: str, message: bytes) -> BearerCredentials:
    """What the server makes of it."""
    steps = bearer(mechanism, Terms())
    assert next(steps) == b""
    try:
        steps.send(message)
    except StopIteration as end:
        assert isinstance(end.value, BearerCredentials)
        return end.value
    raise AssertionError("it goes on")


class OauthbearerTests(SynchronousTestCase):
    """RFC 7628."""

    def test_example(self):
        """RFC 7628 4.1: its own example, and that of 4.3 whose token is of the same kind."""
        message = f"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer {TOKEN}\1\1"
        self.assertEqual(BearerCredentials("OAUTHBEARER", "user@example.com", TOKEN), read("OAUTHBEARER", message.encode()))

    def test_name(self):
        """The token may say who it is; comma and "=" in a name are written out; "y" is as good as "n"."""
        for header, user in (
            (b"n,,", ""),
            (b"y,,", ""),
            (b"n,a=J=C3=B6rg,", None),
            (b"n,a=a=2Cb=3Dc,", "a,b=c"),
            ("n,a=jörg,".encode(), "jörg"),
        ):
            message = header + b"\1auth=Bearer abc\1\1"
            if user is None:
                self.assertRaises(Undecodable, read, "OAUTHBEARER", message)
            else:
                self.assertEqual(BearerCredentials("OAUTHBEARER", user, "abc"), read("OAUTHBEARER", message))

    def test_scheme(self):
        """RFC 9110 11.1: the scheme in any case; no token at all is a question."""
        for auth, token in ((b"bearer  abc ", "abc"), (b"BEARER a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="), (b"", "")):
            self.assertEqual(token, read("OAUTHBEARER", b"n,,\1auth=%b\1\1" % auth).token)

    def test_malformed(self):
        """A channel binding, no header, no end, no or two tokens, another scheme, what is no token."""
        for message in (
            b"",
            b"\1",
            b"n,,",
            b"n,,\1\1",
            b"n,,\1host=a\1\1",
            b"n,,\1auth=Bearer abc\1",
            b"n,,\1auth=Bearer abc\1\1\1",
            b"n,,\1auth=Bearer abc\1\1x",
            b"\1auth=Bearer abc\1\1",
            b"p=tls-exporter,,\1auth=Bearer abc\1\1",
            b"n,a=,\1auth=Bearer abc\1\1",
            b"n,a=x\0y,\1auth=Bearer abc\1\1",
            b"n,a=x\ny,\1auth=Bearer abc\1\1",
            b"n,a=\xff,\1auth=Bearer abc\1\1",
            b"n,,\1auth=Bearer abc\1auth=Bearer abd\1\1",
            b"n,,\1auth=Bearer abc\1AUTH=\1\1",
            b"n,,\1auth=Basic abc\1\1",
            b"n,,\1auth=Bearer\1\1",
            b"n,,\1auth=Bearer \1\1",
            b"n,,\1auth=Bearer a b\1\1",
            b"n,,\1auth=Bearer =\1\1",
            b"n,,\1auth=Bearer a\nb\1\1",
            b"n,,\1auth=Bearer \xc3\xa9\1\1",
            b"n,,\1=x\1auth=Bearer abc\1\1",
            b"user=tim\1auth=Bearer abc\1\1",
        ):
            self.assertRaises(Undecodable, read, "OAUTHBEARER", message)

    @settings(deadline=None, max_examples=150)
    @given(names, tokens, st.lists(st.sampled_from(["host=a.test", "port=587", "x=", "y=a=b\t\r\n"]), max_size=3))
    def test_any_name(self, user, token, others):
        """Whatever name and token are said so, they are heard so, among whatever other pairs."""
        written = user.replace("=", "=3D").replace(",", "=2C")
        pairs = "".join(f"{pair}\1" for pair in (*others, f"auth=Bearer {token}"))
        given = read("OAUTHBEARER", f"n,a={written},\1{pairs}\1".encode())
        self.assertEqual(BearerCredentials("OAUTHBEARER", user, token), given)


class Xoauth2Tests(SynchronousTestCase):
    """Google's."""

    def test_whole(self):
        """A user must be named; otherwise it is the same."""
        message = f"user=someuser@example.com\1auth=Bearer {TOKEN}\1\1".encode()
        self.assertEqual(BearerCredentials("XOAUTH2", "someuser@example.com", TOKEN), read("XOAUTH2", message))
        self.assertEqual("a=2C,b", read("XOAUTH2", b"user=a=2C,b\1auth=Bearer abc\1\1").user)

    def test_malformed(self):
        """No user, a broken one, no end, no token, another order."""
        for message in (
            b"",
            b"auth=Bearer abc\1\1",
            b"user=\1auth=Bearer abc\1\1",
            b"user=a\nb\1auth=Bearer abc\1\1",
            b"user=\xff\1auth=Bearer abc\1\1",
            b"user=tim\1\1",
            b"user=tim\1auth=Bearer abc\1",
            b"user=tim\1auth=Bearer abc\1\1\n",
            b"auth=Bearer abc\1user=tim\1\1",
            b"n,a=tim,\1auth=Bearer abc\1\1",
        ):
            self.assertRaises(Undecodable, read, "XOAUTH2", message)


class AnyTests(SynchronousTestCase):
    """Both."""

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from(BEARER),
        st.lists(
            st.one_of(st.binary(max_size=20), st.sampled_from([b"\1", b"n,,", b"auth=Bearer ", b"user=", b"a="])), max_size=8
        ),
    )
    def test_anything(self, mechanism, parts):
        """Credentials whose words are what they may be, or Undecodable."""
        try:
            given = read(mechanism, b"".join(parts))
        except Undecodable:
            return
        self.assertTrue(given.user or mechanism == "OAUTHBEARER")
        self.assertRegex(given.token, r"\A([A-Za-z0-9._~+/-]+=*)?\Z")

    @settings(deadline=None, max_examples=100)
    @given(st.sampled_from(BEARER), st.one_of(st.just(""), names), tokens)
    def test_written(self, mechanism, user, token):
        """What is written to be passed on is read as the same."""
        assume(user or mechanism == "OAUTHBEARER")
        self.assertEqual(BearerCredentials(mechanism, user, token), read(mechanism, message_of(mechanism, user, token)))

    def test_hidden(self):
        """No log line that shows the value shows the token."""
        self.assertNotIn("abc", repr(BearerCredentials("XOAUTH2", "tim", "abc")))

    def test_why(self):
        """RFC 7628 3.2.2: JSON with a status, short enough for one line; others say nothing."""
        for mechanism in BEARER:
            why = json.loads(why_refused(mechanism))
            self.assertEqual("bearer", why["schemes"])
            self.assertIn(why["status"], ("invalid_token", "401"))
        self.assertEqual(b"", why_refused("PLAIN"))
