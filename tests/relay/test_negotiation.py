"""The conversation up to the first MAIL, over loopback: greeting, EHLO, STARTTLS, TLS and clear text (C01 to C29, C51 to C56)."""

from __future__ import annotations

from mta.envelope import Kind
from mta.status import Scope
from mta.testing.peers import Act, Clear
from mta.testing.pki import Authority
from tests.relay.world import AUTHORITY, BODY, FAST, ISSUED, PREFIX, RelayCase

IN_TLS = ["EHLO", "STARTTLS", "tls EHLO", "tls MAIL", "tls RCPT", "tls DATA"]
IN_CLEAR = ["EHLO", "MAIL", "RCPT", "DATA"]


class NegotiationTests(RelayCase):
    """With a peer that plays by the rules."""

    async def test_c01_starttls_at_may(self) -> None:
        """C01 C08: TLS, EHLO twice, no MAIL before it, the body unchanged; the log's facts are right."""
        server = self.serve()
        outcome = await self.delivered()
        self.assertEqual(server.verbs(1), IN_TLS)
        (message,) = server.messages
        self.assertEqual((message.body, message.recipients, message.in_tls), (PREFIX + BODY, ("rcpt@example.org",), True))
        facts = outcome.facts
        self.assertEqual((facts["tls"], facts["tls_version"], facts["verified"]), ("new", "TLSv1.3", "verified"))
        self.assertEqual((facts["conn_use"], facts["handover"], facts["handover_why"]), (1, "keep", "hosts_pass_tls"))
        self.assertTrue(str(facts["relay"]).startswith("mx1.example.org[127.0.0.1]:"))
        self.assertGreater(outcome.connect, 0)
        self.assertGreater(outcome.transfer, 0)

    async def test_c02_none(self) -> None:
        """C02: level none never says STARTTLS."""
        server = self.serve()
        outcome = await self.delivered(route="none")
        self.assertEqual((server.verbs(1), outcome.facts["tls"]), (IN_CLEAR, "none"))

    async def test_c03_the_handshake_begins_at_once(self) -> None:
        """C03 A48: behind 220 the first byte is 0x16, a TLS record; no command comes any more."""
        server = self.serve({"STARTTLS": "220 go", "client hello": [Act.CLOSE]}, tls=False, extensions=("STARTTLS",))
        await self.deferred()
        self.assertEqual((server.commands, server.script["client hello"]), (["1 EHLO relay.example.com", "1 STARTTLS"], []))

    async def test_c05_starttls_offered_inside_tls(self) -> None:
        """C05: ignored."""
        server = self.serve(tls_extensions=("PIPELINING", "STARTTLS"))
        await self.delivered()
        self.assertEqual(server.verbs(1), IN_TLS)

    async def test_c06_extensions_are_those_inside_tls(self) -> None:
        """C06: what was offered in clear is forgotten: no SIZE, no pipelining."""
        server = self.serve(tls_extensions=())
        await self.delivered()
        self.assertEqual(server.verbs(1), IN_TLS)
        self.assertNotIn("SIZE", " ".join(server.commands))

    async def test_c11_keyword(self) -> None:
        """C11: STARTTLS with parameters and in small letters is an offer; what only looks like it is none."""
        for line, offered in (("STARTTLS SSLv3 TLSv1", True), ("starttls", True), ("XSTARTTLS", False), ("XXXXXXXA", False)):
            await self.afresh()
            server = self.serve(extensions=("PIPELINING", line), offer_tls=False)
            await self.delivered()
            self.assertEqual(server.handshakes, int(offered), line)

    async def test_c28_multi_line_220(self) -> None:
        """C28: 220 in two lines is 220."""
        server = self.serve({"STARTTLS": "220-go\r\n220 on"})
        await self.delivered(route="verify")
        self.assertEqual(server.handshakes, 1)

    async def test_c56_bad_certificates_at_may(self) -> None:
        """C56: expired, of a stranger, for another name: delivered in TLS, and the log says what it is."""
        for issued, verified in (
            (AUTHORITY.issue("mx1.example.org", expired=True), "untrusted"),
            (Authority.create().issue("mx1.example.org"), "untrusted"),
            (AUTHORITY.issue("other.example.org"), "trusted"),
        ):
            await self.afresh()
            self.serve(certificate=issued, name="mx1.example.org")
            outcome = await self.delivered()
            self.assertEqual((outcome.facts["tls"], outcome.facts["verified"]), ("new", verified))

    async def test_p01_verify(self) -> None:
        """P01: at verify the good host is served; a bad certificate hears QUIT inside TLS, and the next host is tried."""
        bad = self.serve(certificate=AUTHORITY.issue("other.example.org"))
        good = self.serve()
        outcome = await self.delivered(route="verify")
        await self.quiet()
        self.assertEqual((bad.verbs(1), good.verbs(1)), (["EHLO", "STARTTLS", "tls QUIT"], IN_TLS))
        self.assertEqual((outcome.facts["verified"], self.faults()), ("verified", ["T7"]))

    async def test_p01_verify_defers_when_no_host_will_do(self) -> None:
        """P01 P05: 4.7.5 with feedback for the destination, never clear; encrypt takes the same certificate."""
        server = self.serve(certificate=Authority.create().issue("mx1.example.org"))
        outcome = await self.deferred(route="verify")
        self.assertEqual((outcome.reply.enhanced, outcome.scope), ("4.7.5", Scope.SITE))
        self.assertEqual(server.messages, [])
        self.assertEqual((await self.delivered(route="encrypt")).facts["verified"], "untrusted")
        self.assertEqual((await self.delivered(route="none")).facts["tls"], "none")


