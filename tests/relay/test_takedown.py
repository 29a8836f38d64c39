"""The verdict CLEAR over real connections: TLS down, the test in clear text, TLS up again; and every way it can go wrong."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import reactor as real

from mta.config.settings import Handover, Seconds
from mta.envelope import Kind, Target
from mta.relay.takedown import Takedown
from mta.tls.policy import Parameters
from tests.relay.goes_on import GoesOn, Manners
from tests.relay.world import ISSUED, RelayCase

DOWN = ["EHLO", "RSET"]
UP = ["STARTTLS", "tls EHLO"]
MAIL = ["tls MAIL", "tls RCPT", "tls DATA"]


class TakedownCase(RelayCase):
    """`hosts_clear_tls` names every host."""

    timeout = 5

    def setUp(self) -> None:
        super().setUp()
        self.handover = Handover(hosts_clear_tls=("*",), shutdown_wait=Seconds(0.1))

    def goes_on(self, **manners: Any) -> GoesOn:
        """A server that goes on in clear text."""
        server = GoesOn(ISSUED, Manners(**manners))
        port = real.listenTCP(0, server, interface="127.0.0.1")
        self.ports.append(port)
        self.hops.targets.append(Target(f"mx{len(self.ports)}.example.org", "127.0.0.1", port.getHost().port))
        return server

    async def idle(self, connections: int = 1) -> None:
        """Wait until so many connections idle."""
        while self.relay.pool.idle < connections:
            await self.turn()

    async def gone(self, server: Any) -> None:
        """Wait until the server has no connection any more."""
        while server.open:
            await self.turn()

    async def two(self, server: Any) -> list[dict[str, object]]:
        """Two deliveries, the second when the connection of the first idles or is gone; what was logged of them."""
        facts = [(await self.delivered()).facts]
        while server.open and not self.relay.pool.idle:
            await self.turn()
        facts.append((await self.delivered(number=11)).facts)
        return facts


class GoesOnTests(TakedownCase):
    """A peer that plays along."""

    async def test_down_and_up_again(self) -> None:
        """H08 H09 A02 A03: close_notify, EHLO, RSET, STARTTLS, EHLO, MAIL, on one TCP connection, three times."""
        server = self.goes_on()
        first, second = await self.two(server)
        await self.idle()
        third = (await self.delivered(number=21)).facts
        self.assertEqual(server.connections, 1)
        self.assertEqual(server.lines[: 3 + 3 + 2 + 2 + 3], ["EHLO", *UP, *MAIL, *DOWN, *UP, *MAIL])
        self.assertEqual([each["tls"] for each in (first, second, third)], ["new", "restarted", "restarted"])
        self.assertEqual([each["handover"] for each in (first, second, third)], ["clear"] * 3)
        self.assertEqual([each["conn_use"] for each in (first, second, third)], [1, 2, 3])
        self.assertEqual(second["handover_why"], "hosts_clear_tls")
        self.assertEqual(server.messages, 3)

    async def test_each_handshake_counts_for_tlsrpt(self) -> None:
        """P50: a session that is started again is a new one."""
        await self.two(self.goes_on())
        self.assertEqual(self.reports.counted, ["success", "success"])

    async def test_close_notify_is_not_answered(self) -> None:
        """H11: Exim says nothing; after `shutdown_wait` we go on all the same."""
        server = self.goes_on(answers_close=False)
        _, second = await self.two(server)
        self.assertEqual((server.connections, second["tls"]), (1, "restarted"))

    async def test_close_notify_is_answered_late(self) -> None:
        """H15: the alert in front of the answer to EHLO is no part of it."""
        server = self.goes_on(answers_close=False, late=True)
        _, second = await self.two(server)
        self.assertEqual((server.connections, second["tls"]), (1, "restarted"))

    async def test_idle_connections_say_quit(self) -> None:
        """H40: also those that idle in clear text."""
        server = self.goes_on()
        await self.delivered()
        await self.idle()
        await self.relay.stopService()
        self.assertEqual(server.lines[-1], "QUIT")

    async def test_stopped_while_tls_is_taken_down(self) -> None:
        """H39: a stop waits for nothing, and learns nothing from it."""
        self.handover = attrs.evolve(self.handover, shutdown_wait=Seconds(30))
        self.goes_on(answers_close=False)
        await self.delivered()
        await self.relay.stopService()
        self.assertEqual(self.relay.pool.learned(next(iter(self.relay._known.values())).candidates[0].key), "")

    async def test_stopped_while_tls_is_started_again(self) -> None:
        """H39: no transaction is on its way: cut at once, the job is given back, nothing is learned from it."""
        server = self.goes_on(starttls=b"220-")
        await self.delivered()
        await self.idle()
        delivery = self.deliver(number=11)
        while server.lines[-1] != "STARTTLS":
            await self.turn()
        await self.relay.stopService().addTimeout(2, self.reactor)
        self.assertIs((await delivery).outcomes[0].kind, Kind.GIVEN_BACK)
        self.assertEqual(self.relay.pool.learned(next(iter(self.relay._known.values())).candidates[0].key), "")

    async def test_preset_without_a_test(self) -> None:
        """H05 a: exim2002: STARTTLS comes straight after the close; b: with the test, EHLO and RSET come before it."""
        for preset, between in (("exim2002", []), ("exim2002-rset", DOWN)):
            self.handover = Handover(preset=preset, shutdown_wait=Seconds(0.1))
            await self.afresh()
            server = self.goes_on()
            await self.two(server)
            self.assertEqual(server.lines[:11][6 : 6 + len(between) + 1], [*between, "STARTTLS"])
            self.assertEqual(server.connections, 1)

    async def test_presets_that_say_quit(self) -> None:
        """H05 c, d, e and H12: two connections; "never" says QUIT in clear text too."""
        for preset in ("nopass-default", "pass-unset", "never"):
            for tls in (True, False):
                self.handover = Handover(preset=preset)
                await self.afresh()
                server = self.serve(tls=tls)
                await self.delivered()
                await self.delivered(number=11)
                self.assertEqual(server.connections, 2 if tls or preset == "never" else 1, (preset, tls))

    async def test_not_for_nothing(self) -> None:
        """H26: at its limits a connection hears QUIT inside TLS; TLS is not taken down before it."""
        self.handover = attrs.evolve(self.handover, reuse_count_limit=1)
        server = self.goes_on()
        facts = (await self.delivered()).facts
        await self.gone(server)
        self.assertEqual((facts["handover"], facts["handover_why"]), ("quit", "reuse_count_limit"))
        self.assertEqual(server.lines[-1], "tls QUIT")

    async def test_silent_in_clear_text(self) -> None:
        """C3.7: the test is over after the time limit of RSET: nobody waits for it, and nothing idles that long."""
        self.timeouts = attrs.evolve(self.timeouts, rset=Seconds(0.2))
        server = self.goes_on(ehlo=b"250-")
        await self.delivered()
        await self.gone(server)
        self.assertEqual(self.relay.pool.learned(next(iter(self.relay._known.values())).candidates[0].key), "lost")


class RefusesTests(TakedownCase):
    """A peer that does not: nothing is deferred, no strike, and the host is known for it."""

    async def quits(self, server: Any, learned: str) -> None:
        """Two deliveries on two connections, the third on one with Twisted's own TLS."""
        first, second = await self.two(server)
        self.assertEqual((first["handover"], second["tls"]), ("clear", "new"))
        self.assertEqual(self.faults(), [])
        key = next(iter(self.relay._known.values())).candidates[0].key
        self.assertEqual(self.relay.pool.learned(key), learned)
        self.assertEqual(second["handover"], "quit")
        self.assertEqual(second["handover_why"], f"no-clear-{learned}")
        self.assertEqual(server.connections, 2)
        self.assertNotIn("MAIL", server.lines if isinstance(server, GoesOn) else server.verbs(1))
        self.assertFalse([each for each in self.relay.pool._alive if isinstance(each, Takedown)])

    async def test_closes_at_close_notify(self) -> None:
        """H10 A14 A18: as Postfix and Sendmail do: a fresh connection at once, nothing else."""
        await self.quits(self.serve(), "closed")

    async def test_no_starttls_any_more(self) -> None:
        """H09 X09: EHLO in clear text does not offer STARTTLS: QUIT, never a word of mail in clear text."""
        server = self.goes_on(ehlo=b"250-peer\r\n250 PIPELINING\r\n")
        await self.quits(server, "no-starttls")
        self.assertIn("QUIT", server.lines)

    async def test_ehlo_refused(self) -> None:
        """EHLO is answered with 500: no HELO, no mail."""
        server = self.goes_on(ehlo=b"500 what?\r\n")
        await self.quits(server, "no-starttls")

    async def test_rset_refused(self) -> None:
        """RSET is answered with 500."""
        await self.quits(self.goes_on(rset=b"500 what?\r\n"), "rset")

    async def test_speaks_first(self) -> None:
        """Bytes behind the close_notify are nobody's answer."""
        await self.quits(self.goes_on(speaks_first=True), "spoke-first")

    async def test_garbage_in_clear(self) -> None:
        """Bytes that are no reply."""
        await self.quits(self.goes_on(ehlo=b"\x00\x01\x02 nonsense\r\n"), "broken")

    async def test_hangs_up_in_the_test(self) -> None:
        """The connection ends at EHLO."""
        await self.quits(self.goes_on(ehlo=b""), "closed")

    async def later(self, **manners: Any) -> None:
        """It passes the test and fails when TLS is to be started again: a fresh connection, in the same attempt."""
        server = self.goes_on(**manners)
        _, second = await self.two(server)
        self.assertEqual((second["tls"], server.connections), ("new", 2))
        self.assertEqual((self.faults(), self.reports.counted), ([], ["success", "success"]))
        self.assertTrue(self.relay.pool.learned(next(iter(self.relay._known.values())).candidates[0].key))
        self.assertNotIn("MAIL", server.lines)

    async def test_second_starttls_refused(self) -> None:
        """H13 A19: RSET 250, then 454 at STARTTLS: no strike, learned."""
        await self.later(starttls=b"454 not now\r\n")

    async def test_hangs_up_at_the_second_starttls(self) -> None:
        """H13 A01: the connection ends at STARTTLS."""
        await self.later(starttls=b"")

    async def test_second_handshake_fails(self) -> None:
        """H13: what comes is no TLS."""
        await self.later(handshake=b"500 what?\r\n")


