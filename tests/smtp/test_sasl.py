"""The mechanisms: both ends, strict base64, and what is never shown."""

from __future__ import annotations

import base64

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.credentials import (
    CramCredentials,
    Credentials,
    ExternalCredentials,
    JudgedCredentials,
    Login,
    PassedOn,
    PlainCredentials,
    Terms,
    Undecodable,
    VerifierWanted,
    cram_digest,
    decode,
    encode,
)
from mta.smtp.sasl import CLIENT, MECHANISMS, SERVER, choose, identity, pass_on
from mta.smtp.saslprep import saslprep
from mta.smtp.scram import verifier_of

CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
KEY = b"k" * 32
TERMS = Terms(CHALLENGE)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
passwords = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


def in_scram(user: str) -> str:
    """The name as SCRAM says it (RFC 5802 5.1), "" where it leaves none."""
    try:
        return saslprep(user)
    except ValueError:
        return user


def ask(mechanism: str, *responses: bytes) -> tuple[list[bytes], Credentials | None]:
    """The challenges of the server's part, and the credentials when it came to its end."""
    steps = SERVER[mechanism](TERMS)
    challenges = [next(steps)]
    for response in responses:
        try:
            challenges.append(steps.send(response))
            if isinstance(challenges[-1], VerifierWanted):
                challenges.append(steps.send(verifier_of("tan", b"salt")))
        except StopIteration as end:
            return challenges, end.value
    return challenges, None


class ServerTests(SynchronousTestCase):
    def test_plain(self):
        """RFC 4616 2: authzid NUL authcid NUL passwd, after an empty challenge."""
        self.assertEqual(([b""], PlainCredentials("PLAIN", "", "tim", "tan")), ask("PLAIN", b"\0tim\0tan"))
        self.assertEqual(PlainCredentials("PLAIN", "Ursel", "Kurt", "xipj3plmq"), ask("PLAIN", b"Ursel\0Kurt\0xipj3plmq")[1])
        self.assertEqual(PlainCredentials("PLAIN", "", "jürgen", "ß \r\n"), ask("PLAIN", "\0jürgen\0ß \r\n".encode())[1])

    def test_plain_malformed(self):
        """A part too few or too many, nothing in one, no UTF-8, a control character in a name; an empty password never."""
        for message in (
            b"",
            b"tim",
            b"tim\0tan",
            b"\0tim\0tan\0",
            b"\0\0tan",
            b"\0tim\0",
            b"\0\xff\0tan",
            b"\0tim\0\xff",
            b"\0t\r\nim\0tan",
            b"a\nb\0tim\0tan",
        ):
            self.assertRaises(Undecodable, ask, "PLAIN", message)

    def test_login(self):
        """Two prompts, two responses."""
        asked = ask("LOGIN", b"tim", b"tan")
        self.assertEqual(([b"Username:", b"Password:"], PlainCredentials("LOGIN", "", "tim", "tan")), asked)
        for responses in ((b"",), (b"t\0m",), (b"tim", b""), (b"tim", b"t\0n"), (b"\xff",), (b"tim", b"\xff")):
            self.assertRaises(Undecodable, ask, "LOGIN", *responses)

    def test_cram_md5(self):
        """RFC 2195 2: its own example; the password itself never comes."""
        digest = b"b913a602c7eda7a495b4e6e7334d3890"
        challenges, given = ask("CRAM-MD5", b"tim " + digest)
        self.assertEqual(([CHALLENGE], CramCredentials("tim", CHALLENGE, digest)), (challenges, given))
        self.assertTrue(given.is_proof_of("tanstaaftanstaaf"))
        self.assertFalse(given.is_proof_of("tanstaaf"))
        self.assertEqual(digest, cram_digest("tanstaaftanstaaf", CHALLENGE))
        self.assertEqual(CramCredentials("tim r", CHALLENGE, digest), ask("CRAM-MD5", b"tim r " + digest.upper())[1])

    def test_cram_md5_malformed(self):
        """No blank, no user, no digest, a digest of another length."""
        for response in (b"", b"tim", b"tim ", b" " + b"0" * 32, b"tim " + b"0" * 31, b"tim " + b"0" * 33, b"tim " + b"g" * 32):
            self.assertRaises(Undecodable, ask, "CRAM-MD5", response)

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(MECHANISMS), st.lists(st.binary(max_size=60), max_size=4))
    def test_anything(self, mechanism, responses):
        """Any octets give a challenge, credentials or Undecodable; credentials have a user."""
        try:
            _, given = ask(mechanism, *responses)
        except Undecodable:
            return
        if given is not None and mechanism not in ("EXTERNAL", "OAUTHBEARER"):
            self.assertTrue(given.user)

    def test_external(self):
        """RFC 4422 A: an authzid or none; what it is worth says the certificate."""
        self.assertEqual(([b""], ExternalCredentials("")), ask("EXTERNAL", b""))
        self.assertEqual(ExternalCredentials("jörg@a.test"), ask("EXTERNAL", "jörg@a.test".encode())[1])
        for authzid in (b"\xff", b"a\0b", b"a\nb"):
            self.assertRaises(Undecodable, ask, "EXTERNAL", authzid)

    def test_passed_on(self):
        """Each response goes to whoever holds the exchange, each challenge comes from him, and the end too; one exchange is one."""
        steps, end = pass_on("X", TERMS), JudgedCredentials("X", "", "tim")
        self.assertEqual(b"", next(steps))
        first = steps.send(b"one")
        self.assertEqual(b"challenge", steps.send(b"challenge"))
        second = steps.send(b"two")
        self.assertEqual([("X", b"one"), ("X", b"two")], [(step.mechanism, step.response) for step in (first, second)])
        self.assertIs(first.exchange, second.exchange)
        self.assertEqual(end, self.assertRaises(StopIteration, steps.send, end).value)
        other = pass_on("X", TERMS)
        next(other)
        another = other.send(b"one")
        self.assertIsInstance(another, PassedOn)
        self.assertIsNot(first.exchange, another.exchange)

    def test_passed_on_server_first(self):
        """Whoever speaks first is asked first, without a word of the client's."""
        steps = pass_on("CRAM-MD5", TERMS)
        first = next(steps)
        self.assertEqual(("CRAM-MD5", None), (first.mechanism, first.response))
        self.assertEqual(CHALLENGE, steps.send(CHALLENGE))
        self.assertEqual(b"tim digest", steps.send(b"tim digest").response)

    def test_passed_on_to_its_end(self):
        """Whoever holds it hears when it is over: by an end, an error, or because it was thrown away; once, and also when late."""
        for finish in (
            lambda steps: self.assertRaises(StopIteration, steps.send, JudgedCredentials("X", "", "tim")),
            lambda steps: steps.close(),
            lambda steps: self.assertRaises(Undecodable, steps.throw, Undecodable),
        ):
            told = []
            steps = pass_on("X", TERMS)
            next(steps)
            held = steps.send(b"one").exchange
            held.when_over(lambda told=told: told.append(1))
            self.assertEqual([], told)
            finish(steps)
            held.end()
            self.assertEqual([1], told)
            held.when_over(lambda told=told: told.append(2))
            self.assertEqual([1, 2], told)
        steps = pass_on("X", TERMS)
        next(steps)
        steps.send(b"one").exchange.when_over(lambda: told.append(3))
        del steps
        self.assertEqual([1, 2, 3], told)


class BothEndsTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from([*CLIENT]), names, passwords)
    def test_they_understand_each_other(self, mechanism, user, password):
        """What our client says our server understands, whatever user and password."""
        prepared = in_scram(user) if mechanism.startswith("SCRAM") else user
        assume(prepared)
        terms = Terms(CHALLENGE, b"binding", plus=True)
        client, server = CLIENT[mechanism](Login(user, password), terms), SERVER[mechanism](terms)
        at_once = next(client)
        challenge = next(server)
        try:
            for _ in range(4):
                challenge = server.send(at_once or client.send(challenge))
                at_once = b""
                if isinstance(challenge, VerifierWanted):
                    challenge = server.send(verifier_of(password, b"salt", 4096))
            self.fail("no end")
        except StopIteration as end:
            given = end.value
        self.assertEqual(prepared, given.user)
        if isinstance(given, JudgedCredentials):
            self.assertEqual((mechanism, ""), (given.mechanism, given.error))
        elif isinstance(given, CramCredentials):
            self.assertTrue(given.is_proof_of(password))
            self.assertFalse(given.is_proof_of(password + "x"))
        else:
            self.assertEqual((mechanism, "", password), (given.mechanism, given.authzid, given.password))

    def test_the_client_says_at_once(self):
        """PLAIN comes with the command, the others wait; a PLAIN that waited answers the empty challenge."""
        login = Login("tim", "tan")
        self.assertEqual([b"\0tim\0tan", b"", b""], [next(CLIENT[mechanism](login, TERMS)) for mechanism in [*CLIENT][:3]])
        self.assertEqual([b"n,,", b"p=t"], [next(CLIENT[mechanism](login, TERMS))[:3] for mechanism in [*CLIENT][3:]])
        plain = CLIENT["PLAIN"](login, TERMS)
        self.assertEqual(next(plain), plain.send(b""))
        self.assertRaises(StopIteration, plain.send, b"")


