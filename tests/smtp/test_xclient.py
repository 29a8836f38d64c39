"""XCLIENT and XFORWARD: the attributes, and what the machine does with the commands."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.smtp.dsn import to_xtext
from mta.smtp.event import Hello, XClient
from mta.smtp.server import Counters, Receiver, ReceiverOptions
from mta.smtp.xclient import NOT_FORWARDED, TEMPORARY, XCLIENT, XFORWARD, parse_xclient, parse_xforward
from mta.status import MailError, Reply

OPTIONS = ReceiverOptions("mx.example.org", entitled=(XCLIENT, XFORWARD), starttls=True)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


class ParserTests(SynchronousTestCase):
    """What is said, and what is refused."""

    def test_xclient(self) -> None:
        """Names in any case, values by their kind, [UNAVAILABLE] and [TEMPUNAVAIL] as None, but for a NAME that may be known another time."""
        for text, attributes in (
            (b"ADDR=192.0.2.9", {"addr": "192.0.2.9"}),
            (b"addr=IPV6:2001:DB8::9 Port=40001", {"addr": "2001:db8::9", "port": "40001"}),
            (b"ADDR=ipv6:::1", {"addr": "::1"}),
            (b"NAME=client.example HELO=[192.0.2.9]", {"name": "client.example", "helo": "[192.0.2.9]"}),
            (b"NAME=[UNAVAILABLE]  ADDR=[unavailable]", {"name": None, "addr": None}),
            (b"NAME=[TempUnavail] LOGIN=+5BUNAVAILABLE+5D", {"name": TEMPORARY, "login": None}),
            (b"NAME=+5BTEMPUNAVAIL+5D ADDR=[TEMPUNAVAIL]", {"name": TEMPORARY, "addr": None}),
            (b"PROTO=esmtp LOGIN=user+2Bx@example.org", {"proto": "ESMTP", "login": "user+x@example.org"}),
            (b"DESTADDR=192.0.2.1 DESTPORT=25", {"destaddr": "192.0.2.1", "destport": "25"}),
        ):
            self.assertEqual(parse_xclient(text), XClient(attributes), text)

    def test_bad_xclient(self) -> None:
        """501, and never a piece of it."""
        for text in (
            b"", b" ", b"ADDR", b"ADDR=", b"=x", b"NOSUCH=x", b"IDENT=x", b"ADDR=192.0.2.9 ADDR=192.0.2.8", b"ADDR=[192.0.2.9]",
            b"ADDR=client.example", b"ADDR=2001:db8::9", b"ADDR=IPV6:192.0.2.9", b"ADDR=192.0.2.999", b"PORT=65536", b"PORT=-1",
            b"PORT=x", b"PORT=123456", b"PROTO=HTTP", b"HELO=a+20b", b"HELO=a+0D+0Ab", b"LOGIN=a+00", b"LOGIN=+E9", b"LOGIN=a+2",
            b"LOGIN=+7F", b"NAME=a+28comment+29", b"NAME=\xe9", b"NAME=a!b", b"LOGIN=" + b"x" * 256, b"ADDR=+5BTEMPUNAVAIL", b"LOGIN=a=b",
        ):  # fmt: skip
            error = self.assertRaises(MailError, parse_xclient, text)
            self.assertEqual((error.reply.code, error.reply.enhanced), (501, "5.5.4"), text)

    def test_xforward(self) -> None:
        """Fields for the log; further commands add to them, [UNAVAILABLE] takes away."""
        said = parse_xforward(b"NAME=client.example ADDR=IPV6:2001:db8::9 PROTO=ESMTP", NOT_FORWARDED)
        self.assertEqual(said, {"orig_name": "client.example", "orig_client": "2001:db8::9", "orig_proto": "ESMTP"})
        said = parse_xforward(b"NAME=[UNAVAILABLE] HELO=x SOURCE=REMOTE IDENT=4F1 PORT=7", said)
        self.assertEqual(
            said,
            {
                "orig_client": "2001:db8::9",
                "orig_proto": "ESMTP",
                "orig_helo": "x",
                "orig_source": "REMOTE",
                "orig_ident": "4F1",
                "orig_port": "7",
            },
        )
        for text in (b"", b"LOGIN=x", b"DESTADDR=192.0.2.1", b"NAME", b"NAME=a+0Ab", b"PORT=x", b"NAME=a NAME=b"):
            self.assertRaises(MailError, parse_xforward, text, said)

    @settings(deadline=None, max_examples=200)
    @given(login=VISIBLE)
    def test_any_login(self, login: str) -> None:
        """Whatever is visible comes through xtext as it was."""
        expected = None if login.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else login
        self.assertEqual(parse_xclient(f"LOGIN={to_xtext(login)}".encode()).attributes["login"], expected)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=80))
    def test_any_bytes(self, text: bytes) -> None:
        """Attributes or 501, and no control character gets through."""
        for attributes in (b"LOGIN=" + text, b"HELO=" + text, text):
            try:
                said = parse_xclient(attributes).attributes
            except MailError:
                continue
            self.assertTrue(all(value is None or value.isprintable() for value in said.values()))


class MachineTests(SynchronousTestCase):
    """The commands in their order."""

    def setUp(self) -> None:
        self.machine = Receiver(OPTIONS, Counters())
        self.machine.greet()
        self.hello()

    def hello(self) -> str:
        """EHLO, with its answer."""
        self.machine.receive_data(b"EHLO a.example\r\n")
        [event] = self.machine.events()
        assert isinstance(event, Hello)
        self.machine.reply(Reply(250, "", "mx.example.org"))
        return self.machine.data_to_send().decode()

    def say(self, data: bytes) -> str:
        """What the machine answers by itself."""
        self.machine.receive_data(data)
        return self.machine.data_to_send().decode()

    def test_offered(self) -> None:
        """To those who may, with the attributes."""
        text = self.hello()
        self.assertIn("250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n", text)
        self.assertIn("250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n", text)

    def test_not_entitled(self) -> None:
        """To nobody else, and then they are 550 5.7.0, however they are written; one does not stand for the other."""
        for entitled in ((), (XFORWARD,), (XCLIENT,)):
            self.machine = Receiver(ReceiverOptions("mx.example.org", entitled=entitled), Counters())
            self.machine.greet()
            text = self.hello()
            for verb, offered in (("XCLIENT", XCLIENT), ("XFORWARD", XFORWARD)):
                if offered not in entitled:
                    self.assertNotIn(verb, text)
                    self.assertEqual(self.say(f"{verb} NAME=x\r\n".encode())[:9], "550 5.7.0")
                    self.assertEqual(self.machine.forwarded, {})
            self.assertNotIn(XClient, [type(event) for event in self.machine.events()])

    def test_event(self) -> None:
        """XCLIENT stops the machine for good: nothing behind it is obeyed by this one."""
        self.assertEqual(self.say(b"XCLIENT ADDR=192.0.2.9\r\n"), "")
        self.assertEqual(self.machine.events(), [XClient({"addr": "192.0.2.9"})])
        self.assertEqual((self.say(b"NOOP\r\n"), self.machine.events(), self.machine.asks), ("", [], True))

    def test_last_of_its_group(self) -> None:
        """What lies behind it was said to somebody else: 554, the end."""
        self.assertEqual(self.say(b"XCLIENT ADDR=192.0.2.9\r\nEHLO a\r\n")[:3], "554")
        self.assertTrue(self.machine.ended)

    def test_in_transaction(self) -> None:
        """503 between MAIL and its end."""
        self.machine.receive_data(b"MAIL FROM:<>\r\n")
        self.machine.reply(Reply(250, "2.1.0", "Ok"))
        self.assertEqual(self.say(b"XCLIENT ADDR=192.0.2.9\r\nXFORWARD ADDR=192.0.2.9\r\n").count("503 5.5.1"), 2)

    def test_behind_the_gate(self) -> None:
        """Where AUTH must come first, XCLIENT LOGIN= may come in its place; the machine that follows asks for none."""
        options = ReceiverOptions("mx.example.org", entitled=(XCLIENT,), mail_requires="auth")
        self.machine = Receiver(options, Counters())
        self.machine.greet()
        self.hello()
        self.assertEqual(self.say(b"MAIL FROM:<>\r\n")[:9], "530 5.7.0")
        self.say(b"XCLIENT LOGIN=user\r\n")
        self.machine = Receiver(options, Counters(), authenticated=True)
        self.machine.greet()
        self.hello()
        self.assertEqual(self.say(b"MAIL FROM:<>\r\n"), "")
        self.assertTrue(self.machine.asks)

    def test_forgotten(self) -> None:
        """RSET, and the end of a message, forget what XFORWARD has said; a second EHLO within a transaction too."""
        self.assertEqual(self.say(b"XFORWARD NAME=x\r\nXFORWARD HELO=y\r\n").count("250 2.0.0"), 2)
        self.assertEqual(self.machine.forwarded, {"orig_name": "x", "orig_helo": "y"})
        self.say(b"RSET\r\n")
        self.assertEqual(self.machine.forwarded, {})
        self.say(b"XFORWARD NAME=x\r\n")
        for data in (b"MAIL FROM:<>\r\n", b"RCPT TO:<user@example.org>\r\n", b"DATA\r\n"):
            self.machine.receive_data(data)
            self.machine.reply(Reply(354 if data == b"DATA\r\n" else 250, "", "Ok"))
            self.assertEqual(self.machine.forwarded, {"orig_name": "x"})
        self.machine.receive_data(b"x\r\n.\r\n")
        self.assertEqual(self.machine.forwarded, {"orig_name": "x"})
        self.machine.reply(Reply(250, "2.0.0", "Ok"))
        self.assertEqual(self.machine.forwarded, {})
        self.say(b"XFORWARD NAME=x\r\nMAIL FROM:<>\r\n")
        self.machine.reply(Reply(250, "2.1.0", "Ok"))
        self.machine.events()
        self.machine.receive_data(b"EHLO a.example\r\n")
        self.machine.reply(Reply(250, "", "mx.example.org"))
        self.assertEqual(self.machine.forwarded, {})

    def test_bad(self) -> None:
        """501, and nothing has changed."""
        self.say(b"XFORWARD NAME=x\r\n")
        self.assertEqual(self.say(b"XFORWARD HELO=y PORT=z\r\nXCLIENT ADDR=z\r\n").count("501 5.5.4"), 2)
        self.assertEqual(self.machine.forwarded, {"orig_name": "x"})
