"""What the README says that a client is told, against what one is told: the answer to EHLO on port 25 and on port 587."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Auth, Listen, Settings, Tls
from mta.receive.common import Common
from mta.receive.listener import Listener
from mta.receive.security import READY_FOR_TLS
from mta.smtp.server import Counters, Receiver, ReceiverOptions
from mta.status import Reply
from mta.testing.pki import Authority
from mta.tls.context import ServerTls
from tests.receive.door import FakeAccept, FakeLog, FakeRouter

README: Final = Path(__file__).parent.parent / "README.md"


class EhloTests(SynchronousTestCase):
    """The block below "What a client is told": one conversation for each port, in clear and in TLS."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        certificate, key = Authority.create().issue("mx1.example.org").write(folder)
        passwords = folder / "passwords"
        passwords.write_text("user:secret\n")
        settings = Settings(
            hostname="mx1.example.org", data_dir=folder, tls=Tls(certificate=certificate, key=key), auth=Auth(passwords=passwords)
        )
        tls = ServerTls.load(settings.tls)
        clock = Clock()
        clock.advance(1_795_000_000)
        self.common = Common.of(settings, FakeAccept(), FakeRouter(), FakeLog(), clock, tls=tls)

    def told(self, options: ReceiverOptions, **where: bool) -> list[str]:
        """The greeting, where there is one, and the answer to EHLO."""
        machine = Receiver(options, Counters(), **where)
        machine.greet()
        machine.receive_data(b"EHLO client.example\r\n")
        machine.events()
        machine.reply(Reply(250, "", options.hostname))
        said = machine.data_to_send().decode().splitlines()
        at = next(index for index, line in enumerate(said) if line.startswith("250"))
        return [*(f"S: {line}" for line in said[:at]), "C: EHLO client.example", *(f"S: {line}" for line in said[at:])]

    def conversation(self, listen: Listen) -> str:
        """Of a stranger: in clear, then in TLS."""
        listener = Listener.of(self.common, listen)
        lines = [*self.told(listener.in_clear(None, False)), "C: STARTTLS", f"S: {READY_FOR_TLS}"]
        return "\n".join([*lines, "... TLS", *self.told(listener.in_tls(False), in_tls=True)])

    def test_ehlo(self) -> None:
        """Word for word.  Where it differs, what is said here is right: put it into the README."""
        text = README.read_text("utf-8").partition("\n## What a client is told\n")[2].partition("\n## ")[0]
        blocks = re.findall(r"(?ms)^```\n(.*?)\n```$", text)
        self.assertEqual(len(blocks), 2)
        submission = Listen("tcp:587", submission=True)
        self.assertEqual(self.conversation(Listen("tcp:25")), blocks[0])
        self.assertEqual(self.conversation(submission), blocks[1])
