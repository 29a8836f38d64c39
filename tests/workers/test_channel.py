"""`mta.workers.channel`: the worker's end of the pipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Settings
from mta.workers import frame
from mta.workers.channel import Channel
from mta.workers.frame import READY, Frames, packed, said

FIRST = Settings(hostname="first.test", data_dir=Path("/d"))
SECOND = Settings(hostname="second.test", data_dir=Path("/d"))


class ChannelTests(SynchronousTestCase):
    """`Channel`."""

    def setUp(self) -> None:
        self.lost = 0
        self.slow: Deferred[Mapping[str, object]] = Deferred()
        self.seen: list[str] = []
        self.transport = StringTransport()
        self.channel = Channel(FIRST, self.lose)
        self.assertIs(
            self.channel, self.channel.door({"slow": self.wait, "now": self.now, "long": self.long, "reload": self.reload})
        )
        self.channel.makeConnection(self.transport)

    def lose(self) -> None:
        self.lost += 1

    async def wait(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        return await self.slow

    async def now(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        return {"now": request["at"]}

    async def long(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        return {"long": "x" * 1000}

    async def reload(self, _: Mapping[str, Any]) -> Mapping[str, object]:
        self.seen.append(self.channel.settings.hostname)
        return {}

    def said(self) -> list[Any]:
        """What it has sent since the last look."""
        data = self.transport.value()
        self.transport.clear()
        return list(Frames(said).feed(data))

    def test_answers_by_number(self) -> None:
        """A slow command holds up no other."""
        self.channel.dataReceived(packed((1, {"command": "slow"})) + packed((2, {"command": "now", "at": 5})))
        self.assertEqual([(2, {"ok": True, "now": 5})], self.said())
        self.slow.callback({"done": 1})
        self.assertEqual([(1, {"ok": True, "done": 1})], self.said())

    def test_refusals(self) -> None:
        """As the control socket has them."""
        self.channel.dataReceived(packed((7, {"command": "dance"})) + packed((8, {})))
        answers = self.said()
        self.assertEqual([7, 8], [number for number, _ in answers])
        self.assertEqual([False, False], [answer["ok"] for _, answer in answers])

    def test_too_long(self) -> None:
        """An answer that no frame can hold is a refusal: who has asked does not wait for it."""
        self.patch(frame, "LIMIT", 200)
        self.channel.dataReceived(packed((1, {"command": "now", "at": "x" * 100})))
        self.channel.dataReceived(packed((2, {"command": "long"})))
        self.assertEqual([(1, True), (2, False)], [(number, answer["ok"]) for number, answer in self.said()])

    def test_settings_of_a_reload(self) -> None:
        """They are there when the reload asks for them."""
        self.channel.dataReceived(packed((1, {"command": "reload", "settings": SECOND})))
        self.assertEqual((["second.test"], SECOND), (self.seen, self.channel.settings))

    def test_ready(self) -> None:
        """Said when the door opens."""
        self.channel.open()
        self.assertEqual([(READY, {})], self.said())

    def test_supervisor_gone(self) -> None:
        """Told once; a command that still runs writes nothing."""
        self.channel.dataReceived(packed((1, {"command": "slow"})))
        self.channel.connectionLost()
        self.channel.connectionLost()
        self.slow.callback({})
        self.assertEqual((1, []), (self.lost, self.said()))

    def test_nonsense(self) -> None:
        """Who cannot be understood is as good as gone."""
        self.channel.dataReceived(b"\xff" * 8)
        self.assertEqual(1, self.lost)
