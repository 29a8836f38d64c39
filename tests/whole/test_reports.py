"""Delivery status notifications from end to end: what a sender asks for at our door is what comes back to him (RFC 3461)."""

from __future__ import annotations

from email.message import Message

from mta.testing.peers import EXTENSIONS
from tests.whole.world import SOON, Caller, Running, World, recipients_of, relay

ME = "me@alpha.test"
TEXT = b"Subject: test\r\n\r\nthe whole text\r\n.\r\n"


class ReportTests(World):
    """alpha.test has the sender's mailbox; everything else goes to a next hop that does as the test says."""

    async def begun(self, script: object = None, more: str = "", dsn: bool = False) -> tuple[Running, Caller]:
        extensions = (*(word for word in EXTENSIONS if word != "DSN"), *(("DSN",) if dsn else ()))
        self.hop_server, port = await self.hop(script, extensions=extensions)
        alpha = await self.serve("alpha.test", relay(port) + SOON + more)
        return alpha, await self.caller(alpha)

    async def send(self, caller: Caller, *recipients: str, parameters: str = "", sender: str = ME) -> None:
        """recipients: with their parameters behind the address."""
        self.assertTrue((await caller.ask(f"MAIL FROM:<{sender}>{parameters}".encode())).startswith(b"250"))
        for recipient in recipients:
            address, _, wishes = recipient.partition(" ")
            self.assertTrue((await caller.ask(f"RCPT TO:<{address}> {wishes}".encode())).startswith(b"250"))
        self.assertTrue((await caller.data(TEXT)).startswith(b"250"))

    async def reports(self, server: Running, count: int) -> list[Message]:
        """That many reports in the sender's mailbox, and no more."""
        await self.until(lambda: len(self.found(server)) >= count, f"{count} reports")
        self.assertEqual(count, len(self.found(server)))
        return self.found(server)

    def found(self, server: Running) -> list[Message]:
        return [mail for mail in server.mails() if mail["Return-Path"] == "<>"]

    async def test_relayed_and_failed(self) -> None:
        """Siblings of one transaction are gathered: one report of the two successes, one of the failure with the whole message; NEVER is not named."""
        alpha, caller = await self.begun({"RCPT bad@b.test": "550 5.1.1 who", "RCPT never@b.test": "550 5.1.1 who"})
        wished = ("fine@b.test NOTIFY=SUCCESS", "good@b.test NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;G+2Bood@b.test")
        failing = ("bad@b.test NOTIFY=FAILURE", "never@b.test NOTIFY=NEVER", "quiet@b.test")
        await self.send(caller, *wished, *failing, parameters=" RET=FULL ENVID=id+3D1")
        success, failure = sorted(await self.reports(alpha, 2), key=lambda report: str(report["Subject"]))  # S, U
        told = {fields["Final-Recipient"]: fields for fields in recipients_of(success)}
        self.assertEqual(
            {"rfc822; fine@b.test": "relayed", "rfc822; good@b.test": "relayed"}, {a: f["Action"] for a, f in told.items()}
        )
        self.assertEqual("rfc822; G+ood@b.test", told["rfc822; good@b.test"]["Original-Recipient"])
        (bad,) = recipients_of(failure)
        self.assertEqual(("failed", "5.1.1", "rfc822; bad@b.test"), (bad["Action"], bad["Status"], bad["Final-Recipient"]))
        self.assertEqual("id=1", failure.get_payload(1).get_payload(0)["Original-Envelope-Id"])
        self.assertEqual([False, True], ["the whole text" in report.as_string() for report in (success, failure)])
        (removed,) = alpha.events.of("removed")
        self.assertEqual(("never@b.test", "notify"), (removed["to"], removed["reason"]))
        self.assertFalse([line for line in self.hop_server.commands if "NOTIFY" in line or "RET" in line])

    async def test_next_server_tells(self) -> None:
        """With DSN at the next server the wishes go on, and the success is its to tell."""
        alpha, caller = await self.begun(dsn=True)
        await self.send(caller, "good@b.test NOTIFY=SUCCESS", parameters=" RET=HDRS ENVID=x")
        await self.happened(alpha, "delivered")
        await self.send(caller, "you@alpha.test NOTIFY=SUCCESS")
        (report,) = await self.reports(alpha, 1)
        (fields,) = recipients_of(report)
        self.assertEqual(("delivered", "rfc822; you@alpha.test"), (fields["Action"], fields["Final-Recipient"]))
        said = "\n".join(self.hop_server.commands)
        self.assertIn("RET=HDRS ENVID=x", said)
        self.assertIn("RCPT TO:<good@b.test> NOTIFY=SUCCESS ORCPT=rfc822;good@b.test", said)

    async def test_double_bounce_is_logged_once(self) -> None:
        """A report that fails: one line, `removed`; the postmaster has a copy of it, and one of the failure before it."""
        script = {"RCPT": "550 5.1.1 who"}
        alpha, caller = await self.begun(script, '[dsn]\npostmaster = "postmaster@alpha.test"\n')
        await self.send(caller, "bad@b.test", sender="nobody@c.test")
        (removed,) = await self.happened(alpha, "removed")
        self.assertEqual(("nobody@c.test", "double bounce"), (removed["to"], removed["reason"]))
        copies = await self.reports(alpha, 2)
        self.assertEqual({"postmaster@alpha.test"}, {copy["To"] for copy in copies})
        self.assertEqual(["bad@b.test"], [fields["to"] for fields in alpha.events.of("reported")])
        self.assertFalse(any("the whole text" in copy.as_string() for copy in copies))

    async def test_c48_report_names_tls(self) -> None:
        """C48: level encrypt, no TLS to be had, until the mail expires: never in clear, and the report says that it was TLS."""
        self.hop_server, port = await self.hop()
        lifetime = '[retry]\nminimal_backoff = "1s"\nmaximal_backoff = "1s"\nqueue_lifetime = "3s"\n'
        alpha = await self.serve("alpha.test", relay(port, more='tls = "encrypt"\n') + lifetime)
        await self.send(await self.caller(alpha), "you@b.test")
        (report,) = await self.reports(alpha, 1)
        text = " ".join(report.get_payload(0).get_payload().split())
        for words in ("TLS", "encrypted by TLS", "not sent in clear text", "until its time was over"):
            self.assertIn(words, text)
        self.assertEqual("4.7.5", recipients_of(report)[0]["Status"])
        self.assertEqual([], self.hop_server.messages)

    async def test_q21_delay_warning(self) -> None:
        """Mail that waits: its sender is warned once, of those who may be told of."""
        script = {"RCPT": "450 4.2.1 greylisted"}
        alpha, caller = await self.begun(script, '[dsn]\ndelay_warning = "1s"\n')
        await self.send(caller, "slow@b.test", "quiet@b.test NOTIFY=FAILURE")
        await self.until(lambda: alpha.events.count("deferred") >= 2, "both wait")
        alpha.mta.queue._sweep(alpha.mta.queue._now() + 2000)
        await self.until(lambda: alpha.events.count("deferred") >= 6, "and wait on")
        alpha.mta.queue._sweep(alpha.mta.queue._now() + 2000)
        (report,) = await self.reports(alpha, 1)
        (fields,) = recipients_of(report)
        self.assertEqual(("delayed", "rfc822; slow@b.test"), (fields["Action"], fields["Final-Recipient"]))
        self.assertEqual(1, alpha.events.count("warned"))
