"""Jobs on their way: replies for each recipient, hosts in order, kept connections and what their death costs (H rows, C43)."""

from __future__ import annotations

import inspect
import sys

import attrs

from mta.config.settings import Handover
from mta.envelope import Kind
from mta.smtp.command import SMTPUTF8
from mta.status import Scope
from mta.testing.peers import Act, Clear
from tests.relay.world import BODY, PREFIX, Pieces, RelayCase, job

RCPTS = ("a@example.org", "b@example.org", "c@example.org")


class RepliesTests(RelayCase):
    """One outcome for each recipient."""

    async def test_split_by_reply(self) -> None:
        """2yz delivered, 4yz deferred, 5yz failed, each with its own reply, with and without pipelining."""
        for extensions in (("PIPELINING",), ()):
            await self.afresh()
            server = self.serve(
                {"RCPT b@example.org": "450 4.2.0 later", "RCPT c@example.org": "550 5.1.1 who"}, extensions=extensions
            )
            outcomes = (await self.deliver(*RCPTS)).outcomes
            self.assertEqual([outcome.kind for outcome in outcomes], [Kind.DELIVERED, Kind.DEFERRED, Kind.FAILED])
            self.assertEqual([outcome.claim.address for outcome in outcomes], list(RCPTS))
            self.assertEqual([outcome.reply.enhanced for outcome in outcomes], ["2.0.0", "4.2.0", "5.1.1"])
            self.assertEqual({outcome.scope for outcome in outcomes}, {Scope.RECIPIENT})
            self.assertEqual([message.recipients for message in server.messages], [RCPTS[:1]])

    async def test_message_refused(self) -> None:
        """A refusal of MAIL, DATA or the body is of the message and of all its recipients; no other host is asked."""
        for script, kind in (
            ({"MAIL": "550 5.7.1 no"}, Kind.FAILED),
            ({"MAIL": "451 4.7.1 greylisted"}, Kind.DEFERRED),
            ({"DATA": "554 5.6.0 no"}, Kind.FAILED),
            ({".": "554 5.6.0 spam"}, Kind.FAILED),
            ({".": "452 4.3.1 full"}, Kind.DEFERRED),
        ):
            await self.afresh()
            self.serve(script)
            other = self.serve()
            outcomes = (await self.deliver(*RCPTS)).outcomes
            self.assertEqual([outcome.kind for outcome in outcomes], [kind] * 3, script)
            self.assertEqual(other.connections, 0)
            if "DATA" not in script:
                self.assertEqual({outcome.scope for outcome in outcomes}, {Scope.MESSAGE})

    async def test_all_recipients_refused(self) -> None:
        """No body is sent; the connection may serve the next message, which begins with RSET whatever rset_test says."""
        self.handover = Handover(rset_test="never")
        server = self.serve({"RCPT": ["550 5.1.1 who"]})
        self.assertIs((await self.outcome()).kind, Kind.FAILED)
        await self.delivered()
        self.assertIn("tls RSET", server.verbs(1))
        self.assertEqual((server.connections, len(server.messages)), (1, 1))

    async def test_unfit_message(self) -> None:
        """Too large for SIZE, or UTF-8 addresses without SMTPUTF8: refused here, and the connection serves others."""
        server = self.serve(extensions=("PIPELINING", "SIZE 1000"))
        too_big = await self.outcome(size=1001)
        self.assertEqual((too_big.kind, too_big.reply.enhanced, too_big.scope), (Kind.FAILED, "5.3.4", Scope.MESSAGE))
        utf8 = await self.outcome("m\u00fcller@example.org", flags=SMTPUTF8)
        self.assertEqual((utf8.kind, utf8.reply.enhanced), (Kind.FAILED, "5.6.7"))
        await self.delivered()
        self.assertEqual(len(server.messages), 1)
        self.assertEqual(server.verbs(1).count("tls MAIL") + server.verbs(2).count("tls MAIL"), 1)

    async def test_kept_though_nothing_was_sent(self) -> None:
        """H23: after a message that was refused here the connection is a kept one, and its end is no strike."""
        self.serve({"tls .": Act.ABORT}, extensions=("PIPELINING", "SIZE 1000"))
        self.assertEqual((await self.outcome(size=1001)).facts["handover"], "keep")
        outcome = await self.deferred(number=11)
        self.assertEqual((outcome.facts["tls"], outcome.connect, outcome.retry_after), ("kept", 0.0, None))
        self.assertEqual(([], []), (self.faults(), self.relay._hints.keys("tls-strikes")))

    async def test_unfit_message_and_bytes_too_many(self) -> None:
        """H41: a part of a reply behind that to EHLO: the message is refused once, and no other host gets it afterwards."""
        self.serve({"tls EHLO": b"250-mx1\r\n250 SIZE 1000\r\n25"})
        other = self.serve()
        self.assertIs((await self.outcome(size=1001)).kind, Kind.FAILED)
        await self.quiet()
        await self.turn(0.05)
        self.assertEqual((other.connections, len(other.messages)), (0, 0))


