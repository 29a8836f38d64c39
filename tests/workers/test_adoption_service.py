"""An adoption as the server has it: at its start, before the queue is opened, and at a stop that comes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mta.config.loader import parse
from mta.queue.sqlite.files import queue_file
from mta.queue.sqlite.lock import is_owned
from mta.queue.sqlite.still import owning
from mta.service import Mta, make_mta
from mta.workers.adoption import Adoption


class ServiceTests(TestCase):
    """`Mta`, with a queue file that is left over."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.events: list[str] = []
        self.data = self.folder / "data"
        with owning(self.data, 1):
            pass  # an empty one

    def event(self, name: str, queue_id: str, fields: Mapping[str, object]) -> None:
        self.events.append(name)

    def made(self) -> Mta:
        text = 'hostname = "mx.test"\ndata_dir = "data"\n[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\ntls = "none"\n'
        return make_mta(parse(text, self.folder / "mta.toml"), reactor=reactor, log=self)

    async def test_stopped_before_the_queue_is_opened(self) -> None:
        """The stop waits for what the thread does and stops no reactor meanwhile; behind it no queue is opened, no port."""
        begun, go_on = threading.Event(), threading.Event()

        def slowly(_: Adoption) -> None:
            begun.set()
            go_on.wait(30)

        self.patch(Adoption, "_repeat_all", slowly)
        mta = self.made()
        mta.startService()
        while not begun.is_set():
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        reactor.callLater(0.05, go_on.set)  # type: ignore[attr-defined]
        await mta.stopService()
        await mta.ready
        await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        self.assertFalse(is_owned(queue_file(self.data)))
        self.assertEqual([], mta.receive.ports)
        self.assertEqual("stopped", self.events[-1])
