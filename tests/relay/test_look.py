"""Messages to servers that do not offer all they ask for: looked at, converted, split or refused, on the wire."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Handover
from mta.envelope import Flag, Job, Kind
from mta.relay.look import look
from mta.smtp.chunk_writer import CHUNK
from mta.status import Scope
from mta.testing.peers import Act
from tests.relay.world import PREFIX, Pieces, RelayCase, job
from tests.smtp.convert.messages import UMLAUT

EIGHT, UTF8, BINARY = int(Flag.EIGHTBITMIME), int(Flag.SMTPUTF8), int(Flag.BINARYMIME)
HEAD = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=latin1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
RCPTS = ("a@example.org", "b@example.org", "c@example.org")
BINARIES = ("PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME")


class Broken(Pieces):
    """A body that ends in an error."""

    def read(self) -> Deferred[bytes]:
        return super().read() if self.pieces else fail(OSError("disk"))


class LookTests(SynchronousTestCase):
    def test_inline(self):
        """At once, prefix and all."""
        found = self.successResultOf(Deferred.fromCoroutine(look(attrs.evolve(job(), body=HEAD + UMLAUT))))
        self.assertEqual((True, "", len(PREFIX + HEAD + UMLAUT)), (found.high, found.odd, found.size))

    def test_unreadable(self):
        """The reader is closed, whatever it says."""
        reader = Broken()
        self.failureResultOf(Deferred.fromCoroutine(look(job(reader=reader))), OSError)
        self.assertTrue(reader.closed)


class _Case(RelayCase):
    def send(self, body: bytes | list[bytes], flags: int, *recipients: str, number: int = 1, reader: Any = None, **facts: Any):
        """A message, stored in one with its row or in pieces in a file."""
        pieces = body if isinstance(body, list) else [body]
        made = job(*recipients, number=number, flags=flags, size=len(PREFIX) + sum(map(len, pieces)), **facts)
        self.readers: list[Pieces] = []

        def opened() -> Pieces:
            self.readers.append(reader() if reader else Pieces(*pieces))
            return self.readers[-1]

        stored = Job(made.message, made.claims, made.dest, None if isinstance(body, list) else body, opened)
        return (self.relay or self.start()).deliver(stored)


class ConversionTests(_Case):
    async def test_converted(self) -> None:
        """RFC 6152 3: without 8BITMIME quoted-printable, from memory and from a file, on a new connection and a kept one."""
        server = self.serve(extensions=("PIPELINING", "SIZE 100000000"))
        big = [HEAD[:30], HEAD[30:] + UMLAUT, UMLAUT * 5000, UMLAUT * 5000]
        for number, body in enumerate((HEAD + UMLAUT, big, HEAD + UMLAUT), 1):
            (outcome,) = (await self.send(body, EIGHT, number=number)).outcomes
            self.assertIs(outcome.kind, Kind.DELIVERED, outcome)
            self.assertEqual(("8bit", number), (outcome.facts["converted"], outcome.facts["conn_use"]))
            taken = server.messages[-1].body
            self.assertTrue(taken.startswith(PREFIX))
            self.assertTrue(taken.isascii())
            text = b"".join(body) if isinstance(body, list) else body
            self.assertEqual(text.partition(b"\r\n\r\n")[2], message_from_bytes(taken).get_payload(decode=True))
            said = int(next(line for line in server.commands if "MAIL" in line).partition("SIZE=")[2])
            self.assertGreaterEqual(said, len(server.messages[0].body))
            self.assertTrue(all(reader.closed for reader in self.readers))

    async def test_as_it_is(self) -> None:
        """With 8BITMIME, or without octets over 127, not an octet changes and nothing is said of it."""
        for extensions, body in ((("8BITMIME",), HEAD + UMLAUT), ((), HEAD + b"x\r\n")):
            await self.afresh()
            server = self.serve(extensions=extensions)
            (outcome,) = (await self.send(body, EIGHT)).outcomes
            self.assertEqual(PREFIX + body, server.messages[0].body)
            self.assertNotIn("converted", outcome.facts)

    async def test_cannot_be_converted(self) -> None:
        """5.6.3 for all, nothing is sent, and the connection serves the next message."""
        server = self.serve(extensions=("PIPELINING",))
        outcomes = (await self.send(b"DKIM-Signature: x\r\n" + HEAD + UMLAUT, EIGHT, *RCPTS)).outcomes
        self.assertEqual({(Kind.FAILED, "5.6.3", Scope.MESSAGE)}, {(o.kind, o.reply.enhanced, o.scope) for o in outcomes})
        self.assertIn("a signature would break", outcomes[0].reply.text)
        outcome = await self.delivered(number=11)
        self.assertEqual(("kept", 1, 1), (outcome.facts["tls"], server.connections, len(server.messages)))

    async def test_body_unreadable(self) -> None:
        """At the look, or at the second reading: deferred, and no half of a message is taken."""
        for broken in (1, 2):
            await self.afresh()
            server = self.serve(extensions=())
            opened: list[Pieces] = []

            def reader(broken: int = broken, opened: list[Pieces] = opened) -> Pieces:
                kind = Broken if len(opened) + 1 == broken else Pieces
                opened.append(kind(HEAD + UMLAUT))
                return opened[-1]

            (outcome,) = (await self.send([b""], EIGHT, reader=reader)).outcomes
            self.assertEqual((Kind.DEFERRED, "4.3.0", []), (outcome.kind, outcome.reply.enhanced, server.messages))
            self.assertTrue(all(piece.closed for piece in opened))
            await self.quiet()

    async def test_another_body_at_the_second_reading(self) -> None:
        """A disk that lies: the transaction is cut, never ended."""
        server = self.serve(extensions=())
        bodies = [[HEAD + UMLAUT], [HEAD.replace(b"text/plain", b"multipart/mixed; boundary=x") + b"--x\r\n\r\n"]]
        (outcome,) = (await self.send([b""], EIGHT, reader=lambda: Pieces(*bodies.pop(0)))).outcomes
        self.assertEqual((Kind.DEFERRED, "4.3.0", []), (outcome.kind, outcome.reply.enhanced, server.messages))
        await self.quiet()

    async def test_connection_lost_while_looking(self) -> None:
        """The next host gets it, after one look in all."""
        first, second = self.serve(extensions=()), self.serve(extensions=())
        gate: Deferred[bytes] = Deferred()

        class Slow(Pieces):
            def read(self) -> Deferred[bytes]:
                if gate.called:
                    return super().read()
                return gate

        delivery = self.send([b""], EIGHT, reader=lambda: Slow(UMLAUT) if gate.called else Slow(HEAD + UMLAUT))
        while not first.verbs(1)[-1:] == ["tls EHLO"]:
            await self.turn()
        await self.turn(0.05)
        first.close_all()
        while not second.verbs(1)[-1:] == ["tls EHLO"]:
            await self.turn()
        await self.turn(0.05)
        self.readers[0].pieces = [UMLAUT]
        gate.callback(HEAD)
        await delivery
        self.assertEqual(([], 2), (first.messages, len(self.readers)))

    async def test_kept_connection_lost_while_looking(self) -> None:
        """It costs nothing: a fresh one to the same host."""
        server = self.serve(extensions=())
        await self.delivered(number=21)
        gate: Deferred[bytes] = Deferred()

        class Slow(Pieces):
            def read(self) -> Deferred[bytes]:
                return super().read() if gate.called else gate

        delivery = self.send([b""], EIGHT, reader=lambda: Slow(*([HEAD, UMLAUT] if gate.called else [UMLAUT])))
        await self.turn(0.05)
        server.close_all()
        await self.turn(0.05)
        gate.callback(HEAD)
        (outcome,) = (await delivery).outcomes
        self.assertEqual((Kind.DELIVERED, "new"), (outcome.kind, outcome.facts["tls"]))
        self.assertEqual((2, [], 2), (server.connections, self.faults(), len(server.messages)))

    async def test_stopped_while_looking(self) -> None:
        """The mail is given back and the reader closed."""
        server = self.serve(extensions=())

        class Never(Pieces):
            def read(self) -> Deferred[bytes]:
                return Deferred()

        delivery = self.send([b""], EIGHT, reader=Never)
        while server.verbs(1)[-1:] != ["tls EHLO"]:
            await self.turn()
        await self.turn(0.05)
        server.close_all()
        self.hops.targets.clear()
        (outcome,) = (await delivery).outcomes
        self.assertIsNot(outcome.kind, Kind.DELIVERED)
        self.assertTrue(self.readers[0].closed)


class BinaryTests(_Case):
    BODY = HEAD.replace(b"8bit", b"binary").replace(b"text/plain", b"a/b") + b"\0\r.\n\r\n.\r\n\n"

    async def test_chunks(self) -> None:
        """RFC 3030: octet for octet to a server that takes it, in as many chunks as it needs, on a kept connection too."""
        server = self.serve(extensions=BINARIES)
        big = [self.BODY, *[b"\0" * CHUNK] * 3]
        for number, body in enumerate((self.BODY, big, self.BODY), 1):
            (outcome,) = (await self.send(body, BINARY, number=number)).outcomes
            self.assertEqual((Kind.DELIVERED, "yes"), (outcome.kind, outcome.facts["bdat"]))
            self.assertEqual(PREFIX + (b"".join(body) if isinstance(body, list) else body), server.messages[-1].body)
        self.assertEqual((1, 0), (server.connections, sum("DATA" in line for line in server.commands)))

    async def test_converted(self) -> None:
        """RFC 3030 3: base64 for a server that does not; a message with BODY=BINARYMIME never goes by DATA as it is."""
        server = self.serve(extensions=("8BITMIME",))
        (outcome,) = (await self.send(self.BODY, BINARY)).outcomes
        self.assertEqual((Kind.DELIVERED, "binary", None), (outcome.kind, outcome.facts["converted"], outcome.facts.get("bdat")))
        body = message_from_bytes(server.messages[0].body).get_payload(decode=True)
        self.assertEqual(self.BODY.partition(b"\r\n\r\n")[2], body)

    async def test_chunk_refused(self) -> None:
        """Every recipient gets that reply; the rest of the body is not sent, and RSET comes before the next message."""
        self.handover = Handover(rset_test="never")
        server = self.serve({"BDAT": ["552 5.3.4 too big"]}, extensions=BINARIES)
        body = [self.BODY, *[b"\0" * CHUNK] * 30]
        (outcome,) = (await self.send(body, BINARY)).outcomes
        self.assertEqual((Kind.FAILED, "5.3.4"), (outcome.kind, outcome.reply.enhanced))
        self.assertTrue(self.readers[0].closed)
        await self.delivered(number=11)
        self.assertEqual((1, 1), (server.connections, len(server.messages)))
        self.assertIn("tls RSET", server.verbs(1))

    async def test_421_amid_the_chunks(self) -> None:
        """The next host gets it whole."""
        self.serve({"BDAT": "421 4.3.2 closing"}, extensions=BINARIES)
        good = self.serve(extensions=BINARIES)
        body = [self.BODY, *[b"\0" * CHUNK] * 5]
        (outcome,) = (await self.send(body, BINARY)).outcomes
        self.assertEqual((Kind.DELIVERED, PREFIX + b"".join(body)), (outcome.kind, good.messages[0].body))

    async def test_lost_after_the_last_chunk(self) -> None:
        """RFC 1047: nobody knows, so it is not sent again in this attempt; also where a chunk before was not answered yet."""
        for script, body in (({}, self.BODY), ({"BDAT": Act.STALL}, [self.BODY, *[b"\0" * CHUNK] * 2])):
            await self.afresh()
            self.serve({".": Act.ABORT, **script}, extensions=BINARIES)
            other = self.serve(extensions=BINARIES)
            (outcome,) = (await self.send(body, BINARY)).outcomes
            self.assertEqual((Kind.DEFERRED, 0), (outcome.kind, other.connections))
            self.assertIn("result unknown", outcome.reply.text)


class RecipientTests(_Case):
    async def test_rcptmax(self) -> None:
        """RFC 9422: who does not fit is given back at once, uncounted, and goes next on the same connection."""
        server = self.serve(extensions=("PIPELINING", "LIMITS RCPTMAX=2"))
        outcomes = (await self.deliver(*RCPTS)).outcomes
        self.assertEqual([Kind.DELIVERED, Kind.DELIVERED, Kind.GIVEN_BACK], [outcome.kind for outcome in outcomes])
        self.assertEqual(list(RCPTS), [outcome.claim.address for outcome in outcomes])
        self.assertEqual(0.0, outcomes[2].retry_after)
        await self.delivered(number=11)
        self.assertEqual([RCPTS[:2], ("rcpt@example.org",)], [message.recipients for message in server.messages])
        self.assertEqual(1, server.connections)

    async def test_rcptmax_and_refusals(self) -> None:
        """Each reply finds its recipient."""
        self.serve({"RCPT b@example.org": "550 5.1.1 who"}, extensions=("LIMITS RCPTDOMAINMAX=1",))
        outcomes = (await self.deliver("a@example.org", "x@other.test", "b@example.org")).outcomes
        kinds = {outcome.claim.address: outcome.kind for outcome in outcomes}
        expected = {"a@example.org": Kind.DELIVERED, "b@example.org": Kind.FAILED, "x@other.test": Kind.GIVEN_BACK}
        self.assertEqual(expected, kinds)

    async def test_utf8(self) -> None:
        """RFC 6531 3.6: without SMTPUTF8 a domain in A-labels; who cannot be written so is refused alone."""
        server = self.serve(extensions=("PIPELINING",))
        trace = "Received: from a\r\n\tby b\r\n\tfor <a@ex\u00e4mple.org>;\r\n\tSun\r\n".encode()
        (outcome,) = (await self.deliver("a@ex\u00e4mple.org", flags=UTF8, prefix=trace)).outcomes
        self.assertIs(outcome.kind, Kind.DELIVERED, outcome)
        self.assertTrue(server.messages.pop().body.isascii())
        outcomes = (await self.deliver("a@ex\u00e4mple.org", "m\u00fcller@example.org", "c@example.org", flags=UTF8)).outcomes
        replies = {outcome.claim.address: outcome.reply.enhanced for outcome in outcomes}
        self.assertEqual("5.6.7", replies["m\u00fcller@example.org"])
        self.assertEqual([("a@xn--exmple-cua.org", "c@example.org")], [message.recipients for message in server.messages])
        self.assertEqual({"utf8"}, {outcome.facts["converted"] for outcome in outcomes})

    async def test_header_in_utf8(self) -> None:
        """What needs SMTPUTF8 is not sent without it."""
        server = self.serve(extensions=("8BITMIME",))
        (outcome,) = (await self.send(b"Subject: \xc3\xbc\r\n\r\nx\r\n", UTF8)).outcomes
        self.assertEqual((Kind.FAILED, "5.6.9", []), (outcome.kind, outcome.reply.enhanced, server.messages))

    async def test_terms(self) -> None:
        """RFC 2852, RFC 6710: what is left of the time and the priority go on; mode R only to who keeps it."""
        server = self.serve(extensions=("DELIVERBY", "MT-PRIORITY"))
        self.start()
        deliver_by = int((self.reactor.seconds() + 100) * 1000)
        await self.delivered(deliver_by=deliver_by, priority=3, flags=int(Flag.BY_RETURN))
        mail = next(line for line in server.commands if "MAIL" in line)
        self.assertRegex(mail, r" BY=(99|98|97|96|95);R MT-PRIORITY=3$")
        await self.afresh()
        self.serve(extensions=())
        late = await self.outcome(deliver_by=deliver_by, flags=int(Flag.BY_RETURN))
        self.assertEqual((Kind.FAILED, "5.3.3"), (late.kind, late.reply.enhanced))
        noticed = await self.outcome(deliver_by=deliver_by, number=21)
        self.assertIs(noticed.kind, Kind.CONFIRMED, "the server cannot tell of its time: we tell that it went on")
