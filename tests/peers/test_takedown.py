"""TLS taken down after a delivery and started again for the next one, as Exim did in 2002 (verdict CLEAR): who plays along?

Exim goes on in clear text, though it never answers our close_notify; Postfix and Sendmail close.  Neither may cost a
delivery, a delay or a retry record.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from mta.testing.logs import Entry
from tests.peers.case import PeerTestCase, send
from tests.peers.more_servers import start_sendmail
from tests.peers.peers import Server, arrived, message, require, start_exim, start_postfix, wait_for
from tests.peers.server import MtaProcess, relay_to
from tests.peers.wire import exim_wire, postfix_wire, sendmail_wire

CLEAR = '[handover]\nhosts_clear_tls = ["*"]\nidle_limit = "30s"\n\n'
PRESET = '[handover]\npreset = "exim2002-rset"\n\n'
CAP = 2.0  # shutdown_wait, seconds


class TakedownTests(PeerTestCase):
    """H10, H11."""

    def check_delivered(self, mta: MtaProcess, hop: Server, count: int) -> list[Entry]:
        """All went at the first attempt, in TLS; nothing is held against the host."""
        mta.stop()
        wait_for(lambda: len(hop.stored()) == count, "all mail")
        self.assertEqual({message(number) for number in range(count)}, {arrived(path) for path in hop.stored()})
        self.assertEqual([], mta.log("deferred", "bounced", "blocked", "tls-fault"))
        delivered = mta.log("delivered")
        self.assertEqual({"TLSv1.3"}, {entry.fields["tls_version"] for entry in delivered})
        return delivered

    def test_exim(self) -> None:
        """H11, A02, A03: three messages to Exim on one TCP connection, each in a TLS session of its own, two seconds after."""
        require("exim")
        hop = self.kept(start_exim(self.sub("hop"), tls=self.certificate()))
        mta = self.mta(CLEAR + relay_to(hop.port))
        waits = []
        for number in range(3):
            send(mta.port, message(number))
            mta.wait_for_event("delivered", number + 1)
            began = time.monotonic()
            wait_for(lambda n=number: self.hellos(hop) == 2 * n + 3, "EHLO in clear text")
            waits.append(time.monotonic() - began)
            time.sleep(0.3)  # RSET follows, which Exim does not note
        delivered = self.check_delivered(mta, hop, 3)
        self.assertEqual(["new", "restarted", "restarted"], [entry.fields["tls"] for entry in delivered])
        self.assertEqual(["1", "2", "3"], [entry.fields["conn_use"] for entry in delivered])
        self.assertEqual({("clear", "hosts_clear_tls")}, {self.handover(entry) for entry in delivered})
        (seen,) = exim_wire(hop)
        print(f"\none connection, {dict(seen)}, Exim was waited for {[round(wait, 2) for wait in waits]} s")
        self.assertEqual((3, 7, 3), (seen["starttls"], seen["ehlo"], seen["mail"]))
        self.assertGreater(min(waits), CAP * 0.75)
        self.assertLess(max(waits), CAP + 3)

    def hellos(self, hop: Server) -> int:
        return sum(seen["ehlo"] for seen in exim_wire(hop))

    def handover(self, entry: Entry) -> tuple[str, str]:
        return entry.fields["handover"], entry.fields["handover_why"]

    def closes(self, hop: Server, wire: Callable[[Server], list[Counter[str]]], settings: str) -> None:
        """Three messages to a peer that closes at close_notify, each when the one before has been delivered."""
        mta = self.mta(settings + relay_to(hop.port))
        for number in range(3):
            send(mta.port, message(number))
            mta.wait_for_event("delivered", number + 1)
            if number == 0:  # the peer's close is seen before the second delivery, so that it is learned by then
                wait_for(lambda: len(wire(hop)) == 1, "the end of the first connection")
                time.sleep(0.2)
        delivered = self.check_delivered(mta, hop, 3)
        self.assertEqual(["new"] * 3, [entry.fields["tls"] for entry in delivered])
        first, *others = [self.handover(entry) for entry in delivered]
        self.assertEqual(("clear", "hosts_clear_tls"), first)
        self.assertEqual({"quit"}, {verdict for verdict, _ in others})
        self.assertEqual({"no-clear-closed"}, {why for _, why in others})
        wait_for(lambda: len(wire(hop)) == 3, "the ends of the connections")
        for seen in wire(hop):  # A01: no second STARTTLS, ever
            self.assertEqual((1, 1, 2), (seen["starttls"], seen["mail"], seen["ehlo"]))
        self.assertEqual([0, 1, 1], sorted(seen["quit"] for seen in wire(hop)))

    def test_postfix(self) -> None:
        """H10, A01, A14, A18, A20: Postfix closes; the next message goes at once, and the host has QUIT from then on."""
        require("postfix")
        self.closes(self.kept(start_postfix(self.sub("hop"), tls=self.certificate())), postfix_wire, CLEAR)

    def test_sendmail(self) -> None:
        """H10, H05: the same with Sendmail, by the preset "exim2002-rset"."""
        require("sendmail")
        self.closes(self.kept(start_sendmail(self.sub("hop"), self.certificate())), sendmail_wire, PRESET)

    def test_at_once(self) -> None:
        """H10, A14: mail that comes in a crowd to Postfix: whatever closes when, nothing waits."""
        require("postfix")
        hop = self.kept(start_postfix(self.sub("hop"), tls=self.certificate()))
        mta = self.mta(CLEAR + relay_to(hop.port))
        for number in range(20):
            send(mta.port, message(number))
        mta.wait_for_event("delivered", 20)
        self.check_delivered(mta, hop, 20)
