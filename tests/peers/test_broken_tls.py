"""A real server whose TLS is broken: Debian's OpenSMTPD offers STARTTLS, says 220 and fails every handshake.

What C41 and C42 test against a scripted peer with a clock, here in real time with a fallback delay of three seconds.
"""

from __future__ import annotations

from mta.testing.logs import Entry
from tests.peers.case import PeerTestCase, send
from tests.peers.more_servers import start_opensmtpd
from tests.peers.peers import Server, arrived, message, require, wait_for
from tests.peers.server import MtaProcess, relay_to

DELAY = 3.0
SETTINGS = f"""\
[tls_client]
fallback_delay = "{DELAY:.0f}s"

[retry]
minimal_backoff = "1s"
maximal_backoff = "1s"

"""


class BrokenTlsTests(PeerTestCase):
    """C44: OpenSMTPD 6.8.0p2."""

    def setUp(self) -> None:
        super().setUp()
        require("opensmtpd")
        self.hop = self.kept(start_opensmtpd(self.sub("hop"), self.certificate()))

    def relay(self, *routes: str) -> MtaProcess:
        return self.mta(SETTINGS + "\n".join(routes))

    def check_arrived(self, hop: Server, *numbers: int) -> None:
        wait_for(lambda: len(hop.stored()) == len(numbers), f"messages {numbers}")
        self.assertEqual({message(number) for number in numbers}, {arrived(path) for path in hop.stored()})

    def test_may(self) -> None:
        """C44: deferred with 4.7.5 while the fallback delay runs, then in clear text to the same address; the next at once."""
        mta = self.relay(relay_to(self.hop.port))
        send(mta.port, message(1))
        (first,) = mta.wait_for_event("deferred")
        self.assertEqual(("4.7.5", "none"), (first.fields["dsn"], first.fields["tls"]))
        self.assertIn("handshake", first.fields["reply"])
        self.assertLessEqual(float(first.fields["retry"]), DELAY * 1.2)
        send(mta.port, message(2))  # another message is no reason for clear text either
        mta.wait_for_event("deferred", 2)
        self.assertEqual([], self.hop.stored())
        delivered = mta.wait_for_event("delivered", 2)
        for entry in delivered:
            self.assertEqual(("none", "may"), (entry.fields["tls"], entry.fields["level"]))
        self.assertGreaterEqual(float(delivered[0].fields["delay"]), DELAY * 0.9)
        self.assertLess(float(delivered[0].fields["delay"]), 60)
        self.assertEqual(1, len({entry.fields["relay"] for entry in [first, *delivered]}), "the same address")
        self.assertEqual({"T6"}, {entry.fields["class"] for entry in mta.log("tls-fault")})
        faults, deferred = mta.count("tls-fault"), mta.count("deferred")
        self.assertGreaterEqual(faults, 3)  # once at the start, once more for the second message, and once before clear text
        send(mta.port, message(3))  # C42
        mta.wait_for_event("delivered", 3)
        self.assertEqual(deferred, mta.count("deferred"), "the third does not wait")
        self.assertEqual(faults, mta.count("tls-fault"), "TLS is probed again after fifteen minutes")
        self.check_arrived(self.hop, 1, 2, 3)
        mta.stop()

    def test_encrypt(self) -> None:
        """C44: at level encrypt never in clear text, not even when other mail has learned that TLS is broken there."""
        mta = self.relay(relay_to(self.hop.port, match="secret@sink.test", tls="encrypt"), relay_to(self.hop.port))
        send(mta.port, message(1), "secret@sink.test")
        mta.wait_for_event("deferred")
        send(mta.port, message(2), "user@sink.test")
        mta.wait_for_event("delivered")
        tries = len(self.deferred_at_encrypt(mta))
        self.assertGreaterEqual(tries, 1)
        wait_for(lambda: len(self.deferred_at_encrypt(mta)) > tries, "another try, now that clear text is known to work")
        self.assertEqual(1, mta.count("delivered"))
        self.check_arrived(self.hop, 2)
        mta.stop()

    def deferred_at_encrypt(self, mta: MtaProcess) -> list[Entry]:
        return [entry for entry in mta.log("deferred") if entry.fields["level"] == "encrypt"]
