"""What may be changed in a message, and what may not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.convert.survey import BASE64, QUOTED, Plan, Survey
from tests.smtp.convert.messages import UMLAUT, cut, places, survey

PARTS = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
SIGNED = b'Content-Type: multipart/signed; boundary=s; protocol="p/q"\r\n\r\n'


class SurveyTests(SynchronousTestCase):
    def why(self, data: bytes, eight: bool = False, mailbox: bool = False) -> str:
        plan = survey(data).mailbox_plan() if mailbox else survey(data).plan(eight)
        assert isinstance(plan, str), plan
        return plan

    def encodings(self, data: bytes, eight: bool = False, mailbox: bool = False) -> tuple[str, ...]:
        plan = survey(data).mailbox_plan() if mailbox else survey(data).plan(eight)
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

    def test_long_line_of_a_header(self):
        """It may come under BODY=BINARYMIME, in a part, and could leave by DATA in no way; in a mailbox it may stay."""
        part = PARTS + b"--x\r\nContent-Type: image/png\r\nX: %s\r\n\r\n\0\r\n--x--\r\n"
        self.assertEqual(("", BASE64), self.encodings(part % (b"y" * 995), eight=True))
        self.assertEqual("a line of a header over 1000 octets", self.why(part % (b"y" * 996), eight=True))
        self.assertEqual(("", BASE64), self.encodings(part % (b"y" * 996), mailbox=True))

    def test_bare_in_a_header(self):
        """Nobody knows whether a bare LF in the header of a part begins another field: it is not converted."""
        part = PARTS + b"--x\r\nContent-Type: text/html%sContent-Transfer-Encoding: base64\r\n\r\n\0\r\n--x--\r\n"
        for end in (b"\n", b"\r", b"\r\r\n", b"\0\r\n", b"\n\n"):
            for mailbox in (False, True):
                why = self.why(part % end, eight=True, mailbox=mailbox)
                self.assertEqual("a header that is too long, or has a bare CR, a bare LF or a NUL", why)

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
        """What DATA cannot carry, also where the structure is not understood; and what of it no file with lines can."""
        for body in (b"\0", b"\r", b"a\rb\r\n", b"\n\r\n", b"x" * 999):
            for head in (b"Subject: x\r\n\r\n", b"nothing\r\n\r\n"):
                found = survey(head + body)
                self.assertEqual((True, b"x" not in body), (found.raw, found.bare), body)
        self.assertFalse(survey(b"Subject: x\r\n\r\n" + b"x" * 998).raw)

    def test_mailbox(self):
        """Its lines end with LF: what is binary and no text is encoded even where its octets look like lines; lines may be long."""
        entity = b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s"
        for kind, label, content, encoding in (
            (b"image/png", b"binary", b"x\r\n", BASE64),
            (b"image/png", b"8bit", b"\xff\r\n", ""),
            (b"image/png", b"7bit", b"\0\r\n", BASE64),
            (b"text/plain", b"binary", b"x\r\n", "7bit"),
            (b"text/plain", b"binary", UMLAUT, "8bit"),
            (b"text/plain", b"binary", b"x" * 1200, QUOTED),
            (b"text/plain", b"binary", b"\n", BASE64),
            (b"message/global", b"binary", b"x\r\n", BASE64),
            (b"message/partial", b"binary", b"x\r\n", "7bit"),
            (b"message/partial", b"8bit", b"x" * 1200, ""),
            (b"image/png", b"base64", b"x" * 1200, ""),
            (b"multipart/mixed; boundary=b", b"binary", b"--b--\r\n", "8bit"),
        ):
            data = entity % (kind, label, content)
            self.assertEqual((encoding,), self.encodings(data, mailbox=True), (kind, label))
        self.assertEqual("image/png in base64", self.why(entity % (b"image/png", b"base64", b"\0"), mailbox=True))

    def test_mailbox_and_signatures(self):
        """Servers have looked at DKIM by then; what is signed for the reader stays, and goes back where that cannot be."""
        binary = b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n%s"
        self.assertEqual((BASE64,), self.encodings(b"DKIM-Signature: v=1\r\n" + binary % b"\0", mailbox=True))
        signed = SIGNED + b"--s\r\n" + binary + b"\r\n--s\r\nContent-Type: p/q\r\n\r\nx\r\n--s--\r\n"
        self.assertEqual(("", "", ""), self.encodings(signed % (b"x" * 1200 + b"\r\n"), mailbox=True))
        self.assertEqual("a signature would break", self.why(signed % b"\0", mailbox=True))
        self.assertEqual("octets outside of the parts", self.why(PARTS + b"\0\r\n--x--\r\n", mailbox=True))
        self.assertEqual((""), "".join(self.encodings(PARTS + b"x" * 1200 + b"\r\n--x--\r\n", mailbox=True)))

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
        self.assertEqual(whole.mailbox_plan(), found.mailbox_plan())
        self.assertEqual(not data.isascii(), found.high)
