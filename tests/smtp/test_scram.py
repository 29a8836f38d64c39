"""SCRAM-SHA-256 and its -PLUS: the example of RFC 7677, another implementation on either side, and everybody who lies."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import scram as module
from mta.smtp.credentials import JudgedCredentials, Login, Terms, Undecodable, Verifier, VerifierWanted
from mta.smtp.scram import ITERATIONS, PLUS, SCRAM, give_scram, scram, serialise, verifier_in, verifier_of

SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = verifier_of("pencil", SALT)
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
BINDING = b"b" * 32
FRESH = b"<1@mx.test>"


def spoken(
    client: Callable[[bytes], bytes], mechanism: str = SCRAM, terms: Terms = Terms(FRESH), verifier: Verifier = PENCIL
) -> JudgedCredentials:
    """The server's side of an exchange with what answers each challenge."""
    server = scram(mechanism, terms)
    step = next(server)
    try:
        while True:
            step = server.send(verifier if isinstance(step, VerifierWanted) else client(step))
    except StopIteration as end:
        return end.value


def ours(user: str = "user", password: str = "pencil", mechanism: str = SCRAM, terms: Terms = Terms(b"client")):
    """Our client, to be asked."""
    exchange = give_scram(mechanism, Login(user, password), terms)
    said = [next(exchange)]

    def answer(challenge: bytes) -> bytes:
        return said.pop() if said else exchange.send(challenge)

    return answer


