"""Every kind of fault between two deliveries over a kept TLS connection to real servers: nothing waits that need not.

The servers stand behind a proxy that does the harm (lossy.py).  Before each fault a message has gone over the kept
connection, so that three faults in a row, which would end the keeping for a while, come only where they are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mta.testing.logs import Entry
from tests.peers.case import PeerTestCase, send
from tests.peers.lossy import Fault, Lossy, clear_text, end, end_behind, reset, swallow
from tests.peers.more_servers import start_sendmail
from tests.peers.peers import Server, message, require, start_exim, start_postfix, wait_for
from tests.peers.server import relay_to

SETTINGS = """\
[timeouts]
rset = "1s"
data_block = "1s"

[retry]
minimal_backoff = "1s"
maximal_backoff = "1s"

[handover]
idle_limit = "30s"

"""
LONG = 800_000  # lines: more than all the buffers on the way take, so that the dot has not left when the connection ends
# What strikes in place of which piece of the next delivery.
STALE: Mapping[str, tuple[Fault, int]] = MappingProxyType(
    {
        "H21 end at RSET": (end, 0),
        "H21 RST at RSET": (reset, 0),
        "H21 silence at RSET": (swallow, 0),
        "H21 clear text in TLS": (clear_text, 0),
        "H22 end in the body": (end, 1),
        "H22 RST in the body": (reset, 1),
    }
)


class FaultTests(PeerTestCase):
    """H20 to H24."""

    def begin(self, hop: Server) -> None:
        """The server, the proxy in front of it, ours in front of that."""
        self.hop = self.kept(hop)
        self.lossy = Lossy(hop.port)
        self.addCleanup(self.lossy.stop)
        self.ours = self.mta(SETTINGS + relay_to(self.lossy.port, tls="encrypt"))
        self.sent = 0

    def deliver(self, lines: int = 20) -> Entry:
        """One message more; the line of its delivery."""
        self.sent += 1
        send(self.ours.port, message(self.sent, lines=lines))
        return self.ours.wait_for_event("delivered", self.sent)[-1]

    def keep(self) -> None:
        """A connection is kept, and has served."""
        while self.deliver().fields["tls"] != "kept":
            self.assertLess(self.sent, 100)

    def check_at_once(self, what: str, lines: int = 20) -> None:
        """The next message goes over a fresh connection, in the same attempt."""
        delivered = self.deliver(lines)
        self.assertFalse(self.lossy.is_armed, what)
        self.assertEqual(("new", "1", "keep"), tuple(delivered.fields[key] for key in ("tls", "conn_use", "handover")), what)
        self.assertEqual([], self.ours.log("deferred", "bounced", "blocked", "tls-fault"), what)

    def check_faults(self, hop: Server) -> None:
        """All of them, one after the other."""
        self.begin(hop)
        for fault in (end, reset):
            self.keep()
            self.lossy.strike(fault)  # H20
            self.check_at_once(f"H20 {fault.__name__} while idle")
        for what, (fault, piece) in STALE.items():
            self.keep()
            self.lossy.arm(fault, piece)
            self.check_at_once(what, LONG if "body" in what else 20)
        self.check_suspension()
        self.ours.stop()
        wait_for(lambda: len(self.hop.stored()) >= self.sent, "all mail")
        self.assertEqual(self.sent, len(self.hop.stored()), "nothing came twice")

    def check_suspension(self) -> None:
        """H24: three in a row, and connections of this host are not kept for a while; no mail waits."""
        self.keep()
        for left in (2, 1, 0):
            self.lossy.arm(end)
            delivered = self.deliver()
            self.assertEqual(("new", "keep" if left else "quit"), (delivered.fields["tls"], delivered.fields["handover"]))
        self.assertEqual(["new", "new"], [self.deliver().fields["tls"] for _ in range(2)])
        self.assertEqual([], self.ours.log("deferred", "bounced", "blocked", "tls-fault"))

    def test_postfix(self) -> None:
        """H20, H21, H22, H24 with Postfix."""
        require("postfix")
        self.check_faults(start_postfix(self.sub("hop"), tls=self.certificate()))

    def test_exim(self) -> None:
        """H20, H21, H22, H24 with Exim."""
        require("exim")
        self.check_faults(start_exim(self.sub("hop"), tls=self.certificate()))

    def test_sendmail(self) -> None:
        """H20, H21, H22, H24 with Sendmail."""
        require("sendmail")
        self.check_faults(start_sendmail(self.sub("hop"), self.certificate()))

    def test_answer_lost(self) -> None:
        """H23: the answer to the final dot is lost: deferred, not repeated at once, delivered later, perhaps twice."""
        require("postfix")
        self.begin(start_postfix(self.sub("hop"), tls=self.certificate()))
        self.keep()
        self.lossy.arm(end_behind, 1)
        send(self.ours.port, message(self.sent + 1))
        (deferred,) = self.ours.wait_for_event("deferred")
        self.assertEqual("kept", deferred.fields["tls"])
        self.ours.wait_for_event("delivered", self.sent + 1)
        self.ours.stop()
        self.assertEqual(1, self.ours.count("deferred"))
        wait_for(lambda: len(self.hop.stored()) >= self.sent + 1, "all mail")
        self.assertLessEqual(len(self.hop.stored()), self.sent + 2)
