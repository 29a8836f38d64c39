"""Mail handed in on a submission port: logins, headers that are completed, senders that are one's own.  RFC 6409."""

from __future__ import annotations

from base64 import b64encode
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mta.config.settings import Auth, Limits
from mta.envelope import NewMessage
from mta.interfaces import IAccount
from mta.receive.session import Session
from tests.receive.door import BODY, TRUSTED, DoorCase

LOGIN = b"AUTH PLAIN " + b64encode(b"\0user\0secret") + b"\r\n"
OWN = "user@example.org"
WHOLE = b"From: <user@example.org>\r\nDate: Wed, 18 Nov 2026 11:06:40 +0000\r\nMessage-ID: <1@client.example>\r\n\r\nbody\r\n"


@implementer(IAccount)
class Broken:
    """An embedder's account with a mistake in it."""

    name = "user"

    def may_send(self, sender: str) -> bool:
        """See IAccount."""
        raise RuntimeError("no database")


class SubmissionCase(DoorCase):
    """A submission port, in clear so that no handshake is needed."""

    bound = "any"
    listed = "user: list@example.org, @friend.example\n"

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.write_text("user:secret\n")
        self.map = Path(self.mktemp())
        self.map.write_text(self.listed)
        self.submission()

    def submission(self, check_from: bool = False, **changes: Any) -> None:
        """The port, and other settings."""
        listen = {"submission": True, "auth_clear": ("PLAIN",), "mail_requires": "auth", "check_from": check_from}
        bound = {"senders": "bound", "sender_map": self.map} if self.bound == "bound" else {}
        self.begin(listen=listen, auth=Auth(passwords=self.path, **bound), **changes)

    def logged_in(self, hello: bytes = b"EHLO client.example\r\n") -> Session:
        """A client that has proved to be user."""
        session, _ = self.connect()
        self.say(session, hello)
        self.assertEqual(self.codes(session, LOGIN), ["235"])
        return session

    def hand_in(self, body: bytes, sender: str = OWN, recipient: str = "a@elsewhere.example") -> list[str]:
        """A message of a client that has logged in; the answer to its end."""
        session = self.logged_in()
        commands = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        self.assertEqual(self.codes(session, commands.encode()), ["250", "250", "354"])
        return self.say(session, body + b".\r\n")

    def stored(self, body: bytes, sender: str = OWN) -> tuple[NewMessage, bytes]:
        """The message that becomes of it, and its bytes as they leave."""
        [answer] = self.hand_in(body, sender)
        self.assertEqual(answer[:9], "250 2.0.0")
        message = self.accept.accepted[-1]
        return message, message.prefix + (message.body.data or b"")


