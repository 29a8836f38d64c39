"""What every mail client must be able to do with us, whichever it is: the tests that test_clients_*.py run with each.

Each has a mailbox of its own on the one site (site.py).  What arrives is compared byte for byte with what the client says
that it has sent.
"""

from __future__ import annotations

import base64
import itertools
import socket
import tempfile
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mta.testing.logs import Entry
from tests.peers.client_programs import Answer, Client, Order
from tests.peers.peers import message, require, wait_for
from tests.peers.site import ACCOUNT, ADDRESS, Mailbox, site

__all__ = ["ClientCase", "EveryClient", "attachment", "greeting"]

_numbers = itertools.count(1)
_TLS = r"\(TLSv1\.3 with cipher \S+ \(\d+ bits\)\)"


def attachment(size: int, body: bytes = b"") -> bytes:
    """A message with an attachment of so many octets."""
    content = bytes(range(256)) * (size // 256)
    lines = b"\r\n".join(base64.encodebytes(content).splitlines())
    head = b"X-Start: 5\r\nFrom: <ann@local.test>\r\nTo: <user@local.test>\r\nMessage-ID: <5@local.test>\r\n"
    head += b"Date: Sun, 22 Nov 2026 04:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    part = b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head + b"--b\r\n\r\n" + body + b"\r\n" + part + lines + b"\r\n--b--\r\n"


def greeting(to: str) -> EmailMessage:
    """In UTF-8 from head to foot."""
    message = EmailMessage(SMTPUTF8)
    message["From"], message["To"], message["Subject"] = "jörg@a.test", to, "Grüße"
    message["Date"], message["Message-ID"] = "Sun, 22 Nov 2026 04:00:00 +0000", "<1@a.test>"
    message.set_content("Grüße\n", cte="8bit")
    return message


class ClientCase(SynchronousTestCase):
    """A client with the site."""

    needs: ClassVar[tuple[str, ...]] = ()  # programs

    def setUp(self) -> None:
        require(*self.needs)
        self.site = site()
        folder = tempfile.TemporaryDirectory(prefix="mta-peers-", ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)
        self._seen = len(self._log())

    def mailbox(self, name: str = "box") -> Mailbox:
        """A new one, for this test."""
        return self.site.mailbox(f"{name}{next(_numbers)}")

    def order(self, *to: Mailbox | str, data: bytes | None = None, **how: Any) -> Order:
        """To port 25, unless it says more."""
        addresses = tuple(one if isinstance(one, str) else one.address for one in to)
        return Order(
            site=self.site,
            folder=Path(tempfile.mkdtemp(dir=self.folder)),
            port=how.pop("port", self.site.mta.port),
            data=message() if data is None else data,
            to=addresses,
            sender=how.pop("sender", "from@a.test"),
            **how,
        )

    def submission(self, *to: Mailbox | str, mechanism: str, implicit: bool = False, **how: Any) -> Order:
        """To port 587, or 465, with a login."""
        how = {"sender": ADDRESS, "tls": "implicit" if implicit else "starttls", "mechanism": mechanism, **how}
        return self.order(*to, port=self.site.implicit if implicit else self.site.submission, **how)

    def seen(self, event: str) -> list[Entry]:
        """The lines of an event since the test began."""
        return [entry for entry in self._log()[self._seen :] if entry.event == event]

    def _log(self) -> list[Entry]:
        """All that has happened up to now.  Lines are gathered before they are written: the line of a connection of ours is waited for."""
        with socket.create_connection(("127.0.0.1", self.site.mta.port)) as marker:
            marker.recv(100)
            port = str(marker.getsockname()[1])
            wait_for(
                lambda: any(entry.fields["port"] == port for entry in self.site.mta.log("connect")), "the line of a connection"
            )
        return self.site.mta.log()


class EveryClient:
    """The tests, for a ClientCase that says who the client is."""

    client: ClassVar[Client]
    mechanisms: ClassVar[tuple[str, ...]] = ("PLAIN", "LOGIN", "CRAM-MD5")  # that it knows
    protocol: ClassVar[str] = "ESMTP"  # without a login
    goes_on: ClassVar[bool] = True  # sends to the others when one recipient is refused

    def send(self, order: Order) -> Answer:
        """Have the client carry it out."""
        return type(self).client(order)

    def check_sent(self, order: Order, *boxes: Mailbox, received: str) -> None:
        """It arrives as it was sent; received: a pattern for how."""
        answer = self.send(order)
        self.assertTrue(answer.sent, answer.said)
        self.assertIn(b"\r\n\r\n", answer.data)
        for box in boxes:
            ours, data = box.wait()
            self.assertRegex(ours, received)
            self.assertEqual(answer.data, data)

    def check_refused(self, order: Order, reply: str) -> None:
        """The client ends with this reply, and nothing was taken."""
        answer = self.send(order)
        self.assertFalse(answer.sent, answer.said)
        self.assertIn(reply, answer.said)
        self.assertEqual([], self.seen("accepted"))

    def test_clear(self) -> None:
        """Port 25 in clear text: a message full of traps."""
        box = self.mailbox()
        self.check_sent(
            self.order(box), box, received=rf"^Received: from client\.test \(\S+\) by mta\.test with {self.protocol} id "
        )

    def test_starttls(self) -> None:
        """Port 25 with STARTTLS, our certificate verified."""
        box, protocol = self.mailbox(), self.protocol + "S" * (self.protocol == "ESMTP")  # RFC 3848 has no SMTPS
        self.check_sent(self.order(box, tls="starttls"), box, received=rf"{_TLS} by mta\.test with {protocol} id ")

    def test_implicit_tls(self) -> None:
        """Port 465, with a login."""
        box = self.mailbox()
        self.check_sent(self.submission(box, mechanism="PLAIN", implicit=True), box, received=rf"{_TLS} by \S+ with ESMTPSA id ")

    def test_logins(self) -> None:
        """Port 587: each mechanism that it knows and we offer; the mail is the account's."""
        for mechanism in self.mechanisms:
            box = self.mailbox()
            self.check_sent(self.submission(box, mechanism=mechanism), box, received=rf"{_TLS} by \S+ with ESMTPSA id ")
        said = [[entry.fields[word] for word in ("mechanism", "result", "account")] for entry in self.seen("auth")]
        self.assertEqual([[mechanism, "ok", ACCOUNT] for mechanism in self.mechanisms], said)
        self.assertEqual({ACCOUNT}, {entry.fields["account"] for entry in self.seen("accepted")})

    def test_wrong_password(self) -> None:
        """535 to each mechanism that has one."""
        mechanisms = [name for name in self.mechanisms if name != "EXTERNAL"]
        for mechanism in mechanisms:
            self.check_refused(self.submission(self.mailbox(), mechanism=mechanism, password="wrong"), "535")
        said = [(entry.fields["mechanism"], entry.fields["result"]) for entry in self.seen("auth")]
        self.assertEqual([(name, "refused") for name in mechanisms], said)

    def test_no_login(self) -> None:
        """530 to whoever does not log in on port 587."""
        self.check_refused(self.order(self.mailbox(), port=self.site.submission, tls="starttls"), "530")

    def test_login_in_clear(self) -> None:
        """A login that was to be made without TLS is none, whatever the client makes of it."""
        for mechanism in ("PLAIN", "CRAM-MD5"):
            answer = self.send(self.submission(self.mailbox(), mechanism=mechanism, tls="none"))
            self.assertFalse(answer.sent, answer.said)
        self.assertEqual([], [entry for event in ("auth", "accepted") for entry in self.seen(event)])

    def test_not_owned(self) -> None:
        """553 to a sender that is not the account's."""
        self.check_refused(self.submission(self.mailbox(), mechanism="PLAIN", sender="bob@local.test"), "553")

    def test_one_refused(self) -> None:
        """Three recipients, one unknown: the others get it, or nobody, as the client will have it."""
        first, last = self.mailbox(), self.mailbox()
        order = self.submission(first, "nobody@local.test", last, mechanism="PLAIN")
        if not self.goes_on:
            self.check_refused(order, "550")
            return
        answer = self.send(order)
        self.assertTrue(answer.sent, answer.said)
        self.assertIn("nobody@local.test", answer.said)
        self.assertIn(answer.refused, (None, ("nobody@local.test",)))
        self.assertEqual([answer.data] * 2, [box.wait()[1] for box in (first, last)])
        [accepted] = self.seen("accepted")
        self.assertEqual("2", accepted.fields["nrcpt"])

    def test_large(self) -> None:
        """An attachment of 5 MiB."""
        box = self.mailbox()
        order = self.submission(box, mechanism="PLAIN", data=attachment(5 << 20, b"large\r\n"))
        self.check_sent(order, box, received="with ESMTPSA id ")
        wait_for(lambda: self.seen("accepted"), "the line of it")
        self.assertGreater(int(self.seen("accepted")[0].fields["size"]), 5 << 20)
