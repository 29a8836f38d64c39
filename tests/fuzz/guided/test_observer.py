"""The one in between: conversations that can be read, and those that cannot."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.reply import ReplyParser
from tests.fuzz.guided.observer import Observer, is_canonical, unstuffed

BEGIN = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
BINARY = BEGIN.replace(b"b>", b"b> BODY=BINARYMIME")
OK = b"220 mx\r\n250 hello\r\n250 ok\r\n250 ok\r\n"


def seen(client: bytes, said: bytes, ended: bool = False, asks: bool = False, limit: int = 0) -> Observer:
    """Behind a greeting."""
    parser = ReplyParser()
    parser.receive(said)
    return Observer(client, list(iter(parser.take, None)), True, ended, asks, limit)


class ObserverTests(SynchronousTestCase):
    def test_messages(self) -> None:
        """Behind DATA with its dots, in chunks with the last CRLF, and binary as it is."""
        data = BEGIN + b"DATA\r\n..x\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2\r\na\rBDAT 2 last\r\n\nb"
        said = OK + b"354 go\r\n250 one\r\n250 ok\r\n250 ok\r\n250 chunk\r\n250 two\r\n"
        self.assertEqual([b".x\r\n", b"a\r\nb\r\n"], seen(data, said).messages)
        binary = BINARY + b"BDAT 3 LAST\r\n\r\n\n"
        self.assertEqual([b"\r\n\n"], seen(binary, OK + b"250 ok\r\n").messages)

    def test_what_is_not_answered(self) -> None:
        """Half a line, half a body, half a chunk, and the end of the conversation."""
        for client, said, ended in (
            (b"EHLO", b"", False),
            (BEGIN + b"DATA\r\nx\r\n.", OK[8:] + b"354 go\r\n", False),
            (BEGIN + b"BDAT 5\r\nx", OK[8:], False),
            (b"EHLO c\r\nx\n", b"250 hello\r\n500 no\r\n", True),
            (b"NOOP\r\nNOOP\r\n", b"421 bye\r\n", True),
            (b"AUTH PLAIN\r\n*\r\nx", b"334 \r\n501 ok\r\n", False),
            (b"x" * 3000 + b"\r\nNOOP\r\n", b"500 long\r\n250 ok\r\n", False),
        ):
            self.assertEqual([], seen(client, b"220 mx\r\n" + said, ended).messages)
        self.assertEqual([], seen(b"NOOP\r\n", b"220 mx\r\n", asks=True).messages)

    def test_what_must_not_be(self) -> None:
        """Replies that nobody asked for, commands that nobody answered, bodies that are bad, and what goes on behind the end."""
        for client, said in (
            (b"NOOP\r\n", b"250 ok\r\n250 ok\r\n"),
            (b"NOOP\r\nNOOP\r\n", b"250 ok\r\n"),
            (b"", b"250 ok\r\n"),
            (b"NOOP\n", b""),
            (b"NOOP\r\n", b"354 go\r\n"),
            (b"NOOP\r\n", b"334 x\r\n"),
            (b"AUTH PLAIN\r\nx\r\n", b"334-x\r\n334 y\r\n235 ok\r\n"),
            (b"BDAT x\r\n", b"501 no\r\n"),
            (BEGIN + b"DATA\r\nx\n\r\n.\r\n", OK[8:] + b"354 go\r\n250 ok\r\n"),
            (BEGIN + b"DATA\r\nx\r\n.\r\n", OK[8:] + b"354 go\r\n550 5.6.0 Message has a bare CR, a bare LF or a NUL\r\n"),
            (BEGIN + b"BDAT 1 LAST\r\n\n", OK[8:] + b"250 ok\r\n"),
            (BINARY + b"BDAT 1 LAST\r\n\n", OK[8:] + b"250 ok\r\n"),
            (BINARY + b"BDAT 3 LAST\r\n\r\n\n", OK[8:] + b"550 5.6.0 Message header has a bare CR, a bare LF or a NUL\r\n"),
            (b"STARTTLS\r\nNOOP\r\n", b"220 go\r\n"),
            (b"x" * 3000 + b"\r\n", b"250 ok\r\n"),
        ):
            self.assertRaises(AssertionError, seen, client, b"220 mx\r\n" + said)
        big = BEGIN + b"DATA\r\nxx\r\n.\r\n"
        self.assertRaises(AssertionError, seen, big, OK + b"354 go\r\n250 ok\r\n", limit=3)
        self.assertRaises(AssertionError, seen, big, OK + b"354 go\r\n552 5.3.4 Message too big\r\n", limit=4)

    def test_reading(self) -> None:
        """Lines and dots."""
        self.assertEqual(b"a\r\n.b\r\n\r\n", unstuffed(b".a\r\n..b\r\n.\r\n"))
        for bad in (b"\r", b"\n", b"a\0", b"x" * 999 + b"\r\n", b"\r\r\n"):
            self.assertFalse(is_canonical(bad), bad)
        self.assertTrue(is_canonical(b"x" * 998 + b"\r\n\r\n"))
