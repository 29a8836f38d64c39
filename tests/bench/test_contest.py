"""Deliveries read from logs as they grow, in each server's own words, and what must come when some of it fails."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench.contest import Contestant, Tail, seconds, throughput
from bench.hop import address
from bench.methods import expected, recipient
from bench.scenario import SCENARIOS
from bench.servers import exim, opensmtpd, ours, postfix

LINES = {
    ours.DELIVERED: (
        b"0S: event=delivered time=2026-11-22T13:46:39.092Z to=user18@d0.far.test from=from@far.test relay=mx[127.1.0.1]:25 "
        b'delay=0.054 delays=0.03/0.03 status=delivered reply="250 2.0.0 Ok"\n',
        b"0S: event=delivered time=2026-11-22T13:46:39.092Z to=from@far.test from=<> relay=mx[127.1.0.1]:25 delay=0.054 x=y\n",
        0.054,
    ),
    postfix.SENT: (
        b"Nov 22 13:35:56 peer postfix/smtp[190]: 45DF: to=<user17@d0.far.test>, relay=mx.d0.far.test[127.1.0.1]:25, conn_use=2, "
        b"delay=0.1, delays=0.043/0.053/0.001/0.006, dsn=2.0.0, status=sent (250 2.0.0 Ok)\n",
        b"Nov 22 13:35:56 peer postfix/smtp[190]: 45DF: to=<user17@d0.far.test>, relay=mx.d0.far.test[127.1.0.1]:25, "
        b"delay=0.1, delays=0.043/0.053/0.001/0.006, dsn=4.3.2, status=deferred (host said: 451 later)\n",
        0.1,
    ),
    exim.DELIVERED: (
        b"2026-11-22 13:35:57.263 1xV7jY-00000h-3A => user18@d0.far.test R=next_hop T=smtp H=mx.d0.far.test [127.1.0.1] "
        b'C="250 2.0.0 Ok" QT=1m0.244s DT=0.012s\n',
        b"2026-11-22 13:35:57.263 1xV7jY-00000h-3A => from@far.test R=next_hop T=smtp H=mx [127.1.0.1] QT=0.244s DT=0.012s\n",
        60.244,
    ),
    opensmtpd.DELIVERED: (
        b"c34e mta delivery evpid=eea4 from=<from@far.test> to=<user0@d0.far.test> rcpt=<-> source=\"127.0.0.1\" "
        b'relay="127.1.0.1 (127.1.0.1)" delay=1s result="Ok" stat="250 2.0.0 Ok"\n',
        b"c34e mta delivery evpid=eea4 from=<from@far.test> to=<user0@d0.far.test> rcpt=<-> source=\"-\" "
        b'relay="d0.far.test" delay=0s result="TempFail" stat="No MX found for domain"\n',
        1.0,
    ),
}  # fmt: skip


class TailTests(SynchronousTestCase):
    """A log that is written while it is read."""

    def test_each_server_in_its_own_words(self) -> None:
        """A delivery counts with its delay; a bounce to the sender, or an attempt in vain, does not."""
        for pattern, (good, bad, delay) in LINES.items():
            log = Path(self.mktemp())
            log.write_bytes(good)
            tail = Tail(Contestant("server", 25, 1, log, pattern))
            self.assertEqual(tail.delays(), [], "what was there before is not looked at")
            with open(log, "ab") as file:
                file.write(bad + good + good[:40])
                file.flush()
                self.assertEqual(tail.delays(), [delay])
                file.write(good[40:])
                file.flush()
                self.assertEqual(tail.delays(), [delay], "half a line waits for its other half")
            self.assertEqual(tail.delays(), [])

    def test_durations(self) -> None:
        """As Exim and OpenSMTPD write them, and a bare number of seconds."""
        for text, value in ((b"0.25", 0.25), (b"0.25s", 0.25), (b"1m3.2s", 63.2), (b"2h1s", 7201.0)):
            self.assertAlmostEqual(seconds(text), value)

    def test_throughput(self) -> None:
        """Messages and megabytes for each second of the clock, CPU for each thousand messages."""
        self.assertEqual(throughput(500, 4000, 2.0, 0.25), {"rate": 250.0, "megabytes": 1.0, "cpu": 0.5})


class ExpectedTests(SynchronousTestCase):
    """How many deliveries end a round."""

    def test_without_faults_it_is_all(self) -> None:
        """Of every scenario that relays."""
        for scenario in SCENARIOS:
            if scenario.family != "faults":
                self.assertEqual(expected(scenario), scenario.messages)

    def test_of_a_hundred_ten_are_refused_and_one_hangs(self) -> None:
        """Each that fails does so for one reason only, at every size."""
        (faults,) = (scenario for scenario in SCENARIOS if scenario.family == "faults")
        for hundreds in (1, 7):
            self.assertEqual(expected(attrs.evolve(faults, messages=hundreds * 100)), hundreds * 89)

    def test_destinations_have_addresses_of_their_own(self) -> None:
        """Ten thousand of them, and the placeholders that the generator fills in."""
        self.assertEqual(len({address(number) for number in range(10_000)}), 10_000)
        (many,) = (scenario for scenario in SCENARIOS if scenario.name == "destinations-10000")
        self.assertEqual(recipient(many).format(n=3, d=7), "user3@d7.far.test")
