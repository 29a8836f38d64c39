"""Mail that would go in circles, and names that lead nowhere: each ends, with one report or by waiting for the DNS."""

from __future__ import annotations

from email.message import Message
from typing import Any

from twisted.internet import reactor

from mta.testing.dns import DnsServer
from tests.whole.world import SOON, Running, World, recipients_of, relay


class LoopTests(World):
    """Two servers, each of which thinks that the other one knows."""

    async def pair(self) -> tuple[Running, Running]:
        """alpha and beta send everything but their own mail to one another; ten hops are enough."""
        port, limits = self.free_port(), "[limits]\nreceived_hops = 10\n"
        beta = await self.serve("beta.test", relay(port) + SOON + limits)
        alpha = await self.serve("alpha.test", relay(beta.port) + SOON + limits, port=port)
        return alpha, beta

    async def test_a_loop_ends_with_one_report(self) -> None:
        """After ten hops the message is refused, and its sender hears of it once.

        Where the sender's own domain loops, too, so does the report, and it is dropped; nothing is left.
        """
        alpha, beta = await self.pair()
        caller = await self.caller(alpha)
        for sender in ("me@alpha.test", "me@elsewhere.test"):
            await caller.deliver("you@nowhere.test", sender=sender)
        await self.until(lambda: alpha.events.of("removed") + beta.events.of("removed"), "the second report is dropped")
        (report,) = alpha.mails()
        self.assertEqual([], beta.mails())
        (fields,) = recipients_of(report)
        self.assertEqual(("5.4.6", "rfc822; you@nowhere.test"), (fields["Status"], fields["Final-Recipient"]))
        self.assertIn("554 5.4.6 Too many hops: the message goes in circles", fields["Diagnostic-Code"])
        self.assertEqual("<>", report["Return-Path"])
        (removed,) = alpha.events.of("removed") + beta.events.of("removed")
        self.assertEqual(("me@elsewhere.test", "double bounce"), (removed["to"], removed["reason"]))
        hops = [fields["from"] for server in (alpha, beta) for fields in server.events.of("accepted")]
        self.assertEqual(11, hops.count("me@alpha.test"))  # the eleventh has ten lines before it, the twelfth would have eleven
        self.assertEqual(3, alpha.events.count("bounced") + beta.events.count("bounced"))


class DnsTests(World):
    """One server that asks a name server of ours for its next hops."""

    async def asking(self, records: Any, more: str = SOON, *, relay_port: int = 0) -> tuple[Running, DnsServer]:
        """The server listens on the port that it relays to, unless another is given: its own address leads to itself."""
        dns = DnsServer(reactor, records, ttl=0, negative_ttl=0)
        dns.start()
        self.addCleanup(dns.stop)
        port = self.free_port()
        tables = (
            f'[dns]\nservers = ["{dns.address}"]\ntimeout = "0.2s"\nattempts = 2\n[relay]\nport = {relay_port or port}\n{more}'
        )
        return await self.serve("b.test", tables, port=port), dns

    async def reports(self, server: Running, *domains: str) -> list[Message]:
        """What the reports to the sender of messages to these domains say, in the order of the domains."""
        caller = await self.caller(server)
        for domain in domains:
            await caller.deliver(f"you@{domain}", sender="me@b.test")
        await self.until(lambda: len(server.mails()) >= len(domains), "the reports")
        said = {str(fields["Final-Recipient"]): fields for report in server.mails() for fields in recipients_of(report)}
        self.assertEqual(len(domains), len(server.mails()))
        return [said[f"rfc822; you@{domain}"] for domain in domains]

    async def test_the_mx_is_ourselves(self) -> None:
        """By name, by address and port, as one of two of equal preference, as a literal: 5.4.6, and no connection to ourselves."""
        server, _ = await self.asking(
            {
                "name.test": {"MX": [(10, "b.test")]},
                "address.test": {"MX": [(10, "mx.address.test")]},
                "mx.address.test": {"A": ["127.0.0.1"]},
                "implicit.test": {"A": ["127.0.0.1"]},
                "behind.test": {"MX": [(10, "b.test"), (10, "mx.behind.test"), (20, "mx.address.test")]},
                "mx.behind.test": {"A": ["127.0.0.9"]},
            }
        )
        domains = ("name.test", "address.test", "implicit.test", "behind.test", "[127.0.0.1]")
        for domain, fields in zip(domains, await self.reports(server, *domains), strict=True):
            self.assertEqual("5.4.6", fields["Status"], domain)
            self.assertIn(f"mail for {domain.strip('[]')} loops back to myself", fields["Diagnostic-Code"])
        self.assertEqual(1, server.events.count("connect"))  # the caller

    async def test_better_hosts_than_ourselves_are_tried(self) -> None:
        """We are the second: mail waits for the first and never comes to us."""
        server, _ = await self.asking({"c.test": {"MX": [(10, "mx.c.test"), (20, "b.test")]}, "mx.c.test": {"A": ["127.0.0.99"]}})
        caller = await self.caller(server)
        await caller.deliver("you@c.test")
        (deferred, *_) = await self.happened(server, "deferred")
        self.assertIn("mx.c.test[127.0.0.99]", str(deferred["relay"]))
        self.assertEqual(1, server.events.count("connect"))

    async def test_names_that_take_no_mail(self) -> None:
        """A null MX is 5.1.10, a domain that does not exist 5.1.2, one without addresses 5.4.4: known, so reported at once."""
        server, _ = await self.asking(
            {"null.test": {"MX": [(0, ".")]}, "bare.test": {"TXT": ["nothing here"]}, "dead.test": {"MX": [(1, "no.dead.test")]}}
        )
        wanted = {"null.test": "5.1.10", "no-such.test": "5.1.2", "bare.test": "5.4.4", "dead.test": "5.4.4"}
        self.assertEqual([*wanted.values()], [fields["Status"] for fields in await self.reports(server, *wanted)])
        self.assertEqual(0, server.events.count("deferred"))

    async def test_dns_is_down(self) -> None:
        """No answer, SERVFAIL, noise: the mail waits, and goes when the name server is well; nothing is reported."""
        hop, port = await self.hop()
        records = {f"c{n}.test": {"MX": [(1, "mx.c.test")]} for n in range(3)} | {"mx.c.test": {"A": ["127.0.0.1"]}}
        server, dns = await self.asking(records, relay_port=port)
        caller = await self.caller(server)
        for number, (way, ill, well) in enumerate((("drop", 10**9, 0), ("rcode", "SERVFAIL", ""), ("garbage", True, False))):
            setattr(dns.ways, way, ill)
            await caller.deliver(f"you@c{number}.test")
            await self.until(lambda: any(f"c{number}.test" in str(each) for each in server.events.of("deferred")), "deferred")
            setattr(dns.ways, way, well)
        self.assertEqual({"4.4.3"}, {fields["dsn"] for fields in server.events.of("deferred")})
        await self.happened(server, "delivered", 3)
        self.assertEqual(3, len(hop.messages))
        self.assertEqual(0, server.events.count("bounced"))
