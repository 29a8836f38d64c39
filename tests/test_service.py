"""Whole servers: two of them on one reactor, wired by make_mta as an embedder does it."""

from __future__ import annotations

import mailbox
import smtplib
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mta.config.loader import parse
from mta.config.settings import Dns, Log, RouteEntry, Settings
from mta.config.settings import Service as ServiceTable
from mta.control.log import EventLog
from mta.dns.client import Resolver
from mta.envelope import Route
from mta.interfaces import IEventLog, IRecipients
from mta.queue.memory import MemoryQueue
from mta.route.service import Router
from mta.service import Mta, make_mta
from mta.status import MailError, permanent
from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls.policy import Level
from tests.ports import free_port

LISTEN = '[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'


class Events:
    """Keeps every event, and lets a test wait for one."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, object]]] = []

    def event(self, name: str, queue_id: str, fields: Any) -> None:
        self.seen.append((name, queue_id, dict(fields)))

    def of(self, name: str) -> list[dict[str, object]]:
        return [fields for event, _, fields in self.seen if event == name]

    async def wait(self, name: str, count: int) -> list[dict[str, object]]:
        for _ in range(500):
            if len(self.of(name)) >= count:
                return self.of(name)
            await deferLater(reactor, 0.02)
        raise AssertionError(f"{count} x {name} wanted: {self.seen}")


def port_of(mta: Mta) -> int:
    return int(mta.receive.ports[0].getHost().port)


def send(port: int, sender: str, recipients: list[str], body: bytes, starttls: bool = False) -> Deferred[Any]:
    def work() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            if starttls:
                client.starttls()
            client.sendmail(sender, recipients, body)

    return deferToThread(work)


class TwoServersTests(TestCase):
    """One accepts and relays over TLS, the other delivers to a Maildir; bounces go the other way."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.authority = Authority.create()
        self.certificate, self.key = self.authority.issue("localhost", "127.0.0.1").write(self.folder)
        (self.folder / "ca.pem").write_bytes(self.authority.certificate_pem)

    async def serve(self, name: str, extra: str, **given: Any) -> tuple[Mta, Events]:
        """A running server; it is stopped when the test ends."""
        events = Events()
        text = f'hostname = "{name}"\ndata_dir = "{name}"\n{extra}'
        mta = make_mta(parse(text, self.folder / f"{name}.toml"), reactor=reactor, log=events, **given)
        mta.startService()
        await mta.ready
        self.addCleanup(mta.stopService)
        return mta, events

    async def pair(self, **given: Any) -> tuple[Mta, Events, Mta, Events]:
        """alpha relays everything to beta; beta delivers beta.test and relays the rest to alpha."""
        (self.folder / "mail").mkdir()
        alpha_port = free_port()
        beta, beta_events = await self.serve(
            "beta.test",
            f'local_domains = ["beta.test"]\n{LISTEN}[tls]\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'
            f'[[route]]\nmatch = "local"\ndeliver = "maildir:{self.folder}/mail"\n'
            f'[[route]]\nmatch = "*"\nrelay = "[127.0.0.1]:{alpha_port}"\n',
        )
        alpha, alpha_events = await self.serve(
            "alpha.test",
            f'local_domains = ["alpha.test"]\n[[listen]]\nendpoint = "tcp:{alpha_port}:interface=127.0.0.1"\n'
            f'[[route]]\nmatch = "local"\ndeliver = "maildir:{self.folder}/inbox"\n'
            f'[[route]]\nmatch = "*"\nrelay = "[127.0.0.1]:{port_of(beta)}"\ntls = "verify"\n'
            f'[tls_client]\ntrust = ["{self.folder}/ca.pem"]\n',
            **given,
        )
        return alpha, alpha_events, beta, beta_events

    def bodies(self, name: str) -> list[bytes]:
        return sorted(bytes(message.get_payload(decode=True)) for message in mailbox.Maildir(self.folder / name, create=False))

    async def test_mail_goes_over_one_verified_connection(self) -> None:
        """Ten messages, one after the other, arrive unchanged over one TLS connection: one handshake, nine times kept."""
        alpha, events, _, theirs = await self.pair()
        for number in range(10):
            await send(port_of(alpha), "me@alpha.test", ["you@beta.test"], b"Subject: x\r\n\r\n.%d\r\n" % number)
            await events.wait("delivered", number + 1)
        await theirs.wait("delivered", 10)  # what alpha has delivered is on its way through beta's queue
        delivered = events.of("delivered")
        self.assertEqual([b".%d\n" % number for number in range(10)], self.bodies("mail"))
        self.assertEqual(["new"] + ["kept"] * 9, [fields["tls"] for fields in delivered])
        self.assertEqual({"verified"}, {fields["verified"] for fields in delivered})
        self.assertEqual(list(range(1, 11)), [fields["conn_use"] for fields in delivered])

    async def test_a_failed_recipient_comes_back_as_a_bounce(self) -> None:
        """beta refuses what it does not deliver; alpha's sender gets a report with the null reverse-path, once."""
        alpha, events, _, theirs = await self.pair()
        await send(port_of(alpha), "me@alpha.test", ["a/b@beta.test", "you@beta.test"], b"Subject: first\r\n\r\nhello\r\n")
        await events.wait("bounced", 1)
        await events.wait("delivered", 2)
        await theirs.wait("delivered", 1)
        (report,) = list(mailbox.Maildir(self.folder / "inbox", create=False))
        self.assertEqual("multipart/report", report.get_content_type())
        self.assertEqual("<>", report["Return-Path"])
        self.assertIn("a/b@beta.test", report.as_string())
        self.assertEqual([b"hello\n"], self.bodies("mail"))

    async def test_no_route_opens_the_server(self) -> None:
        """A client that is not in relay_from gets 550 5.7.1 for a foreign domain, though a [[route]] matches it."""
        beta, _ = await self.serve(
            "closed.test",
            f'{LISTEN}[access]\nrelay_from = ["192.0.2.0/24"]\n[[route]]\nmatch = "*"\nrelay = "[127.0.0.1]:9"\n',
        )
        with self.assertRaises(smtplib.SMTPRecipientsRefused) as caught:
            await send(port_of(beta), "me@alpha.test", ["you@elsewhere.test"], b"Subject: x\r\n\r\nx\r\n")
        code, text = caught.exception.recipients["you@elsewhere.test"]
        self.assertEqual((550, b"5.7.1"), (code, text[:5]))

    async def test_a_second_owner_of_the_data_directory_is_refused(self) -> None:
        """`ready` errbacks with the reason, and what was started is stopped again."""
        await self.serve("first.test", LISTEN)
        second = make_mta(
            parse(f'hostname = "second.test"\ndata_dir = "first.test"\n{LISTEN}', self.folder / "second.toml"),
            reactor=reactor,
            log=Events(),
        )
        second.startService()
        with self.assertRaises(MailError) as caught:
            await second.ready
        self.assertIn("in use", str(caught.exception))
        self.assertEqual([], second.receive.ports)

    async def test_a_port_in_use_ends_the_start(self) -> None:
        """No server is left without its listener: `ready` errbacks and names endpoint and reason."""
        first, _ = await self.serve("first.test", LISTEN)
        listen = f'[[listen]]\nendpoint = "tcp:{port_of(first)}:interface=127.0.0.1"\n'
        second = make_mta(
            parse(f'hostname = "second.test"\ndata_dir = "second.test"\n{listen}', self.folder / "second.toml"),
            reactor=reactor,
            log=Events(),
        )
        with self.assertRaises(MailError) as caught:
            second.privilegedStartService()
        self.assertIn("Address already in use", caught.exception.reason)
        second.startService()
        with self.assertRaises(MailError):
            await second.ready

    async def test_stopped_while_it_starts(self) -> None:
        """A stop that comes while the queue is still being opened: no port is opened behind its back."""
        events = Events()
        text = f'hostname = "first.test"\ndata_dir = "first.test"\n{LISTEN}'
        mta = make_mta(parse(text, self.folder / "first.toml"), reactor=reactor, log=events)
        mta.startService()
        ended: list[object] = []
        mta.ready.addBoth(ended.append)
        await mta.stopService()
        await deferLater(reactor, 0.1)
        try:
            self.assertEqual(([], []), (mta.receive.ports, events.of("listening")))
            self.assertEqual([None], ended)
        finally:
            await mta.receive.stopService()

    async def test_stopped_twice(self) -> None:
        """H39: a stop that comes while another one waits for a delivery: both fire when all is closed."""
        silent = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")  # never a greeting
        self.addCleanup(silent.stopListening)
        route = f'[[route]]\nmatch = "*"\nrelay = "[127.0.0.1]:{silent.getHost().port}"\n'
        mta, _ = await self.serve("first.test", LISTEN + route)
        await send(port_of(mta), "me@first.test", ["you@far.test"], b"Subject: x\r\n\r\nx\r\n")
        while not mta._relay.pool._alive:
            await deferLater(reactor, 0.02)
        await DeferredList([mta.stopService(), mta.stopService()]).addTimeout(10, reactor)

    async def test_the_queue_may_live_in_memory(self) -> None:
        """An embedder's tests need no disk: the engine is passed in."""
        engine = MemoryQueue(lambda: int(reactor.seconds() * 1000))
        alpha, events, _, _ = await self.pair(engine=engine)
        await send(port_of(alpha), "me@alpha.test", ["you@beta.test"], b"Subject: x\r\n\r\nx\r\n")
        await events.wait("delivered", 1)
        self.assertFalse((self.folder / "alpha.test").exists())

    def test_a_route_without_a_name_keeps_its_level(self) -> None:
        """An embedder need not name routes: what one of them demands of TLS is kept all the same."""
        route = RouteEntry(match=("*",), relay="[192.0.2.1]:25", tls="verify")
        settings = Settings(hostname="a.test", data_dir=self.folder / "a", route=(route,))
        mta = make_mta(settings, reactor=reactor, log=Events(), engine=MemoryQueue(lambda: 0))
        way = Router(settings).route("user@example.org")
        self.assertIsInstance(way, Route)
        self.assertIs(mta._relay._way(way.dest).level, Level.VERIFY)

    def test_waiting_mail_keeps_the_level_of_its_route(self) -> None:
        """A route may get another position, another name, or go: what waits under the old one never goes out with less."""
        bank = RouteEntry(match=("bank.test",), relay="[192.0.2.1]:25", tls="verify")
        other = RouteEntry(match=("other.test",), relay="[192.0.2.2]:25", tls="encrypt")
        settings = Settings(hostname="a.test", data_dir=self.folder / "a", route=(bank,))
        way = Router(settings).route("user@bank.test")
        self.assertIsInstance(way, Route)
        for routes in ((), (other, bank), (attrs.evolve(bank, name="bank"),), (attrs.evolve(bank, tls="may"),)):
            changed = attrs.evolve(settings, route=routes)
            mta = make_mta(changed, reactor=reactor, log=Events(), engine=MemoryQueue(lambda: 0))
            self.assertIs(mta._relay._way(way.dest).level, Level.VERIFY)

    async def test_mail_for_a_domain_that_has_become_local_is_delivered(self) -> None:
        """It was filed under its old next hop, whose MX is now us: it goes the new way, and is neither deferred nor bounced."""
        soft = f'{LISTEN}[retry]\nminimal_backoff = "1s"\nmaximal_backoff = "1s"\n'
        down = FakeResolver({}, fail={"moved.test": "SERVFAIL"})
        before, events = await self.serve("here.test", soft, resolver=down)
        await send(port_of(before), "me@here.test", ["you@moved.test"], b"Subject: x\r\n\r\nx\r\n")
        await events.wait("deferred", 1)
        await before.stopService()
        ours = FakeResolver({"moved.test": {"MX": [(10, "here.test")]}})
        local = f'local_domains = ["moved.test"]\n{soft}[[route]]\nmatch = "local"\ndeliver = "maildir:{self.folder}/mail"\n'
        _, events = await self.serve("here.test", local, resolver=ours)
        (delivered,) = await events.wait("delivered", 1)
        self.assertEqual(("maildir", 1), (delivered["relay"], len(list((self.folder / "mail" / "new").iterdir()))))
        self.assertEqual([], events.of("bounced") + events.of("deferred"))

    async def test_what_an_embedder_brings_is_his(self) -> None:
        """Two servers write to one log and ask one resolver; the stop of the first closes neither."""
        log = EventLog(Log(file=str(self.folder / "both.log")), reactor, reactor.seconds)
        log.open()
        self.addCleanup(log.close)
        resolver = Resolver(reactor, Dns(servers=("127.0.0.1:1",)), random=Random())
        self.addCleanup(resolver.close)
        servers = []
        for name in ("first.test", "second.test"):
            settings = parse(f'hostname = "{name}"\ndata_dir = "{name}"\n{LISTEN}', self.folder / f"{name}.toml")
            servers.append(make_mta(settings, reactor=reactor, log=log, resolver=resolver))
            servers[-1].startService()
            await servers[-1].ready
        await servers[0].stopService()
        self.assertNotEqual("CLOSED", (await resolver.query("a.test", "A")).rcode)
        await servers[1].stopService()
        log.close()
        self.assertEqual(2, (self.folder / "both.log").read_text().count("event=stopped"))

    async def test_an_embedders_policy_is_asked(self) -> None:
        """IPolicy refuses by answering with a MailError; an exception of its own means 451."""

        class Policy:
            def judge(self, stage: str, facts: Any) -> Any:
                if stage == "rcpt" and "spam" in str(facts):
                    return permanent("5.7.1", "not here", code=554)
                return 1 / 0 if stage == "rcpt" and "bug" in str(facts) else None

        alpha, _, _, _ = await self.pair(policy=Policy())
        codes = {}
        for recipient in ("spam@beta.test", "bug@beta.test"):
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as caught:
                await send(port_of(alpha), "me@alpha.test", [recipient], b"Subject: x\r\n\r\nx\r\n")
            codes[recipient] = caught.exception.recipients[recipient][0]
        self.assertEqual({"spam@beta.test": 554, "bug@beta.test": 451}, codes)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_rules_look_things_up(self) -> None:
        """Names and greylisting get the resolver and the memory of the server, recipients an embedder's knowledge."""

        @implementer(IRecipients)
        class Friends:
            def exists(self, address: str) -> bool:
                return address.startswith("friend@")

        records = {"1.0.0.127.in-addr.arpa": {"PTR": ["me.test"]}, "me.test": {"A": ["127.0.0.1"]}}
        extra = (
            f'local_domains = ["alpha.test"]\n{LISTEN}[[route]]\nmatch = "local"\ndeliver = "maildir:{self.folder}/inbox"\n'
            '[access]\nrelay_from = []\n[access.greylist]\ndelay = "5m"\n'
            '[[access.rule]]\nname = "r"\naction = "hold"\nclient_name = "me.test"\n'
        )
        mta, events = await self.serve("alpha.test", extra, resolver=FakeResolver(records), recipients=Friends())
        for recipient, code in (("foe@alpha.test", 550), ("friend@alpha.test", 450)):
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as caught:
                await send(port_of(mta), "me@a.test", [recipient], b"Subject: x\r\n\r\nx\r\n")
            self.assertEqual(code, caught.exception.recipients[recipient][0])
        self.assertEqual(["r", "r"], [fields["rule"] for fields in events.of("rule")])

    def test_events_is_a_log(self) -> None:
        """The log of these tests is what IEventLog promises."""
        self.assertTrue(verifyObject(IEventLog, Events(), tentative=True))

    def test_workers_embedded(self) -> None:
        """One server in a process: more is refused, not passed over."""
        settings = Settings(hostname="a.test", data_dir=Path("/nowhere"), service=ServiceTable(2))
        error = self.assertRaises(MailError, make_mta, settings, reactor=Clock())
        self.assertIn("service.workers", str(error.reason))
