"""`mta.dns.client`: one resolver, several servers, and everything that can happen between them."""

from random import Random

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from mta.config.settings import Dns
from mta.dns import client
from mta.dns.answer import Mx
from mta.dns.client import AT_ONCE, Resolver
from mta.dns.message import Question, failure
from mta.interfaces import IMailResolver
from tests.dns.loopback import ZONES, ClockedReactor, LoopbackTestCase, turns


class AnswerTests(LoopbackTestCase):
    """Yes, no, and the way there."""

    async def test_found(self):
        """The records, the canonical name, the time."""
        resolver = self.resolver(self.server())
        verifyObject(IMailResolver, resolver)
        answer = await resolver.query("Example.Test.", "MX")
        self.assertCountEqual(answer.records, [Mx(10, "mx.example.test"), Mx(20, "mx2.example.test")])
        self.assertEqual((answer.name, answer.canonical, answer.found), ("example.test", "example.test", True))
        self.assertTrue(295 < answer.expires - reactor.seconds() <= 300)

    async def test_does_not_exist(self):
        """NXDOMAIN and no data, each kept for the time of its SOA."""
        server = self.server(negative_ttl=60)
        resolver = self.resolver(server)
        for name, rdtype, rcode in (("nope.test", "MX", "NXDOMAIN"), ("example.test", "AAAA", "NOERROR")):
            answer = await resolver.query(name, rdtype)
            self.assertEqual((answer.rcode, answer.exists_not), (rcode, True))
            self.assertTrue(55 < answer.expires - reactor.seconds() <= 60)
            await resolver.query(name, rdtype)
            self.assertEqual(server.asked["udp", name, rdtype], 1)

    async def test_aliases_by_the_server(self):
        """The server followed: one question."""
        server = self.server()
        answer = await self.resolver(server).query("alias.test", "TXT")
        self.assertEqual((answer.records, answer.canonical), ((b"v=spf1 -all",), "example.test"))
        self.assertEqual(server.asked.total(), 1)

    async def test_aliases_by_us(self):
        """A server that stops at the first CNAME is asked again, and the name of the answer is still ours."""
        server = self.server(follow=False)
        answer = await self.resolver(server).query("alias.test", "TXT")
        self.assertEqual((answer.name, answer.records, answer.canonical), ("alias.test", (b"v=spf1 -all",), "example.test"))
        self.assertEqual(server.asked.total(), 3)

    async def test_alias_loop(self):
        """It ends, and it is a failure: nobody knows."""
        self.assertTrue((await self.resolver(self.server(follow=False)).query("loop.test", "A")).failed)

    async def test_impossible_name(self):
        """What no zone can hold does not exist; no server is asked."""
        server = self.server()
        answer = await self.resolver(server).query("a..test", "MX")
        self.assertTrue(answer.exists_not)
        self.assertEqual(server.asked.total(), 0)

    async def test_over_tcp(self):
        """A truncated answer is asked for again over TCP."""
        server = self.server(truncate=True)
        answer = await self.resolver(server).query("big.test", "TXT")
        self.assertEqual(len(answer.records[0]), 255)
        self.assertEqual((server.asked["udp", "big.test", "TXT"], server.asked["tcp", "big.test", "TXT"]), (1, 1))


class TrustTests(LoopbackTestCase):
    """RFC 4035: AD is the server's word, and counts only where we trust it."""

    async def test_trusted(self):
        """Both must say so."""
        for trusted, authentic, secure in ((True, True, True), (True, False, False), (False, True, False)):
            resolver = self.resolver(self.server(authentic=authentic), trusted=trusted)
            self.assertEqual((await resolver.query("example.test", "MX")).secure, secure)
            self.assertEqual((await resolver.query("example.test", "MX")).secure, secure, "out of the cache")
            self.assertEqual((await resolver.query("nope.test", "TLSA")).secure, secure, "a secure no")

    async def test_over_tcp(self):
        """AD is asked for and seen there too."""
        resolver = self.resolver(self.server(truncate=True, authentic=True), trusted=True)
        self.assertTrue((await resolver.query("example.test", "MX")).secure)

    async def test_one_insecure_alias_spoils_it(self):
        """A chain is as secure as its weakest link."""
        server = self.server(follow=False, authentic=True)
        answering, answered = server._answer, []

        def answer(query, name, rdtype, way):
            answered.append(name)
            server.ways.authentic = name != "other.test"
            return answering(query, name, rdtype, way)

        server._answer = answer
        answer = await self.resolver(server, trusted=True).query("alias.test", "TXT")
        self.assertEqual(answered, ["alias.test", "other.test", "example.test"])
        self.assertTrue(answer.found)
        self.assertFalse(answer.secure)

    async def test_resolv_conf_is_never_trusted(self):
        """Whatever `trusted` says, a server that nobody named is not believed."""
        server = self.server(authentic=True)
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("nameserver " + server.address)
        self.patch(client, "RESOLV_CONF", client.Path(path))
        resolver = Resolver(reactor, Dns(trusted=True), random=Random(1))
        self.addCleanup(resolver.close)
        resolver.start()
        answer = await resolver.query("example.test", "MX")
        self.assertTrue(answer.found)
        self.assertFalse(answer.secure)


