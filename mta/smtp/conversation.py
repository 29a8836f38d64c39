"""What every conversation of the receiver-SMTP is made of: bytes, lines, questions and their answers, refusals, the end.

RFC 5321 2.3.8 (lines), 3.8 (421), RFC 2920 3.1 (what may not be sent without waiting).  `Conversation` feeds what came
to whoever is to have it (a command, a response to a challenge, a body), stops while a question waits, and counts.  What the
commands mean is in server.py, which also states the laws of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from mta.smtp import wording
from mta.smtp.auth import Exchange, Next, Refusal
from mta.smtp.chunk import Chunk
from mta.smtp.command import split
from mta.smtp.credentials import Credentials, PassedOn, Verifier, VerifierWanted
from mta.smtp.data import BodyReader
from mta.smtp.event import (
    Auth,
    AuthStep,
    BodyChunk,
    BodyEnd,
    BodyStart,
    ChunkEnd,
    Hello,
    MailFrom,
    Quit,
    RcptTo,
    Refused,
    Reset,
    StartTls,
    Verify,
    XClient,
)
from mta.smtp.grammar import MAX_AUTH_LINE, MAX_COMMAND_LINE
from mta.smtp.line import LineBuffer, LineTooLong, Unframed
from mta.smtp.options import Counters, ReceiverOptions
from mta.smtp.order import Gate, State, is_foreign, misplaced
from mta.smtp.reply import serialise
from mta.status import MailError, Reply

__all__ = ["Conversation", "Event"]

Question: TypeAlias = (  # these want an answer
    Hello | Auth | AuthStep | MailFrom | RcptTo | Verify | BodyStart | ChunkEnd | BodyEnd | StartTls | XClient
)
Event: TypeAlias = Question | BodyChunk | Reset | Refused | Quit


class Conversation:
    """Bytes in, events out, bytes to send; a subclass has the commands of each state and what answers do."""

    __slots__ = (
        "_body",
        "_chunk",
        "_counters",
        "_events",
        "_exchange",
        "_gate",
        "_lines",
        "_options",
        "_out",
        "_question",
        "_state",
        "_verbs",
    )

    commands: ClassVar[Mapping[State, Mapping[bytes, Callable[[Any, bytes], None]]]]
    answers: ClassVar[Mapping[type, Callable[[Any, Any, Reply], None]]]

    def __init__(self, options: ReceiverOptions, counters: Counters, state: State) -> None:
        self._options = options
        self._counters = counters
        self._lines = LineBuffer()
        self._events: list[Event] = []
        self._out: list[bytes] = []
        self._question: Question | None = None  # waits for its answer
        self._body: BodyReader | None = None
        self._chunk: Chunk | None = None
        self._exchange: Exchange | Refusal | None = None
        self._gate: Gate | None = None
        self._enter(state)

    # ---- what the session sees

    @property
    def ended(self) -> bool:
        """Nothing more will be read: send what there is to send, then close."""
        return self._state is State.ENDED

    @property
    def asks(self) -> bool:
        """An event waits for its answer."""
        return self._question is not None

    @property
    def in_body(self) -> bool:
        """What comes now are no commands, but a body or a chunk, wanted or not."""
        return self._question is None and (self._body is not None or self._chunk is not None)

    @property
    def buffered(self) -> int:
        """Bytes that wait unparsed."""
        return len(self._lines)

    def receive_data(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._state is State.ENDED or self._state is State.TLS:
            return
        self._lines.receive(data)
        self._parse()

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        if not self._out:
            return b""
        out, self._out = b"".join(self._out), []
        return out

    def reply(self, reply: Reply) -> None:
        """Answer the event that waits.  Code 421 also ends.  An answer that comes after the end is dropped."""
        question, self._question = self._question, None
        if question is None:
            if self.ended:
                return
            raise RuntimeError("no event waits for an answer")
        if reply.code == 421:
            self.shut(reply)
            return
        self.answers[type(question)](self, question, reply)
        self._parse()

    def supply(self, answer: bytes | Verifier | Credentials) -> None:
        """Answer the `AuthStep` that waits, and let AUTH go on.  An answer that comes after the end is dropped."""
        question, self._question = self._question, None
        if question is None and self.ended:
            return
        if type(self._exchange) is not Exchange or type(question) is not AuthStep:
            raise RuntimeError("no step of AUTH waits")
        self._go_on(self._exchange.supply(answer))
        self._parse()

    def shut(self, reply: Reply) -> None:
        """Say that (421, as a rule) whatever is going on, and end."""
        if self.ended:
            return
        self._say(reply)
        self._enter(State.ENDED)
        self._body = self._chunk = self._exchange = self._question = None
        self._lines.clear()

    def abandon(self) -> None:
        """The client has gone: an exchange that somebody else holds is over."""
        self._exchange = None

    # ---- bytes

    def _parse(self) -> None:
        while self._question is None and self._lines.received:
            if self._body is not None:
                self._read_body(self._body)
            elif self._chunk is not None:
                self._read_chunk(self._chunk)
            elif self._exchange is not None:
                if not self._read_response(self._exchange):
                    return
            elif not (self._verbs and self._read_command()):
                return

    def _read_command(self) -> bool:
        """Take a line and obey it; False when there is no whole line."""
        verb = b""
        try:
            line = self._lines.take_line(self._options.max_line)
            if line is None:
                return False
            verb, argument = split(line)
            if len(line) > MAX_COMMAND_LINE - 2 and verb != b"AUTH":
                raise LineTooLong
            self._obey(verb, argument, line)
        except MailError as error:
            self._refuse(verb, error.reply)
        except LineTooLong:
            self._refuse(b"", wording.LINE_TOO_LONG)
        except Unframed:
            self._die(b"", wording.NOT_FRAMED)
        return True

    def _obey(self, verb: bytes, argument: bytes, line: bytes) -> None:
        self._counters.commands += 1
        limit, gate, act = self._options.max_commands, self._gate, self._verbs.get(verb)
        if limit and self._counters.commands > limit:
            self._die(b"", wording.TOO_MANY_COMMANDS)
        elif act is not None and (gate is None or verb in gate.free):
            act(self, argument)
        else:
            known, reply = misplaced(self._state, verb)
            if gate is not None and verb not in gate.free:
                reply = gate.reply
            if verb[:4] == b"BDAT":  # its bytes follow, wanted or not
                self._misplaced_chunk(verb, argument, reply)
            elif not known and is_foreign(line):
                self._die(b"", wording.NOT_SMTP)
            else:
                self._refuse(known, reply)

    def _read_response(self, exchange: Exchange | Refusal) -> bool:
        """Take a line as the response to a challenge; False when there is no whole line."""
        try:
            line = self._lines.take_line(MAX_AUTH_LINE)
            if line is None:
                return False
            self._go_on(exchange.answer(line))
        except MailError as error:
            self._exchange = None
            self._refuse(b"AUTH", error.reply)
        except LineTooLong:
            self._exchange = None
            self._refuse(b"AUTH", wording.AUTH_TOO_LONG)
        except Unframed:
            self._die(b"", wording.NOT_FRAMED)
        return True

    def _go_on(self, step: Next) -> None:
        """A challenge for the client, or a question or the credentials for the session."""
        if isinstance(step, VerifierWanted | PassedOn):
            self._ask(AuthStep(step))
        elif not isinstance(step, Reply):
            self._exchange = None
            self._ask(Auth(step))
        elif step.code != 334:  # the client has heard why
            self._exchange = None
            self._say(step)
        elif self.buffered:  # RFC 4954 4: AUTH is the last command of its group; who answers unasked is no client
            self._unsynchronised(b"AUTH")
        else:
            self._say(step)

    def _read_body(self, body: BodyReader) -> None:
        chunk, rest = body.feed(self._lines.take_all())
        if chunk:
            self._events.append(BodyChunk(chunk))
        if rest is not None:
            self._lines.receive(rest)
            self._counters.bytes += body.size
            self._ask(BodyEnd(body.size, body.error))

    def _read_chunk(self, chunk: Chunk) -> None:
        """Take what has come of it."""
        raise NotImplementedError

    def _misplaced_chunk(self, verb: bytes, argument: bytes, reply: Reply) -> None:
        """BDAT, or what begins like it, where none may come."""
        raise NotImplementedError

    # ---- small things

    def _enter(self, state: State) -> None:
        """The one place where the state changes."""
        self._state = state
        self._verbs = self.commands[state]
        if state is State.READY:
            self._body = None

    def _ask(self, question: Question) -> None:
        self._question = question
        self._events.append(question)

    def _say(self, reply: Reply, enhanced: bool = True) -> None:
        self._out.append(serialise(reply, enhanced))

    def _refuse(self, verb: bytes, reply: Reply, is_error: bool = True) -> None:
        if is_error and self._counters.errors >= self._options.max_errors:
            self._die(verb, wording.TOO_MANY_ERRORS)
            return
        self._counters.errors += is_error
        self._say(reply)
        self._events.append(Refused(verb.decode("ascii"), reply))

    def _die(self, verb: bytes, reply: Reply) -> None:
        """Refuse, and end."""
        self._counters.errors += 1
        self._events.append(Refused(verb.decode("ascii"), reply))
        self.shut(reply)

    def _unsynchronised(self, verb: bytes) -> None:
        self._die(verb, wording.NOT_SYNCHRONISED)
