"""Exim sends to us, with each of its ways to give an open TLS connection to the next delivery process.

Three messages wait, a two-stage queue run (`exim -qq`) knows that they have the same next hop.  Exim proxies TLS for the
process that takes over; or, told not to (`hosts_noproxy_tls`), closes TLS and says EHLO in clear text to see whether we go on,
as in 2002; or gives nothing on (`hosts_nopass_tls`).  Behind "." and QUIT of the last message it ends its side of the
connection, with FIN or close_notify, and waits for the 250.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.peers.case import LOCAL, PeerTestCase, send
from tests.peers.peers import Server, arrived, message, require, start_exim, wait_for
from tests.peers.server import MtaProcess

EXIM = "/usr/sbin/exim4"
MESSAGES = 3
NUMBERS = range(MESSAGES)


class EximClientTests(PeerTestCase):
    """S25, and the half of S27 that a server which never goes on in clear text can have."""

    def setUp(self) -> None:
        super().setUp()
        require("exim")

    def begin(self, more: str = "", transport: str = "", *, tls: bool = True) -> tuple[MtaProcess, Server]:
        """Our server, and an Exim that sends it everything.  more: for its main section, transport: options of it."""
        certificate = self.certificate() if tls else None
        mta = self.mta(LOCAL, tls=certificate)
        return mta, self.kept(start_exim(self.sub("exim"), tls=certificate, relay_to=mta.port, more=more, transport=transport))

    def check_delivered(self, mta: MtaProcess, exim: Server) -> list[dict[str, str]]:
        """Each message once, at the first attempt, with nothing held against us; gives our lines of the connections."""
        wait_for(lambda: len(self.stored(mta)) >= MESSAGES, "all mail")
        wait_for(lambda: self.log(exim).count(" Completed\n") >= MESSAGES or " == " in self.log(exim), "Exim to be content")
        self.assertEqual(sorted(map(message, NUMBERS)), sorted(map(arrived, self.stored(mta))))
        self.assertNotIn(" == ", self.log(exim))
        self.assertEqual(MESSAGES, self.log(exim).count(" K C="), "Exim's sign of BDAT (RFC 3030)")
        self.assertEqual("", exim.run(EXIM, "-bp"))
        retry = exim.directory / "spool/db/retry"
        self.assertNotIn(b"127.0.0.1", retry.read_bytes() if retry.exists() else b"")
        mta.stop()
        self.assertEqual([None] * MESSAGES, [entry.fields.get("client_gone") for entry in mta.log("accepted")])
        return [entry.fields for entry in mta.log("disconnect")]

    def log(self, exim: Server) -> str:
        return (exim.directory / "log/mainlog").read_text(errors="replace")

    def queue_run(self, transport: str) -> list[dict[str, str]]:
        """Three messages of one queue run, in TLS."""
        mta, exim = self.begin("queue_only", f"  hosts_require_tls = *\n  {transport}\n")
        for number in NUMBERS:
            send(exim.port, message(number), "user@local.test")
        exim.run(EXIM, "-qq")
        connections = self.check_delivered(mta, exim)
        self.assertEqual({"TLSv1.3"}, {entry.fields["tls_version"] for entry in mta.log("accepted")})
        print(
            f"\n{self.id().split('.')[-1]}:", [[seen[word] for word in ("starttls", "messages", "why")] for seen in connections]
        )
        return connections

    def check_one_each(self, connections: Sequence[dict[str, str]]) -> None:
        self.assertEqual([("1", "1")] * MESSAGES, [(seen["starttls"], seen["messages"]) for seen in connections])

    def test_large(self) -> None:
        """RFC 3030 2: megabytes come in many chunks of BDAT, pipelined, and arrive whole."""
        mta, exim = self.begin(tls=False)
        large = message(1, lines=60_000)
        send(exim.port, large, "user@local.test")
        wait_for(lambda: self.stored(mta), "the message")
        self.assertEqual([large], [arrived(path) for path in self.stored(mta)])
        wait_for(lambda: " K C=" in self.log(exim), "Exim to be content")

    def test_proxied(self) -> None:
        """Exim keeps TLS up for the next process (its default since 4.93): one connection, one handshake, three messages."""
        (seen,) = self.queue_run("")
        self.assertEqual(("1", "3", "quit"), (seen["starttls"], seen["messages"], seen["why"]))

    def test_noproxy(self) -> None:
        """S25, S27, A02, A03: Exim closes TLS to go on in clear text; we close too; it takes a new connection, nothing waits."""
        connections = self.queue_run("hosts_noproxy_tls = *")
        self.check_one_each(connections)
        self.assertIn("TLS closed by client", {seen["why"] for seen in connections})

    def test_nopass(self) -> None:
        """A15, A16: Exim gives nothing on: a connection for each message, each ended by QUIT."""
        connections = self.queue_run("hosts_nopass_tls = *")
        self.check_one_each(connections)
        self.assertEqual({"quit"}, {seen["why"] for seen in connections})

    def check_at_once(self, *, tls: bool) -> None:
        """Each message delivered as it comes: the first attempt of Exim, with QUIT and the end of its side behind the mail."""
        mta, exim = self.begin(tls=tls)
        for number in NUMBERS:
            send(exim.port, message(number), "user@local.test")
        connections = self.check_delivered(mta, exim)
        self.assertEqual([("1", "quit")] * MESSAGES, [(seen["messages"], seen["why"]) for seen in connections])

    def test_at_once_in_clear(self) -> None:
        """Without TLS FIN follows QUIT before the 250: it is said all the same, no message comes twice."""
        self.check_at_once(tls=False)

    def test_at_once_in_tls(self) -> None:
        """S46: Exim as it comes out of the box: every message in TLS, the cipher stands in Received."""
        self.check_at_once(tls=True)
        for path in (self.folder / "mta/mail/new").iterdir():
            head = path.read_bytes().partition(b"\n\n")[0]
            self.assertRegex(head, rb"Received: from peer\.test [^;]+\(TLSv1\.3 with cipher TLS_\w+ [^;]+with ESMTPS id ")