class RefusalTests(RelayCase):
    """Peers that do not want TLS."""

    async def test_c20_offer_deleted(self) -> None:
        """C20: at encrypt STARTTLS is sent all the same, and mail goes in TLS."""
        server = self.serve(offer_tls=False)
        await self.delivered(route="encrypt")
        self.assertEqual(server.verbs(1), IN_TLS)

    async def test_c21_not_offered_at_may(self) -> None:
        """C21: clear text on the same connection, and the log says why."""
        server = self.serve(tls=False)
        outcome = await self.delivered()
        self.assertEqual((server.verbs(1), outcome.facts["tls_why"]), (IN_CLEAR, "not-offered"))

    async def test_c22_refused_at_may(self) -> None:
        """C22: any other reply than 220 leaves the connection in clear, and it is used so."""
        for reply in ("250 ok", "354 go", "454 4.7.0 not now", "500 what", "501 no", "502 no", "530 5.7.0 no"):
            await self.afresh()
            server = self.serve({"STARTTLS": reply})
            outcome = await self.delivered()
            self.assertEqual(server.verbs(1), ["EHLO", "STARTTLS", *IN_CLEAR[1:]], reply)
            self.assertEqual(outcome.facts["tls_why"], f"refused-{reply[:3]}")

    async def test_c22_refused_at_encrypt(self) -> None:
        """C22: the next host, with QUIT in clear, never MAIL and never TLS bytes."""
        for reply in ("250 ok", "354 go", "454 4.7.0 not now", "502 no"):
            await self.afresh()
            bad, good = self.serve({"STARTTLS": reply}), self.serve()
            await self.delivered(route="encrypt")
            await self.quiet()
            self.assertEqual((bad.verbs(1), good.handshakes), (["EHLO", "STARTTLS", "QUIT"], 1), reply)

    async def test_c25_all_refuse_for_good(self) -> None:
        """C25: deferred with 4.7.5, for the answer is not authenticated; bounced where the operator wants it."""
        self.serve({"STARTTLS": "554 5.7.0 never"})
        outcome = await self.deferred(route="encrypt")
        self.assertEqual((outcome.reply.enhanced, outcome.scope), ("4.7.5", Scope.SITE))
        self.assertIn("never", outcome.reply.text)
        await self.relay.stopService()
        self.start(mandatory_5xx="bounce")
        self.assertIs((await self.outcome(route="encrypt")).kind, Kind.FAILED)

    async def test_c24_hanging_up_at_starttls(self) -> None:
        """C22 C24: 421, 221, garbage and the end of the connection are T5: the next host, by TLS."""
        for answer in ("421 4.3.2 no", "221 bye", b"\x15\x03\r\n", Act.CLOSE, Act.ABORT):
            await self.afresh()
            bad, good = self.serve({"STARTTLS": answer}), self.serve()
            await self.delivered()
            self.assertEqual((bad.messages, good.handshakes, self.faults()), ([], 1, ["T5"]), answer)

    async def test_c26_injected_replies(self) -> None:
        """C26 C27: bytes behind 220 are T10, whole lines or not: closed, never read, no clear text in this attempt."""
        for injected in (b"250-x\r\n250 AUTH LOGIN\r\n", b"250 fragm"):
            for level in ("may", "encrypt"):
                await self.afresh()
                server = self.serve({"STARTTLS": b"220 go\r\n" + injected})
                outcome = await self.deferred(route=level)
                self.assertEqual((server.verbs(1), self.faults()), (["EHLO", "STARTTLS"], ["T10"]))
                self.assertIsNone(outcome.retry_after)


