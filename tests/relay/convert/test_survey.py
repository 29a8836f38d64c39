"""What may be changed in a message, and what may not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.relay.convert.survey import BASE64, QUOTED, Plan, Survey
from tests.relay.convert.messages import UMLAUT, cut, places, survey

PARTS = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
SIGNED = b'Content-Type: multipart/signed; boundary=s; protocol="p/q"\r\n\r\n'


class SurveyTests(SynchronousTestCase):
    def why(self, data: bytes, eight: bool = False) -> str:
        plan = survey(data).plan(eight)
        assert isinstance(plan, str), plan
        return plan

    def encodings(self, data: bytes, eight: bool = False) -> tuple[str, ...]:
        plan = survey(data).plan(eight)
        assert isinstance(plan, Plan), plan
        return tuple(plan.encodings)

    def test_signed(self):
        """A signature that covers what must change: nothing is changed; one beside it does not matter."""
        for field in (b"DKIM-Signature: v=1\r\n", b"arc-message-signature: i=1\r\n"):
            self.assertEqual("a signature would break", self.why(field + b"\r\n" + UMLAUT))
            inner = b"--x\r\nContent-Type: message/rfc822\r\n\r\n" + field + b"\r\n%s\r\n--x\r\n\r\n%s--x--\r\n"
            self.assertEqual("a signature would break", self.why(PARTS + inner % (UMLAUT, b"")))
            self.assertEqual(("", "", "", QUOTED), self.encodings(PARTS + inner % (b"", UMLAUT)))
        signed = SIGNED + b"--s\r\n\r\n%s\r\n--s\r\nContent-Type: p/q\r\n\r\nx\r\n--s--\r\n"
        self.assertEqual("a signature would break", self.why(signed % UMLAUT))
        self.assertEqual(("", "", ""), self.encodings(signed % b"x"))
        around = PARTS + b"--x\r\n" + signed % b"x" + b"--x\r\n\r\n" + UMLAUT + b"--x--\r\n"
        self.assertEqual(("", "", "", "", QUOTED), self.encodings(around))

    def test_labels(self):
        """What says 8bit or binary and need not is told anew, but never in what is signed."""
        entity = b"Content-Transfer-Encoding: %s\r\n\r\n%s"
        for label, content, seven, eight in (
            (b"8bit", b"x\r\n", "7bit", ""),
            (b"binary", b"x\r\n", "7bit", "7bit"),
            (b"binary", UMLAUT, QUOTED, "8bit"),
            (b"Base64", b"eA==\r\n", "", ""),
            (b"7bit", b"x" * 1200, QUOTED, QUOTED),
            (b"binary", b"\0" + UMLAUT, BASE64, BASE64),
        ):
            self.assertEqual((seven,), self.encodings(entity % (label, content)), label)
            self.assertEqual((eight,), self.encodings(entity % (label, content), eight=True), label)
        sealed = b"DKIM-Signature: x\r\n" + entity % (b"8bit", b"x\r\n")
        self.assertEqual(("",), self.encodings(sealed))

    def test_which_encoding(self):
        """Text that is mostly ASCII stays readable; other text and all else gets what is shorter."""
        kind = b"Content-Type: %s\r\n\r\n"
        self.assertEqual((QUOTED,), self.encodings(kind % b"text/html" + UMLAUT * 9))
        self.assertEqual((BASE64,), self.encodings(kind % b"text/plain" + "Привет, мир\r\n".encode() * 9))
        self.assertEqual((BASE64,), self.encodings(kind % b"application/json" + UMLAUT * 9))
        self.assertEqual((BASE64,), self.encodings(kind % b"message/global" + UMLAUT))

    def test_nowhere_to_encode(self):
        """Octets over 127 where MIME has no way to say them."""
        self.assertEqual("a header that is not ASCII", self.why(b"Subject: " + UMLAUT + b"\r\n" + UMLAUT))
        self.assertEqual("octets outside of the parts", self.why(PARTS + UMLAUT + b"--x\r\n\r\n\r\n--x--\r\n"))
        self.assertEqual("octets outside of the parts", self.why(PARTS + b"--x\r\n\r\n\r\n--x--\r\n" + UMLAUT))
        self.assertEqual("text/plain in base64", self.why(b"Content-Transfer-Encoding: base64\r\n\r\n" + UMLAUT))
        self.assertEqual("text/plain in x-mine", self.why(b"Content-Transfer-Encoding: x-mine\r\n\r\n" + UMLAUT))
        self.assertEqual("message/partial in 7bit", self.why(b"Content-Type: message/partial\r\n\r\n" + UMLAUT))

    def test_header(self):
        """RFC 6531: octets over 127 in any header, or where nobody can tell."""
        part = PARTS + b"--x\r\n%s\r\n%s\r\n--x--\r\n"
        for data, high, header_high in (
            (b"Subject: x\r\n\r\n" + UMLAUT, True, False),
            (b"Subject: " + UMLAUT + b"\r\n", True, True),
            (part % (b"Content-Description: " + UMLAUT, b""), True, True),
            (part % (b"", UMLAUT), True, False),
            (b"no header " + UMLAUT, True, True),
            (b"no header \r\n", False, False),
        ):
            found = survey(data)
            self.assertEqual((high, header_high), (found.high, found.header_high), data)

    def test_raw(self):
        """What DATA cannot carry, also where the structure is not understood."""
        for body in (b"\0", b"\r", b"a\rb\r\n", b"\n\r\n", b"x" * 999):
            for head in (b"Subject: x\r\n\r\n", b"nothing\r\n\r\n"):
                self.assertTrue(survey(head + body).raw, body)
        self.assertFalse(survey(b"Subject: x\r\n\r\n" + b"x" * 998).raw)

    @settings(deadline=None, max_examples=150)
    @given(st.one_of(st.binary(max_size=300), st.text("-=x:; \r\n\0a/é", max_size=300).map(str.encode)), places)
    def test_anything(self, data, places):
        """Whatever the octets and the pieces: an answer, always the same."""
        look = Survey()
        for piece in cut(data, places):
            look.look(piece)
        found, whole = look.findings(), survey(data)
        self.assertEqual((whole.high, whole.raw, whole.header_high), (found.high, found.raw, found.header_high))
        self.assertEqual(whole.plan(eight=False), found.plan(eight=False))
        self.assertEqual(not data.isascii(), found.high)
