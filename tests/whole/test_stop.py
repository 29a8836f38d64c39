"""The end of a server, and its next start: in time, in order, and without a message lost or doubled."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from mta.testing.dns import DnsServer
from mta.testing.peers import Act
from tests.peers.flood import Flood
from tests.whole.world import HEADER, SOON, World, relay

IN_TIME = 6.0  # seconds
STOPPING = b"421 4.3.2 Service is stopping, closing connection\r\n"


class StopTests(World):
    """stopService of a server that is embedded."""

    async def stopped_in(self, server: Any) -> float:
        """Stop; the seconds that it took."""
        began = reactor.seconds()
        await server.mta.stopService()
        self.assertEqual(0, server.sessions)
        return float(reactor.seconds() - began)

    async def test_idle_clients_in_tls(self) -> None:
        """Ten clients in TLS, one in its handshake, one that has just come: they hear 421, and the stop takes no time."""
        server = await self.serve("b.test", self.certificate())
        clients = []
        for _ in range(10):
            caller = await self.caller(server)
            await caller.ask(b"STARTTLS")
            await caller.secure()
            await caller.ehlo()
            clients.append(caller)
        shaking, greeted = await self.caller(server), await self.connect(server.port)
        await shaking.ask(b"STARTTLS")
        await greeted.line()
        self.assertLess(await self.stopped_in(server), 2.0)
        for caller in (*clients, greeted):
            self.assertEqual(STOPPING, await caller.end())
        self.assertEqual(b"", await shaking.end())

    async def test_client_that_is_deaf(self) -> None:
        """One that reads nothing, in clear and in TLS, does not hold the stop up."""
        server = await self.serve("b.test", self.certificate())
        for tls in (False, True):
            caller = await self.caller(server)
            if tls:
                await caller.ask(b"STARTTLS")
                await caller.secure()
                await caller.ehlo()
            caller.transport.pauseProducing()
        self.assertLess(await self.stopped_in(server), IN_TIME)

    async def test_idle_connections_to_next_hops(self) -> None:
        """Kept TLS connections get their QUIT."""
        certificate = self.certificate()
        issued = self.authority.issue("localhost", "127.0.0.1")
        hop, port = await self.hop(certificate=issued)
        server = await self.serve("b.test", certificate + relay(port))
        caller = await self.caller(server)
        await caller.deliver("you@c.test")
        await self.happened(server, "delivered")
        self.assertEqual(("new", "keep"), tuple(server.events.of("delivered")[0][key] for key in ("tls", "handover")))
        caller.transport.loseConnection()
        self.assertLess(await self.stopped_in(server), 2.0)
        self.assertEqual(1, hop.quits)

    async def test_running_transaction_may_finish(self) -> None:
        """In the middle of a body: it has its 250, then 421, and the message is there after the restart."""
        server = await self.serve()
        caller = await self.caller(server)
        await caller.envelope("you@b.test")
        await caller.ask(b"DATA")
        caller.transport.write(HEADER + b"x\r\n")
        idle = await self.caller(server)
        stopped = server.mta.stopService()
        self.assertEqual(STOPPING, await idle.end())
        self.assertEqual(b"250 2.0.0 Ok: queued as ", (await caller.say(b"y\r\n.\r\n"))[:24])
        self.assertEqual(STOPPING, await caller.end())
        await stopped
        again = await self.serve()
        await self.until(again.mails, "it is delivered")
        self.assertEqual([b"x\ny\n"], again.texts())

    async def test_next_hop_that_stalls(self) -> None:
        """Deliveries that wait for a greeting or for TLS do not hold the stop up, and cost their mail no time at the restart."""
        hops, tables = [], SOON
        for number, step in enumerate(("greeting", "EHLO", "STARTTLS")):
            hop, port = await self.hop({step: Act.STALL}, extensions=("STARTTLS",))
            hops.append(hop)
            tables += relay(port, f"c{number}.test")
        server = await self.serve("b.test", tables)
        caller = await self.caller(server)
        await caller.envelope(*[f"you@c{number}.test" for number in range(3)])
        await caller.data(HEADER + b".\r\n")
        await self.until(lambda: any("STARTTLS" in line for line in hops[2].commands), "the last one stalls")
        caller.transport.loseConnection()
        self.assertLess(await self.stopped_in(server), IN_TIME)
        for hop in hops:
            hop.script.clear()
        again = await self.serve("b.test", tables)
        await self.happened(again, "delivered", 3)
        self.assertEqual([1, 1, 1], [len(hop.messages) for hop in hops])
        self.assertEqual(["given-back"] * 3, [fields["status"] for fields in server.events.of("deferred")])
        self.assertEqual(0, again.events.count("deferred"))

    async def test_dns_that_does_not_answer(self) -> None:
        """Nor does a question to the DNS."""
        dns = DnsServer(reactor, {}, drop=10**9)
        dns.start()
        self.addCleanup(dns.stop)
        server = await self.serve("b.test", f'{SOON}[dns]\nservers = ["{dns.address}"]\ntimeout = "30s"\n')
        caller = await self.caller(server)
        await caller.deliver("you@c.test")
        await self.until(lambda: dns.asked, "the question")
        caller.transport.loseConnection()
        self.assertLess(await self.stopped_in(server), 2.0)


class TermTests(World):
    """SIGTERM to a server that is a process of its own."""

    async def test_twenty_busy_sessions(self) -> None:
        """Who was answered 250 is delivered, once, before the end or after the restart; nobody is left without an answer."""
        hop, port = await self.hop()
        mta = await self.process(SOON + relay(port))
        flood = Flood(mta.port, 100_000, 20)
        flood.start()
        for _ in range(2):
            answered = len(flood.answered)
            await self.until(lambda: len(flood.answered) > answered + 200, "mail flows")
            began = reactor.seconds()
            await deferToThread(mta.stop)
            self.assertLess(reactor.seconds() - began, IN_TIME)
            self.assertIn("stopped", mta.log()[-1].event)
            await deferToThread(mta.restart)
        flood.give_up()
        await deferToThread(flood.join, 30)
        await self.until(lambda: len(hop.messages) >= len(flood.answered), "all arrive")
        await deferToThread(mta.stop)
        arrived = [int(message.recipients[0].partition("user@")[0]) for message in hop.messages]
        self.assertEqual([], sorted(set(flood.answered) - set(arrived)))
        self.assertEqual(len(set(arrived)), len(arrived))
        self.assertEqual(0, mta.count("bounced"))
