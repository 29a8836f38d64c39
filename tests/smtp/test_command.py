"""Command lines and arguments: read, refused, written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag, Notify
from mta.smtp import command
from mta.smtp.address import NULL_PATH, Path
from mta.smtp.command import EIGHTBITMIME, REQUIRETLS, SMTPUTF8
from mta.smtp.dsn import original_recipient, rcpt_parameters
from mta.status import MailError
from tests.smtp.test_address import paths
from tests.smtp.test_dsn import envids, rets, wishes


class SplitTests(SynchronousTestCase):
    def test_split(self):
        """Any letters, blanks around the argument and at the end."""
        for line, verb, argument in (
            (b"QUIT", b"QUIT", b""),
            (b"quit  \t", b"QUIT", b""),
            (b"Mail  FROM:<>  ", b"MAIL", b"FROM:<>"),
            (b"", b"", b""),
            (b" NOOP", b"", b"NOOP"),
            (b"NOOP\tx", b"NOOP\tX", b""),
        ):
            self.assertEqual((verb, argument), command.split(line))


class ArgumentTests(SynchronousTestCase):
    def refused(self, code: str, parse, *args) -> None:
        error = self.assertRaises(MailError, parse, *args)
        self.assertEqual(code, f"{error.reply.code} {error.reply.enhanced}", args)

    def test_hello(self):
        """RFC 5321 4.1.1.1: a name is wanted, its truth is not asked."""
        for name in (b"a.test", b"[192.0.2.1]", b"x" * 255):
            self.assertEqual(name.decode(), command.parse_hello(name))
        for name in (b"", b"a b", b"x" * 256, b"a\tb", "ü".encode(), b"(x)"):
            self.refused("501 5.5.4", command.parse_hello, name)

    def test_nothing(self):
        """No argument means none."""
        command.parse_nothing(b"")
        self.refused("501 5.5.4", command.parse_nothing, b"x")

    def test_mail(self):
        """Any letters, a blank after the colon; the null reverse-path; all parameters that we know."""
        for argument in (b"FROM:<a@b.test>", b"from: <a@b.test>", b"From:  <a@b.test>"):
            event = command.parse_mail(argument, 0)
            self.assertEqual((Path("a", "b.test"), 0, 0, {}), (event.sender, event.size, event.flags, dict(event.parameters)))
        event = command.parse_mail("FROM:<ü@b.test> size=5 Body=8bitmime smtputf8".encode(), 10)
        self.assertEqual((5, EIGHTBITMIME | SMTPUTF8), (event.size, event.flags))
        self.assertEqual({"SIZE": "5", "BODY": "8bitmime", "SMTPUTF8": None}, event.parameters)
        self.assertEqual((NULL_PATH, 0), ((event := command.parse_mail(b"FROM:<> BODY=7BIT", 9)).sender, event.flags))

    def test_bad_mail(self):
        """Each mistake has its code."""
        for code, argument in (
            ("501 5.5.4", b""),
            ("501 5.5.4", b"TO:<a@b.test>"),
            ("501 5.5.4", b"FROM <a@b.test>"),
            ("501 5.1.7", b"FROM:"),
            ("501 5.1.7", b"FROM:a@b.test"),
            ("501 5.1.7", b"FROM:<postmaster>"),
            ("501 5.1.7", b"FROM:<" + b"a" * 65 + b"@b.test>"),
            ("553 5.6.7", "FROM:<ü@b.test>".encode()),
            ("501 5.5.4", b"FROM:<a@b.test>SIZE=1"),
            ("501 5.5.4", b"FROM:<a@b.test>>"),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE"),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE="),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE=-1"),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE=1x"),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE=" + b"1" * 21),
            ("501 5.5.4", b"FROM:<a@b.test> SIZE=1 SIZE=1"),
            ("501 5.5.4", b"FROM:<a@b.test> BODY"),
            ("555 5.5.4", b"FROM:<a@b.test> BODY=BINARYMIME"),
            ("501 5.5.4", b"FROM:<a@b.test> SMTPUTF8=1"),
            ("501 5.5.4", b"FROM:<a@b.test> RET=BODY"),
            ("501 5.5.4", b"FROM:<a@b.test> RET=HDRS RET=HDRS"),
            ("501 5.5.4", b"FROM:<a@b.test> ENVID=" + b"x" * 101),
            ("501 5.5.4", "FROM:<a@b.test> SMTPUTF8 ENVID=ü".encode()),
            ("555 5.5.4", b"FROM:<a@b.test> NOTIFY=NEVER"),
            ("555 5.5.4", b"FROM:<a@b.test> AUTH=<>"),
            ("501 5.5.4", b"FROM:<a@b.test> -X"),
            ("501 5.5.4", "FROM:<a@b.test> X=ü".encode()),
            ("552 5.3.4", b"FROM:<a@b.test> SIZE=101"),
        ):
            self.refused(code, command.parse_mail, argument, 100)

    def test_extras(self):
        """RFC 4954 5 and RFC 8689 2: AUTH with any mailbox as xtext, believed of nobody; REQUIRETLS without a value; where allowed."""
        both = frozenset({"AUTH", "REQUIRETLS"})
        for words, flags in (
            (b"AUTH=<>", 0),
            (b"auth=e+3Dmc2@example.com", 0),
            (b"requiretls", REQUIRETLS),
            (b"AUTH=<> REQUIRETLS BODY=8BITMIME", REQUIRETLS | EIGHTBITMIME),
        ):
            self.assertEqual(flags, command.parse_mail(b"FROM:<a@b.test> " + words, 0, both).flags)
        for code, words, extras in (
            ("501 5.5.4", b"AUTH", both),
            ("501 5.5.4", b"AUTH=a+b", both),
            ("501 5.5.4", b"AUTH=+3d", both),
            ("501 5.5.4", b"REQUIRETLS=1", both),
            ("555 5.5.4", b"REQUIRETLS", frozenset({"AUTH"})),
            ("555 5.5.4", b"AUTH=<>", frozenset({"REQUIRETLS"})),
        ):
            self.refused(code, command.parse_mail, b"FROM:<a@b.test> " + words, 0, extras)

    def test_extras_of_others(self):
        """A value of BODY and the parameters of RCPT are no parameters of MAIL, whatever is allowed."""
        extras = frozenset({"AUTH", "BINARYMIME", "NOTIFY", "ORCPT"})
        for words in (b"BINARYMIME", b"BINARYMIME=x", b"NOTIFY=NEVER", b"ORCPT=rfc822;a"):
            self.refused("555 5.5.4", command.parse_mail, b"FROM:<a@b.test> " + words, 0, extras)

    def test_binarymime(self):
        """RFC 3030 3: where it is offered."""
        mail = b"FROM:<a@b.test> BODY=binarymime"
        self.assertEqual(32, command.parse_mail(mail, 0, frozenset({"BINARYMIME"})).flags)
        self.refused("555 5.5.4", command.parse_mail, mail, 0)

    def test_withheld(self):
        """What is withheld is unknown, in MAIL and in RCPT."""
        withheld = frozenset({"SIZE", "BODY", "NOTIFY"})
        for words in (b"SIZE=5", b"BODY=7BIT"):
            self.refused("555 5.5.4", command.parse_mail, b"FROM:<a@b.test> " + words, 1, frozenset(), withheld)
        self.refused("555 5.5.4", command.parse_rcpt, b"TO:<a@b.test> NOTIFY=NEVER", False, withheld)
        self.assertEqual(SMTPUTF8, command.parse_mail(b"FROM:<a@b.test> SMTPUTF8", 0, frozenset(), withheld).flags)
        self.assertEqual("rfc822;a", command.parse_rcpt(b"TO:<a@b.test> ORCPT=rfc822;a", False, withheld).orcpt)

    def test_vrfy(self):
        """RFC 5321 4.1.1.6: an address with or without brackets; anything else may be a name, and nothing is a mistake."""
        for argument in (b"a@b.test", b"<a@b.test>"):
            self.assertEqual(Path("a", "b.test"), command.parse_vrfy(argument))
        for argument in (
            b"Smith",
            b"postmaster",
            b"<>",
            b"<a@b.test> SMTPUTF8",
            b"a@b.test x",
            "ü@b.test".encode(),
            b"\xff@b.test",
        ):
            self.assertIsNone(command.parse_vrfy(argument), argument)
        self.refused("501 5.5.4", command.parse_vrfy, b"")

    def test_no_size_limit(self):
        """RFC 1870: limit 0 is no limit."""
        self.assertEqual(10**19, command.parse_mail(b"FROM:<> SIZE=1" + b"0" * 19, 0).size)

    def test_rcpt(self):
        """Postmaster without domain; UTF-8 as MAIL had it."""
        self.assertEqual(Path("b", "c.test"), command.parse_rcpt(b"TO:<b@c.test>", False).recipient)
        self.assertEqual(Path("b", "c.test"), command.parse_rcpt(b"to: <@r.test:b@c.test>", False).recipient)
        self.assertEqual("Postmaster", command.parse_rcpt(b"TO:<Postmaster>", False).recipient.address)
        self.assertEqual("ü@c.test", command.parse_rcpt("TO:<ü@c.test>".encode(), True).recipient.address)

    def test_dsn(self):
        """RFC 3461 4: what is asked of reports, kept as it was given; in UTF-8 where MAIL said SMTPUTF8 (RFC 6533 3)."""
        event = command.parse_mail(b"FROM:<a@b.test> ret=Hdrs ENVID=QQ+3D1", 0)
        self.assertEqual((int(Flag.RET_HDRS), "QQ+3D1"), (event.flags, event.envid))
        rcpt = command.parse_rcpt(b"TO:<a@b.test> Notify=success,DELAY orcpt=rfc822;A+2Bx@b.test", False)
        self.assertEqual((Notify.SUCCESS | Notify.DELAY, "rfc822;A+2Bx@b.test"), (rcpt.notify, rcpt.orcpt))
        rcpt = command.parse_rcpt("TO:<a@b.test> ORCPT=utf-8;ü@b.test".encode(), True)
        self.assertEqual((0, "utf-8;ü@b.test"), (rcpt.notify, rcpt.orcpt))
        rcpt = command.parse_rcpt(b"TO:<a@b.test>", False)
        self.assertEqual((0, None, {}), (rcpt.notify, rcpt.orcpt, dict(rcpt.parameters)))
        utf8 = b"TO:<a@b.test> ORCPT=utf-8;\xff@b.test"
        self.assertRaises(MailError, command.parse_rcpt, utf8, True)

    def test_bad_rcpt(self):
        """Each mistake has its code."""
        for code, argument in (
            ("501 5.5.4", b""),
            ("501 5.5.4", b"FROM:<a@b.test>"),
            ("501 5.1.3", b"TO:"),
            ("501 5.1.3", b"TO:<>"),
            ("501 5.1.3", b"TO:<joe>"),
            ("553 5.6.7", "TO:<ü@b.test>".encode()),
            ("555 5.5.4", b"TO:<a@b.test> RET=FULL"),
            ("501 5.5.4", b"TO:<a@b.test> NOTIFY=ALWAYS"),
            ("501 5.5.4", b"TO:<a@b.test> NOTIFY=NEVER NOTIFY=NEVER"),
            ("501 5.5.4", "TO:<a@b.test> ORCPT=utf-8;ü@b.test".encode()),
            ("501 5.5.4", b"TO:<a@b.test>x"),
        ):
            self.refused(code, command.parse_rcpt, argument, False)

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=80), st.sampled_from([b"", b"FROM:", b"FROM:<a@b> ", b"TO:<", b"TO:<a@b> "]), st.booleans())
    def test_garbage(self, data, head, utf8):
        """Nothing but MailError comes out of any argument."""
        for parse, args in ((command.parse_mail, (1000,)), (command.parse_rcpt, (utf8,)), (command.parse_hello, ())):
            try:
                parse(head + data, *args)
            except MailError as error:
                self.assertTrue(error.reply.is_permanent)


class LineTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(paths, st.one_of(st.none(), st.integers(0, 10**12)), st.integers(0, 7), rets, envids)
    def test_mail_round_trip(self, path, size, flags, ret, envid):
        """What the sender writes the receiver reads as the same."""
        flags |= ret | (0 if path.is_ascii else SMTPUTF8)
        verb, argument = command.split(command.mail_line(path.address, size, flags, envid).removesuffix(b"\r\n"))
        event = command.parse_mail(argument, 0, frozenset({"REQUIRETLS"}))
        self.assertEqual((b"MAIL", path, size or 0, flags), (verb, event.sender, event.size, event.flags))
        self.assertEqual(envid, event.envid)

    @settings(deadline=None, max_examples=100)
    @given(paths, wishes)
    def test_rcpt_round_trip(self, path, wish):
        """The same for RCPT; an ORCPT that was not given is made where NOTIFY was."""
        notify, orcpt = wish
        line = command.rcpt_line(path.address, rcpt_parameters(path.address, notify, orcpt, True))
        verb, argument = command.split(line.removesuffix(b"\r\n"))
        event = command.parse_rcpt(argument, True)
        self.assertEqual((b"RCPT", path, notify), (verb, event.recipient, event.notify))
        if orcpt or not notify:
            self.assertEqual(orcpt, event.orcpt)
        else:
            self.assertEqual(path.address, original_recipient(event.orcpt, True)[1])

    def test_null_sender(self):
        """The null reverse-path of bounces."""
        self.assertEqual(b"MAIL FROM:<>\r\n", command.mail_line(""))

    def test_no_command_is_smuggled_in_an_address(self):
        """X14: an address never becomes two commands, wherever it came from."""
        for address in ("a@b>\r\nRCPT TO:<x@y", "a\n@b", "a\0@b", "a\x85@b"):
            self.assertRaises(ValueError, command.mail_line, address)
            self.assertRaises(ValueError, command.rcpt_line, address)