class HostsTests(RelayCase):
    """RFC 5321 5.1: the next host."""

    async def test_connection_refused(self) -> None:
        """A dead host costs nothing but time."""
        self.dead()
        good = self.serve()
        await self.delivered()
        self.assertEqual(len(good.messages), 1)

    async def test_all_down(self) -> None:
        """Every host down: deferred with feedback for the destination, and the last host named."""
        self.dead()
        self.dead()
        outcome = await self.deferred()
        self.assertEqual((outcome.scope, outcome.reply.enhanced), (Scope.SITE, "4.4.1"))
        self.assertIn("dead.example.org[127.0.0.1]", outcome.reply.text)

    async def test_421_goes_on(self) -> None:
        """421 at any command: the next host gets the whole message; 421 everywhere is asked again soon."""
        for point in ("EHLO", "tls EHLO", "MAIL", "RCPT", "DATA", "."):
            await self.afresh()
            bad, good = self.serve({point: "421 4.3.2 closing"}), self.serve()
            await self.delivered()
            self.assertEqual((bad.messages, len(good.messages)), ([], 1), point)
        await self.afresh()
        self.serve({"MAIL": "421 4.3.2 closing"})
        outcome = await self.deferred()
        self.assertEqual((outcome.retry_after, outcome.scope), (60.0, Scope.SITE))

    async def test_lost_before_the_dot(self) -> None:
        """A fresh connection that is lost in the transaction, in clear: the next host; nothing is a strike."""
        for point in ("MAIL", "RCPT", "DATA"):
            await self.afresh()
            bad, good = self.serve({point: Act.ABORT}, tls=False), self.serve()
            await self.delivered()
            self.assertEqual((bad.messages, len(good.messages), self.faults()), ([], 1, []), point)

    async def test_lost_after_the_dot(self) -> None:
        """H23: after the final dot nobody knows: deferred, said so, and not repeated on another host, fresh or kept."""
        for kept in (False, True):
            await self.afresh()
            bad, good = self.serve({".": [None, Act.ABORT] if kept else [Act.ABORT]}), self.serve()
            if kept:
                await self.delivered()
            outcome = await self.deferred()
            self.assertEqual((outcome.reply.enhanced, outcome.scope), ("4.4.2", Scope.SESSION))
            self.assertIn("result unknown", outcome.reply.text)
            self.assertEqual((bad.connections, good.connections), (1, 0))

    async def test_ipv6(self) -> None:
        """An IPv6 address is connected to as one, and a source address is taken of its family."""
        self.sources = ("127.0.0.2", "::1")
        self.serve(interface="::1")
        outcome = await self.delivered()
        self.assertIn("[::1]", str(outcome.facts["relay"]))
        self.assertEqual(self.reactor.connects[0][4], ("::1", 0))

    async def test_source_address(self) -> None:
        """source_address is where the connection comes from."""
        self.sources = ("127.0.0.2",)
        server = self.serve()
        await self.delivered()
        (peer,) = server.open
        self.assertEqual(peer.transport.getPeer().host, "127.0.0.2")


