r"""The conversations in tests/dialogs/*.smtp, run against the receiver's machine.

    # comment            what the dialog shows, with the ids of the requirements
    option: NAME VALUE   of ReceiverOptions (A,B,C for several; a reply for refuse_all), or `in_tls yes`, `implicit yes`, `greet no`
    answer: EVENT CODE ENHANCED TEXT    what the session answers to the next event of that type, instead of yes
    c: LINE              the client sends LINE and CRLF, in a segment of its own
    c+ LINE              the same, in one segment with the next c: or c. line
    c. BYTES             the client sends just these bytes
    greet:               the server says its greeting now (with `greet no`)
    s: TEXT              the server says this line; a `*` at the end stands for any rest
    end:                 the server has ended the conversation
    open:                it has not
    message: BYTES       the session accepted this message (all of them, in order)
    auth: WORDS          the session was asked about these credentials: mechanism, authzid, user, password; or user, digest

In texts \r \n \0 \t \\ and \xHH stand for bytes, @99@ for 99 letters.  What the server says must be expected line by line, and nothing may be
left.  Every dialog runs a second time with each segment byte by byte, but for those with `option: pieces no`, where it
matters that bytes come together.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp import event as events
from mta.smtp.server import ReceiverOptions
from mta.status import Reply
from tests.smtp.talk import CHALLENGE, OPTIONS, Talk, bytewise

DIALOGS = sorted((Path(__file__).parent.parent / "dialogs").glob("*.smtp"))
PLAIN_OPTIONS = attrs.evolve(OPTIONS, challenge=lambda: CHALLENGE)
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
MANY = re.compile(r"@([0-9]+)@")
ESCAPES = {"r": b"\r", "n": b"\n", "0": b"\0", "t": b"\t", "\\": b"\\"}


def unescape(text: str) -> bytes:
    parts = ESCAPE.split(MANY.sub(lambda match: "x" * int(match[1]), text))
    plain, escaped = parts[::2], [bytes.fromhex(e[1:]) if e[0] == "x" else ESCAPES[e] for e in parts[1::2]]
    return b"".join(a.encode() + b for a, b in zip(plain, [*escaped, b""], strict=True))


def option(name: str, value: str) -> object:
    """As the field of ReceiverOptions wants it."""
    if name == "refuse_all":
        code, enhanced, text = value.split(" ", 2)
        return Reply(int(code), enhanced, text)
    if name == "binding":
        return value.encode()
    if name in ("auth", "auth_elsewhere"):
        return tuple(value.split(","))
    if name == "withhold":
        return frozenset(value.split(","))
    if name == "vrfy":
        return value
    return {"yes": True, "no": False}.get(value, int(value) if value.isdigit() else value)


def as_text(word: str | bytes) -> str:
    return word if isinstance(word, str) else word.decode()


class Dialog:
    """One file, on its way."""

    def __init__(self, case: SynchronousTestCase, path: Path, split: bool) -> None:
        self.case = case
        self.steps = []
        self.options: dict[str, object] = {"in_tls": False, "implicit": False, "greet": True, "pieces": True}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            word, _, rest = re.sub(r"^(c[+.]) ?", r"\1: ", line).partition(":")
            if word == "option":
                name, value = rest.split(maxsplit=1)
                self.options[name] = option(name, value)
            elif line.strip() and not line.startswith("#"):
                self.steps.append((f"{path.name}:{number}", word, rest.removeprefix(" ")))
        self.pieces = bytewise if split and self.options["pieces"] else lambda data: [data]
        known = {field.name for field in attrs.fields(ReceiverOptions)}
        self.talk = Talk(
            attrs.evolve(PLAIN_OPTIONS, **{name: value for name, value in self.options.items() if name in known}),
            in_tls=bool(self.options["in_tls"]),
            greet=bool(self.options["greet"]) and not self.options["in_tls"],
            implicit=bool(self.options["implicit"]),
        )
        case.assertEqual(set(), set(self.options) - known - {"in_tls", "implicit", "greet", "pieces"}, path.name)
        self.said = self.talk.greeting
        self.segment = b""
        self.messages: list[bytes] = []
        self.logins: list[str] = []

    def run(self) -> None:
        for where, word, text in self.steps:
            getattr(self, "do_" + {"c+": "more", "c.": "bytes"}.get(word, word))(text, where)
        self.case.assertEqual(b"", self.said, "said, but not expected")
        self.case.assertEqual(self.messages, self.talk.messages)
        asked = [attrs.astuple(event.credentials) for event in self.talk.events if type(event) is events.Auth]
        self.case.assertEqual(self.logins, [" ".join(map(as_text, words)) for words in asked])

    def do_more(self, text: str, where: str) -> None:
        self.segment += unescape(text) + b"\r\n"

    def do_c(self, text: str, where: str) -> None:
        self.do_bytes(text + r"\r\n", where)

    def do_bytes(self, text: str, where: str) -> None:
        self.case.assertEqual(b"", self.said, f"{where}: said before, but not expected")
        segment, self.segment = self.segment + unescape(text), b""
        self.said = self.talk.say(segment, self.pieces)

    def do_greet(self, text: str, where: str) -> None:
        self.talk.machine.greet()
        self.said += self.talk.machine.data_to_send()

    def do_s(self, text: str, where: str) -> None:
        line, _, self.said = self.said.partition(b"\r\n")
        expected = unescape(text)
        if expected.endswith(b"*"):
            line, expected = line[: len(expected) - 1], expected[:-1]
        self.case.assertEqual(expected, line, where)

    def do_answer(self, text: str, where: str) -> None:
        name, code, enhanced, words = text.split(" ", 3)
        self.talk.answers.setdefault(getattr(events, name), []).append(Reply(int(code), enhanced, words))

    def do_end(self, text: str, where: str) -> None:
        self.case.assertEqual(("", True), (text, self.talk.machine.ended), where)

    def do_open(self, text: str, where: str) -> None:
        self.case.assertEqual(("", False), (text, self.talk.machine.ended), where)

    def do_message(self, text: str, where: str) -> None:
        self.messages.append(unescape(text))

    def do_auth(self, text: str, where: str) -> None:
        self.logins.append(text)


class DialogTests(SynchronousTestCase):
    def test_there_are_dialogs(self):
        """The folder was found."""
        self.assertGreaterEqual(len(DIALOGS), 15)

    def test_whole(self):
        """Each segment as the client sent it."""
        for path in DIALOGS:
            Dialog(self, path, split=False).run()

    def test_byte_by_byte(self):
        """The same words, however they arrive."""
        for path in DIALOGS:
            Dialog(self, path, split=True).run()

    def test_a_wrong_dialog_fails(self):
        """The runner notices a wrong line, a missing line and a missing message."""
        for text in ("s: 220 other\n", "", "s: 220*\nc: NOOP\n", "s: 220*\nend:\n", "s: 220*\nmessage: x\n", "s: 220*\ns: x\n"):
            path = Path(self.mktemp())
            path.write_text(text)
            self.assertRaises(self.failureException, Dialog(self, path, split=False).run)