def changed(client: Callable[[bytes], bytes], pattern: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Somebody is between, and changes what the client says."""
    return lambda challenge: re.sub(pattern, new, client(challenge))


class ExampleTests(SynchronousTestCase):
    """RFC 7677 3, with the nonces that stand there."""

    def setUp(self) -> None:
        nonces = {b"client": b"rOprNGfwEbeRWgbNEkqO", b"server": b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"}
        self.patch(module, "encode", lambda octets: nonces.get(octets) or b64encode(octets))

    def test_server(self) -> None:
        """The challenge, and the proof of the server, to the letter."""
        server = scram(SCRAM, Terms(b"server"))
        self.assertEqual(next(server), b"")
        self.assertEqual(server.send(FIRST), VerifierWanted(SCRAM, "user"))
        self.assertEqual(server.send(PENCIL), CHALLENGE)
        self.assertEqual(server.send(FINAL), SIGNATURE)
        end = self.assertRaises(StopIteration, server.send, b"")
        self.assertEqual(end.value, JudgedCredentials(SCRAM, "", "user"))

    def test_client(self) -> None:
        """Both messages of the client, to the letter; nothing follows the server's proof."""
        client = give_scram(SCRAM, Login("user", "pencil"), Terms(b"client"))
        self.assertEqual(next(client), FIRST)
        self.assertEqual(client.send(CHALLENGE), FINAL)
        self.assertEqual(client.send(SIGNATURE), b"")
        self.assertRaises(StopIteration, client.send, b"")


class OracleTests(SynchronousTestCase):
    """scramp (MIT-0), which others use."""

    def test_their_client(self) -> None:
        """It logs in to our server, and believes its proof; with a wrong password it does not get in."""
        for user, password, right in (("user", "pencil", True), ("a,b=c", "pencil", True), ("user", "Pencil", False)):
            client = ScramClient([SCRAM], user, password)
            proofs: list[str] = []

            def answer(challenge: bytes) -> bytes:
                if not challenge:
                    return client.get_client_first().encode()
                if challenge.startswith(b"r="):
                    client.set_server_first(challenge.decode())
                    return client.get_client_final().encode()
                proofs.append(challenge.decode())
                client.set_server_final(challenge.decode())
                return b""

            end = spoken(answer)
            self.assertEqual((end.user, not end.error, len(proofs)), (user, right, right))

    def test_their_server(self) -> None:
        """Our client logs in to it, and believes its proof."""
        for user, password in (("user", "pencil"), ("a,b=c", "p w"), ("jörg", "ＫＡ⑨ß"), ("u", "I\u00adX")):
            mechanism = ScramMechanism(SCRAM)
            information = mechanism.make_auth_info(password, iteration_count=ITERATIONS)
            names: list[str] = []
            server = mechanism.make_server(lambda name: names.append(name) or information)
            client = give_scram(SCRAM, Login(user, password), Terms(b"client"))
            server.set_client_first(next(client).decode())
            server.set_client_final(client.send(server.get_server_first().encode()).decode())
            self.assertEqual(client.send(server.get_server_final().encode()), b"")
            self.assertEqual(names, [user])

    def test_their_verifiers(self) -> None:
        """The same password, salt and count make the same keys, however the password is written."""
        for password in ("pencil", "ＫＡ⑨ß", "a\u00a0b", "I\u00adX", "п§"):
            salt, stored, server, count = ScramMechanism(SCRAM).make_auth_info(
                password, iteration_count=5000, salt=b"salty salty salty"
            )
            self.assertEqual(verifier_of(password, b"salty salty salty", 5000), Verifier(salt, count, stored, server))


class ServerTests(SynchronousTestCase):
    """Who gets in, and who does not."""

    def test_between_ours(self) -> None:
        """With and without channel binding, with names that must be escaped; an authzid is handed on."""
        for mechanism, terms, mine in (
            (SCRAM, Terms(FRESH), Terms(b"client")),
            (SCRAM, Terms(FRESH, BINDING, plus=True), Terms(b"client")),  # it cannot bind: "n"
            (SCRAM, Terms(FRESH, b"", plus=False), Terms(b"client", BINDING, plus=False)),  # "y", and it is true
            (PLUS, Terms(FRESH, BINDING, plus=True), Terms(b"client", BINDING, plus=True)),
        ):
            for user in ("user", "a=b,c", "jörg"):
                end = spoken(ours(user, mechanism=mechanism, terms=mine), mechanism, terms)
                self.assertEqual(end, JudgedCredentials(mechanism, "", user))

    def test_wrong(self) -> None:
        """A wrong password and a user who was made up end alike; his right "password" does not help."""
        made_up = Verifier(PENCIL.salt, PENCIL.iterations, PENCIL.stored_key, PENCIL.server_key, exists=False)
        wrong = [spoken(ours(password="Pencil")), spoken(ours(), verifier=made_up)]
        self.assertEqual({end.error for end in wrong}, {"wrong user or password"})

    def test_downgrade(self) -> None:
        """X05: a client that could bind and was shown no PLUS, where PLUS was offered: somebody took it out."""
        end = spoken(ours(terms=Terms(b"client", BINDING, plus=False)), SCRAM, Terms(FRESH, BINDING, plus=True))
        self.assertIn("taken out", end.error)

    def test_another_channel(self) -> None:
        """RFC 9266: the proof is made for one connection: on another it is worth nothing."""
        end = spoken(ours(mechanism=PLUS, terms=Terms(b"client", b"x" * 32, plus=True)), PLUS, Terms(FRESH, BINDING, plus=True))
        self.assertIn("another channel", end.error)

    def test_flags(self) -> None:
        """RFC 5802 6: PLUS wants "p=tls-exporter", the other never has "p"; a changed flag does not fit what was signed."""
        plus, mine = Terms(FRESH, BINDING, plus=True), Terms(b"client", BINDING, plus=True)
        for client, mechanism in (
            (ours(terms=Terms(b"client")), PLUS),
            (ours(mechanism=PLUS, terms=mine), SCRAM),
            (changed(ours(mechanism=PLUS, terms=mine), rb"^p=tls-exporter", b"p=tls-unique"), PLUS),
            (changed(ours(), rb"^n,,", b"y,,"), SCRAM),
            (changed(ours(), rb"^n,,", b"n,a=root,"), SCRAM),
        ):
            self.assertNotEqual(spoken(client, mechanism, plus).error, "")

    def test_another_nonce(self) -> None:
        """What was recorded of another login is no proof here."""
        recorded: list[bytes] = []
        client = ours()

        def listening(challenge: bytes) -> bytes:
            recorded.append(client(challenge))
            return recorded[-1]

        self.assertEqual(spoken(listening).error, "")
        again = iter(recorded)
        self.assertNotEqual(spoken(lambda _: next(again), terms=Terms(b"<2@mx.test>")).error, "")

    def test_garbage(self) -> None:
        """What is no SCRAM at all."""
        for first in (
            b"", b"x", b"n,,", b"n,,n=user", b"n,,n=,r=abc", b"n,,r=abc,n=user", b"n,,n=us=er,r=abc", b"n,,n=us=2cer,r=a",
            b"n,,m=x,n=user,r=abc", b"n,,n=user,r=", b"n,,n=user,r=a b", b"p=,,n=user,r=abc", b"z,,n=user,r=abc",
            b"n,x,n=user,r=abc", b"n,,n=\xff,r=abc", b"n,,n=us\x01er,r=abc", b"n,a=,n=user,r=abc", b"n,,n=us\0er,r=abc",
            b"n,,n=user,r=abc\n", b"n,,n=user,r=abc,",
        ):  # fmt: skip
            server = scram(SCRAM, Terms(FRESH))
            next(server)
            self.assertRaises(Undecodable, server.send, first)
        for final in (b"", b"x", b"c=biws,r=x", b"c=biws,r=x,p=", b"c=?,r=x,p=AAAA", b"c=biws,r=x,p=AAAA", b"c=biws,p=AAAA,r=x"):
            server = scram(SCRAM, Terms(FRESH))
            next(server), server.send(FIRST), server.send(PENCIL)
            self.assertRaises(Undecodable, server.send, final)

    def test_trailing(self) -> None:
        """RFC 4954 4: nothing but an empty line answers the server's proof; extensions that nobody must know are ignored."""
        client = ours()
        self.assertRaises(Undecodable, spoken, lambda challenge: b"x" if challenge.startswith(b"v=") else client(challenge))
        server = scram(SCRAM, Terms(FRESH))
        next(server)
        self.assertIsInstance(server.send(FIRST + b",z=more"), VerifierWanted)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([FIRST, FINAL, b""])), max_size=4))
    def test_anything(self, responses) -> None:
        """Any octets are answered, or are Undecodable; nobody gets in by them."""
        server = scram(SCRAM, Terms(FRESH))
        step = next(server)
        try:
            for response in responses:
                step = server.send(response)
                if isinstance(step, VerifierWanted):
                    step = server.send(PENCIL)
        except Undecodable:
            pass
        except StopIteration as end:
            self.assertNotEqual(end.value.error, "")


