"""Headers of MIME, read strictly."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.convert.entity import Body, Entity, Odd, may_encode, read_entity


def read(text: str, digest: bool = False) -> Entity:
    return read_entity([line.encode() + b"\r\n" for line in text.splitlines()], digest)


class EntityTests(SynchronousTestCase):
    def test_defaults(self):
        """RFC 2045 5.2: text; in a digest a message."""
        entity = read("Subject: x")
        self.assertEqual((("text", "plain"), "", Body.LEAF, False), (entity.kind, entity.encoding, entity.body, entity.signed))
        self.assertIs(Body.MESSAGE, read("", digest=True).body)

    def test_content_type(self):
        """Folded, quoted, with any letters and a last semicolon."""
        for value, boundary in (
            ('multipart/mixed; boundary="a b"', b"a b"),
            ("Multipart/Mixed;\r\n\tBOUNDARY=x ; charset=y;", b"x"),
            (r' multipart/mixed;boundary = "a\"b"; other="ü"', b'a"b'),
        ):
            entity = read(f"content-TYPE:{value}")
            self.assertEqual((("multipart", "mixed"), boundary, Body.MULTIPART), (entity.kind, entity.boundary, entity.body))

    def test_odd(self):
        """What could be read in two ways is not read."""
        for text in (
            " continued",
            "no field",
            "Sub ject: x",
            "Content-Type: text",
            "Content-Type: text/plain (a comment)",
            "Content-Type: text/plain; charset",
            "Content-Type: text/plain; a=b; A=c",
            "Content-Type: text/plain\nContent-type: text/html",
            "Content-Type: text/plain;" + " a=b;" * 3000,
            "Content-Transfer-Encoding: 8bit 7bit",
            "Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 8bit",
            "Content-Type: multipart/mixed",
            'Content-Type: multipart/mixed; boundary=""',
            'Content-Type: multipart/mixed; boundary="a "',
            "Content-Type: multipart/mixed; boundary*0=a",
            f"Content-Type: multipart/mixed; boundary={'a' * 71}",
            "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64",
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable",
            "Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64",
        ):
            self.assertRaises(Odd, read, text)

    def test_fields(self):
        """Where they stand, continuations included."""
        entity = read("A: x\nContent-Transfer-Encoding:\n 8BIT\nDKIM-Signature: x\nMIME-Version: 1.0")
        self.assertEqual({b"content-transfer-encoding": slice(1, 3), b"mime-version": slice(4, 5)}, entity.fields)
        self.assertEqual(("8bit", True), (entity.encoding, entity.signed))

    def test_may_encode(self):
        """RFC 2045 6.4, RFC 6532 3.7: what is not encoded yet, and of message/* only the kinds made for it."""
        for text, may in (
            ("Content-Transfer-Encoding: binary", True),
            ("Content-Transfer-Encoding: base64", False),
            ("Content-Transfer-Encoding: x-mine", False),
            ("Content-Type: message/delivery-status", False),
            ("Content-Type: message/global", True),
        ):
            self.assertEqual(may, may_encode(read(text)), text)