class BrokenTests(TakedownCase):
    """TLS of our own making fails as Twisted's does."""

    async def test_clear_text_inside_tls(self) -> None:
        """C54: the connection is lost, nothing of it is read; the mail waits."""
        self.goes_on(spoils=1)
        outcome = await self.deferred()
        self.assertIn("no TLS record", outcome.reply.text)
        self.assertEqual(self.faults(), ["T9"])

    async def test_handshake_that_cannot_begin(self) -> None:
        """C04: no cipher is left for the versions allowed: a failed handshake like any other, and no traceback."""
        odd = Parameters(min_version="TLSv1", max_version="TLSv1.1", ciphers="AES256-GCM-SHA384")
        self.owed.changed = lambda demand: attrs.evolve(demand, required=attrs.evolve(demand.required, parameters=odd))
        server = self.goes_on()
        self.assertIn("no ciphers available", (await self.deferred()).reply.text)
        self.assertEqual(self.faults(), ["T6"])
        await self.gone(server)

    async def test_closes_tls_in_the_transaction(self) -> None:
        """A kept connection whose peer takes TLS down in the middle: fresh, and delivered."""
        server = self.goes_on()
        await self.delivered()
        await self.idle()
        server.manners.spoils = 1
        facts = (await self.delivered(number=11)).facts
        self.assertEqual((facts["tls"], server.connections), ("new", 2))

    async def test_kept_in_tls_when_the_lists_say_so(self) -> None:
        """H06: the veto wins over hosts_clear_tls."""
        self.handover = Handover(hosts_clear_tls=("*",), hosts_nopass_tls=("*",))
        server = self.goes_on()
        first, second = await self.two(server)
        self.assertEqual([first["handover"], second["tls"], server.connections], ["quit", "new", 2])

    async def test_not_above_may(self) -> None:
        """H14: at level encrypt CLEAR is QUIT."""
        server = self.goes_on()
        facts = (await self.delivered(route="encrypt")).facts
        self.assertEqual((facts["handover"], facts["handover_why"]), ("quit", "no-clear-level"))
        await self.gone(server)
