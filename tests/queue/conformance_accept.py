"""Conformance: what is accepted is stored, whole, once, and can be read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import BOUNCE, Message, NewMessage, NewRecipient
from mta.queue.ids import id_text
from mta.queue.state import State
from mta.status import MailError, Reply
from tests.queue.harness import DEST, OTHER, START, QueueHarness, changed, ids

if TYPE_CHECKING:  # the assertions come from the TestCase that an engine's tests mix in

    class Rows(QueueHarness, SynchronousTestCase): ...
else:
    Rows = QueueHarness

KIB = 1024


class AcceptRows(Rows):
    """Rows 1 to 5 and 24."""

    async def test_q01_durable_when_enqueue_fires(self) -> None:
        """A crash right after the answer loses nothing: rows, envelope and body are all there."""
        id, _ = await self.accept("one@example.org", "two@example.org", data=b"x" * 70_000)
        await self.crash()
        self.assertEqual([id + 1, id + 2], ids(await self.rows(message=id)))
        self.assertEqual(b"x" * 70_000, await self.read(id))

    async def test_q01_taken_rows_wait_again_after_a_crash(self) -> None:
        """What was taken at insert and not settled is due at once after a crash, with no attempt counted."""
        claims = await self.taken("one@example.org", "two@example.org")
        await self.crash()
        self.assertTrue(self.queue.recovered.called, "there was room to write that")
        again = await self.claim()
        self.assertEqual(ids(claims), ids(again))
        self.assertEqual([0, 0], [claim.attempts for claim in again])

    async def test_q02_many_messages(self) -> None:
        """1, 100 and 257 messages at once: every one is answered and stored."""
        total = 0
        for count in (1, 100, 257):
            messages = [await self.new(f"u{number}@example.org") for number in range(count)]
            await gatherResults([self.queue.enqueue([message]) for message in messages])
            await self.queue.enqueue([await self.new(), await self.new()])
            total += count + 2
            self.assertEqual(total, len(await self.rows()))
        stored = await self.queue.load(messages[200].id)
        self.assertEqual("sender@example.com", stored.message.sender)

    async def test_q02_many_recipients(self) -> None:
        """1, 1,000 and 16,000 recipients: ids id+1 ... id+n in the order given."""
        for count in (1, 1000, 16_000):
            addresses = [f"u{number}@example.org" for number in range(count)]
            id, _ = await self.accept(*addresses)
            found = await self.rows(message=id)
            self.assertEqual(addresses, [row.address for row in found])
            self.assertEqual(list(range(id + 1, id + 1 + count)), ids(found))
            self.assertEqual(count, (await self.queue.load(id)).message.nrcpt)

    async def test_q02_every_field_is_read_back(self) -> None:
        """Envelope, flags, prefix, trace and the recipients' own fields."""
        to = NewRecipient("b@example.org", "rfc822;b@example.org", 5, DEST, 63, START + 7)
        message = await self.new(
            to,
            source="submission",
            account="ann",
            flags=193,
            envid="E+2B1",
            trace='{"client":"a"}',
            sender="",
            priority=-3,
            deliver_by=START,
        )
        await self.queue.enqueue([message])
        self.now += 7
        stored = (await self.queue.load(message.id)).message
        of_both = {field.name for field in attrs.fields(NewMessage)} & {field.name for field in attrs.fields(Message)}
        self.assertTrue({"priority", "deliver_by", "trace", "prefix"} < of_both)
        for field in of_both:
            self.assertEqual(getattr(message, field), getattr(stored, field), field)
        self.assertEqual((1, len(message.prefix) + message.body.size), (stored.nrcpt, stored.size))
        (claim,) = await self.claim(lane=63)
        for field in ("address", "orcpt", "notify", "dest", "lane", "due"):
            self.assertEqual(getattr(to, field), getattr(claim, field), field)
        self.assertEqual((message.id + 1, message.id, 0, None), (claim.id, claim.message, claim.attempts, claim.last_reply))

    async def test_q02_non_ascii(self) -> None:
        """SMTPUTF8 addresses and eight-bit header bytes come back as they went in."""
        id, _ = await self.accept("用户@例子.测试", sender="jörg@example.com", prefix=b"X: \xff\x80\r\n")
        self.assertEqual("用户@例子.测试", (await self.rows(message=id))[0].address)
        stored = await self.queue.load(id)
        self.assertEqual(("jörg@example.com", b"X: \xff\x80\r\n"), (stored.message.sender, stored.message.prefix))

    async def test_q03_same_id_twice(self) -> None:
        """A repeat is answered as stored; there is one message."""
        message = await self.new("a@example.org", "b@example.org")
        await self.queue.enqueue([message])
        await self.queue.enqueue([message], lambda _: True)
        self.assertEqual(2, len(await self.rows()))
        both = await self.new()
        await gatherResults([self.queue.enqueue([both]), self.queue.enqueue([both])])
        self.assertEqual(3, len(await self.rows()))
        self.assertEqual(3, len(await self.claim()))

    async def test_q04_one_bad_message_fails_alone(self) -> None:
        """50 at once, one with the id of another message: 49 stored, one MailError, and the stored one unchanged."""
        first = await self.new("first@example.org")
        await self.queue.enqueue([first])
        messages = [await self.new(f"u{number}@example.org") for number in range(50)]
        messages[25] = changed(messages[25], id=first.id)
        waiting = [self.queue.enqueue([message], lambda _: True) for message in messages]
        bad = waiting.pop(25)
        await self.assertFailure(bad, MailError)
        self.assertEqual([1] * 49, [len(claims) for claims in await gatherResults(waiting)])
        self.assertEqual(50, len(await self.rows()))
        self.assertEqual("first@example.org", (await self.row(first.id + 1)).address)

    async def test_q04_bad_message_in_one_call(self) -> None:
        """In a call with neighbours: they are stored, the call fails, and nobody holds a claim: they can be claimed."""
        first = await self.new()
        await self.queue.enqueue([first])
        good, bad = await self.new("good@example.org"), changed(await self.new("bad@example.org"), id=first.id)
        await self.assertFailure(self.queue.enqueue([good, bad], lambda _: True), MailError)
        self.assertEqual([first.id + 1, good.id + 1], ids(await self.claim()))

    async def test_q05_admit_true_returns_claims(self) -> None:
        """Admitted recipients come back as claims, in order, and nobody else can claim them."""
        one, two = self.to("a@example.org"), self.to("b@example.net", OTHER, 5)
        id, claims = await self.accept(one, two, admit=True)
        self.assertEqual(
            [(id + 1, one.address, DEST, 0), (id + 2, two.address, OTHER, 5)], [(c.id, c.address, c.dest, c.lane) for c in claims]
        )
        self.assertEqual([], await self.claim() + await self.claim(dest=OTHER, lane=5))
        self.assertEqual([State.TAKEN] * 2, [row.state for row in await self.rows()])

    async def test_q05_admit_false_is_claimable(self) -> None:
        """Admit is asked for each recipient, at once; those refused are waiting."""
        asked: list[str] = []
        message = await self.new("a@example.org", "b@example.org", "c@example.org")

        def admit(recipient: NewRecipient) -> bool:
            asked.append(recipient.address)
            return recipient.address.startswith("b")

        waiting = self.queue.enqueue([message], admit)
        self.assertEqual(["a@example.org", "b@example.org", "c@example.org"], asked)
        self.assertEqual([message.id + 2], ids(await waiting))
        self.assertEqual([message.id + 1, message.id + 3], ids(await self.claim()))

    async def test_q05_refused_by_routing(self) -> None:
        """A recipient that routing refused is stored with the reason, for the bounce."""
        refused = NewRecipient("x@example.org", dest=BOUNCE, due=self.now, refused=Reply(550, "5.1.2", "no such domain"))
        id, _ = await self.accept(refused)
        (claim,) = await self.claim(dest=BOUNCE)
        self.assertEqual((id + 1, "550 5.1.2 no such domain"), (claim.id, claim.last_reply))

    async def test_q24_body_sizes(self) -> None:
        """Byte-identical at every border of the storage, by the reader and, where it is inline, by load."""
        for size in (0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 128 * KIB + 1, 5 * KIB * KIB):
            data = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
            for admit in (False, True):
                id, _ = await self.accept("a@example.org", data=data, admit=admit)
                self.assertTrue(data == await self.read(id), f"{size} bytes")
                stored = await self.queue.load(id)
                self.assertTrue(stored.body is None or stored.body == data, f"{size} bytes")
                if size <= 128 * KIB:
                    self.assertIsNotNone(stored.body)
                self.assertEqual(size, stored.message.size - len(stored.message.prefix))
        await self.crash()
        self.assertTrue(data == await self.read(id))

    async def test_q24_sink(self) -> None:
        """A sink names itself, counts, and may be aborted at any time, twice, and after its end."""
        sink = self.queue.create_body(3)
        self.assertEqual((id_text(sink.id), 0), (sink.name, sink.size))
        sink.write(b"abc")
        self.assertEqual(3, sink.size)
        sink.abort()
        sink.abort()
        other = self.queue.create_body(1)
        self.assertTrue(other.id > sink.id + 3, "the ids of the recipients are reserved")
        for size in (10, 200 * KIB):
            message = await self.new(data=b"x" * size)
            await self.queue.enqueue([message])
            self.assertEqual(size, len(await self.read(message.id)))
        late = self.queue.create_body(1)
        late.write(b"y" * 200 * KIB)
        await late.finish()
        late.abort()
        late.abort()

    async def test_message_that_is_not_there(self) -> None:
        """load and read of an unknown id fail with a MailError."""
        await self.assertFailure(self.queue.load(12345), MailError)
        await self.assertFailure(self.queue.open_body(12345).read(), MailError)