class HeaderTests(SubmissionCase):
    """What is added, and what is left out."""

    def test_whole(self) -> None:
        """A message with all it needs gets our Received line, ESMTPA, and nothing else."""
        message, _ = self.stored(WHOLE)
        self.assertEqual((message.source, message.account, message.body.data), ("submission", "user", WHOLE))
        self.assertEqual(message.prefix.count(b"\r\n"), message.prefix.count(b"\r\n\t") + 1)
        self.assertIn(b" with ESMTPA id Q1000", message.prefix)

    def test_missing(self) -> None:
        """RFC 6409 8.2, 8.3: Date of the receipt, Message-ID of ours, From of the reverse-path; below Received."""
        message, data = self.stored(BODY)
        self.assertTrue(
            message.prefix.endswith(
                b"\r\nDate: Wed, 18 Nov 2026 11:06:40 +0000\r\nFrom: <user@example.org>\r\nMessage-ID: <Q1000@mx.example.org>\r\n"
            )
        )
        self.assertEqual(message.body.data, BODY)
        header = message_from_bytes(data)
        self.assertEqual(header.keys(), ["Received", "Date", "From", "Message-ID", "Subject"])
        self.assertEqual(parsedate_to_datetime(header["Date"]).timestamp(), self.clock.seconds())

    def test_ids_differ(self) -> None:
        """Two messages never get the same Message-ID."""
        found = {message_from_bytes(self.stored(BODY)[1])["Message-ID"] for _ in range(3)}
        self.assertEqual(len(found), 3)

    def test_bcc(self) -> None:
        """A blind copy stays blind: the field goes with its folds, the rest is stored to the byte."""
        [answer] = self.hand_in(
            b"Bcc: x@secret.example,\r\n y@secret.example\r\n" + WHOLE.replace(b"\r\n\r\n", b"\r\nReturn-Path: <z>\r\n\r\n")
        )
        self.assertEqual(answer[:3], "250")
        self.assertEqual(self.accept.accepted[0].body.data, WHOLE)
        self.assertEqual(self.accept.accepted[0].body.size, len(WHOLE))

    def test_no_header(self) -> None:
        """A message of nothing but a body has a header and its whole body in the end; so has one that begins with its empty line."""
        for body, kept in (
            (b"Hello,\r\nyou\r\n", b"Hello,\r\nyou\r\n"),
            (b"\r\nHello\r\n", b"Hello\r\n"),
            (b" indented\r\n", b" indented\r\n"),
        ):
            _, data = self.stored(body)
            header = message_from_bytes(data)
            self.assertEqual(header.keys(), ["Received", "Date", "From", "Message-ID"])
            self.assertTrue(data.endswith(b"\r\n\r\n" + kept))

    def test_pieces(self) -> None:
        """Byte by byte it is the same message."""
        session = self.logged_in()
        self.envelope(session)
        for at in range(len(BODY)):
            session.dataReceived(BODY[at : at + 1])
        self.assertEqual(self.codes(session, b".\r\n"), ["250"])
        self.assertEqual(self.accept.accepted[0].body.data, BODY)

    def test_chunks(self) -> None:
        """By BDAT too, cut amid the Bcc line; the machine has closed the last line."""
        session = self.logged_in()
        self.say(session, b"MAIL FROM:<user@example.org>\r\nRCPT TO:<a@elsewhere.example>\r\n")
        said = self.codes(session, b"BDAT 14\r\nTo: a\r\nBcc: b,BDAT 13 LAST\r\n\r\n c\r\nDate: x")
        self.assertEqual(said, ["250", "250"])
        self.assertEqual(self.accept.accepted[0].body.data, b"To: a\r\nDate: x\r\n")
        self.assertNotIn(b"Date:", self.accept.accepted[0].prefix)

    def test_chunk_without_from(self) -> None:
        """What a chunk has not said yet the next one may: the author is looked for when the message is whole."""
        for last, code in ((b"From: x\r\n", "250"), (b"Fron: x\r\n", "550")):
            session = self.logged_in()
            self.say(session, b"MAIL FROM:<>\r\nRCPT TO:<a@elsewhere.example>\r\n")
            self.assertEqual(self.codes(session, b"BDAT 7\r\nTo: a\r\nBDAT 9 LAST\r\n" + last), ["250", code])

    def test_nobody_to_name(self) -> None:
        """Without From and with the null reverse-path there is no author; a notification that has one is taken."""
        self.assertEqual(self.hand_in(BODY, sender=""), ["550 5.6.0 Message has no From header field"])
        self.assertEqual(self.accept.accepted, [])
        self.assertTrue(self.accept.sinks[0].aborted)
        self.stored(WHOLE, sender="")

    def test_queue_that_waits(self) -> None:
        """What is kept back while the queue takes no more is in the message all the same."""
        session = self.logged_in()
        self.envelope(session)
        wait: Deferred[None] = Deferred()
        self.accept.sinks[0].wait = wait
        self.say(session, b"Subject: x\r\nBc")
        self.assertEqual(self.say(session, b"c: y\r\n z\r\n\r\nbody\r\n.\r\n"), [])
        wait.callback(None)
        self.assertEqual(self.accept.accepted[0].body.data, b"Subject: x\r\n\r\nbody\r\n")

    def test_endless_line(self) -> None:
        """A header line over 1,000 octets is refused."""
        [answer] = self.hand_in(b"Bcc: " + b"x" * 1200 + b"\r\n\r\n")
        self.assertEqual(answer, "550 5.6.0 Message has a line over 1000 octets")


class EnvelopeTests(SubmissionCase):
    """Who may hand in what."""

    def test_no_login(self) -> None:
        """RFC 6409 4.3: without a login there is no mail, from nobody: not of those who may relay, not to our own domains."""
        for address in (TRUSTED, "203.0.113.9"):
            session, _ = self.connect(address)
            self.say(session, b"EHLO client.example\r\n")
            self.assertEqual(self.codes(session, b"MAIL FROM:<user@example.org>\r\n"), ["530"])

    def test_qualified(self) -> None:
        """RFC 6409 4.2: a domain without a dot is 554, but for `<>`, `<postmaster>`, literals and domains of ours."""
        self.submission(local_domains=("example.org", "lan"))
        session = self.logged_in()
        self.assertEqual(
            self.say(session, b"MAIL FROM:<user@pc>\r\n"), ["554 5.1.8 Sender address rejected: need fully-qualified domain"]
        )
        self.assertEqual(self.codes(session, b"MAIL FROM:<user@LAN>\r\n"), ["250"])
        self.assertEqual(
            self.say(session, b"RCPT TO:<a@localhost>\r\n"), ["554 5.1.2 Recipient address rejected: need fully-qualified domain"]
        )
        for path in (b"a@[192.0.2.1]", b"postmaster", b"a@lan", b"a@x.example"):
            self.assertEqual(self.codes(session, b"RCPT TO:<%b>\r\n" % path), ["250"], path)
        self.assertEqual(self.codes(session, b"RSET\r\nMAIL FROM:<>\r\n"), ["250", "250"])
        self.assertEqual([line["stage"] for line in self.log.named("rejected")], ["mail", "rcpt"])

    def test_other_ports(self) -> None:
        """Nothing of this happens on a port that is none: the message is stored as it came."""
        self.begin()
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, b"Bcc: x\r\n\r\n.\r\n"), ["250"])
        message = self.accept.accepted[0]
        self.assertEqual((message.source, message.body.data), ("smtp", b"Bcc: x\r\n\r\n"))
        self.assertNotIn(b"Date:", message.prefix)


