"""The Maildir agent on the real reactor, with real files and its own threads."""

from __future__ import annotations

import errno
import os
import threading
import time
from email import message_from_bytes
from pathlib import Path

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mta.deliver import maildir as module
from mta.deliver.service import MaildirAgent
from mta.envelope import Claim, Flag, Job, Kind, Message
from mta.interfaces import IBodyReader, IDeliveryAgent
from mta.status import transient

PREFIX = b"Received: by mx1\r\n"
BODY = b"Subject: hi\r\n\r\nhello\r\n"


@implementer(IBodyReader)
class Reader:
    """Pieces, or a failure; remembers who called it."""

    def __init__(self, *pieces) -> None:
        self.pieces, self.closed, self.threads = list(pieces), 0, set()

    def read(self) -> Deferred[bytes]:
        self.threads.add(threading.current_thread())
        piece = self.pieces.pop(0) if self.pieces else b""
        return fail(piece) if isinstance(piece, Exception) else succeed(piece)

    def close(self) -> None:
        self.closed += 1


class Again(Reader):
    """Begins anew when it was closed, as readers that are opened twice do."""

    def __init__(self, *pieces) -> None:
        super().__init__(*pieces)
        self.all = pieces

    def close(self) -> None:
        super().close()
        self.pieces = list(self.all)


