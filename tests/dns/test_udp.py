"""`mta.dns.udp`: sockets that are shared, replaced and closed; strangers that are not heard."""

import socket
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from mta.dns.message import Question
from mta.dns.servers import Server
from mta.dns.udp import POOL_SIZE, RENEW_QUESTIONS, RENEW_SECONDS, TRUNCATED, UdpPool
from tests.dns.loopback import ClockedReactor, LoopbackTestCase, turns

QUESTION = Question.of("mx.example.test", "A")


class UdpPoolTests(LoopbackTestCase):
    """One pool, one server on the loopback."""

    def pool(self, address, clock=None):
        host, port = address.split(":")
        pool = UdpPool(clock or reactor, Server(host, int(port)), Random(1))
        self.addCleanup(pool.close)
        return pool

    async def test_a_reply(self):
        """Ask, and it comes."""
        reply = await self.pool(self.server().address).ask(QUESTION)
        self.assertEqual((reply.rcode, reply.records), ("NOERROR", ("192.0.2.1",)))

    async def test_sockets_are_bounded_and_shared(self):
        """A burst opens no more than the pool's sockets, and every question gets its own answer."""
        pool = self.pool(self.server().address)
        replies = await gatherResults([pool.ask(QUESTION) for _ in range(POOL_SIZE * 5)])
        self.assertEqual({reply.records for reply in replies}, {("192.0.2.1",)})
        self.assertEqual(len(pool._sockets), POOL_SIZE)

    async def test_quiet_times_use_one_socket(self):
        """One question after the other needs no second."""
        pool = self.pool(self.server().address)
        for _ in range(5):
            await pool.ask(QUESTION)
        self.assertEqual(len(pool._sockets), 1)

    async def test_renewed_after_many_questions(self):
        """A port does not stay the same for long, and the old socket is closed."""
        pool = self.pool(self.server().address)
        await pool.ask(QUESTION)
        (old,) = pool._sockets
        old._asked = RENEW_QUESTIONS
        await pool.ask(QUESTION)
        self.assertNotIn(old, pool._sockets)
        self.assertEqual(old.fileno(), -1)

    async def test_renewed_after_a_while(self):
        """Nor in quiet times; a question that is still out gets its answer before the old socket closes."""
        server, clock = self.server(delay=0.05), ClockedReactor()
        pool = self.pool(server.address, clock)
        first = pool.ask(QUESTION)
        (old,) = pool._sockets
        clock.advance(RENEW_SECONDS)
        second = pool.ask(QUESTION)
        self.assertGreaterEqual(old.fileno(), 0)
        self.assertEqual((await first).records, ("192.0.2.1",))
        self.assertEqual(old.fileno(), -1)
        self.assertEqual((await second).records, ("192.0.2.1",))

    async def test_truncated(self):
        """TC is no answer."""
        self.assertIs(await self.pool(self.server(truncate=True).address).ask(QUESTION), TRUNCATED)

    async def test_nobody_listens(self):
        """ICMP says so at once: no waiting for the timeout."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
        reply = await self.pool(address).ask(QUESTION)
        self.assertEqual(reply.rcode, "UNREACHABLE")

    async def test_no_socket_to_be_had(self):
        """Out of file descriptors: a reply, no exception, and the next question tries again."""
        pool = self.pool(self.server().address)

        def full(*args):
            raise OSError(24, "Too many open files")

        patched = self.patch(socket, "socket", full)
        reply = await pool.ask(QUESTION)
        self.assertEqual((reply.rcode, reply.reason), ("UNREACHABLE", "Too many open files"))
        patched.restore()
        self.assertEqual((await pool.ask(QUESTION)).rcode, "NOERROR")

    async def test_what_does_not_belong_is_passed_over(self):
        """Wrong id, wrong question, garbage and nothing at all: the right answer behind them still counts."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake:
            fake.bind(("127.0.0.1", 0))
            fake.settimeout(5)
            pool = self.pool(f"127.0.0.1:{fake.getsockname()[1]}")
            asked = pool.ask(QUESTION)
            query, peer = fake.recvfrom(4096)
            answer = query[:2] + b"\x81\x83" + query[4:10] + b"\0\0" + QUESTION.section
            other = query[:2] + b"\x81\x83" + query[4:10] + b"\0\0" + Question.of("evil.test", "A").section
            for wire in (b"", b"x", bytes([query[0] ^ 1]) + answer[1:], other, query, answer[:20]):
                fake.sendto(wire, peer)
            await turns()
            self.assertFalse(asked.called)
            fake.sendto(answer, peer)
            self.assertEqual((await asked).rcode, "NXDOMAIN")

    async def test_strangers_are_not_heard(self):
        """The kernel drops what comes from another address or port."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            fake.bind(("127.0.0.1", 0))
            fake.settimeout(5)
            asked = self.pool(f"127.0.0.1:{fake.getsockname()[1]}").ask(QUESTION)
            query, peer = fake.recvfrom(4096)
            stranger.sendto(query[:2] + b"\x81\x83" + query[4:10] + b"\0\0" + QUESTION.section, peer)
            await turns()
            self.assertFalse(asked.called)
            asked.cancel()
            await self.assertFailure(asked, CancelledError)

    async def test_cancelled(self):
        """A question that nobody waits for is forgotten; its late answer goes nowhere."""
        server = self.server(delay=0.02)
        pool = self.pool(server.address)
        asked = pool.ask(QUESTION)
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        self.assertTrue(pool._sockets[0].idle)
        await turns(8)
        self.assertEqual(server.asked["udp", "mx.example.test", "A"], 1)
