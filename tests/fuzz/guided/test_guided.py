"""Each target for a moment, the same inputs each time: that the harness is whole, and that it sees what it is there to see."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mta.bounce import original, text
from mta.compiled import is_compiled
from mta.config import loader
from mta.dns import plain
from mta.receive import proxy, submission, trace
from mta.receive.rules import Rules
from mta.smtp import credentials, dsn
from mta.smtp.chunk import ChunkedBody
from mta.smtp.chunking import Chunking
from mta.smtp.conversation import Conversation
from mta.smtp.convert import encoding
from mta.smtp.data import BodyReader, DotStuffer
from mta.smtp.event import StartTls
from mta.smtp.exchange import Exchange
from mta.smtp.reply import ReplyParser
from mta.smtp.server import Receiver
from mta.status import Reply
from mta.tls.mtasts import StsPolicy
from tests.fuzz.guided.__main__ import TARGETS
from tests.fuzz.guided.mutate import inputs
from tests.fuzz.guided.target import Target

RUNS = {
    "config": 50,
    "bounce": 200,
    "convert": 250,
    "auth": 400,
    "rules": 400,
    "receiver": 1500,
    "smuggling": 500,
}  # of the others 1000


def target(name: str) -> Target:
    """By its file."""
    found: Target = import_module(f"tests.fuzz.guided.{name}").TARGET
    return found


NOTHING = re.compile("(?!)")
_body = BodyReader._body


def _with_dots(self: BodyReader, piece: bytes, passed: int, dotted: bool) -> bytes:
    return _body(self, piece, passed, False)


def _echo(self: Conversation, verb: bytes, argument: bytes, line: bytes) -> None:
    self._say(Reply(500, "5.5.1", line.decode("latin-1")))


def _twice(self: Conversation, reply: Reply, enhanced: bool = True) -> None:
    self._out += [b"250 2.0.0 Ok\r\n"] * 2


def _deaf(self: Chunking, verb: bytes, argument: bytes, reply: Reply) -> None:
    self._refuse(b"BDAT", reply)


def _forgetful(self: ReplyParser, data: bytes) -> None:
    self._buffer, self._at = data, 0


def _broken(*_: Any, **__: Any) -> Any:
    raise KeyError("planted")


# target -> what is broken in turn: owner, name, what stands in its place
PLANTED: dict[str, list[tuple[Any, str, Any]]] = {
    "receiver": [
        (Conversation, "_obey", _echo),
        (Conversation, "_say", _twice),
        (Chunking, "_misplaced_chunk", _deaf),
        (ChunkedBody, "end", lambda self: b""),
        (ChunkedBody, "_read_header", lambda self, data: None),
        (Receiver, "answers", {**Receiver.answers, StartTls: lambda self, event, reply: self._say(reply)}),
        (BodyReader, "error", None),
        (BodyReader, "_body", _with_dots),
    ],
    "smuggling": [
        (DotStuffer, "_mend", lambda self, data: data),
        (DotStuffer, "end", lambda self: b".\r\n"),
        (BodyReader, "error", None),
    ],
    "proxy": [(proxy, "_parse_line", lambda line: proxy.Header(port=70000)), (proxy, "_tlvs", _broken)],
    "auth": [(credentials, "CONTROL", NOTHING)],
    "bounce": [(text, "_CONTROL", NOTHING), (original, "_UNSOUND", NOTHING)],
    "command": [(dsn, "_is_value", lambda text: False)],
    "reply": [(Exchange, "decided", lambda self, decider: ()), (ReplyParser, "receive", _forgetful)],
    "header": [
        (submission, "_FIELD", trace._END),
        (trace, "_RECEIVED", b"received:"),
        (ChunkedBody, "_read_header", lambda self, data: None),
    ],
    "convert": [(encoding, "_SPECIAL", NOTHING), (encoding, "_PER_LINE", 3000)],
    "config": [(loader, "check", _broken)],
    "published": [(StsPolicy, "of_hint", lambda value: None), (plain, "MAX_TTL", 1 << 62)],
    "rules": [(Rules, "matching", lambda self, stage, facts: iter(()))],
}


class TargetTests(SynchronousTestCase):
    def test_nothing_is_found(self) -> None:
        """Seeds, and seeds that were changed: nothing breaks."""
        for name in TARGETS:
            one = target(name)
            for data in inputs(one, RUNS.get(name, 1000)):
                try:
                    one.check(data)
                except Exception as error:
                    raise AssertionError(f"{name}: {error!r} with {data!r}") from error

    def test_faults_are_found(self) -> None:
        """Every target notices what is planted for it, in so many inputs."""
        if is_compiled():
            raise SkipTest("a compiled class calls its own methods, whatever is planted")
        self.assertEqual(sorted(PLANTED), TARGETS)
        for name, faults in PLANTED.items():
            for owner, what, instead in faults:
                patch = self.patch(owner, what, instead)
                try:
                    self.assertTrue(self.breaks(target(name)), f"{name} does not see that {what} is broken")
                finally:
                    patch.restore()

    def breaks(self, one: Target) -> bool:
        for data in inputs(one, 3000):
            try:
                one.check(data)
            except Exception:
                return True
        return False
