"""What senders asked of reports, at the next server: passed on where it offers DSN, ours to tell where not (RFC 3461 5.2)."""

from __future__ import annotations

from typing import Any

import attrs

from mta.envelope import Flag, Kind, Notify
from tests.relay.world import RelayCase, job

WISHES = ((int(Notify.SUCCESS), "rfc822;A@example.org"), (int(Notify.NEVER), None), (0, None))


class WishesTests(RelayCase):
    """One job of three recipients with different wishes."""

    async def sent(self, sender: str = "alice@example.net", **facts: Any) -> list[Kind]:
        """The kinds of the outcomes."""
        relay = self.relay or self.start()
        plain = job("a@example.org", "b@example.org", "c@example.org", **facts)
        flags = plain.message.flags | int(Flag.RET_HDRS)
        message = attrs.evolve(plain.message, sender=sender, envid="id+3D1", flags=flags)
        claims = [attrs.evolve(c, notify=notify, orcpt=orcpt) for c, (notify, orcpt) in zip(plain.claims, WISHES, strict=True)]
        settlement = await relay.deliver(attrs.evolve(plain, message=message, claims=tuple(claims)))
        return [outcome.kind for outcome in settlement.outcomes]

    def said(self, server: Any) -> str:
        return "\n".join(server.commands)

    async def test_passed_on(self) -> None:
        """5.2.1: with DSN every wish goes on as it came, nothing is invented, and the success is theirs to tell."""
        server = self.serve(extensions=("PIPELINING", "DSN"))
        self.assertEqual([Kind.DELIVERED] * 3, await self.sent())
        said = self.said(server)
        self.assertIn("MAIL FROM:<alice@example.net> RET=HDRS ENVID=id+3D1", said)
        self.assertIn("RCPT TO:<a@example.org> NOTIFY=SUCCESS ORCPT=rfc822;A@example.org", said)
        self.assertIn("RCPT TO:<b@example.org> NOTIFY=NEVER ORCPT=rfc822;b@example.org", said)
        self.assertIn("RCPT TO:<c@example.org>", said)
        self.assertNotIn("RCPT TO:<c@example.org> ", said)

    async def test_dropped(self) -> None:
        """5.2.2: without DSN nothing of it is said, and the success is ours to tell to whom asked for it."""
        server = self.serve(extensions=("PIPELINING",))
        self.assertEqual([Kind.CONFIRMED, Kind.DELIVERED, Kind.DELIVERED], await self.sent())
        for word in ("RET=", "ENVID=", "NOTIFY=", "ORCPT="):
            self.assertNotIn(word, self.said(server))

    async def test_traced(self) -> None:
        """RFC 2852 4.1.4: the trace, and mode N to who cannot tell of it, is ours to tell, to all but NEVER."""
        told = [Kind.CONFIRMED, Kind.DELIVERED, Kind.CONFIRMED]
        for extensions, flags, kinds in (
            (("DSN", "DELIVERBY"), Flag.BY_TRACE | Flag.BY_RETURN, told),
            (("DSN", "DELIVERBY"), Flag.BY_TRACE, told),
            (("DSN", "DELIVERBY"), Flag.BY_RETURN, [Kind.DELIVERED] * 3),
            (("DSN", "DELIVERBY"), Flag(0), [Kind.DELIVERED] * 3),
            (("DSN",), Flag(0), told),
        ):
            self.serve(extensions=("PIPELINING", *extensions))
            by = int((self.reactor.seconds() + 1000) * 1000)
            self.assertEqual(kinds, await self.sent(flags=int(flags), deliver_by=by), (extensions, flags))
            self.assertEqual([Kind.DELIVERED] * 3, await self.sent("", flags=int(flags), deliver_by=by))
            await self.afresh()

    async def test_kept_connection(self) -> None:
        """The same on a connection that another delivery has begun."""
        for extensions, kind in ((("PIPELINING",), Kind.CONFIRMED), (("PIPELINING", "DSN"), Kind.DELIVERED)):
            await self.afresh()
            server = self.serve(extensions=extensions)
            self.assertEqual([kind] * 2, [(await self.sent())[0], (await self.sent())[0]])
            self.assertEqual(1, server.connections)

    async def test_refused_is_refused(self) -> None:
        """Only what was taken is confirmed."""
        self.serve({"RCPT a@example.org": "550 5.1.1 who"})
        self.assertEqual([Kind.FAILED, Kind.DELIVERED, Kind.DELIVERED], await self.sent())

    async def test_null_sender(self) -> None:
        """5.2: there is nobody to tell."""
        self.serve()
        self.assertEqual([Kind.DELIVERED] * 3, await self.sent(sender=""))