class Base64Tests(SynchronousTestCase):
    def test_strict(self):
        """RFC 4954 4: no character outside the alphabet, no padding but at the end, no padding missing."""
        self.assertEqual(b"", decode(b""))
        for text in (
            b"=AAA",
            b"AAA=BBB",
            b"AA==BBBB",
            b"A",
            b"AA",
            b"AAA",
            b"AAAA=",
            b"AAAA====",
            b"AA==\n",
            b"AA A",
            b"AA\tA",
            b"AA-_",
            b"=",
            b"*",
            b"\xff",
        ):
            self.assertRaises(Undecodable, decode, text)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=300))
    def test_there_and_back(self, octets):
        """One line, as everybody else writes it."""
        self.assertEqual(octets, decode(encode(octets)))
        self.assertEqual(base64.b64encode(octets), encode(octets))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=30))
    def test_anything(self, text):
        """Octets, or Undecodable."""
        try:
            decode(text)
        except Undecodable:
            pass


class ChooseTests(SynchronousTestCase):
    def test_first_allowed(self):
        """Our order counts, not theirs; upper and lower case are one."""
        for offered, allowed, chosen in (
            ("PLAIN LOGIN CRAM-MD5", ("LOGIN", "PLAIN"), "LOGIN"),
            ("login plain", ("PLAIN", "LOGIN"), "PLAIN"),
            ("GSSAPI NTLM", ("PLAIN", "LOGIN", "CRAM-MD5"), ""),
            ("GSSAPI", ("GSSAPI",), ""),
            ("XPLAIN PLAINX", ("PLAIN",), ""),
            ("", ("PLAIN",), ""),
            ("PLAIN", (), ""),
        ):
            self.assertEqual(chosen, choose(offered, allowed, confidential=True), offered)

    def test_in_clear(self):
        """C31, C2.6, A41, X05, X06: where others can read, no password is shown, however long the list."""
        many = " ".join(["PLAIN", "LOGIN", *(f"X{n}" for n in range(60))])
        self.assertEqual("", choose(many, ("PLAIN", "LOGIN"), confidential=False))
        self.assertEqual("CRAM-MD5", choose(f"{many} CRAM-MD5", ("PLAIN", "LOGIN", "CRAM-MD5"), confidential=False))

    def test_binding(self):
        """RFC 9266: -PLUS where the connection can be bound to, else the next that is allowed."""
        offered, allowed = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
        self.assertEqual("SCRAM-SHA-256-PLUS", choose(offered, allowed, confidential=False, binding=True))
        self.assertEqual("SCRAM-SHA-256", choose(offered, allowed, confidential=False))
        self.assertEqual("", choose(offered, allowed[:1], confidential=True))

    def test_old_form(self):
        """A47: the parameters of "AUTH=LOGIN PLAIN"."""
        for offered in ("=LOGIN PLAIN", "AUTH=LOGIN", "LOGIN=PLAIN LOGIN"):
            self.assertEqual("LOGIN", choose(offered, ("LOGIN",), confidential=True))


class SecretTests(SynchronousTestCase):
    def test_no_repr(self):
        """No log line that shows one of these values shows a password."""
        for value in (Login("tim", "hidden"), PlainCredentials("PLAIN", "", "tim", "hidden")):
            self.assertNotIn("hidden", repr(value))
            self.assertIn("tim", repr(value))

    def test_identity(self):
        """Another user, password, mechanism or key is another identity; the password is not in it, nor a plain digest of it."""
        login = Login("tim", "hidden")
        given = identity(login, ("PLAIN", "LOGIN"), KEY)
        self.assertEqual(given, identity(Login("tim", "hidden"), ("PLAIN", "LOGIN"), KEY))
        self.assertRegex(given, "^PLAIN/LOGIN:tim:[0-9a-f]{32}$")
        others = [
            identity(Login("tim", "hidden2"), ("PLAIN", "LOGIN"), KEY),
            identity(Login("tom", "hidden"), ("PLAIN", "LOGIN"), KEY),
            identity(login, ("LOGIN", "PLAIN"), KEY),
            identity(login, ("PLAIN",), KEY),
            identity(login, ("PLAIN", "LOGIN"), b"x" * 32),
        ]
        self.assertEqual(6, len({given, *others}))
        self.assertEqual(6, len({text.rpartition(":")[2] for text in (given, *others)}))
