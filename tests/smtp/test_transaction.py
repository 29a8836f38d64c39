"""What a transaction needs of a server, and what is said up to DATA."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Notify
from mta.smtp.client import Sender
from mta.smtp.transaction import Transaction, script, unfit
from mta.status import Reply
from tests.smtp.test_client import ONE, TWO, hear, sender

SECRET = Transaction("a@c.test", ("b@mx.test",), 10, int(Flag.REQUIRETLS))


class ScriptTests(SynchronousTestCase):
    def test_steps(self):
        """Whose reply is awaited, and the line; RSET in front if wanted."""
        steps = [
            ("mail", b"MAIL FROM:<a@c.test>\r\n"),
            ("rcpt", b"RCPT TO:<b@mx.test>\r\n"),
            ("rcpt", b"RCPT TO:<d@mx.test>\r\n"),
            ("data", b"DATA\r\n"),
        ]
        self.assertEqual(steps, script(TWO, {}, rset=False))
        self.assertEqual([("rset", b"RSET\r\n"), *steps], script(TWO, {}, rset=True))


class ParameterTests(SynchronousTestCase):
    def mail(self, transaction: Transaction, *extensions: str) -> bytes:
        machine = sender(*extensions)
        machine.transact(transaction)
        return machine.data_to_send().split(b"\r\n")[0].partition(b">")[2]

    def test_only_what_was_offered(self):
        """C06: SIZE, BODY, SMTPUTF8 only where they were offered, the latter two only where wanted."""
        both = Transaction("a@c.test", ("b@mx.test",), 10, Flag.EIGHTBITMIME | Flag.SMTPUTF8)
        self.assertEqual(b"", self.mail(both))
        self.assertEqual(b" SIZE=10 BODY=8BITMIME SMTPUTF8", self.mail(both, "SIZE 100", "8BITMIME", "SMTPUTF8"))
        self.assertEqual(b" SIZE=10", self.mail(ONE, "SIZE", "8BITMIME", "SMTPUTF8"))
        self.assertEqual(b" SMTPUTF8", self.mail(Transaction("", ("ü@mx.test",), 1, 0), "SMTPUTF8"))
        self.assertEqual(b"", self.mail(Transaction("a@c.test", ("b@mx.test",), 1, Flag.RET_HDRS), "8BITMIME", "SMTPUTF8"))

    def test_dsn(self):
        """RFC 3461 5.2.1, 5.2.2: wishes go on where DSN is offered, and nowhere else."""
        wishes = ((int(Notify.SUCCESS), "rfc822;B@x"), (0, None))
        told = Transaction("a@c.test", ("b@mx.test", "d@mx.test"), 9, int(Flag.RET_FULL | Flag.SMTPUTF8), "id+2B", wishes)
        for extensions, lines in (
            ({}, ["MAIL FROM:<a@c.test>", "RCPT TO:<b@mx.test>", "RCPT TO:<d@mx.test>"]),
            (
                {"DSN": ""},
                [
                    "MAIL FROM:<a@c.test> RET=FULL ENVID=id+2B",
                    "RCPT TO:<b@mx.test> NOTIFY=SUCCESS ORCPT=rfc822;B@x",
                    "RCPT TO:<d@mx.test>",
                ],
            ),
        ):
            said = [line.decode().removesuffix("\r\n") for _, line in script(told, extensions, rset=False)]
            self.assertEqual([*lines, "DATA"], said)
        self.assertEqual(script(TWO, {}, rset=False), script(TWO, {"DSN": ""}, rset=False))

    def test_unfit(self):
        """What this server cannot take is known before anything is said; 8BITMIME is not asked for."""
        big, utf8 = Transaction("", ("b@mx.test",), 11, Flag.EIGHTBITMIME), Transaction("", ("b@mx.test", "ü@mx.test"), 1, 0)
        self.assertEqual("5.3.4", sender("SIZE 10").unfit(big).enhanced)
        self.assertIsNone(sender("SIZE 11").unfit(big))
        self.assertIsNone(sender("SIZE 0").unfit(big))
        self.assertIsNone(sender().unfit(big))
        self.assertIsNone(sender().unfit(utf8))  # for one of the two it is fit
        for transaction in (Transaction("ü@c.test", ("b@mx.test",), 1, 0), Transaction("", ("ü@mx.test",), 1, 0)):
            self.assertEqual("5.6.7", sender().unfit(transaction).enhanced)
        self.assertIsNone(sender("SMTPUTF8").unfit(utf8))
        self.assertIsNone(sender().unfit(Transaction("a@c.test", ("b@mx.test",), 1, Flag.SMTPUTF8)))
        self.assertEqual("5.1.3", sender().unfit(Transaction("a@c.test", ("b\n@mx.test",), 1, 0)).enhanced)

    def test_unfit_without_requiretls(self):
        """P41, RFC 8689 4.2.1: 5.7.30, for good, where the server does not offer it; a report goes all the same (RFC 8689 5)."""
        refusal = Reply(550, "5.7.30", "The next server does not support REQUIRETLS")
        self.assertEqual(refusal, unfit(SECRET, {"PIPELINING": ""}))
        self.assertIsNone(unfit(SECRET, {"REQUIRETLS": ""}))
        self.assertIsNone(unfit(ONE, {}))
        report = Transaction("", ("a@c.test",), 10, int(Flag.REQUIRETLS))
        self.assertIsNone(unfit(report, {}))
        self.assertEqual(b"", self.mail(report))

    def test_requiretls(self):
        """P42: the parameter, where the message wants it and the server offers it."""
        self.assertEqual(b" REQUIRETLS", self.mail(SECRET, "REQUIRETLS"))
        self.assertEqual(b"", self.mail(ONE, "REQUIRETLS"))
        self.assertEqual(b" REQUIRETLS", self.mail(Transaction("", ("a@c.test",), 1, int(Flag.REQUIRETLS)), "REQUIRETLS"))

    def test_requiretls_in_clear(self):
        """P40, RFC 8689 2: what offers it in clear text does not offer it; in TLS it counts."""
        for in_tls in (False, True):
            machine = Sender("c.test", in_tls=in_tls)
            if not in_tls:
                hear(machine, b"220 x\r\n")
            machine.hello()
            hear(machine, b"250-x\r\n250-SIZE 9999\r\n250 REQUIRETLS\r\n")
            self.assertEqual(in_tls, "REQUIRETLS" in machine.extensions)
            self.assertEqual(in_tls, machine.unfit(SECRET) is None)

    def test_no_command_in_an_address(self):
        """X14: such a transaction does not even begin."""
        machine = sender()
        self.assertRaises(ValueError, machine.transact, Transaction("a@c.test", ("b@x>\r\nDATA",), 1, 0))
        self.assertEqual((b"", True), (machine.data_to_send(), machine.is_idle))
