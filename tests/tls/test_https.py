"""The HTTPS client of MTA-STS and TLSRPT, against a real server on the loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import NOT_DONE_YET

from mta.interfaces import IMailResolver
from mta.status import MailError
from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls.https import Https, HttpsError
from tests.tls.web import Scripted, WebServer

ZONE = {"good.test": {"A": ["127.0.0.1"]}, "other.test": {"A": ["127.0.0.1"]}, "six.test": {"AAAA": ["::1"], "A": ["127.0.0.1"]}}


class Case(TestCase):
    """A client that trusts one authority, and servers that are stopped at the end."""

    timeout = 20
    authority = Authority.create()

    def setUp(self) -> None:
        self.trust = Path(self.mktemp())
        self.trust.write_bytes(self.authority.certificate_pem)
        self.resolver: IMailResolver = FakeResolver(ZONE)

    def serve(self, answer: Any, *names: str, authority: Authority | None = None, expired: bool = False) -> Scripted:
        resource = Scripted(answer)
        issued = (authority or self.authority).issue(*(names or ("good.test", "six.test")), expired=expired)
        self.server = WebServer(reactor, resource, issued)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        self.client = Https(reactor, self.resolver, [self.trust], port=self.server.port, private=True)
        return resource

    async def failure(self, asked: Deferred[Any]) -> HttpsError:
        try:
            page = await asked
        except HttpsError as error:
            return error
        raise self.failureException(f"answered {page}")


class GoodTests(Case):
    """What works."""

    async def test_get(self) -> None:
        """Status, media type without its parameters, and body come back; the Host is the URL's."""

        def answer(request: Any) -> bytes:
            request.setHeader("content-type", "Text/Plain; charset=utf-8")
            return b"version: STSv1\r\n"

        resource = self.serve(answer)
        page = await self.client.get("https://good.test/.well-known/mta-sts.txt")
        self.assertEqual((page.status, page.media_type, page.body), (200, "text/plain", b"version: STSv1\r\n"))
        [(method, path, headers, _)] = resource.requests
        self.assertEqual((method, path), (b"GET", b"/.well-known/mta-sts.txt"))
        self.assertTrue(headers.getRawHeaders("host")[0].startswith("good.test"))
        self.assertFalse(headers.hasHeader("accept-encoding"))

    async def test_post_to_ourselves(self) -> None:
        """A URL of a stranger does not reach what only we can reach; a policy of our own network can still be had."""
        resource = self.serve(lambda request: b"")
        self.client = Https(reactor, self.resolver, [self.trust], port=self.server.port)
        error = await self.failure(self.client.post("https://good.test/admin", {}, b"report"))
        self.assertEqual(error.reason, "good.test has no public address")
        inside = ("10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.1.1")
        inside6 = ("::", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "ff0e::1")
        self.resolver = FakeResolver({"in.test": {"A": inside, "AAAA": inside6}})
        self.client = Https(Clock(), self.resolver, [self.trust])
        error = await self.failure(self.client.post("https://in.test/", {}, b"report"))
        self.assertEqual(error.reason, "in.test has no public address")
        self.assertEqual(resource.requests, [])
        memory = MemoryReactorClock()
        self.client = Https(memory, FakeResolver({"out.test": {"A": ["10.0.0.1", "9.9.9.9"]}}), [self.trust])
        posting = self.client.post("https://out.test/", {}, b"report")
        self.assertEqual([host for host, *_ in memory.tcpClients], ["9.9.9.9"])
        self.client.stop()
        self.assertEqual((await self.failure(posting)).reason, "stopped")

    async def test_post(self) -> None:
        """Headers and every byte of the body arrive; an answer without a body is whole."""

        def answer(request: Any) -> bytes:
            request.setResponseCode(201)
            return b""

        resource = self.serve(answer)
        body = bytes(range(256)) * 1000
        page = await self.client.post("https://good.test/v1?x=1", {"Content-Type": "application/tlsrpt+gzip"}, body)
        self.assertEqual((page.status, page.media_type, page.body), (201, "", b""))
        [(method, _, headers, sent)] = resource.requests
        self.assertEqual((method, sent), (b"POST", body))
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/tlsrpt+gzip"])

    async def test_no_redirect(self) -> None:
        """A redirect is an answer like any other, and leads nowhere (RFC 8461 3.3)."""

        def answer(request: Any) -> bytes:
            request.redirect(b"https://good.test/elsewhere")
            return b""

        resource = self.serve(answer)
        page = await self.client.get("https://good.test/here")
        self.assertEqual(page.status, 302)
        self.assertEqual(len(resource.requests), 1)

    async def test_no_cookies(self) -> None:
        """A cookie that was set is not brought back."""

        def answer(request: Any) -> bytes:
            request.addCookie(b"id", b"7")
            return b""

        resource = self.serve(answer)
        await self.client.get("https://good.test/")
        await self.client.get("https://good.test/")
        self.assertFalse(resource.requests[1][2].hasHeader("cookie"))

    async def test_next_address(self) -> None:
        """An address where nobody listens costs the next one's turn only."""
        self.resolver = FakeResolver({"good.test": {"A": ["127.0.0.2", "127.0.0.1"]}})
        self.serve(lambda request: b"here")
        self.assertEqual((await self.client.get("https://good.test/")).body, b"here")


