"""Messages on their way to servers that do not take them as they are."""

from __future__ import annotations

from email import message_from_bytes

from hypothesis import assume, given, settings
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.convert.conversion import Conversion
from mta.smtp.convert.entity import Odd
from mta.smtp.convert.survey import Plan
from tests.smtp.convert.messages import UMLAUT, converted, cut, leaves, messages, places, raw_messages, survey

HEADER = b"From: a@b.test\r\nSubject:  odd   spacing\r\n\t kept\r\n"
MIME = b"MIME-Version: 1.0\r\n"


def check(case: SynchronousTestCase, data: bytes, out: bytes) -> None:
    """What always holds of an outcome for a server without 8BITMIME."""
    case.assertTrue(out.isascii())
    case.assertEqual(out.count(b"\r\n"), out.count(b"\n"))
    case.assertEqual(out.count(b"\r\n"), out.count(b"\r"))
    case.assertNotIn(b"\0", out)
    case.assertLessEqual(max(map(len, out.split(b"\r\n"))), 998)
    case.assertEqual(leaves(data), leaves(out))


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(messages, places)
    def test_same_parts(self, data, places):
        """RFC 6152 3: seven bits, the same parts to whoever decodes them, whatever the pieces; no more than was announced."""
        found = survey(*cut(data, places))
        plan = found.plan(eight=False)
        assume(isinstance(plan, Plan))
        out = converted(data, places=places)
        self.assertEqual(converted(data), out)
        check(self, data, out)
        self.assertLessEqual(len(out), plan.size)

    @settings(deadline=None, max_examples=100)
    @given(messages)
    def test_idempotent(self, data):
        """What was made fit is fit: nothing is left to do, and doing it changes nothing."""
        assume(isinstance(survey(data).plan(eight=False), Plan))
        out = converted(data)
        found = survey(out)
        self.assertEqual((False, False, False, ""), (found.high, found.raw, found.header_high, found.odd))
        self.assertEqual(out, converted(out))

    @settings(deadline=None, max_examples=150)
    @given(raw_messages, places)
    def test_binary(self, data, places):
        """RFC 3030 3: any octets, for servers with 8BITMIME and without."""
        for eight in (False, True):
            plan = survey(data).plan(eight)
            if isinstance(plan, Plan):
                out = converted(data, eight, places)
                self.assertFalse(survey(out).raw)
                self.assertEqual(_with_end(leaves(data)), _with_end(leaves(out)))
                self.assertLessEqual(len(out), plan.size)
                if not eight:
                    check(self, out, out)

    @settings(deadline=None, max_examples=100)
    @given(raw_messages, places)
    def test_nothing_to_do(self, data, places):
        """A plan that changes nothing gives the message octet for octet."""
        plan = survey(data).plan(eight=True)
        assume(isinstance(plan, Plan))
        conversion = Conversion(Plan(("",) * len(plan.encodings), 0))
        out = [conversion.convert(piece) for piece in cut(data, places)]
        self.assertEqual(data, b"".join(out) + conversion.finish())


def _with_end(parts: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The last octets of the last part may be a line end that DATA needs."""
    return [(kind, content.rstrip(b"\r\n")) for kind, content in parts]


class MessageTests(SynchronousTestCase):
    def test_text(self):
        """quoted-printable for text; the header keeps its octets, but for the one field."""
        data = HEADER + MIME + b"content-transfer-encoding: 8BIT\r\nContent-Type: text/plain; charset=latin1\r\n\r\n" + UMLAUT
        self.assertEqual(
            HEADER
            + MIME
            + b"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=latin1\r\n\r\n"
            + b"Gr=FC=DFe aus K=F6ln\r\n",
            converted(data),
        )

    def test_without_mime(self):
        """RFC 1428 3: text of which nobody knows the charset."""
        self.assertEqual(
            HEADER
            + b"Content-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n"
            + MIME
            + b"\r\nGr=FC=DFe aus K=F6ln\r\n",
            converted(HEADER + b"\r\n" + UMLAUT),
        )

    def test_multipart(self):
        """Only the part that needs it is encoded; what is around it says 7bit."""
        top = HEADER + MIME + b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhello\r\n"
        plain, png = b"--x\r\n\r\n.plain =\r\n", b"--x\r\nContent-Type: image/png\r\n"
        data = top + plain + png + b"\r\n\xff\xd8\r\n--x-- \r\nepilogue\r\n"
        self.assertEqual(
            top.replace(b"8bit", b"7bit")
            + plain
            + png
            + b"Content-Transfer-Encoding: base64\r\n\r\n/9g=\r\n--x-- \r\nepilogue\r\n",
            converted(data),
        )

    def test_forwarded(self):
        """A message in a message is one of its own."""
        data = HEADER + MIME + b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n" + UMLAUT
        inner = message_from_bytes(converted(data)).get_payload(0)
        self.assertEqual(UMLAUT.rstrip(), inner.get_payload(decode=True).rstrip())

    def test_no_new_delimiter(self):
        """No line of what was encoded is taken for a delimiter: one that begins like it, or that a soft break brings forth."""
        for line in (b"--a=", b"x" * 75 + b"--a=3D", b"x" * 74 + b"---a=3D"):
            data = MIME + b'Content-Type: multipart/mixed; boundary="a=3D"\r\n\r\n--a=3D\r\n\r\n' + line + b"\xfc\r\n--a=3D--\r\n"
            self.assertEqual(leaves(data), leaves(converted(data)), line)
            self.assertEqual(1, len(leaves(data)))

    def test_another_message(self):
        """Octets that are not those surveyed are noticed, for a damaged disk must not end as a message."""
        one = survey(HEADER + b"\r\n" + UMLAUT).plan(eight=False)
        conversion = Conversion(one)
        two = MIME + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\r\n--x--\r\n"
        self.assertRaises(Odd, conversion.convert, two)
        short = Conversion(Plan(("", ""), 0))
        short.convert(b"Subject: x\r\n\r\nx\r\n")
        self.assertRaises(Odd, short.finish)