class ReleaseTests(SubmissionCase):
    """FUTURERELEASE (RFC 4865)."""

    def sent(self, parameters: str) -> list[str]:
        """A message with these parameters of MAIL; the codes."""
        session = self.logged_in()
        commands = f"MAIL FROM:<{OWN}> {parameters}\r\nRCPT TO:<a@elsewhere.example>\r\nDATA\r\n"
        codes = self.codes(session, commands.encode())
        return codes + (self.codes(session, BODY + b".\r\n") if codes[0] == "250" else [])

    def test_hold(self) -> None:
        """For a time, or until then: the queue is told the moment, in ms."""
        self.assertEqual(self.sent("HOLDFOR=90"), ["250", "250", "354", "250"])
        self.assertEqual(self.sent("HOLDUNTIL=2026-11-18T12:06:40Z"), ["250", "250", "354", "250"])
        now = int(self.clock.seconds() * 1000)
        self.assertEqual([message.release for message in self.accept.accepted], [now + 90_000, now + 3_600_000])
        self.assertEqual([message.created for message in self.accept.accepted], [now, now])

    def test_long_ago(self) -> None:
        """A moment that has passed, even before the year 1 of UTC, holds nothing back, and what is stored is answered 250."""
        self.assertEqual(self.sent("HOLDUNTIL=0001-01-01T00:00:00+23:59"), ["250", "250", "354", "250"])
        self.assertEqual([message.release for message in self.accept.accepted], [0])
        self.assertEqual(len(self.log.named("accepted")), 1)

    def test_not_at_all(self) -> None:
        """Without it, mail is due at once."""
        self.stored(WHOLE)
        self.assertEqual(self.accept.accepted[0].release, 0)

    def test_too_late(self) -> None:
        """What is over the 30 days that EHLO names is refused at MAIL."""
        session, _ = self.connect()
        self.assertIn("250-FUTURERELEASE 2592000 2026-12-18T11:06:40Z", self.say(session, b"EHLO client.example\r\n"))
        self.assertEqual(self.sent("HOLDFOR=2592000")[-1], "250")
        self.assertEqual(self.sent("HOLDFOR=2592001")[0], "501")

    def test_other_ports(self) -> None:
        """Strangers hold nothing back: the parameter is unknown."""
        self.begin()
        session, _ = self.hello()
        self.assertEqual(self.codes(session, b"MAIL FROM:<a@b.example> HOLDFOR=90\r\n"), ["555"])


