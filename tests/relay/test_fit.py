"""How a message goes to servers that do not offer all that it asks for (pure)."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Message
from mta.relay.fit import Fit, by_value, fitted, is_plain, wants_look, without_receiver
from mta.smtp.client import Transaction
from mta.status import Reply
from tests.smtp.convert.messages import UMLAUT, survey

EIGHT, UTF8, BINARY = int(Flag.EIGHTBITMIME), int(Flag.SMTPUTF8), int(Flag.BINARYMIME)
TWO = Transaction("a@c.test", ("b@mx.test", "d@mx.test"), 1000, 0, None, ((1, None), (2, None)))
HEAD = b"Subject: x\r\n\r\n"
TEXT = survey(HEAD + UMLAUT)
PLAIN = survey(HEAD + b"x\r\n")
RAW = survey(HEAD + b"\0")
SIGNED = survey(b"DKIM-Signature: x\r\n\r\n" + UMLAUT)
BINARIES = {"8BITMIME": "", "CHUNKING": "", "BINARYMIME": "", "PIPELINING": ""}


def with_flags(flags: int) -> Transaction:
    return attrs.evolve(TWO, flags=flags)


class BodyTests(SynchronousTestCase):
    def fit(self, flags: int, extensions: dict[str, str], findings: object, eightbit: str = "convert") -> Fit:
        fit = fitted(with_flags(flags), extensions, findings, eightbit)
        assert isinstance(fit, Fit), fit
        return fit

    def refusal(self, flags: int, extensions: dict[str, str], findings: object, eightbit: str = "convert") -> str:
        reply = fitted(with_flags(flags), extensions, findings, eightbit)
        assert isinstance(reply, Reply), reply
        self.assertTrue(reply.is_permanent)
        return reply.enhanced

    def test_plain(self):
        """Most mail needs no look and no thought."""
        for flags, extensions in ((0, {}), (EIGHT | UTF8, {"8BITMIME": "", "SMTPUTF8": ""}), (BINARY, BINARIES)):
            self.assertTrue(is_plain(with_flags(flags), extensions))
            self.assertFalse(wants_look(with_flags(flags), extensions, "convert"))
        self.assertTrue(is_plain(attrs.evolve(TWO, recipients=("b@mx.test",)), {"LIMITS": "RCPTMAX=1"}))
        self.assertFalse(is_plain(TWO, {"LIMITS": "RCPTMAX=1"}))
        self.assertFalse(is_plain(attrs.evolve(TWO, by="1;N"), {}))

    def test_when_to_look(self):
        """Only where what is in the message decides."""
        for flags, extensions, eightbit, wants in (
            (EIGHT, {}, "convert", True),
            (EIGHT, {}, "bounce", True),
            (EIGHT, {}, "send", False),
            (UTF8, {"8BITMIME": ""}, "send", True),
            (BINARY, {"8BITMIME": "", "CHUNKING": "", "BINARYMIME": ""}, "send", True),
        ):
            self.assertFalse(is_plain(with_flags(flags), extensions))
            self.assertEqual(wants, wants_look(with_flags(flags), extensions, eightbit), (flags, extensions))

    def test_eight_bits(self):
        """RFC 6152 3: converted, sent or refused, as the operator wants it; what has seven bits is sent in any case."""
        fit = self.fit(EIGHT, {}, TEXT)
        self.assertEqual(("8bit", 0, fit.plan.size), (fit.converted, fit.transaction.flags, fit.transaction.size))
        self.assertEqual("5.6.3", self.refusal(EIGHT, {}, SIGNED))
        self.assertEqual("5.6.3", self.refusal(EIGHT, {}, TEXT, "bounce"))
        for eightbit in ("convert", "bounce", "send"):
            sent = self.fit(EIGHT, {}, PLAIN, eightbit)
            self.assertEqual((None, "", 1000), (sent.plan, sent.converted, sent.transaction.size))
        self.assertIsNone(self.fit(EIGHT, {}, None, "send").plan)
        report = fitted(attrs.evolve(with_flags(EIGHT), sender=""), {}, SIGNED, "convert")
        self.assertEqual((None, 0), (report.plan, report.transaction.flags))  # never lost for that
        self.assertEqual("5.3.4", self.refusal(EIGHT, {"SIZE": "200"}, TEXT))

    def test_binary(self):
        """RFC 3030 3: encoded, with eight bits where they are taken, or refused; "send" does not mean this."""
        for extensions, flags in (({}, 0), ({"8BITMIME": ""}, 0)):
            fit = self.fit(BINARY, extensions, RAW, "send")
            self.assertEqual(("binary", flags), (fit.converted, fit.transaction.flags))
        fit = self.fit(BINARY, {"8BITMIME": ""}, TEXT)
        self.assertEqual((None, EIGHT), (fit.plan, fit.transaction.flags))
        self.assertEqual((None, 0), (self.fit(BINARY, {}, PLAIN).plan, self.fit(BINARY, {}, PLAIN).transaction.flags))
        self.assertEqual("8bit", self.fit(BINARY, {}, TEXT).converted)
        self.assertEqual("5.6.1", self.refusal(BINARY, {}, survey(b"DKIM-Signature: x\r\n\r\n\0"), "send"))

    def test_header_in_utf8(self):
        """RFC 6531 3.6: a header that needs SMTPUTF8 cannot go; one that does not, though the sender said so, can."""
        header = survey(b"Subject: " + UMLAUT + b"\r\n")
        self.assertEqual("5.6.9", self.refusal(UTF8, {"8BITMIME": ""}, header))
        fit = self.fit(UTF8 | EIGHT, {"8BITMIME": ""}, TEXT)
        self.assertEqual(("", None, None), (fit.converted, fit.plan, fit.places))
        self.assertEqual("8bit", self.fit(UTF8 | EIGHT, {}, TEXT).converted)


class RecipientTests(SynchronousTestCase):
    def test_addresses(self):
        """RFC 6531 3.6: who can be written in ASCII gets it; the others are refused, each for himself."""
        wanted = attrs.evolve(TWO, sender="a@ü.test", recipients=("b@mx.test", "ö@mx.test", "c@ä.test"), wishes=())
        self.assertFalse(is_plain(wanted, {}))
        fit = fitted(wanted, {}, None, "convert")
        self.assertEqual(((0, 2), ["5.6.7"], "utf8"), (fit.places, [r.enhanced for r in fit.refused.values()], fit.converted))
        self.assertEqual((("b@mx.test", "c@ä.test"), [1]), (fit.transaction.recipients, list(fit.refused)))
        nobody = fitted(attrs.evolve(TWO, sender="ü@c.test"), {}, None, "convert")
        self.assertEqual("5.6.7", nobody.enhanced)

    def test_received(self):
        """Our own trace does not keep a message from a server without SMTPUTF8; of others' not an octet is changed."""
        line = "Received: from a\r\n\tby b with UTF8SMTP id 1\r\n\tfor <%s>;\r\n\tSun\r\n"
        self.assertEqual((line % "a@b").encode(), without_receiver((line % "a@b").encode()))
        self.assertEqual(line.replace("\r\n\tfor <%s>", "").encode(), without_receiver((line % "ü@b").encode()))
        self.assertEqual("X: ü\r\n".encode(), without_receiver("X: ü\r\n".encode()))

    def test_limits(self):
        """RFC 9422 4.2: no more than the server takes; the wishes of those who go, and no others."""
        fit = fitted(TWO, {"LIMITS": "RCPTMAX=1"}, None, "convert")
        self.assertEqual(((0,), ("b@mx.test",), ((1, None),)), (fit.places, fit.transaction.recipients, fit.transaction.wishes))
        self.assertIsNone(fitted(TWO, {"LIMITS": "RCPTMAX=2"}, None, "convert").places)

    def test_deliver_by(self):
        """RFC 2852 4: what is left of the time, with mode and trace; mode R never to who does not keep it."""
        message = Message(1, "", 0, 0, 0, int(Flag.BY_RETURN | Flag.BY_TRACE), 1, b"", deliver_by=100_000)
        self.assertEqual("60;RT", by_value(message, 39_500))
        self.assertEqual("-1;N", by_value(attrs.evolve(message, flags=0), 100_001))
        self.assertEqual("", by_value(attrs.evolve(message, deliver_by=0), 5))
        self.assertEqual("-999999999;N", by_value(attrs.evolve(message, flags=0), 10**15))
        late = attrs.evolve(TWO, by="60;R")
        self.assertEqual("5.3.3", fitted(late, {}, None, "convert").enhanced)
        self.assertEqual(late, fitted(late, {"DELIVERBY": ""}, None, "convert").transaction)
