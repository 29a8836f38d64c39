"""`mta.dns.tcp`: one question, one connection, and every way in which it can go wrong."""

from random import Random

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Factory, Protocol

from mta.dns.message import Question
from mta.dns.servers import Server
from mta.dns.tcp import ask_tcp
from tests.dns.loopback import LoopbackTestCase, turns

QUESTION = Question.of("big.test", "TXT")


class Raw(Protocol):
    """Says what the test wants, one octet at a time when asked to."""

    def dataReceived(self, data):
        self.factory.seen.append(data)
        for octets in self.factory.script(data[2:]):
            self.transport.write(octets)


class TcpTests(LoopbackTestCase):
    """Against our server, and against a server that says anything."""

    def ask(self, address):
        host, port = address.split(":")
        return ask_tcp(reactor, Server(host, int(port)), QUESTION, Random(1))

    def raw(self, script):
        factory = Factory.forProtocol(Raw)
        factory.noisy, factory.script, factory.seen = False, script, []
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return factory, f"127.0.0.1:{port.getHost().port}"

    async def test_a_large_answer(self):
        """Three kilobytes come whole."""
        reply, gone = self.ask(self.server().address)
        self.assertEqual((await reply).records, (b"x" * 255,))
        await gone

    async def test_octet_by_octet(self):
        """An answer in pieces of one octet is the same answer."""

        def script(query):
            wire = query[:2] + b"\x81\x83" + query[4:10] + b"\0\0" + QUESTION.section
            framed = len(wire).to_bytes(2, "big") + wire
            return [framed[n : n + 1] for n in range(len(framed))]

        _, address = self.raw(script)
        reply, gone = self.ask(address)
        self.assertEqual((await reply).rcode, "NXDOMAIN")
        await gone

    async def test_hang_up(self):
        """A server that closes is noticed at once."""
        reply, gone = self.ask(self.server(hang_up=True).address)
        self.assertEqual((await reply).rcode, "UNREACHABLE")
        await gone

    async def test_refused(self):
        """So is one that does not listen."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        address = f"127.0.0.1:{port.getHost().port}"
        await port.stopListening()
        reply, gone = self.ask(address)
        self.assertEqual((await reply).rcode, "UNREACHABLE")
        await gone

    async def test_wrong_answers(self):
        """Another id or question, an empty message, noise: garbled."""
        for ways in ({"wrong_id": True}, {"wrong_question": True}):
            reply, gone = self.ask(self.server(**ways).address)
            self.assertEqual((await reply).rcode, "GARBLED", ways)
            await gone
        for noise in (b"\0\0", b"\0\5hello", b"\0\1x"):
            _, address = self.raw(lambda query, noise=noise: [noise])
            reply, gone = self.ask(address)
            self.assertEqual((await reply).rcode, "GARBLED", noise)
            await gone

    async def test_cancelled_while_waiting(self):
        """The connection goes with the question."""
        factory, address = self.raw(lambda query: [])
        reply, gone = self.ask(address)
        while not factory.seen:
            await turns(1)
        reply.cancel()
        await self.assertFailure(reply, CancelledError)
        await gone

    async def test_cancelled_while_connecting(self):
        """Also when it was never made."""
        reply, gone = self.ask(self.server().address)
        reply.cancel()
        await self.assertFailure(reply, CancelledError)
        await gone
