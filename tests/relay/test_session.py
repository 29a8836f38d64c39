"""A kept session in new hands: what it achieved is judged by what is owed today, whatever its reuse key says (C3.5, H32)."""

from __future__ import annotations

from typing import Any

import attrs
from cryptography import x509

from mta.dns.answer import Tlsa
from mta.tls.policy import Level, judge
from tests.relay.test_policies import PolicyCase, tlsa
from tests.relay.world import ISSUED


class FallsShortTests(PolicyCase):
    """`Session.falls_short`."""

    async def test_h32_what_changed_since(self) -> None:
        """H32 C3.5: TLSA, pin or names of today do not fit a kept session, whatever its key says: QUIT, fresh, no penalty."""
        for first, second in (
            ({"level": Level.DANE, "tlsa": (tlsa(ISSUED),)}, {"level": Level.DANE, "tlsa": (Tlsa(3, 1, 1, bytes(32)),)}),
            ({"level": Level.STS, "names": ("mx1.example.org",)}, {"level": Level.STS, "names": ("x.example",)}),
        ):
            await self.recheck(first, second)

    async def recheck(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        self.owe(**first)
        await self.afresh()
        server = self.serve()
        await self.delivered()
        place = "smtp:may/example.org", 0
        known = self.relay._known[place]
        (candidate,) = known.candidates
        required = attrs.evolve(candidate.required, **second)
        self.relay._known[place] = attrs.evolve(known, candidates=(attrs.evolve(candidate, required=required),))
        await self.deferred()
        await self.quiet()
        self.assertEqual((server.connections, server.quits, self.faults()), (2, 2, ["T7"]))
        self.assertEqual(self.relay.pool._stale, {})

    async def test_h32_expired_by_the_clock(self) -> None:
        """H32: at verify a certificate that has ended since: QUIT to the kept session, and the fresh one is judged too."""
        server = self.serve()
        await self.delivered(route="verify")
        end = x509.load_pem_x509_certificates(ISSUED.certificate_pem)[0].not_valid_after_utc.timestamp()
        self.now = lambda: end + 1
        self.assertIn("expired", (await self.deferred(route="verify")).reply.text)
        await self.quiet()
        self.assertEqual((server.connections, server.quits, len(server.messages)), (2, 2, 1))

    async def test_what_is_asked_anew_but_equal(self) -> None:
        """The same demand in another object, as after each look-up: the session goes on, and has that one from then on."""
        server = self.serve()
        for _ in range(3):
            await self.delivered(route="verify")
            self.reactor.shift += 3
        (session,) = self.relay.pool._alive
        latest = self.relay._known["smtp:verify/example.org", 0].candidates[0].required
        self.assertIs(session.required, latest)
        self.assertEqual((server.connections, session.verdict is None), (1, False))

    async def test_reasons(self) -> None:
        """Clear text for what must not be, another identity: said in words; what is owed less is no reason by itself."""
        self.serve(tls=False)
        await self.delivered()
        (session,) = self.relay.pool._alive
        plain = session.required
        self.assertIn("clear text", session.falls_short(attrs.evolve(plain, level=Level.ENCRYPT)))
        self.assertEqual(session.falls_short(attrs.evolve(plain, sasl="PLAIN:me:0")), "other credentials")
        self.assertEqual(session.falls_short(plain), "")
        self.assertEqual(judge(plain, session.achieved), "")

    async def test_a_bug_leaves_no_session_behind(self) -> None:
        """When judging fails the mail is deferred, and the session in nobody's hands hears QUIT."""
        server = self.serve()
        await self.delivered(route="verify")
        self.patch(self.relay._ways.conduct.tls, "again", lambda required, achieved: 1 / 0)
        await self.deferred(route="verify")
        await self.quiet()
        self.assertEqual((server.quits, len(self.relay.pool._alive)), (1, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
