"""kill -9 at random moments under load, again and again on the same files: nothing promised is lost, nothing is torn.

Twenty clients send without a pause: small and large, for one recipient and for several, to destinations of their own,
some refused by the remote and reported, some told to come again.  MTA_CRASH_ROUNDS=200 and MTA_CRASH_CLIENTS=50 do more
than the suite has time for; MTA_CRASH_SEED repeats a run's choices (not its moments).  The second copies that arrived, and those that the
kills allow, are counted in the test's log.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.task import deferLater
from twisted.python import log

from tests.queue.crash.world import APART, PATIENCE, TOGETHER, CrashCase, Mail, failed

CLIENTS = int(os.environ.get("MTA_CRASH_CLIENTS", "20"))
ROUNDS = int(os.environ.get("MTA_CRASH_ROUNDS", "8"))
SEED = int(os.environ.get("MTA_CRASH_SEED", "44"))
LIFE = (0.05, 1.0)  # seconds from the first greeting to the kill
PAUSE = 0.02  # seconds until a client tries again
REPEATED = '[retry]\nminimal_backoff = "1s"\nmaximal_backoff = "1s"\n[dsn]\nper_sender_hour = 0\n'


class RandomTests(CrashCase):
    """See the module."""

    timeout = 120 + 10 * ROUNDS

    def setUp(self) -> None:
        super().setUp()
        self.more = REPEATED
        self.fresh()
        self.random = Random(SEED)
        self.number = 0
        self.sending = True

    def mail(self) -> Mail:
        """The next one: like no other, its recipients too."""
        random, self.number = self.random, self.number + 1
        size = 200_000 if random.random() < 0.02 else random.choice((500, 4_000, 20_000))
        recipients = []
        for place in range(random.choice((1, 1, 1, 3, 10))):
            name = random.choices(("user", "bad", "later"), (90, 5, 5))[0]
            recipients.append(f"{name}{place}.{self.number}@{random.choice((TOGETHER, *APART))}")
        return Mail.made(str(self.number), size, recipients)

    async def client(self) -> None:
        """Send one after the other; where the server dies, come back."""
        while self.sending:
            try:
                client = await self.connect()
                while self.sending:
                    await self.transact(client, self.mail())
                client.transport.abortConnection()
                await client.gone
            except (ConnectError, ConnectionClosed):
                await deferLater(reactor, PAUSE)

    async def stop(self, clients: list[Deferred[None]]) -> None:
        """Whatever the test found: nobody sends any more, or waits for an answer."""
        self.sending = False
        self.kill()
        await gatherResults(clients)

    async def test_q44_killed_at_random(self) -> None:
        """After each kill the files are whole; at the end all that was promised has arrived, unchanged, and been reported once."""
        await self.start()
        clients = [Deferred.fromCoroutine(self.client()) for _ in range(CLIENTS)]
        self.addCleanup(self.stop, clients)
        left = 0
        for _ in range(ROUNDS):
            await deferLater(reactor, self.random.uniform(*LIFE))
            self.kill()
            left += len((await self.remains()).rows)
            await self.start()
        self.sending = False
        await gatherResults(clients)
        await self.emptied(PATIENCE + 2 * ROUNDS)
        second = self.balance()
        reported = self.reports()
        what = f"{ROUNDS} kills: {len(self.promised)} of {len(self.sent)} promised, {left} waited at the kills,"
        log.msg(f"{what} {second} second copies of {self.allowed.total()} allowed, {reported} reported")
        self.assertGreater(len(self.promised), 20 * ROUNDS)
        self.assertGreater(left, ROUNDS)

    def reports(self) -> int:
        """Who was refused is named in one report: all that were promised, and whoever else is in the queue's books."""
        different = {sent.body.partition(b"Message-ID: ")[2].partition(b"\r\n")[0]: sent.body for sent in self.sink.reports()}
        told = Counter(to for body in different.values() for to in failed(body))
        self.assertEqual({}, {to: count for to, count in told.items() if count > 1})
        self.assertEqual(set(), {to for _, to in self.promised if to.startswith("bad")} - told.keys())
        self.assertEqual(set(), told.keys() - {to for _, to in self.sent if to.startswith("bad")})
        return len(told)