class FailureTests(LoopbackTestCase):
    """Everything that goes wrong is an answer that failed."""

    async def test_servfail(self):
        """It is said, is asked once of each server, and is forgotten after five seconds, not after 300."""
        server, other, clock = self.server(rcode="SERVFAIL"), self.server(rcode="REFUSED"), ClockedReactor()
        resolver = self.resolver(server, other, clock=clock)
        answer = await resolver.query("example.test", "MX")
        self.assertTrue(answer.failed)
        await resolver.query("example.test", "MX")
        self.assertEqual((server.asked.total(), other.asked.total()), (1, 1))
        server.ways.rcode = ""
        clock.advance(5)
        self.assertTrue((await resolver.query("example.test", "MX")).found)

    async def test_the_next_server(self):
        """One that fails does not matter while another answers, and the good one is asked first from then on."""
        for ways in ({"rcode": "SERVFAIL"}, {"rcode": "REFUSED"}, {"garbage": True}):
            bad, good = self.server(**ways), self.server()
            resolver = self.resolver(bad, good)
            self.assertTrue((await resolver.query("example.test", "MX")).found, ways)
            self.assertTrue((await resolver.query("mx.example.test", "A")).found, ways)
            self.assertEqual((bad.asked.total(), good.asked.total()), (1, 2))

    async def test_a_dead_server(self):
        """Nobody listens on the first: no second is lost."""
        dead = self.server()
        await dead.stop()
        self.assertTrue((await self.resolver(dead, self.server()).query("example.test", "MX")).found)

    async def test_all_dead(self):
        """UNREACHABLE, at once."""
        dead = self.server()
        await dead.stop()
        answer = await self.resolver(dead).query("example.test", "MX")
        self.assertEqual((answer.rcode, answer.failed), ("UNREACHABLE", True))

    async def test_silence(self):
        """Asked `attempts` times, each for `timeout` seconds; then TIMEOUT, which names the server."""
        server, clock = self.server(drop=100), ClockedReactor()
        asked = self.resolver(server, clock=clock, timeout=5, attempts=3).query("example.test", "MX")
        for attempt in range(1, 4):
            await self.until(lambda attempt=attempt: server.asked.total() == attempt)
            clock.advance(4.9)
            self.assertFalse(asked.called)
            clock.advance(0.1)
        answer = await asked
        self.assertEqual((answer.rcode, server.asked.total()), ("TIMEOUT", 3))
        self.assertIn(server.address, answer.reason)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_a_lost_datagram(self):
        """The second attempt is answered."""
        server, clock = self.server(drop=1), ClockedReactor()
        asked = self.resolver(server, clock=clock).query("example.test", "MX")
        await self.until(lambda: server.asked.total() == 1)
        clock.advance(5)
        self.assertTrue((await asked).found)

    async def test_lies_are_not_heard(self):
        """An answer with the wrong id or question is not taken, not even as a failure: we wait for ours."""
        for ways in ({"wrong_id": True}, {"wrong_question": True}):
            server, clock = self.server(**ways), ClockedReactor()
            asked = self.resolver(server, clock=clock, attempts=1).query("example.test", "MX")
            await self.until(lambda: server.asked.total() == 1)
            await turns()
            self.assertFalse(asked.called)
            clock.advance(5)
            self.assertEqual((await asked).rcode, "TIMEOUT")

    async def test_tcp_that_stalls(self):
        """The same time for TCP, and the connection is dropped."""
        server, clock = self.server(truncate=True), ClockedReactor()
        resolver = self.resolver(server, clock=clock, attempts=1)
        asked = resolver.query("example.test", "MX")
        server._answer, answering = lambda *args: (setattr(server.ways, "drop", 1), answering(*args))[1], server._answer
        await self.until(lambda: server.asked["tcp", "example.test", "MX"] == 1)
        clock.advance(5)
        self.assertEqual((await asked).rcode, "TIMEOUT")
        await self.until(lambda: not server.connections and not resolver._servers.connections)

    async def test_unknown_type(self):
        """A bug of the caller's is logged and is a failed lookup, not an errback."""
        answer = await self.resolver(self.server()).query("example.test", "HINFO")
        self.assertTrue(answer.failed)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    async def test_not_started(self):
        """Without servers there is no answer, and no hang."""
        resolver = Resolver(reactor, Dns(), random=Random(1))
        self.assertEqual((await resolver.query("example.test", "MX")).rcode, "UNREACHABLE")

    async def until(self, condition):
        """Let the reactor run until it holds."""
        while not condition():
            await turns(1)