class MaildirAgentTests(TestCase):
    """Jobs in, settlements out."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.agent = self.started()

    def started(self) -> MaildirAgent:
        agent = MaildirAgent(reactor, self.mailbox, hostname="mx1", threads=3)
        agent.start()
        self.addCleanup(agent.stop)
        return agent

    def mailbox(self, address: str) -> str | None:
        return None if address.startswith("nobody") else str(self.root / address)

    def job(self, *to: str, body: bytes | None = BODY, reader=None, number=64, created=None, attempts=0) -> Job:
        created = int(time.time() * 1000) + 1000 if created is None else created
        message = Message(number, "alice@a.test", created, created + 1, 100, 0, len(to), PREFIX)
        claims = tuple(Claim(number + 1 + n, number, "maildir:local/", 0, 0, attempts, address) for n, address in enumerate(to))
        return Job(message, claims, "maildir:local/", body, lambda: reader)

    def stored(self, address: str) -> list[bytes]:
        return [path.read_bytes() for folder in ("new", "cur") for path in sorted((self.root / address / folder).iterdir())]

    def check_empty(self, address: str) -> None:
        """Nothing was stored, nothing is left in tmp/."""
        self.assertEqual([], [path for path in self.root.rglob("*") if path.is_file()])

    def test_provides_the_interface(self) -> None:
        """A delivery agent like every other."""
        verifyObject(IDeliveryAgent, self.agent)

    async def test_each_recipient_gets_its_file(self) -> None:
        """Trace lines on top, prefix and body below, an outcome for each claim in order."""
        job = self.job("bob@b.test", "eve@b.test")
        settlement = await self.agent.deliver(job)
        self.assertEqual(
            [(claim, Kind.DELIVERED, 250) for claim in job.claims], [(o.claim, o.kind, o.reply.code) for o in settlement.outcomes]
        )
        for address in ("bob@b.test", "eve@b.test"):
            expected = f"Return-Path: <alice@a.test>\nDelivered-To: {address}\nReceived: by mx1\nSubject: hi\n\nhello\n"
            self.assertEqual([expected.encode()], self.stored(address))

    async def test_confirmed_where_the_sender_asked(self) -> None:
        """RFC 3461 5.2.3: NOTIFY=SUCCESS, of a message that has a sender, whether this attempt or an earlier one did it."""
        job = self.job("bob@b.test", "eve@b.test")
        claims = tuple(attrs.evolve(claim, notify=int(wish), attempts=1) for claim, wish in zip(job.claims, (6, 4), strict=True))
        for _ in range(2):
            settlement = await self.agent.deliver(attrs.evolve(job, claims=claims))
            self.assertEqual([Kind.CONFIRMED, Kind.DELIVERED], [outcome.kind for outcome in settlement.outcomes])
        null = attrs.evolve(job, claims=claims, message=attrs.evolve(job.message, sender=""))
        self.assertEqual({Kind.DELIVERED}, {outcome.kind for outcome in (await self.agent.deliver(null)).outcomes})

    async def test_unknown_mailbox_fails_alone(self) -> None:
        """5.1.1 for the one, delivery for the other."""
        settlement = await self.agent.deliver(self.job("nobody@b.test", "bob@b.test"))
        first, second = settlement.outcomes
        self.assertEqual((Kind.FAILED, 550, "5.1.1"), (first.kind, first.reply.code, first.reply.enhanced))
        self.assertEqual(Kind.DELIVERED, second.kind)
        self.assertFalse((self.root / "nobody@b.test").exists())

    async def test_loop_fails(self) -> None:
        """A message that was delivered to this address before is bounced, not delivered for ever."""
        body = b"Delivered-To: bob@b.test\r\n\r\nx\r\n"
        for job in (self.job("bob@b.test", body=body), self.job("bob@b.test", body=None, reader=Reader(body))):
            (outcome,) = (await self.agent.deliver(job)).outcomes
            self.assertEqual((Kind.FAILED, "5.4.6"), (outcome.kind, outcome.reply.enhanced))
        self.check_empty("bob@b.test")

    async def test_large_body_is_streamed_on_the_reactor_thread(self) -> None:
        """Pieces come from the reader one by one, read and closed where readers live."""
        pieces = [b"Subject: big\r\n\r\n", *[b"x" * 65_535 + b"\r", b"\n" + b"y" * 65_535] * 20, b"\r\n"]
        reader = Reader(*pieces)
        (outcome,) = (await self.agent.deliver(self.job("bob@b.test", body=None, reader=reader))).outcomes
        self.assertEqual(Kind.DELIVERED, outcome.kind)
        (data,) = self.stored("bob@b.test")
        self.assertTrue(data.endswith((PREFIX + b"".join(pieces)).replace(b"\r\n", b"\n")))
        self.assertEqual(({threading.current_thread()}, 1), (reader.threads, reader.closed))

    async def test_binary_is_encoded(self) -> None:
        """BODY=BINARYMIME (RFC 3030 3), from memory and from a reader: each recipient has the octets, in a file of lines."""
        octets = bytes(range(256)) * 600 + b"\r\n\n\r"
        header = b"MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        pieces = [header, octets[:70_000], octets[70_000:]]
        for number, body, to in ((64, header + octets, ("bob@b.test", "eve@b.test")), (164, None, ("joe@b.test",))):
            job = self.job(*to, body=body, reader=Again(*pieces), number=number)
            job = attrs.evolve(job, message=attrs.evolve(job.message, flags=int(Flag.BINARYMIME)))
            for outcome in (await self.agent.deliver(job)).outcomes:
                self.assertEqual((Kind.DELIVERED, "binary"), (outcome.kind, outcome.facts["converted"]))
            for address in to:
                (data,) = self.stored(address)
                self.assertEqual(octets, message_from_bytes(data).get_payload(decode=True))
                self.assertNotIn(b"\r", data)

    async def test_binary_that_cannot_be_encoded(self) -> None:
        """A signature would break: back to the sender, with the reason, and nothing is left; without the flag it is stored."""
        body = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n\0\r\n--s\r\n\r\n\r\n--s--\r\n"
        job = self.job("bob@b.test", "nobody@b.test", body=body)
        job = attrs.evolve(job, message=attrs.evolve(job.message, flags=int(Flag.BINARYMIME)))
        first, second = (await self.agent.deliver(job)).outcomes
        self.assertEqual((Kind.FAILED, 554, "5.6.1"), (first.kind, first.reply.code, first.reply.enhanced))
        self.assertIn("a signature would break", first.reply.text)
        self.assertEqual((Kind.FAILED, "5.1.1"), (second.kind, second.reply.enhanced))
        self.check_empty("bob@b.test")

    async def test_body_that_cannot_be_read(self) -> None:
        """Deferred, the reader closed, nothing half delivered."""
        for trouble in (transient("4.3.0", "no body"), OSError(errno.EIO, "bad sector")):
            reader = Reader(b"Subject: x\r\n\r\n", b"half", trouble)
            (outcome,) = (await self.agent.deliver(self.job("bob@b.test", body=None, reader=reader))).outcomes
            self.assertEqual((Kind.DEFERRED, 4), (outcome.kind, outcome.reply.code // 100))
            self.assertEqual(1, reader.closed)
        self.check_empty("bob@b.test")

    async def test_crash_between_link_and_settle(self) -> None:
        """The same delivery again, by a new process: one copy, also when it has been read in between."""
        job = self.job("bob@b.test")
        await self.agent.deliver(job)
        (self.root / "bob@b.test/tmp/stale").touch()
        for folder, flags in (("new", ""), ("cur", ":2,S")):
            (found,) = [path for name in ("new", "cur") for path in (self.root / "bob@b.test" / name).iterdir()]
            found.rename(self.root / "bob@b.test" / folder / (found.name.partition(":")[0] + flags))
            again = self.started()
            again._started = job.message.created + 1
            (outcome,) = (await again.deliver(job)).outcomes
            self.assertEqual(
                (Kind.DELIVERED, "delivered to the mailbox by an earlier attempt"), (outcome.kind, outcome.reply.text)
            )
            self.assertEqual(1, len(self.stored("bob@b.test")))
        self.assertTrue((self.root / "bob@b.test/tmp/stale").exists(), "another's file in tmp/ is not ours to remove")

    async def test_disk_full(self) -> None:
        """ENOSPC and EDQUOT at every step of every recipient: deferred, tmp/ empty, and the next attempt succeeds."""
        for step in ("write", "fsync", "link", "open"):
            for number, enhanced in ((errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2")):
                (self.root / "bob@b.test").mkdir(parents=True, exist_ok=True)
                broken = self.patch(module.os, step, self.failing(getattr(os, step), number))
                job = self.job("bob@b.test")
                (outcome,) = (await self.agent.deliver(job)).outcomes
                broken.restore()
                self.assertEqual((Kind.DEFERRED, enhanced), (outcome.kind, outcome.reply.enhanced), step)
                self.check_empty("bob@b.test")
        (outcome,) = (await self.agent.deliver(job)).outcomes
        self.assertEqual((Kind.DELIVERED, 1), (outcome.kind, len(self.stored("bob@b.test"))))

    def failing(self, real, number: int):
        """An os function that fails below the mailboxes and works elsewhere."""

        def act(target, *args, **more):
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            if path.startswith(str(self.root)):
                raise OSError(number, os.strerror(number))
            return real(target, *args, **more)

        return act

    async def test_mailbox_that_may_not_be_written(self) -> None:
        """A file where the Maildir should be: deferred, and the reason names the path for the operator."""
        self.root.mkdir()
        (self.root / "bob@b.test").touch()
        (outcome,) = (await self.agent.deliver(self.job("bob@b.test"))).outcomes
        self.assertEqual(Kind.DEFERRED, outcome.kind)
        self.assertIn("bob@b.test", outcome.facts["reason"])

    async def test_a_bug_defers_and_is_logged(self) -> None:
        """An exception that nobody foresaw keeps the mail and leaves a traceback."""
        agent = MaildirAgent(reactor, {}.__getitem__, hostname="mx1")
        agent.start()
        self.addCleanup(agent.stop)
        (outcome,) = (await agent.deliver(self.job("bob@b.test"))).outcomes
        self.assertEqual(Kind.DEFERRED, outcome.kind)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    async def test_concurrent_deliveries_are_unique(self) -> None:
        """Sixty jobs at once into one mailbox: sixty files, all there, nothing in tmp/."""
        jobs = [self.job("bob@b.test", body=b"N: %d\r\n\r\n" % n, number=100 + 10 * n) for n in range(60)]
        await gatherResults([self.agent.deliver(job) for job in jobs])
        self.assertEqual(60, len(set(self.stored("bob@b.test"))))
        self.assertEqual([], list((self.root / "bob@b.test/tmp").iterdir()))

    async def test_stop_waits_for_running_jobs(self) -> None:
        """stop fires after the settlement; later jobs are given back."""
        running = self.agent.deliver(self.job("bob@b.test", body=None, reader=Reader(b"a: b\r\n\r\n", *[b"x" * 1000] * 50)))
        order: list[str] = []
        running.addCallback(lambda settlement: order.append(settlement.outcomes[0].kind.value))
        stopped = self.agent.stop().addCallback(lambda _: order.append("stopped"))
        (outcome,) = (await self.agent.deliver(self.job("bob@b.test"))).outcomes
        self.assertEqual(Kind.GIVEN_BACK, outcome.kind)
        await stopped
        self.assertEqual(["delivered", "stopped"], order)