class OwnerTests(SubmissionCase):
    """`[auth] senders = "bound"`."""

    bound = "bound"

    def test_sender(self) -> None:
        """MAIL: one's own address, what the map gives, the null reverse-path; all else is 553 5.7.1, and nothing is echoed."""
        session = self.logged_in()
        for sender, code in (
            (OWN, "250"),
            ("USER@Example.ORG", "250"),
            ("list@example.org", "250"),
            ("anybody@friend.example", "250"),
            ("", "250"),
            ("other@example.org", "553"),
            ("user@elsewhere.example", "553"),
            ("list@sub.friend.example", "553"),
            ('"user@example.org "@elsewhere.example', "553"),
        ):
            self.assertEqual(self.codes(session, f"MAIL FROM:<{sender}>\r\nRSET\r\n".encode()), [code, "250"], sender)
        self.assertEqual(
            self.say(session, b"MAIL FROM:<other@example.org>\r\n"), ["553 5.7.1 Sender address rejected: not owned by user"]
        )
        self.assertEqual({line["account"] for line in self.log.named("rejected")}, {"user"})

    def test_on_every_port(self) -> None:
        """A login is bound wherever it was made: also where the port is none for submission."""
        self.listen = attrs.evolve(self.listen, submission=False, mail_requires="none")
        session = self.logged_in()
        self.assertEqual(self.codes(session, b"MAIL FROM:<other@example.org>\r\n"), ["553"])
        stranger, _ = self.hello()
        self.assertEqual(self.codes(stranger, b"MAIL FROM:<other@elsewhere.example>\r\n"), ["250"])

    def test_from_is_free(self) -> None:
        """Without check_from the header is nobody's business (RFC 6409 6.1 leaves it to us)."""
        self.assertEqual(self.hand_in(b"From: <ceo@elsewhere.example>\r\n\r\n")[0][:3], "250")

    def test_check_from(self) -> None:
        """With it every author must be one's own, and readable in one way only."""
        self.submission(check_from=True)
        for field, code in (
            (b"From: U. Ser <user@example.org>\r\n", "250"),
            (b"From: list@example.org, U <user@example.org>\r\n", "250"),
            (b"", "250"),  # the reverse-path is added
            (b"From: <ceo@elsewhere.example>\r\n", "550"),
            (b"From: <user@example.org>, <ceo@elsewhere.example>\r\n", "550"),
            (b"From: <user@example.org>\r\nFrom: <ceo@elsewhere.example>\r\n", "550"),
            (b"From: ceo@elsewhere.example <user@example.org>\r\n", "550"),
            (b"From:\r\n <user@example.org>\r\n", "250"),
            (b"From:\r\n", "550"),
        ):
            self.assertEqual(self.hand_in(field + b"\r\nbody\r\n")[0][:3], code, field)
        self.assertEqual(
            self.hand_in(b"From: <x@y.example>\r\n\r\n"), ["550 5.7.1 From header field rejected: not owned by user"]
        )

    def test_check_from_in_chunks(self) -> None:
        """Nobody hides another author behind a bare CR or LF, which BODY=BINARYMIME would let pass (RFC 3030 3)."""
        self.submission(check_from=True)
        for hidden, code in ((b"\n", "550"), (b"\r", "550"), (b"\r\n\r\n\0", "250")):
            body = b"From: user@example.org\r\nSubject: x" + hidden + b"From: ceo@elsewhere.example\r\n\r\nbody"
            session = self.logged_in()
            mail = b"MAIL FROM:<user@example.org> BODY=BINARYMIME\r\nRCPT TO:<a@elsewhere.example>\r\n"
            chunk = b"BDAT %d LAST\r\n%b" % (len(body), body)
            self.assertEqual(self.codes(session, mail + chunk), ["250", "250", code], hidden)
        self.assertEqual([body], [message.body.data for message in self.accept.accepted])

    def test_account_that_breaks(self) -> None:
        """An account that fails to say costs the connection and opens nothing."""
        session = self.logged_in()
        assert session.login is not None
        session.login = attrs.evolve(session.login, account=Broken())
        self.assertEqual(self.codes(session, b"MAIL FROM:<user@example.org>\r\n"), ["421"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.accept.sinks, [])

    def test_null_sender_does_not_open_from(self) -> None:
        """A notification has an author too."""
        self.submission(check_from=True)
        self.assertEqual(self.hand_in(b"From: <ceo@elsewhere.example>\r\n\r\n", sender="")[0][:3], "550")


class HeadlessTests(DoorCase):
    """A body that begins with a blank, on every port."""

    def test_received_is_ours(self) -> None:
        """It is no fold of our Received line: an empty line stands between, and the body is stored as it came."""
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, b" by evil.example\r\nx: y\r\n.\r\n"), ["250"])
        message = self.accept.accepted[0]
        self.assertTrue(message.prefix.endswith(b" +0000\r\n\r\n"))
        self.assertEqual(message.body.data, b" by evil.example\r\nx: y\r\n")


class HeaderSizeTests(DoorCase):
    """`[limits] header_size`, on every port."""

    def test_size(self) -> None:
        """A byte more is 552, however long the body; the connection lives on."""
        for size, code in ((30, "250"), (29, "552")):
            self.begin(limits=Limits(header_size=size))
            session, _ = self.hello()
            self.envelope(session)
            self.assertEqual(self.codes(session, b"Subject: " + b"x" * 19 + b"\r\n\r\n" + b"body\r\n" * 20 + b".\r\n"), [code])
            self.assertEqual(self.codes(session, b"NOOP\r\n"), ["250"])
        [line] = self.log.named("rejected")
        self.assertEqual(line["reply"], "552 5.3.4 Message header too big")

    def test_no_limit(self) -> None:
        """0 is none."""
        self.begin(limits=Limits(header_size=0))
        session, _ = self.hello()
        self.envelope(session)
        self.assertEqual(self.codes(session, b"x: y\r\n" * 100_000 + b".\r\n"), ["250"])
