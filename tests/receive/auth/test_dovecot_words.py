"""Dovecot's words, without a Dovecot."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.dovecot_words import Answer, _escape, _text, answer_in, begin, cancel, go_on, hello
from mta.receive.auth.peer import Peer


class SaidTests(SynchronousTestCase):
    """What we say."""

    def test_lines(self) -> None:
        """Word for word; what the client said comes last, in base64; "secured" only in TLS."""
        self.assertEqual(hello(7), b"VERSION\t1\t1\nCPID\t7\n")
        self.assertEqual(
            begin(3, "PLAIN", Peer("192.0.2.1", True), b"\0u\0p"),
            b"AUTH\t3\tPLAIN\tservice=smtp\tsecured\trip=192.0.2.1\tresp=AHUAcA==\n",
        )
        self.assertEqual(begin(4, "PLAIN", Peer(), b""), b"AUTH\t4\tPLAIN\tservice=smtp\tresp=\n")
        self.assertEqual(begin(5, "CRAM-MD5", Peer(), None), b"AUTH\t5\tCRAM-MD5\tservice=smtp\n")
        self.assertEqual((go_on(3, b"x"), cancel(3)), (b"CONT\t3\teA==\n", b"CANCEL\t3\n"))

    @settings(deadline=None, max_examples=100)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
    def test_escapes(self, text: str) -> None:
        """A value never ends its word, nor the line; there and back it is the same."""
        escaped = _escape(text.encode())
        self.assertNotRegex(escaped, rb"[\0\t\r\n]")
        self.assertEqual(_text(escaped), text)


class HeardTests(SynchronousTestCase):
    """What we hear."""

    def test_answers(self) -> None:
        """Yes, no, not now, and go on; the right password of a user who must not come in is a no; what is not UTF-8 is nothing."""
        for line, answer, denied in (
            (b"OK\t1\tuser=tim@a.test", Answer("OK", 1, {"user": "tim@a.test"}), False),
            (b"OK\t1\tuser=t\x01tm\x011\x010x", Answer("OK", 1, {"user": "t\tm\x01\0x"}), False),
            (b"OK\t1\tuser=tim\tnologin", Answer("OK", 1, {"user": "tim", "nologin": ""}), True),
            (b"OK\t1\tuser=tim\tnologin=Y\thost=b", Answer("OK", 1, {"user": "tim", "nologin": "Y", "host": "b"}), True),
            (b"OK\t1\tuser=tim\tproxy", Answer("OK", 1, {"user": "tim", "proxy": ""}), True),
            (b"FAIL\t2\tuser=tim\tauthz", Answer("FAIL", 2, {"user": "tim", "authz": ""}), True),
            (b"FAIL\t2\tuser=tim\ttemp", Answer("FAIL", 2, {"user": "tim", "temp": ""}), False),
            (b"FAIL\t2\tcode=temp_fail", Answer("FAIL", 2, {"code": "temp_fail"}), False),
            (b"CONT\t3\teA==", Answer("CONT", 3, {}, b"x"), False),
            (b"CONT\t3", Answer("CONT", 3, {}), False),
            (b"FAIL\t4\tuser=\xff", Answer("FAIL", 4, {"user": ""}), True),
            (b"OK\t4\tuser=\xff\tnologin=\xff", Answer("OK", 4, {"user": "", "nologin": ""}), True),
        ):
            heard = answer_in(line)
            assert heard is not None
            self.assertEqual((heard, heard.is_denied), (answer, denied))

    def test_others(self) -> None:
        """Words of the handshake, and those of versions to come, are no answers; a broken answer is a ValueError."""
        for line in (b"", b"SPID\t1", b"MECH\tPLAIN\tplaintext", b"DONE", b"NEWS\t1"):
            self.assertIsNone(answer_in(line))
        for line in (b"OK", b"OK\tx", b"FAIL\t-1", b"CONT\t1\t?", b"OK\t99999999999"):
            self.assertRaises(ValueError, answer_in, line)

    @settings(deadline=None, max_examples=150)
    @given(st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(lambda rest: b"OK\t1\t" + rest)))
    def test_anything(self, line: bytes) -> None:
        """An answer, none, or a ValueError."""
        try:
            answer_in(line)
        except ValueError:
            pass