class BodyTests(RelayCase):
    """Bodies that are read in pieces."""

    async def test_pieces(self) -> None:
        """Arrives unchanged, dots and all, in TLS and in clear; the reader is closed."""
        pieces = [b"Subject: x\r\n\r\n", b".dot\r", b"\n.", b".\r\n", b"x" * 900 + b"\r\n"] * 20
        for route in ("may", "none"):
            await self.afresh()
            server, reader = self.serve(), Pieces(*pieces)
            await self.delivered(route=route, reader=reader)
            self.assertEqual(server.messages[0].body, PREFIX + b"".join(pieces))
            self.assertTrue(reader.closed)

    async def test_slow_peer_pauses_the_reader(self) -> None:
        """A peer that reads nothing stops the reading: of 8 MiB only what fits in buffers is ever taken."""
        server = self.serve(tls=False)
        total = 128
        reader = Pieces(*[(b"y" * 1022 + b"\r\n") * 64] * total)
        server.script["body"] = Act.PAUSE
        delivery = self.deliver(route="none", reader=reader)
        left = -1
        while left != len(reader.pieces) or left == total:
            left = len(reader.pieces)
            await self.turn(0.05)
        self.assertGreater(left, total // 4)
        for peer in server.open:
            peer.transport.resumeProducing()
        self.assertIs((await delivery).outcomes[0].kind, Kind.DELIVERED)
        self.assertEqual(len(server.messages[0].body), len(PREFIX) + total * 65536)

    async def test_unreadable_body(self) -> None:
        """A body that cannot be read: deferred, the connection cut so that the server takes nothing, no other host asked."""

        class Unreadable(Pieces):
            def read(self):
                return super().read().addCallback(lambda piece: piece or 1 / 0)

        server, other = self.serve(), self.serve()
        reader = Unreadable(b"begun\r\n")
        outcome = await self.deferred(reader=reader)
        await self.quiet()
        self.assertEqual((outcome.reply.enhanced, outcome.scope), ("4.3.0", Scope.MESSAGE))
        self.assertEqual((server.messages, other.connections, reader.closed), ([], 0, True))


class KeptTests(RelayCase):
    """Connections that are kept."""

    async def test_h01_many_messages_one_connection(self) -> None:
        """H01: fifty messages, one connection, one handshake, every body whole; the facts say kept and count."""
        server = self.serve()
        for number in range(1, 51):
            outcome = await self.delivered(number=number, route="verify")
        self.assertEqual((server.connections, server.handshakes, len(server.messages)), (1, 1, 50))
        self.assertEqual((outcome.facts["tls"], outcome.facts["conn_use"], outcome.connect), ("kept", 50, 0.0))
        self.assertEqual({message.body for message in server.messages}, {PREFIX + BODY})
        self.assertEqual(server.verbs(1).count("tls RSET"), 49)

    async def test_h12_quit(self) -> None:
        """H12: a host in hosts_nopass_tls hears QUIT; two messages, two connections. In clear text the list says nothing."""
        self.handover = Handover(hosts_nopass_tls=("mx1.example.org",))
        server = self.serve()
        for _ in range(2):
            outcome = await self.delivered()
        await self.quiet()
        self.assertEqual((server.connections, server.quits), (2, 2))
        self.assertEqual((outcome.facts["handover"], outcome.facts["handover_why"]), ("quit", "hosts_nopass_tls"))
        for _ in range(2):
            await self.delivered(route="none")
        self.assertEqual(server.connections, 3)

    async def test_h21_rset_fails(self) -> None:
        """H21: 421, 500, garbage, clear bytes in TLS, end: a fresh connection in the same attempt, nothing noted."""
        for answer in ("421 4.4.2 timeout", "500 what", "450 no", b"\xff\xfe\r\n", Clear(b"554 no\r\n"), Act.CLOSE, Act.ABORT):
            await self.afresh()
            server = self.serve({"RSET": [answer]})
            await self.delivered()
            outcome = await self.delivered()
            self.assertEqual((server.connections, len(server.messages)), (2, 2), answer)
            self.assertEqual((outcome.facts["tls"], outcome.facts["conn_use"], self.faults()), ("new", 1, []))

    async def test_h21_rset_times_out(self) -> None:
        """H21: silence at RSET is the same after timeouts.rset."""
        self.timeouts = type(self.timeouts)(quit=0.3, rset=0.2)
        server = self.serve(
            {"RSET": [Act.STALL], "MAIL": [None, Act.STALL], "RCPT": [None, Act.STALL], "DATA": [None, Act.STALL]}
        )
        await self.delivered()
        await self.delivered()
        self.assertEqual((server.connections, len(server.messages)), (2, 2))

    async def test_h22_drop_before_the_dot(self) -> None:
        """H22: lost at MAIL, RCPT, DATA or in the body on a kept connection: fresh, once, delivered, no strike."""
        for point in ("MAIL", "RCPT", "DATA"):
            await self.afresh()
            server = self.serve({point: [None, Act.ABORT]})
            await self.delivered()
            await self.delivered()
            self.assertEqual((server.connections, len(server.messages), self.faults()), (2, 2, []), point)

    async def test_h22_mid_body(self) -> None:
        """H22: lost in the middle of a long body, the dot not sent: the body is read again from its beginning."""
        server = self.serve({"body": [None, Act.ABORT]})
        pieces = [b"z" * 62 + b"\r\n"] * 300
        await self.delivered()
        made: list[Pieces] = []
        again = job(reader=Pieces())
        again = type(again)(again.message, again.claims, again.dest, None, lambda: made.append(Pieces(*pieces)) or made[-1])
        outcome = (await self.relay.deliver(again)).outcomes[0]
        self.assertIs(outcome.kind, Kind.DELIVERED)
        self.assertEqual((server.connections, len(made), made[0].closed), (2, 2, True))
        self.assertEqual(server.messages[-1].body, PREFIX + b"".join(pieces))

    async def test_h22_second_drop(self) -> None:
        """H22: when the fresh connection is lost too that is a failure like any other."""
        server = self.serve({"MAIL": [None, Act.ABORT, Act.ABORT]}, tls=False)
        await self.delivered()
        outcome = await self.deferred()
        self.assertEqual((server.connections, outcome.scope), (2, Scope.SITE))

    async def test_503_is_stale_once(self) -> None:
        """C3.7: 503 on a kept connection means out of step: fresh once; on a fresh one it is an answer."""
        server = self.serve({"MAIL": [None, "503 5.5.1 no", "503 5.5.1 no"]})
        await self.delivered()
        outcome = await self.outcome()
        self.assertEqual((outcome.kind, server.connections), (Kind.FAILED, 2))

    async def test_real_answers_on_a_kept_connection(self) -> None:
        """C3.7: 4yz and 5yz to MAIL or RCPT are the recipient's, no fresh connection."""
        server = self.serve({"RCPT": [None, "550 5.1.1 who"]})
        await self.delivered()
        self.assertIs((await self.outcome()).kind, Kind.FAILED)
        self.assertEqual(server.connections, 1)

    async def test_h27_all_deferred(self) -> None:
        """H27: every recipient 4yz: QUIT, no further message on it."""
        server = self.serve({"RCPT": ["450 4.2.0 later", "450 4.2.0 later"]})
        outcome = (await self.deliver(*RCPTS[:2])).outcomes[0]
        self.assertEqual((outcome.facts["handover"], outcome.facts["handover_why"]), ("quit", "all-deferred"))
        await self.delivered()
        self.assertEqual(server.connections, 2)

    async def test_h41_unread_bytes(self) -> None:
        """H41: a reply too many, whole or in part, behind the last one: never kept; the message itself counts."""
        for extra in (b"250 ok\r\n250 more\r\n", b"250 ok\r\n25", b"250 ok\r\n421 bye\r\n"):
            await self.afresh()
            server = self.serve({".": [extra]})
            outcome = await self.delivered()
            self.assertEqual(outcome.facts["handover"], "quit")
            self.assertEqual(self.relay.pool.idle, 0)
            await self.delivered()
            self.assertEqual(server.connections, 2)

    async def test_h36_clear_and_mandatory(self) -> None:
        """H36 X22: a connection in clear made at may never serves encrypt."""
        server = self.serve(offer_tls=False)
        await self.delivered()
        await self.delivered(route="encrypt")
        self.assertEqual((server.connections, [message.in_tls for message in server.messages]), (2, [False, True]))

    async def test_h32_many_fall_short(self) -> None:
        """H32: however many connections no longer give what is owed, a job goes through them all and is delivered."""
        limit = sys.getrecursionlimit()
        self.handover = Handover(idle_max_per_key=1000, idle_max_total=1000)
        server = self.serve()
        self.start()
        many = [self.deliver(number=n * 10) for n in range(1, 61)]
        for delivery in many:
            self.assertIs((await delivery).outcomes[0].kind, Kind.DELIVERED)
        self.assertEqual(self.relay.pool.idle, 60)
        for kept in self.relay.pool._idle.values():
            for session in kept:
                session.achieved = attrs.evolve(session.achieved, authenticated="another day")
        sys.setrecursionlimit(len(inspect.stack()) + 150)
        try:
            delivery = self.deliver()
        finally:
            sys.setrecursionlimit(limit)
        self.assertIs((await delivery).outcomes[0].kind, Kind.DELIVERED)
        self.assertEqual(server.connections, 61)

    async def test_h37_two_ports(self) -> None:
        """H37: two servers on one address under one name: each gets its own mail."""
        one, two = self.serve(name="mx1.example.org"), self.serve(name="mx1.example.org")
        first, second = self.hops.targets
        for number in range(4):
            self.hops.targets = [(first, second)[number % 2]]
            await self.delivered(next_hop=f"n{number}.example.org")
        self.assertEqual((len(one.messages), len(two.messages), one.connections, two.connections), (2, 2, 1, 1))

    async def test_h29_two_domains(self) -> None:
        """H29: domains with one MX share at may and encrypt, not at verify."""
        for route, connections in (("may", 1), ("encrypt", 1), ("verify", 2)):
            await self.afresh()
            server = self.serve()
            for domain in ("a.example", "b.example"):
                await self.delivered(route=route, next_hop=domain)
            self.assertEqual(server.connections, connections, route)

    async def test_rset_test(self) -> None:
        """rset_test: always asks each time, idle only after a second, never only after a transaction that failed."""
        for setting, resets in (("always", 2), ("idle", 1), ("never", 0)):
            self.handover = Handover(rset_test=setting)
            await self.afresh()
            server = self.serve()
            await self.delivered()
            await self.delivered()
            self.reactor.shift += 1.5
            await self.delivered()
            self.assertEqual((server.verbs(1).count("tls RSET"), server.connections), (resets, 1), setting)
