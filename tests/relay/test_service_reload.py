"""Other settings while a relay runs (H38): what runs goes on, nothing is shared over the change, the stop ends all of it."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred

from mta.config.settings import Handover, Seconds
from mta.envelope import Kind
from mta.relay.handover import HandoverPolicy
from mta.testing.peers import Act, ScriptedServer
from mta.tls.client import ClientTls
from mta.tls.policy import Level
from tests.relay.world import RelayCase


class ReloadTests(RelayCase):
    """`reconfigure`."""

    def reload(self, generation: int = 2, routes: dict[str, Level] | None = None, **changes: Any) -> None:
        """The settings with changes; the route of each level stays unless others are given."""
        relay = self.relay
        assert relay is not None
        settings = attrs.evolve(relay._settings, **changes)
        relay.reconfigure(
            settings,
            generation,
            next_hops=self.hops,
            tls=ClientTls(settings.tls_client),
            handover=HandoverPolicy(settings.handover),
            routes={level.value: level for level in Level} if routes is None else routes,
            credentials=self.credentials,
        )

    async def busy(self, server: ScriptedServer) -> Deferred[Any]:
        """A delivery whose end of data the server has not answered yet."""
        delivery = self.deliver()
        while not [line for line in server.commands if line.endswith("tls DATA")]:
            await self.turn()
        await self.turn(0.05)
        return delivery

    async def test_h38_idle(self) -> None:
        """H38: an idle connection of the older generation hears QUIT at once; the next delivery has a new one."""
        server = self.serve()
        await self.delivered()
        self.reload()
        await self.quiet()
        self.assertEqual((1, 0), (server.quits, self.relay.pool.idle))
        outcome = await self.delivered()
        self.assertEqual(("new", 2), (outcome.facts["tls"], server.connections))
        self.assertEqual("kept", (await self.delivered()).facts["tls"])

    async def test_h38_busy(self) -> None:
        """H38: a busy one finishes, hears QUIT and is not kept, while new deliveries do not wait for it."""
        server = self.serve({".": [Act.STALL]})
        delivery = await self.busy(server)
        self.reload()
        await self.delivered(number=10)
        self.assertEqual((2, 1), (server.connections, self.relay.pool.idle))
        peer = next(peer for peer in server.open if peer._number == 1)
        peer.transport.write(b"250 ok\r\n")
        outcome = (await delivery).outcomes[0]
        self.assertEqual((Kind.DELIVERED, "reload"), (outcome.kind, outcome.facts["handover_why"]))
        await self.quiet()
        self.assertEqual((1, 1), (server.quits, self.relay.pool.idle))

    async def test_h38_stop_with_two_generations(self) -> None:
        """H38 H39: the stop awaits the transactions of every generation and leaves no connection."""
        server = self.serve({".": [Act.STALL]})
        delivery = await self.busy(server)
        old = self.relay.pool
        self.reload()
        await self.delivered(number=10)
        stopping = self.relay.stopService()
        server.say(b"250 ok\r\n")
        self.assertIs((await delivery).outcomes[0].kind, Kind.DELIVERED)
        await stopping
        self.assertEqual((set(), set()), (old._alive, self.relay.pool._alive))

    async def test_h38_stop_with_a_connection_made_after_the_change(self) -> None:
        """H38 H39: a job that was still looking up makes its connection in the older generation; the stop ends that too."""
        server = self.serve({"tls MAIL": Act.STALL})
        self.start()
        self.patch(type(self.relay.pool), "STOP_LIMIT", 0.2)
        self.patch(type(self.relay.pool), "QUIT_LIMIT", 0.1)
        waiting: Deferred[Any] = Deferred()
        self.hops.answers["example.org"] = waiting
        delivery, old = self.deliver(), self.relay.pool
        self.reload()
        waiting.callback(self.hops.targets)
        while not [line for line in server.commands if line.endswith("tls DATA")]:
            await self.turn()
        await self.relay.stopService().addTimeout(2, self.reactor)
        self.assertIs((await delivery).outcomes[0].kind, Kind.DEFERRED)
        self.assertEqual(set(), old._alive)

    async def test_h38_what_is_looked_up(self) -> None:
        """H38: a look-up of before the change serves its own job only: the next one asks by the new settings."""
        server = self.serve()
        self.start()
        waiting: Deferred[Any] = Deferred()
        self.hops.answers["example.org"] = waiting
        first = self.deliver()
        self.reload(routes={"may": Level.ENCRYPT})
        del self.hops.answers["example.org"]
        waiting.callback(self.hops.targets)
        self.assertIs((await first).outcomes[0].kind, Kind.DELIVERED)
        await self.delivered(number=10)
        self.assertEqual([Level.MAY, Level.ENCRYPT], [level for _, level, _, _ in self.owed.asked])
        await self.quiet()
        self.assertEqual((2, 1), (server.connections, server.quits))

    async def test_h38_limits(self) -> None:
        """H38: the new generation keeps its connections by its own limits."""
        server = self.serve()
        await self.delivered()
        self.reload(handover=Handover(idle_limit=Seconds(0.0)))
        await self.delivered()
        await self.quiet()
        self.assertEqual((2, 0), (server.quits, self.relay.pool.idle))
