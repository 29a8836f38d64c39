"""A session of the tests: answers what the receiver's machine asks, and remembers what it heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import attrs

from mta.smtp.event import Auth, AuthStep, BodyChunk, BodyEnd, BodyStart, ChunkEnd, Hello, MailFrom, RcptTo, StartTls, Verify
from mta.smtp.scram import verifier_of
from mta.smtp.server import Counters, Receiver, ReceiverOptions
from mta.status import Reply

OPTIONS = ReceiverOptions("mx.test", max_size=100_000, max_recipients=3, starttls=True, max_errors=5)
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"  # RFC 2195 2
PENCIL = verifier_of("pencil", b"sixteen of salt!")
WITH_AUTH = attrs.evolve(OPTIONS, auth=("PLAIN", "LOGIN", "CRAM-MD5"), challenge=lambda: CHALLENGE)
YES = {
    Hello: Reply(250, "", ""),
    Auth: Reply(235, "2.7.0", "Authentication successful"),
    MailFrom: Reply(250, "2.1.0", "Ok"),
    RcptTo: Reply(250, "2.1.5", "Ok"),
    BodyStart: Reply(354, "", "Go on"),
    ChunkEnd: Reply(250, "2.0.0", "Chunk"),
    BodyEnd: Reply(250, "2.0.0", "Queued"),
    Verify: Reply(250, "2.1.5", "Here"),
    StartTls: Reply(220, "2.0.0", "Ready to start TLS"),
}


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)] or [b""]


class Talk:
    """A receiver with a session that says yes, but for the answers put into `answers` (by type, used up in order)."""

    def __init__(
        self,
        options: ReceiverOptions = OPTIONS,
        in_tls: bool = False,
        counters: Counters | None = None,
        greet: bool = True,
        implicit: bool = False,
    ):
        self.counters = counters or Counters()
        self.machine = Receiver(options, self.counters, in_tls, implicit)
        self.answers: dict[type, list[Reply]] = {}
        self.events: list[Any] = []
        self.messages: list[bytes] = []  # that were accepted
        self.errors: list[Reply | None] = []  # of all BodyEnd
        self._body: list[bytes] = []
        self.verifier = PENCIL
        self.greeting = b""
        if greet:
            self.machine.greet()
            self.greeting = self.machine.data_to_send()

    def act(self) -> None:
        while events := self.machine.events():
            for event in events:
                self.events.append(event)
                if type(event) is BodyChunk:
                    self._body.append(event.data)
                elif type(event) is AuthStep:
                    self._step()
                elif type(event) in YES:
                    self._answer(event)

    def _step(self) -> None:
        """SCRAM wants to know the verifier of the user."""
        if given := self.answers.get(AuthStep):
            self.machine.reply(given.pop(0))
        else:
            self.machine.supply(self.verifier)

    def _answer(self, event: Any) -> None:
        given = self.answers.get(type(event))
        reply = given.pop(0) if given else YES[type(event)]
        if type(event) is BodyStart:
            self._body = []
        elif type(event) is ChunkEnd:
            reply = event.error or reply
        elif type(event) is BodyEnd:
            self.errors.append(event.error)
            body, self._body = b"".join(self._body), []
            if event.error is None and reply.is_positive:
                self.messages.append(body)
            reply = event.error or reply
        self.machine.reply(reply)

    def say(self, data: bytes, pieces: Callable[[bytes], list[bytes]] = lambda data: [data]) -> bytes:
        """Send, act, and give back what the server says."""
        out = []
        for piece in pieces(data):
            self.machine.receive_data(piece)
            self.act()
            out.append(self.machine.data_to_send())
        return b"".join(out)

    def begin(self, recipients: int = 1) -> Talk:
        """EHLO, MAIL, RCPT."""
        self.say(b"EHLO c.test\r\n")
        self.say(b"MAIL FROM:<a@c.test>\r\n" + b"RCPT TO:<b@mx.test>\r\n" * recipients)
        return self

    def codes(self, data: bytes) -> list[int]:
        """Say, and give the codes of the replies."""
        return [int(line[:3]) for line in self.say(data).split(b"\r\n") if line[3:4] == b" "]