class BurstTests(LoopbackTestCase):
    """Many at once."""

    async def test_equal_questions_are_asked_once(self):
        """Fifty callers, one datagram, one answer for all."""
        server = self.server(delay=0.01)
        resolver = self.resolver(server)
        answers = await gatherResults([resolver.query("example.test", "MX") for _ in range(50)])
        self.assertEqual(server.asked.total(), 1)
        self.assertEqual(len(set(map(id, answers))), 1)

    async def test_a_caller_that_goes_away(self):
        """Its cancel concerns nobody else."""
        resolver = self.resolver(self.server(delay=0.01))
        first, second = resolver.query("example.test", "MX"), resolver.query("example.test", "MX")
        first.addErrback(lambda _: None).cancel()
        self.assertTrue((await second).found)

    async def test_the_rest_waits(self):
        """No more than AT_ONCE questions are out; all are answered in the end, in order."""
        names = [f"h{n}.test" for n in range(AT_ONCE + 50)]
        server = self.server({name: {"A": ["192.0.2.1"]} for name in names}, drop=AT_ONCE)
        clock = ClockedReactor()
        resolver = self.resolver(server, clock=clock)
        asked = [resolver.query(name, "A") for name in names]
        while server.asked.total() < AT_ONCE:
            await turns(1)
        await turns()
        self.assertEqual(server.asked.total(), AT_ONCE)
        clock.advance(5)
        answers = await gatherResults(asked)
        self.assertTrue(all(answer.found for answer in answers))

    async def test_thousands_that_end_at_once(self):
        """Failures without any waiting do not grow the stack."""
        resolver = self.resolver("127.0.0.1:9", attempts=1)
        (pool,) = resolver._servers.pools

        def full(now):
            raise OSError(24, "Too many open files")

        held = self.server(drop=AT_ONCE * 10)
        resolver._servers.pools = self.resolver(held)._servers.pools
        asked = [resolver.query(f"h{n}.test", "A") for n in range(AT_ONCE + 3000)]
        self.patch(pool, "_open", full)
        resolver._servers.pools = [pool]
        next(iter(resolver._lookups.values()))._heard(failure("REFUSED"))
        answers = await gatherResults(asked[AT_ONCE:])
        self.assertEqual({answer.rcode for answer in answers}, {"UNREACHABLE"})


class CloseTests(LoopbackTestCase):
    """The end."""

    async def test_everything_is_answered(self):
        """Questions that are out, that wait, and that come later: CLOSED; no socket and no timer stays."""
        server, clock = self.server(drop=10_000), ClockedReactor()
        resolver = self.resolver(server, clock=clock)
        asked = [resolver.query(f"h{n}.test", "A") for n in range(AT_ONCE + 10)]
        await resolver.close()
        answers = await gatherResults(asked)
        self.assertEqual({answer.rcode for answer in answers}, {"CLOSED"})
        self.assertEqual((await resolver.query("example.test", "A")).rcode, "CLOSED")
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_in_the_middle_of_tcp(self):
        """An open connection is gone when close has fired."""
        server = self.server(truncate=True, delay=0.01)
        resolver = self.resolver(server)
        asked = resolver.query("example.test", "MX")
        while not server.connections:
            await turns(1)
        await resolver.close()
        self.assertEqual((await asked).rcode, "CLOSED")
        self.assertEqual(resolver._servers.connections, set())

    async def test_twice(self):
        """Harmless."""
        resolver = self.resolver(self.server(ZONES))
        await resolver.query("example.test", "A")
        await resolver.close()
        await resolver.close()

    async def test_asking_while_it_closes(self):
        """A caller that reacts with a new question gets its CLOSED too."""
        resolver = self.resolver(self.server(drop=10))
        again = []
        asked = resolver.query("example.test", "A")
        asked.addCallback(lambda _: again.append(resolver.query("other.test", "A")))
        await resolver.close()
        self.assertEqual((await again[0]).rcode, "CLOSED")


class QuestionOnTheWireTests(LoopbackTestCase):
    """RFC 5452: what a forger has to guess."""

    async def test_ids_and_ports_differ(self):
        """Questions in flight together have different (id, port) pairs."""
        server, seen = self.server(delay=0.01), []
        received = server.received
        server.received = lambda wire, way, send: (seen.append(wire[:2]), received(wire, way, send))
        resolver = self.resolver(server)
        await gatherResults([resolver.query(f"h{n}.test", "A") for n in range(30)])
        self.assertGreater(len(set(seen)), 25)
        self.assertEqual(Question.of("h1.test", "A").to_wire(1)[:2], b"\0\1")
