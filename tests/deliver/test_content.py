"""What mailboxes get of a message: its octets, and of a binary one what means the same in lines."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message as Parsed

from hypothesis import assume, given, settings
from twisted.trial.unittest import SynchronousTestCase

from mta.deliver.content import Content
from mta.envelope import Claim, Flag, Job, Message
from mta.smtp.convert import survey as survey_module
from mta.status import MailError
from tests.smtp.convert.messages import raw_messages

BINARY = int(Flag.BINARYMIME)
PREFIX = b"Received: by mx1\r\n"
EVERY = bytes(range(256)) * 3 + b"\r\n\r\n\n\r--x\n.\r\nlast\r"
HEADER = b"Subject: hi\r\nMIME-Version: 1.0\r\n"
MIXED = HEADER + b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: binary\r\n\r\n"
IMAGE = b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
SIGNED = HEADER + b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n" + IMAGE
SIGNATURE = b"\r\n--x\r\nContent-Type: p/q\r\n\r\nx\r\n--x--\r\n"


def content(body: bytes, flags: int = BINARY) -> Content:
    message = Message(64, "alice@a.test", 1, 2, 100, flags, 1, PREFIX)
    return Content(None, Job(message, (Claim(65, 64, "maildir:local/", 0, 0, 0, "b@b.test"),), "maildir:local/", body, None))


def stored(body: bytes, flags: int = BINARY) -> bytes:
    """As a Maildir has it."""
    return b"".join(content(body, flags).pieces()).replace(b"\r\n", b"\n")


def parts(data: bytes) -> list[Parsed]:
    return [part for part in message_from_bytes(data).walk() if not part.is_multipart()]


def octets(part: Parsed) -> bytes:
    found = part.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found


def encoding(part: Parsed) -> str:
    return str(part.get("Content-Transfer-Encoding", "")).strip().lower()


class ContentTests(SynchronousTestCase):
    """`Content`."""

    def check_lines(self, data: bytes) -> None:
        """Text with LF, which every reader of a Maildir takes."""
        self.assertFalse(b"\r" in data or b"\0" in data, data)

    def test_octets(self) -> None:
        """RFC 3030 3: a binary part is the same when it is decoded, whatever is in it; also one that looks like lines."""
        for inside in (EVERY, b"a\r\nb\r\n", b"", b"\n", b"\r", b"\r\n", b"\0" * 200_000):
            for body in (HEADER + IMAGE + inside, MIXED + b"--x\r\n" + IMAGE + inside + b"\r\n--x--\r\n"):
                found = stored(body)
                (part,) = parts(found)
                self.assertEqual((inside, "base64"), (octets(part), encoding(part)))
                self.check_lines(found)
                self.assertTrue(found.startswith(b"Received: by mx1\nSubject: hi\n"))

    def test_nested(self) -> None:
        """Multiparts in one another, a message in a message: every binary part, and nothing else but labels, is changed."""
        text = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        inner = (
            b"Content-Type: multipart/related; boundary=y\r\n\r\n--y\r\n"
            + text
            + b"\r\n--y\r\n"
            + IMAGE
            + EVERY
            + b"\r\n--y--\r\n"
        )
        mail = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\nSubject: inner\r\n" + IMAGE + EVERY
        found = stored(MIXED + b"--x\r\n" + inner + b"--x\r\n" + mail + b"\r\n--x--\r\nepilogue\r\n")
        self.check_lines(found)
        whole = message_from_bytes(found)
        self.assertEqual(
            ["multipart/mixed", "multipart/related", "text/plain", "image/png", "message/rfc822", "image/png"],
            [part.get_content_type() for part in whole.walk()],
        )
        self.assertEqual("Grüße\n".encode(), octets(parts(found)[0]))
        self.assertEqual([EVERY, EVERY], [octets(part) for part in parts(found)[1:]])
        self.assertNotIn(b"binary", found)

    def test_text(self) -> None:
        """What is text stays so, with LF; with a bare CR, a bare LF or a NUL in it it is encoded, and nothing is lost."""
        text = HEADER + b"Content-Transfer-Encoding: binary\r\n\r\n"
        self.assertEqual(
            (PREFIX + text).replace(b"\r\n", b"\n").replace(b"binary", b"7bit") + b"a\nb\n", stored(text + b"a\r\nb\r\n")
        )
        for inside in (b"a\nb\r\n", b"a\rb", b"\0", "ä\r\n".encode("utf-16")):
            (part,) = parts(stored(text + inside))
            self.assertEqual(inside, octets(part))

    def test_other_mail_is_untouched(self) -> None:
        """Octet for octet, whatever it says of itself, however bad it is."""
        for body in (HEADER + IMAGE + b"a\r\nb\r\n", b"no header \r\n\r\n\r\n", MIXED + b"--x", b"\xff"):
            for flags in (0, int(Flag.EIGHTBITMIME)):
                self.assertEqual([PREFIX, body], list(content(body, flags).pieces()))
                self.assertEqual("", content(body, flags).converted)

    def test_nothing_to_do(self) -> None:
        """BODY=BINARYMIME of what needs it not: as it came, and the log does not call it converted."""
        for body in (b"Subject: x\r\n\r\nhello\r\n", b"no header", MIXED.replace(b"binary", b"8bit") + b"--x\r\n\r\n\xff\r\n"):
            one = content(body)
            self.assertEqual(PREFIX + body, b"".join(one.pieces()))
            self.assertEqual("", one.converted)

    def test_what_cannot_be_converted(self) -> None:
        """Where a signature would break, where nobody knows what it means: back to the sender, with the reason."""
        for body, why in (
            (SIGNED + b"\0" + SIGNATURE, "a signature would break"),
            (MIXED + b"preamble\n--x\r\n\r\n--x--\r\n", "octets outside of the parts"),
            (MIXED + b"--x\r\nContent-Type: text/html\nX: y\r\n\r\n--x--\r\n", "a header that is too long, or has a bare CR"),
            (MIXED + b"--x\r\n" + IMAGE + b"\n\r\n", "an end in the middle"),
            (HEADER + b"Content-Transfer-Encoding: base64\r\n\r\neA=\n=", "text/plain in base64"),
        ):
            for _ in range(2):
                error = self.assertRaises(MailError, stored, body)
                self.assertEqual((554, "5.6.1"), (error.reply.code, error.reply.enhanced))
                self.assertIn(why, error.reply.text)

    def test_signed_but_sound(self) -> None:
        """What is in lines already stays where it cannot be changed: readers of signatures know about ends of lines."""
        body = SIGNED + b"a\r\nb" + SIGNATURE
        self.assertEqual((PREFIX + body).replace(b"\r\n", b"\n"), stored(body))
        self.assertEqual(EVERY, octets(parts(stored(b"DKIM-Signature: v=1\r\n" + HEADER + IMAGE + EVERY))[0]))

    def test_looked_at_once(self) -> None:
        """However many recipients there are."""
        looks: list[None] = []
        look = survey_module.Survey.findings
        self.patch(survey_module.Survey, "findings", lambda survey: looks.append(None) or look(survey))
        one = content(HEADER + IMAGE + EVERY)
        first, second = b"".join(one.pieces()), b"".join(one.pieces())
        self.assertEqual((first, 1, "binary"), (second, len(looks), one.converted))

    def test_another_message_than_before(self) -> None:
        """A damaged disk between the two looks: deferred, and no message of it."""
        one = content(HEADER + IMAGE + EVERY)
        list(one.pieces())
        one._job = content(MIXED + b"--x\r\n\r\n--x--\r\n")._job
        error = self.assertRaises(MailError, lambda: list(one.pieces()))
        self.assertEqual(("4.3.0", "not the message that was surveyed"), (error.reply.enhanced, error.reason))

    @settings(deadline=None, max_examples=150)
    @given(raw_messages)
    def test_any(self, body: bytes) -> None:
        """Any tree of parts with any octets: what is binary and no text is exactly the same, all else up to the ends of lines."""
        try:
            found = stored(body)
        except MailError as error:
            assume(error.reply.enhanced != "5.6.1")
            raise
        before, after = parts(body), parts(found)
        self.assertEqual([part.get_content_type() for part in before], [part.get_content_type() for part in after])
        for old, new in zip(before, after, strict=True):
            exact = encoding(new) == "base64"
            self.assertTrue(exact or old.get_content_type() != "image/png" or encoding(old) != "binary")
            one, other = octets(old), octets(new)
            self.assertEqual(*((one, other) if exact else (one.replace(b"\r\n", b"\n"), other.replace(b"\r\n", b"\n"))))
