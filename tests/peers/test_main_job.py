"""The main job: numbered mail through our server to a next hop that stores it; every message arrives, unchanged, once.

MTA_MAIN_JOB=10000 in the environment makes it the full run; the suite's own is smaller.  The next hop is Postfix with
STARTTLS and a Maildir.  Under kill -9 a message may arrive twice when it was in flight, never not at all.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
import time
from collections import Counter

from tests.peers.case import PeerTestCase
from tests.peers.flood import Flood
from tests.peers.peers import Server, require, smtp_sink, smtp_source, start_postfix, wait_for
from tests.peers.server import relay_to

MESSAGES = int(os.environ.get("MTA_MAIN_JOB", "1000"))
SESSIONS = 20
KILLS = 10
SOFT = '[retry]\nminimal_backoff = "1s"\nmaximal_backoff = "3s"\n\n'


class MainJobTests(PeerTestCase):
    """Real clients, real next hop, real disk."""

    def setUp(self) -> None:
        super().setUp()
        require("smtp-source", "postfix", "smtp-sink")

    def arrivals(self, hop: Server) -> Counter[int]:
        """How often the recipient of each number has got its mail; checks every body on the way."""
        seen: Counter[int] = Counter()
        digests = set()
        for path in hop.stored():
            head, _, body = path.read_bytes().partition(b"\n\n")
            match = re.search(rb"^X-Original-To: (\d+)user@sink\.test$", head, re.MULTILINE)
            assert match is not None, head
            seen[int(match[1])] += 1
            digests.add(hashlib.sha256(body.rstrip(b"\n")).hexdigest())
        self.assertEqual(1, len(digests), "smtp-source sends one and the same body")
        return seen

    def postfix(self) -> Server:
        return self.kept(
            start_postfix(self.sub("hop"), tls=self.certificate(), extra={"smtpd_client_connection_rate_limit": "0"})
        )

    def test_every_message_once_over_few_handshakes(self) -> None:
        """All arrive exactly once, bodies identical, over TLS with far fewer handshakes than messages."""
        hop = self.postfix()
        mta = self.mta(relay_to(hop.port, tls="encrypt"))
        smtp_source(mta.port, "-N", "-s", str(SESSIONS), "-m", str(MESSAGES), "-l", "4096", timeout=900)
        delivered = mta.wait_for_event("delivered", MESSAGES, timeout=900)
        wait_for(lambda: len(hop.stored()) >= MESSAGES, "the next hop to store them", 300)
        self.assertEqual(Counter(range(1, MESSAGES + 1)), self.arrivals(hop))
        tls = Counter(entry.fields["tls"] for entry in delivered)
        self.assertEqual({"new", "kept"}, set(tls))
        print(f"\n{MESSAGES} messages over TLS, {tls['new']} handshakes")
        self.assertLess(tls["new"], MESSAGES / 10)
        mta.stop()

    def test_kill_nine_ten_times(self) -> None:
        """kill -9 during the run, restarted each time: what was answered with 250 arrives; duplicates are few."""
        hop = self.postfix()
        mta = self.mta(SOFT + relay_to(hop.port, tls="encrypt"))
        total, chance = MESSAGES * 2, random.Random(45)
        flood = Flood(mta.port, total, SESSIONS)
        flood.start()
        for kill in range(1, KILLS + 1):  # spread over the run by how far it has come, however fast the machine is
            numbers = flood.begun
            wait_for(lambda goal=total * kill // (KILLS + 2): flood.begun >= goal, "the flood to go on", 300)
            time.sleep(chance.uniform(0, 0.05))
            mta.kill9()
            self.assertGreater(flood.begun, numbers)
            mta.restart()
        flood.join(900)
        wait_for(lambda: set(flood.answered) <= set(self.arrivals(hop)), "every answered message", 300, every=0.5)
        mta.stop()
        seen = self.arrivals(hop)
        doubled = sum(seen.values()) - len(seen)
        print(f"\n{KILLS} kills: {len(flood.answered)} answered, {len(seen)} arrived, {doubled} duplicates", file=sys.stderr)
        self.assertLessEqual(doubled, KILLS * SESSIONS)  # what may be between its 250 and its settlement at a kill
        self.assertEqual(0, mta.count("bounced"))

    def test_next_hop_down_for_a_while(self) -> None:
        """Nobody listens, then somebody does: all mail arrives, nothing is bounced."""
        hop = self.kept(smtp_sink(self.sub("hop"), store=True))
        hop.stop()
        mta = self.mta(SOFT + relay_to(hop.port))
        smtp_source(mta.port, "-N", "-s", "5", "-m", "100")
        mta.wait_for_event("deferred", 1)
        hop.start()
        mta.wait_for_event("delivered", 100)
        self.assertEqual(0, mta.count("bounced"))
        text = b"".join(path.read_bytes() for path in hop.stored())
        self.assertEqual([1] * 100, [text.count(b"X-Rcpt-Args: <%duser@" % n) for n in range(1, 101)])
        mta.stop()