class CertificateTests(Case):
    """A server whose certificate is wrong is never told anything."""

    async def refused(self, url: str, resource: Scripted) -> str:
        error = await self.failure(self.client.post(url, {}, b"secret"))
        self.assertTrue(error.webpki)
        self.assertEqual(resource.requests, [])
        return error.reason

    async def test_another_name(self) -> None:
        """It is for somebody else."""
        resource = self.serve(lambda request: b"")
        self.assertEqual(await self.refused("https://other.test/", resource), "certificate is not for other.test")

    async def test_expired(self) -> None:
        """It is too old."""
        resource = self.serve(lambda request: b"", expired=True)
        self.assertEqual(await self.refused("https://good.test/", resource), "certificate not trusted: certificate has expired")

    async def test_unknown_authority(self) -> None:
        """Nobody that we trust has signed it."""
        resource = self.serve(lambda request: b"", authority=Authority.create("stranger"))
        self.assertIn("certificate not trusted", await self.refused("https://good.test/", resource))


class BadTests(Case):
    """Peers that misbehave, and names that lead nowhere."""

    async def test_too_large(self) -> None:
        """An answer beyond the limit is dropped where it passes it."""
        self.serve(lambda request: b"x" * 5000)
        error = await self.failure(self.client.get("https://good.test/", limit=4999))
        self.assertEqual((error.reason, error.webpki), ("answer is larger than 4999 bytes", False))
        self.assertEqual(len((await self.client.get("https://good.test/", limit=5000)).body), 5000)

    async def test_endless_header(self) -> None:
        """A header without end is cut off too, and so are chunks that are all size and no data."""

        def header(request: Any) -> int:
            request.channel.transport.write(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000)
            return NOT_DONE_YET

        def chunks(request: Any) -> int:
            for _ in range(60_000):
                request.write(b"x")
            return NOT_DONE_YET

        resource = self.serve(header)
        for resource.answer in (header, chunks):
            error = await self.failure(self.client.get("https://good.test/"))
            self.assertEqual(error.reason, "answer is larger than 262144 bytes with its header")

    async def test_silence(self) -> None:
        """A server that never answers is cut off when the time is up."""
        self.serve(lambda request: NOT_DONE_YET)
        error = await self.failure(self.client.get("https://good.test/", time_limit=0.3))
        self.assertEqual(error.reason, "no answer in 0.3 s")

    async def test_body_stalls(self) -> None:
        """The time limit holds for the body too."""

        def answer(request: Any) -> int:
            request.setHeader("content-length", "100")
            request.write(b"some")
            return NOT_DONE_YET

        self.serve(answer)
        error = await self.failure(self.client.get("https://good.test/", time_limit=0.3))
        self.assertEqual(error.reason, "no answer in 0.3 s")

    async def test_cut_off(self) -> None:
        """An answer that ends before its length is no answer, nor is one that says no length at all."""

        def answer(request: Any) -> int:
            request.setHeader("content-length", "100")
            request.write(b"version: STSv1\n")
            reactor.callLater(0.05, request.channel.forceAbortClient)
            return NOT_DONE_YET

        self.serve(answer)
        error = await self.failure(self.client.get("https://good.test/"))
        self.assertIn("answer is not whole", error.reason)

    async def test_stop(self) -> None:
        """Whatever runs ends at a stop."""
        self.serve(lambda request: NOT_DONE_YET)
        asked = self.client.get("https://good.test/")
        await deferLater(reactor, 0.1)
        self.client.stop()
        self.assertEqual((await self.failure(asked)).reason, "stopped")

    async def test_nobody_listens(self) -> None:
        """Refused connections and names without an address say so."""
        self.serve(lambda request: b"")
        self.resolver.records = {"dead.test": {"A": ["127.0.0.2"]}}
        self.assertIn("refused", (await self.failure(self.client.get("https://dead.test/"))).reason.lower())
        self.assertEqual((await self.failure(self.client.get("https://none.test/"))).reason, "none.test has no address")
        self.resolver.fail["odd.test"] = "SERVFAIL"
        self.assertIn("SERVFAIL", (await self.failure(self.client.get("https://odd.test/"))).reason)

    async def test_no_tls(self) -> None:
        """A port that speaks something else is a failure, not a certificate's."""
        listening = reactor.listenTCP(0, Factory.forProtocol(_Shouting), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        client = Https(reactor, self.resolver, [self.trust], port=listening.getHost().port)
        error = await self.failure(client.get("https://good.test/"))
        self.assertFalse(error.webpki)
        self.assertTrue(error.reason)
        await deferLater(reactor, 0.05)


class _Shouting(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 this is mail\r\n" * 10)


class UrlTests(SynchronousTestCase):
    """What is asked at all."""

    def test_only_https(self) -> None:
        """Other schemes, user names, control and foreign characters are refused before any question is asked."""
        resolver = FakeResolver(ZONE)
        client = Https(Clock(), resolver)
        for url in (
            "http://good.test/", "mailto:a@good.test", "https:///x", "https://a@good.test/", "https://good.test:x/",
            "https://good.test/ b", "https://good.test/\r\nX: 1", "https://gööd.test/", "", "https://[::1/", "https://good.test:99999/",
        ):  # fmt: skip
            self.assertIn("UR", self.failureResultOf(client.get(url), HttpsError).value.reason, url)
        self.assertEqual(resolver.asked, {})

    def test_trust_file(self) -> None:
        """A trust file that is none is found at the start."""
        path = Path(self.mktemp())
        path.write_text("no certificate")
        self.assertIn(str(path), str(self.assertRaises(MailError, Https, Clock(), FakeResolver({}), [path])))