class BrokenTlsTests(RelayCase):
    """Peers whose TLS fails."""

    async def test_c23_text_instead_of_a_server_hello(self) -> None:
        """C23: a proxy that goes on in SMTP is T6: not in clear now, a short delay, no feedback."""
        server = self.serve({"STARTTLS": "220 go"}, tls=False, extensions=("STARTTLS",))
        outcome = await self.deferred()
        self.assertEqual((outcome.reply.enhanced, outcome.retry_after, outcome.scope), ("4.7.5", 60.0, Scope.SESSION))
        self.assertEqual((self.faults(), server.messages), (["T6"], []))

    async def test_c40_second_host_by_tls(self) -> None:
        """C40: the first host's handshake fails, the second gets it by TLS at once, nothing in clear."""
        bad = self.serve({"STARTTLS": ("220 go", Act.CLOSE)})
        good = self.serve()
        await self.delivered()
        self.assertEqual((bad.messages, [message.in_tls for message in good.messages]), ([], [True]))

    async def test_c55_stalled_handshake(self) -> None:
        """C55: starttls_timeout ends it as T6."""
        self.serve({"STARTTLS": "220 go", "client hello": Act.STALL}, tls=False, extensions=("STARTTLS",))
        self.start(starttls_timeout=0.2)
        outcome = await self.deferred()
        self.assertIn("timed out in the TLS handshake", outcome.reply.text)
        self.assertEqual(self.faults(), ["T6"])

    async def test_c07_ehlo_refused_inside_tls(self) -> None:
        """C07: no HELO; T8."""
        server = self.serve({"tls EHLO": "500 what"})
        await self.deferred()
        await self.quiet()
        self.assertEqual((server.verbs(1), self.faults()), (["EHLO", "STARTTLS", "tls EHLO", "tls QUIT"], ["T8"]))

    async def test_c54_clear_text_inside_tls(self) -> None:
        """C54: `554 too many` in clear inside TLS is a lost connection, no reply, no crash."""
        self.serve({"tls MAIL": Clear(b"554 too many\r\n")})
        good = self.serve()
        await self.delivered()
        self.assertEqual((len(good.messages), self.faults()), (1, ["T9"]))
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_t8_end_of_connection(self) -> None:
        """The end of the connection at EHLO inside TLS is T8 too."""
        self.serve({"tls EHLO": Act.ABORT})
        await self.deferred()
        self.assertEqual(self.faults(), ["T8"])


class GreetingTests(RelayCase):
    """C09, C10, C29."""

    async def test_c09_greetings(self) -> None:
        """C09: three lines, and 220 without text, will do."""
        for greeting in ("220-a\r\n220-b\r\n220 c", "220"):
            await self.afresh()
            self.serve({"greeting": greeting})
            await self.delivered()

    async def test_c09_negative_greetings(self) -> None:
        """C09: 554, 421, 450, garbage and silence go on with the next host."""
        self.timeouts = type(FAST)(quit=0.2, greeting=0.2)
        for greeting in ("554 go away", "421 busy", "450 later", b"garbage\r\n", Act.CLOSE, Act.ABORT, Act.STALL):
            await self.afresh()
            bad, good = self.serve({"greeting": greeting}), self.serve()
            await self.delivered()
            self.assertEqual((bad.messages, len(good.messages)), ([], 1), greeting)

    async def test_c10_two_final_lines(self) -> None:
        """C10: a second final line to EHLO is a reply that nobody asked for: dropped, next host."""
        bad = self.serve({"EHLO": b"250 AUTH LOGIN\r\n250 STARTTLS\r\n"})
        good = self.serve()
        await self.delivered()
        self.assertEqual((bad.verbs(1), len(good.messages), self.faults()), (["EHLO"], 1, []))

    async def test_c29_reply_before_its_question(self) -> None:
        """C29: 250 behind the banner is not taken for the answer to EHLO."""
        bad = self.serve({"greeting": b"220 hi\r\n250-x\r\n250 PIPELINING\r\n"})
        good = self.serve()
        await self.delivered()
        self.assertEqual((bad.messages, len(good.messages)), ([], 1))

    async def test_helo(self) -> None:
        """EHLO refused in clear: HELO, and mail in lock-step; at encrypt STARTTLS is still sent, then the next host."""
        server = self.serve({"EHLO": "502 no", "HELO": "250 hi"}, tls=False)
        await self.delivered()
        self.assertEqual(server.verbs(1), ["EHLO", "HELO", "MAIL", "RCPT", "DATA"])
        await self.deferred(route="encrypt")
        await self.quiet()
        self.assertEqual(server.verbs(2), ["EHLO", "HELO", "STARTTLS", "QUIT"])

    async def test_everything_refused(self) -> None:
        """Neither EHLO nor HELO: the next host."""
        bad = self.serve({"EHLO": "502 no", "HELO": "502 no"})
        good = self.serve(certificate=ISSUED)
        await self.delivered()
        await self.quiet()
        self.assertEqual((bad.verbs(1), len(good.messages)), (["EHLO", "HELO", "QUIT"], 1))
