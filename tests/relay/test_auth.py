"""AUTH at the next hop: who we are, when a password may be shown, and what follows when it is not taken (C30, C31, C49, H34)."""

from __future__ import annotations

from mta.envelope import Flag, Kind
from mta.status import Scope
from mta.testing.peers import Act, ScriptedServer
from mta.tls.policy import Level
from tests.relay.world import RelayCase

USERS = {"bank": "secret", "shop": "other"}
OPEN = ("PLAIN", "LOGIN")


class AuthTests(RelayCase):
    """A route with credentials."""

    def smarthost(self, script=None, **more) -> ScriptedServer:
        """A server that lets in users only."""
        return self.serve(script, users=USERS, **more)

    async def test_h01_one_login_for_many_messages(self) -> None:
        """H01 A17: twenty messages to a smarthost: one connection, one handshake, one AUTH, in TLS and behind the second EHLO."""
        self.password("bank", "secret")
        server = self.smarthost()
        for number in range(1, 21):
            outcome = await self.delivered(route="verify", number=number)
        self.assertEqual((server.connections, server.handshakes, server.logins), (1, 1, ["1 tls PLAIN bank"]))
        self.assertEqual(server.verbs(1)[:5], ["EHLO", "STARTTLS", "tls EHLO", "tls AUTH", "tls MAIL"])
        self.assertEqual((outcome.facts["conn_use"], {message.user for message in server.messages}), (20, {"bank"}))

    async def test_mechanisms(self) -> None:
        """The first of ours that is offered, each one spoken as the server wants it."""
        for offered, allowed, spoken in (
            (("LOGIN",), ("PLAIN", "LOGIN", "CRAM-MD5"), "LOGIN"),
            (("PLAIN", "CRAM-MD5"), ("CRAM-MD5", "PLAIN"), "CRAM-MD5"),
            (("PLAIN", "LOGIN"), ("PLAIN", "LOGIN"), "PLAIN"),
        ):
            self.password("bank", "secret", mechanisms=allowed)
            await self.afresh()
            server = self.smarthost(mechanisms=offered)
            await self.delivered(route="verify")
            self.assertEqual(server.logins, [f"1 tls {spoken} bank"])

    async def test_scram(self) -> None:
        """With and without channel binding, also at a level where no password is shown; a wrong one is deferred."""
        for offered, spoken in (
            (("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"), "SCRAM-SHA-256-PLUS"),
            (("SCRAM-SHA-256",), "SCRAM-SHA-256"),
        ):
            self.password("bank", "secret", route="may", mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))
            await self.afresh()
            server = self.smarthost(mechanisms=offered)
            await self.delivered(route="may")
            self.assertEqual(server.logins, [f"1 tls {spoken} bank"])
        self.password("bank", "wrong", route="may", mechanisms=("SCRAM-SHA-256",))
        await self.afresh()
        server = self.smarthost(mechanisms=("SCRAM-SHA-256",))
        outcome = await self.deferred(route="may")
        self.assertEqual((outcome.reply.enhanced, server.logins), ("4.7.8", []))

    async def test_scram_impostor(self) -> None:
        """A server that takes every login without knowing the password is not believed: no mail goes there."""
        self.password("bank", "secret", route="may", mechanisms=("SCRAM-SHA-256",))
        server = self.serve({"login": "235 2.7.0 welcome"}, users={"bank": "other"}, mechanisms=("SCRAM-SHA-256",))
        outcome = await self.deferred(route="may")
        self.assertIn("not proved to know the password", outcome.reply.text)
        self.assertEqual([line for line in server.commands if "MAIL" in line], [])

    async def test_c31_x06_a_password_is_not_shown_in_clear(self) -> None:
        """C31 X06: AUTH PLAIN offered in clear only, TLS refused or none: never said; deferred, and the reason is clear."""
        self.password("bank", "secret", route="none", mechanisms=OPEN)
        many = tuple(f"X-MECHANISM-{number}" for number in range(60))
        for route, tls in (("none", True), ("verify", False)):
            await self.afresh()
            server = self.smarthost(tls=tls, mechanisms=(), clear_mechanisms=(*many, *OPEN))
            outcome = await self.deferred(route=route)
            self.assertEqual([line for line in server.commands if "AUTH" in line or "MAIL" in line], [], route)
        self.password("bank", "secret", route="encrypt", mechanisms=OPEN)
        await self.afresh()
        server = self.smarthost(mechanisms=OPEN)
        outcome = await self.deferred(route="encrypt")
        self.assertIn("and a password is not shown at level encrypt", outcome.reply.text)
        self.assertEqual([line for line in server.commands if "AUTH" in line], [])
        self.password("bank", "secret", route="none", mechanisms=OPEN)
        await self.afresh()
        self.smarthost(clear_mechanisms=OPEN)
        outcome = await self.deferred(route="none")
        self.assertEqual((outcome.reply.enhanced, outcome.scope), ("4.7.8", Scope.SITE))
        self.assertIn("PLAIN LOGIN offered, PLAIN LOGIN allowed, and a password is not shown in clear text", outcome.reply.text)

    async def test_a_password_is_not_shown_at_may(self) -> None:
        """C2.6: TLS at level may is with anybody: no PLAIN there, unless the operator says so; CRAM-MD5 shows no password."""
        self.password("bank", "secret", route="may", mechanisms=OPEN)
        server = self.smarthost()
        outcome = await self.deferred(route="may")
        self.assertIn("not shown at level may", outcome.reply.text)
        self.assertEqual(server.logins, [])
        self.password("bank", "secret", route="may", mechanisms=OPEN, clear=True)
        self.password("shop", "other", route="none", mechanisms=("CRAM-MD5",))
        await self.afresh()
        server = self.smarthost(clear_mechanisms=("CRAM-MD5",))
        await self.delivered(route="may")
        await self.delivered(route="none")
        self.assertEqual(server.logins, ["1 tls PLAIN bank", "2 CRAM-MD5 shop"])

    async def test_clear_in_clear_text(self) -> None:
        """clear = true and level none: the operator wants it in clear text, and gets it."""
        self.password("bank", "secret", route="none", clear=True)
        server = self.smarthost(clear_mechanisms=OPEN)
        await self.delivered(route="none")
        self.assertEqual(server.logins, ["1 PLAIN bank"])

    async def test_refused(self) -> None:
        """535, 454, nothing that can be used: the next host; at the end deferred with 4.7.8 or the server's code, no bounce."""
        self.password("bank", "wrong")
        for script, mechanisms, enhanced in (
            ({}, OPEN, "4.7.8"),
            ({"login": "454 4.7.0 later"}, OPEN, "4.7.0"),
            ({"AUTH": "534 5.7.9 stronger"}, OPEN, "4.7.8"),
            ({}, ("X-STRANGE",), "4.7.8"),
            ({}, (), "4.7.8"),
        ):
            await self.afresh()
            servers = [self.smarthost(script, mechanisms=mechanisms) for _ in range(2)]
            outcome = await self.deferred(route="verify")
            await self.quiet()
            self.assertEqual((outcome.reply.code, outcome.reply.enhanced, outcome.scope), (451, enhanced, Scope.SITE))
            self.assertEqual([(server.connections, server.quits, server.messages) for server in servers], [(1, 1, [])] * 2)
            self.assertNotIn("wrong", outcome.reply.text)

    async def test_second_host_takes_it(self) -> None:
        """A host that refuses is passed over; the message goes by the other."""
        self.password("bank", "secret")
        bad, good = self.smarthost({"login": "535 5.7.8 no"}), self.smarthost()
        await self.delivered(route="verify")
        self.assertEqual((bad.messages, len(good.messages)), ([], 1))

    async def test_ends_at_auth(self) -> None:
        """Hanging up, 421 and a challenge without end: the next host, deferred, no strike, nothing hangs."""
        self.password("bank", "secret", mechanisms=("LOGIN",))
        for answer in (Act.CLOSE, Act.ABORT, "421 4.3.2 bye", b"garbage\r\n", b"334 VXNlcm5hbWU6\r\n334 more\r\n"):
            await self.afresh()
            self.smarthost({"AUTH": answer})
            outcome = await self.deferred(route="verify")
            self.assertEqual((self.faults(), outcome.scope), ([], Scope.SITE), answer)

    async def test_c49_never_clear_with_credentials(self) -> None:
        """C49: level may with credentials: TLS that fails again and again is never left out."""
        self.password("bank", "secret", route="may")
        server = self.smarthost({"STARTTLS": ("220 go", Act.CLOSE)}, clear_mechanisms=("CRAM-MD5",))
        for _ in range(4):
            outcome = await self.deferred(route="may")
            self.assertIsNone(outcome.retry_after)
            self.reactor.shift += 3600
        self.assertEqual((server.logins, server.messages), ([], []))

    async def test_h34_two_identities_two_sessions(self) -> None:
        """H34: two routes with their own AUTH at one smarthost (Haraka #2788): two sessions, each message by its own."""
        self.password("bank", "secret", route="verify")
        self.password("shop", "other", route="secure")
        server = self.smarthost()
        for number in range(1, 5):
            route = ("verify", "secure")[number % 2]
            await self.delivered(route=route, number=number)
        self.assertEqual([message.user for message in server.messages], ["shop", "bank"] * 2)
        self.assertEqual((server.connections, len(server.logins)), (2, 2))

    async def test_h34_the_key_alone_is_not_believed(self) -> None:
        """H34: were the identity left out of the reuse key, the pick-up would see that the session is another's."""
        self.password("bank", "secret")
        server = self.smarthost()
        await self.delivered(route="verify")
        relay = self.relay
        outlook = relay._known["smtp:verify/example.org", 0]
        self.password("shop", "other")
        ways = relay._ways.outlook(relay._way("smtp:verify/example.org"), await self.demands("shop"), 0, outlook.until)
        forged = [type(each)(each.target, each.required, outlook.candidates[0].key, each.credentials) for each in ways.candidates]
        relay._known["smtp:verify/example.org", 0] = type(ways)(ways.way, forged, (), ways.until)
        await self.delivered(route="verify")
        await self.quiet()
        self.assertEqual([message.user for message in server.messages], ["bank", "shop"])
        self.assertEqual(server.quits, 1)

    async def demands(self, user: str):
        sasl = self.credentials["verify"].identity
        self.assertIn(user, sasl)
        return await self.owed.of("example.org", Level.VERIFY, self.hops.targets, 0, sasl)

    async def test_mail_wants_auth_and_there_is_none(self) -> None:
        """C30 A41: 530 "AUTH first" to a route without credentials is the message's permanent refusal in TLS."""
        self.smarthost()
        self.assertIs((await self.outcome(route="verify")).kind, Kind.FAILED)

    async def test_the_demands_hear_of_it(self) -> None:
        """The identity is told to IDemands, and of a route's older level too; it has no password in it."""
        known = self.password("bank", "secret")
        self.smarthost()
        await self.delivered(route="verify")
        await self.delivered(route="verify+verify", flags=int(Flag.EIGHTBITMIME))
        self.assertEqual({sasl for *_, sasl in self.owed.asked}, {known.identity})
        self.assertNotIn("secret", f"{known!r}{known.identity}")
