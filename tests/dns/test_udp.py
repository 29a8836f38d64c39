"""`mta.dns.udp`: sockets that are shared, replaced and closed; strangers that are not heard."""

import socket
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from mta.dns import udp
from mta.dns.message import Question
from mta.dns.servers import Server
from mta.dns.udp import POOL_SIZE, RENEW_QUESTIONS, RENEW_SECONDS, TRUNCATED, UdpPool
from tests.dns.loopback import ClockedReactor, LoopbackTestCase, turns

QUESTION = Question.of("mx.example.test", "A")
TIMEOUT = 5.0


def ask(pool):
    """The reply, or why the question was not sent."""
    heard = Deferred()
    unsent = pool.ask(QUESTION, heard.callback)
    if unsent is not None:
        heard.callback(unsent)
    return heard


class UdpPoolTests(LoopbackTestCase):
    """One pool, one server on the loopback."""

    def pool(self, address, clock=None, timeout=TIMEOUT):
        host, port = address.split(":")
        pool = UdpPool(clock or reactor, Server(host, int(port)), Random(1), timeout)
        self.addCleanup(pool.close)
        return pool

    async def test_a_reply(self):
        """Ask, and it comes."""
        reply = await ask(self.pool(self.server().address))
        self.assertEqual((reply.rcode, reply.records), ("NOERROR", ("192.0.2.1",)))

    async def test_sockets_are_bounded_and_shared(self):
        """A burst opens no more than the pool's sockets, and every question gets its own answer."""
        pool = self.pool(self.server().address)
        replies = await gatherResults([ask(pool) for _ in range(POOL_SIZE * 5)])
        self.assertEqual({reply.records for reply in replies}, {("192.0.2.1",)})
        self.assertEqual(len(pool._sockets), POOL_SIZE)

    async def test_quiet_times_use_one_socket(self):
        """One question after the other needs no second."""
        pool = self.pool(self.server().address)
        for _ in range(5):
            await ask(pool)
        self.assertEqual(len(pool._sockets), 1)

    async def test_renewed_after_many_questions(self):
        """A port does not stay the same for long, and the old socket is closed."""
        pool = self.pool(self.server().address)
        await ask(pool)
        (old,) = pool._sockets
        old.asked = RENEW_QUESTIONS
        await ask(pool)
        self.assertNotIn(old, pool._sockets)
        self.assertEqual(old.fileno(), -1)

    async def test_renewed_after_a_while(self):
        """Nor in quiet times; a question that is still out gets its answer before the old socket closes."""
        server, clock = self.server(delay=0.05), ClockedReactor()
        pool = self.pool(server.address, clock, RENEW_SECONDS * 2)
        first = ask(pool)
        (old,) = pool._sockets
        clock.advance(RENEW_SECONDS)
        second = ask(pool)
        self.assertGreaterEqual(old.fileno(), 0)
        self.assertEqual((await first).records, ("192.0.2.1",))
        self.assertEqual(old.fileno(), -1)
        self.assertEqual((await second).records, ("192.0.2.1",))

    async def test_truncated(self):
        """TC is no answer."""
        self.assertIs(await ask(self.pool(self.server(truncate=True).address)), TRUNCATED)

    async def test_nobody_listens(self):
        """ICMP says so at once: no waiting for the timeout."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
        reply = await ask(self.pool(address))
        self.assertEqual(reply.rcode, "UNREACHABLE")

    async def test_a_server_that_dies_under_load(self):
        """However many are out: nobody is told from within another's telling, and each is told once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dying:
            dying.bind(("127.0.0.1", 0))
            pool = self.pool(f"127.0.0.1:{dying.getsockname()[1]}")
            told, depth, deepest = [0] * 200, 0, 0

            def ask_anew(who, again):
                def heard(reply):
                    nonlocal depth, deepest
                    self.assertEqual(reply.rcode, "UNREACHABLE")
                    depth += 1
                    deepest = max(deepest, depth)
                    ask_anew(who, again - 1)
                    depth -= 1

                if not again or pool.ask(QUESTION, heard) is not None:
                    told[who] += 1

            for who in range(len(told)):
                ask_anew(who, 8)
        ask_anew(0, 2)  # the first to meet it
        for _ in range(8):
            await turns()
        self.assertEqual(told, [2] + [1] * 199)
        self.assertEqual(deepest, 1)

    async def test_no_socket_to_be_had(self):
        """Out of file descriptors: a reply, no exception, and the next question tries again."""
        pool = self.pool(self.server().address)

        def full(*args):
            raise OSError(24, "Too many open files")

        patched = self.patch(socket, "socket", full)
        reply = await ask(pool)
        self.assertEqual((reply.rcode, reply.reason), ("UNREACHABLE", "Too many open files"))
        patched.restore()
        self.assertEqual((await ask(pool)).rcode, "NOERROR")

    async def test_what_does_not_belong_is_passed_over(self):
        """Wrong id, wrong question, garbage and nothing at all: the right answer behind them still counts."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake:
            fake.bind(("127.0.0.1", 0))
            fake.settimeout(5)
            pool = self.pool(f"127.0.0.1:{fake.getsockname()[1]}")
            asked = ask(pool)
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
            asked = ask(self.pool(f"127.0.0.1:{fake.getsockname()[1]}"))
            query, peer = fake.recvfrom(4096)
            stranger.sendto(query[:2] + b"\x81\x83" + query[4:10] + b"\0\0" + QUESTION.section, peer)
            await turns()
            self.assertFalse(asked.called)

    async def test_silence(self):
        """A question is forgotten when its time is up; its late answer goes nowhere, and nothing stays on the clock."""
        server, clock = self.server(delay=0.02), ClockedReactor()
        pool = self.pool(server.address, clock)
        heard = []
        self.assertIsNone(pool.ask(QUESTION, heard.append))
        clock.advance(TIMEOUT)
        self.assertEqual([reply.rcode for reply in heard], ["TIMEOUT"])
        self.assertIn(server.address, heard[0].reason)
        self.assertEqual(clock.getDelayedCalls(), [])
        await turns(8)
        self.assertEqual((server.asked["udp", "mx.example.test", "A"], len(heard)), (1, 1))

    async def test_each_has_its_own_time(self):
        """One timer for all: each question hears of its end when that is due, also when another is asked anew meanwhile."""
        server, clock = self.server(drop=100), ClockedReactor()
        pool, heard = self.pool(server.address, clock), []

        def again(reply):
            heard.append((clock.seconds(), reply.rcode))
            if len(heard) == 1:
                pool.ask(QUESTION, again)

        for _ in range(3):
            pool.ask(QUESTION, again)
            clock.advance(1)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        for _ in range(40):
            clock.advance(0.5)
        self.assertEqual(heard, [(5.0, "TIMEOUT"), (6.0, "TIMEOUT"), (7.0, "TIMEOUT"), (10.0, "TIMEOUT")])
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_a_bug_of_who_hears(self):
        """The others are told all the same, and those who come later."""
        server, clock = self.server(drop=100), ClockedReactor()
        pool, heard = self.pool(server.address, clock), []
        pool.ask(QUESTION, lambda reply: 1 // 0)
        pool.ask(QUESTION, heard.append)
        self.assertRaises(ZeroDivisionError, clock.advance, TIMEOUT)
        clock.advance(0)
        pool.ask(QUESTION, heard.append)
        clock.advance(TIMEOUT)
        self.assertEqual([reply.rcode for reply in heard], ["TIMEOUT", "TIMEOUT"])

    async def test_closed_by_who_hears(self):
        """Closing in the middle of it: the others are forgotten, and no timer stays."""
        server, clock = self.server(drop=100), ClockedReactor()
        pool, heard = self.pool(server.address, clock), []
        pool.ask(QUESTION, lambda reply: (heard.append(reply), pool.close()))
        pool.ask(QUESTION, heard.append)
        clock.advance(TIMEOUT)
        self.assertEqual(([reply.rcode for reply in heard], clock.getDelayedCalls()), (["TIMEOUT"], []))

    async def test_an_error_concerns_all_of_its_socket(self):
        """What an ICMP error tells of is not said: every question that is out on that socket hears of it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake:
            fake.bind(("127.0.0.1", 0))
            pool = self.pool(f"127.0.0.1:{fake.getsockname()[1]}")
            asked = [ask(pool) for _ in range(POOL_SIZE * 2)]
            pool._sockets[0].fail(OSError(111, "Connection refused"))
            await turns(1)
            failed = [each.result.rcode for each in asked if each.called]
            self.assertEqual(set(failed), {"UNREACHABLE"})
            self.assertEqual(len(pool._out), len(asked) - len(failed))
            self.assertEqual(pool._sockets[0].waiting, {})

    async def test_ids_are_never_used_twice_at_once(self):
        """Where the draw gives an id that is out on that socket, another is drawn."""
        self.patch(udp, "POOL_SIZE", 1)
        pool, draws = self.pool(self.server(delay=0.01).address), iter([0, 0, 0, 7])
        self.patch(pool._random, "getrandbits", lambda count: next(draws))
        first, second = ask(pool), ask(pool)
        self.assertEqual(sorted(pool._sockets[0].waiting), [0, 7])
        self.assertEqual({(await first).rcode, (await second).rcode}, {"NOERROR"})
