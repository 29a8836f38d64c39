"""Fetching an MTA-STS policy from a real web server on the loopback."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import NOT_DONE_YET

from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls.https import Https
from mta.tls.mtasts import MAX_POLICY, Result, StsError
from mta.tls.mtasts_fetch import fetch_policy
from tests.tls.web import Scripted, WebServer

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmax_age: 604800\r\n"
HOST = "mta-sts.example.test"


class FetchTests(TestCase):
    """`fetch_policy` against a web server with the certificate of a private authority."""

    timeout = 20
    authority = Authority.create()

    def setUp(self) -> None:
        self.trust = Path(self.mktemp())
        self.trust.write_bytes(self.authority.certificate_pem)
        self.resolver = FakeResolver({HOST: {"A": ["127.0.0.1"]}})
        self.headers = {"content-type": "text/plain"}
        self.status = 200
        self.body: Any = POLICY

    def serve(self, *names: str, authority: Authority | None = None, expired: bool = False) -> None:
        def answer(request: Any) -> Any:
            request.setResponseCode(self.status)
            for name, value in self.headers.items():
                request.setHeader(name, value)
            return self.body

        self.web = Scripted(answer)
        issued = (authority or self.authority).issue(*(names or (HOST,)), expired=expired)
        server = WebServer(reactor, self.web, issued)
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        self.https = Https(reactor, self.resolver, [self.trust], port=server.port)

    async def failure(self) -> StsError:
        try:
            body = await fetch_policy(self.https, "example.test")
        except StsError as error:
            return error
        raise self.failureException(f"fetched {body!r}")

    async def test_right(self) -> None:
        """P30: the policy's text comes from the well-known place of mta-sts.DOMAIN; parameters of text/plain do not matter."""
        self.headers["content-type"] = "Text/Plain; charset=utf-8"
        self.serve()
        self.assertEqual(await fetch_policy(self.https, "example.test"), POLICY)
        [(method, path, headers, _)] = self.web.requests
        self.assertEqual((method, path), (b"GET", b"/.well-known/mta-sts.txt"))
        self.assertEqual(headers.getRawHeaders("host"), [HOST])
        self.assertIsNone(headers.getRawHeaders("cookie"))

    async def test_redirect(self) -> None:
        """P34: a redirect is a failure and is not followed (3.3), whatever its body says."""
        for self.status in (301, 302, 303, 307, 308):
            self.headers["location"] = f"https://{HOST}/"
            self.serve()
            error = await self.failure()
            self.assertEqual((error.result, error.detail), (Result.FETCH, f"HTTP status {self.status}"))
            self.assertEqual(len(self.web.requests), 1)

    async def test_other_statuses(self) -> None:
        """P34: only 200 is a policy."""
        for self.status in (201, 206, 404, 500):
            self.serve()
            self.assertIs((await self.failure()).result, Result.FETCH)

    async def test_media_type(self) -> None:
        """P34: anything but text/plain is refused, and so is nothing at all."""
        for self.headers["content-type"] in ("text/html", "application/octet-stream", "text/plainx", ""):
            self.serve()
            error = await self.failure()
            self.assertIs(error.result, Result.FETCH)
            self.assertIn("text/plain", error.detail)

    async def test_wrong_certificates(self) -> None:
        """P35: another name, the bare domain, an expired certificate, an authority that nobody knows: nothing is asked."""
        for names, kind in (
            (("www.example.test",), {}),
            (("example.test", "mx.example.test"), {}),
            ((HOST,), {"expired": True}),
            ((HOST,), {"authority": Authority.create("stranger")}),
        ):
            with self.subTest(names=names, kind=kind):
                self.serve(*names, **kind)  # type: ignore[arg-type]
                self.assertIs((await self.failure()).result, Result.WEBPKI)
                self.assertEqual(self.web.requests, [])

    async def test_size(self) -> None:
        """64 KiB are read, one byte more is not."""
        self.serve()
        self.body = b"x" * MAX_POLICY
        self.assertEqual(len(await fetch_policy(self.https, "example.test")), MAX_POLICY)
        self.body += b"x"
        error = await self.failure()
        self.assertIs(error.result, Result.FETCH)
        self.assertIn("larger", error.detail)

    async def test_refused_connection(self) -> None:
        """Nobody listens: a failure of the fetch, not of the certificate."""
        listening: Any = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.https = Https(reactor, self.resolver, port=listening.getHost().port)
        await listening.stopListening()
        self.assertIs((await self.failure()).result, Result.FETCH)

    async def test_no_address(self) -> None:
        """A policy host that DNS does not know, or cannot be asked for."""
        self.serve()
        self.resolver.records = {}
        self.assertIn("no address", (await self.failure()).detail)
        self.resolver.fail[HOST] = "SERVFAIL"
        error = await self.failure()
        self.assertEqual((error.result, "SERVFAIL" in error.detail), (Result.FETCH, True))

    async def test_cancelled(self) -> None:
        """A fetch that is given up ends at once and leaves nothing behind."""
        self.body = NOT_DONE_YET
        self.serve()
        fetched = fetch_policy(self.https, "example.test")
        fetched.cancel()
        error = await self.assertFailure(fetched, StsError)
        self.assertIs(error.result, Result.FETCH)


class SlowTests(SynchronousTestCase):
    """A policy host that does not answer."""

    def test_a_minute(self) -> None:
        """60 seconds for everything, and neither timer nor error is left."""
        clock = Clock()

        class Silent(FakeResolver):
            def query(self, name: str, rdtype: str) -> Deferred[Any]:
                return Deferred()

        fetched = fetch_policy(Https(clock, Silent({})), "example.test")
        clock.advance(59.9)
        self.assertNoResult(fetched)
        clock.advance(0.2)
        error = self.failureResultOf(fetched, StsError).value
        self.assertEqual((error.result, error.detail), (Result.FETCH, "no answer in 60 s"))
        self.assertEqual(clock.getDelayedCalls(), [])
        gc.collect()  # an error that nobody took is logged when it goes
        self.assertEqual(self.flushLoggedErrors(), [])