class ClientTests(SynchronousTestCase):
    """A server that is not who it should be learns nothing, and is not believed."""

    def test_bad_challenges(self) -> None:
        """Not our nonce, nothing added to it, too few iterations (cheap to guess with) or too many (we would stand still)."""
        nonce = b64encode(b"client")
        for challenge in (
            b"", b"x", b"r=other,s=AAAA,i=4096", b"r=" + nonce + b",s=AAAA,i=4096", b"r=" + nonce + b"x,s=AAAA,i=4095",
            b"r=" + nonce + b"x,s=AAAA,i=1", b"r=" + nonce + b"x,s=AAAA,i=100001", b"r=" + nonce + b"x,s=AAAA,i=99999999999",
            b"r=" + nonce + b"x,s=?,i=4096", b"r=" + nonce + b"x,s=AAAA,i=0", b"m=x,r=" + nonce + b"x,s=AAAA,i=4096",
        ):  # fmt: skip
            client = give_scram(SCRAM, Login("user", "pencil"), Terms(b"client"))
            next(client)
            self.assertRaises(Undecodable, client.send, challenge)

    def test_no_proof(self) -> None:
        """A signature of somebody else, an error, nothing."""
        for proof in (b"v=" + b64encode(b"x" * 32), b"e=invalid-proof", b"", b"v=", SIGNATURE):
            client = give_scram(SCRAM, Login("user", "pencil"), Terms(b"client"))
            next(client)
            client.send(b"r=" + b64encode(b"client") + b"x,s=AAAA,i=4096")
            self.assertRaises(Undecodable, client.send, proof)


class VerifierTests(SynchronousTestCase):
    """What is stored."""

    def test_there_and_back(self) -> None:
        """As RFC 5803 writes it, as Dovecot does; no key is in a repr."""
        text = serialise(PENCIL)
        self.assertRegex(text, r"\ASCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=\Z")
        self.assertEqual(verifier_in(text), PENCIL)
        self.assertEqual(verifier_in(text.removeprefix("SCRAM-SHA-256$").replace(":", ",").replace("$", ",")), PENCIL)
        self.assertNotIn(repr(PENCIL.stored_key), repr(PENCIL))

    def test_none(self) -> None:
        """What cannot be one is a ValueError that does not repeat it."""
        text = serialise(PENCIL)
        for bad in (
            "",
            "xyzzy",
            text[:-1],
            text + "=",
            text.replace("4096", "0"),
            text.replace("SHA-256", "SHA-1"),
            "4096,AAAA,AAAA,AAAA",
        ):
            error = self.assertRaises(ValueError, verifier_in, bad)
            self.assertEqual(str(error), "no verifier of SCRAM-SHA-256")

    def test_work(self) -> None:
        """The count is the one that was asked for."""
        with mock.patch.object(module, "pbkdf2_hmac", wraps=module.pbkdf2_hmac) as work:
            verifier_of("pencil", SALT, 5000)
        self.assertEqual(work.call_args.args, ("sha256", b"pencil", SALT, 5000))
