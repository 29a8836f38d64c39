"""The sink that counts: any client may speak to it, in pieces of any size, and its faults are the same in every run."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mta.testing.sink import Faults, Sink

MESSAGE = b"X-Sent: 100.500000\r\nSubject: x\r\n\r\n..one dot\r\n.\r\n"
MAIL = b"EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<user1@b.test>\r\nRCPT TO:<user2@b.test>\r\nDATA\r\n"


class Talk:
    """One conversation with a sink whose clock stands at 102."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.sink = Sink(faults=faults, clock=lambda: 102.0)
        self.peer = self.sink.buildProtocol(None)
        self.transport = StringTransport()
        self.transport.setTcpNoDelay = lambda on: None  # type: ignore[attr-defined]
        self.peer.makeConnection(self.transport)

    def say(self, data: bytes) -> list[str]:
        """What it answers: the code of every reply."""
        self.transport.clear()
        self.peer.dataReceived(data)
        return [line[:3] for line in self.transport.value().decode().splitlines() if line[3:4] == " "]


class SinkTests(SynchronousTestCase):
    """In memory."""

    def test_a_message(self) -> None:
        """Counted with its recipients, its octets as they came and its delay; the next one on the same connection too."""
        talk = Talk()
        self.assertEqual(talk.transport.value()[:4], b"220 ")
        self.assertEqual(talk.say(MAIL + MESSAGE), ["250", "250", "250", "250", "354", "250"])
        self.assertEqual(talk.say(b"RSET\r\n" + MAIL[13:]), ["250", "250", "250", "250", "354"])
        self.assertEqual(talk.say(b".\r\nNOOP\r\n"), ["250", "250"])
        counts = talk.sink.counts()
        self.assertEqual([counts[name] for name in ("connections", "messages", "recipients")], [1, 2, 4])
        self.assertEqual(counts["octets"], len(MESSAGE) - 3)
        self.assertEqual(counts["delays"]["max"], 1.5)
        self.assertEqual(len(talk.sink.delays), 1)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.integers(1, 60), max_size=30))
    def test_in_any_pieces(self, sizes: list[int]) -> None:
        """The same replies and counts, wherever the network cuts."""
        whole, cut = Talk(), Talk()
        data = MAIL + MESSAGE + b"MAIL FROM:<>\r\nRCPT TO:<x@b.test>\r\nDATA\r\n.\r\nQUIT\r\n"
        replies = []
        rest = data
        for size in sizes:
            replies += cut.say(rest[:size])
            rest = rest[size:]
        replies += cut.say(rest)
        self.assertEqual(replies, whole.say(data))
        self.assertEqual(cut.sink.counts(), whole.sink.counts())
        self.assertTrue(cut.transport.disconnecting)

    def test_stats_and_a_new_beginning(self) -> None:
        """XSTATS is one line of JSON, XRESET forgets all of it."""
        talk = Talk()
        talk.say(MAIL + MESSAGE)
        self.assertEqual(talk.say(b"XSTATS\r\n"), ["250"])
        self.assertEqual(json.loads(talk.transport.value()[4:]), talk.sink.counts())
        self.assertEqual(talk.say(b"XRESET\r\n"), ["250"])
        self.assertEqual(talk.sink.counts()["messages"], 0)
        self.assertEqual(talk.sink.counts()["delays"], {})

    def test_faults_go_by_the_recipients_number(self) -> None:
        """Put off, refused, taken; without a number always taken; DATA for nobody is refused, and what takes() says is true."""
        faults = Faults(soft=5, hard=5)
        talk = Talk(faults)
        for number, code in ((0, "451"), (4, "451"), (105, "550"), (9, "550"), (10, "250"), (199, "250")):
            lines = b"MAIL FROM:<>\r\nRCPT TO:<user%d@d7.test>\r\nDATA\r\n" % number
            self.assertEqual(talk.say(lines), ["250", code, "354" if code == "250" else "554"])
            self.assertEqual(faults.takes(number), code == "250")
            if code == "250":
                talk.say(b".\r\n")
        self.assertEqual(talk.say(b"MAIL FROM:<>\r\nRCPT TO:<from@far.test>\r\n"), ["250", "250"])

    def test_who_hangs_never_says_a_word(self) -> None:
        """Neither a greeting nor an answer."""
        talk = Talk(Faults(hang=frozenset({StringTransport().getHost().host})))
        self.assertEqual(talk.transport.value(), b"")
        self.assertEqual(talk.say(b"EHLO c.test\r\nQUIT\r\n"), [])

    def test_nonsense(self) -> None:
        """A command that it does not know is 500, STARTTLS without a certificate too; a line without an end is cut off."""
        talk = Talk()
        self.assertEqual(talk.say(b"HELP\r\nSTARTTLS\r\nDATA\r\n"), ["500", "500", "554"])
        talk.say(b"x" * 5000)
        self.assertTrue(talk.transport.disconnecting or talk.transport.disconnected)
