"""What a reload keeps from the start."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.at_start import AT_START, kept
from mta.config.settings import Dns, Log, Queue, Service, Settings

SETTINGS = Settings("mx1.example.org", Path("/nowhere"))


class KeptTests(SynchronousTestCase):
    """`kept`."""

    def test_every_key_of_the_start(self) -> None:
        """The old value stays, the name is told, and what stands beside it changes."""
        others = {
            "hostname": "mx2.example.org",
            "data_dir": Path("/elsewhere"),
            "dns": Dns(attempts=9),
            "log": Log(format="json"),
            "tlsrpt": attrs.evolve(SETTINGS.tlsrpt, enabled=False),
            "queue": Queue(completions="lazy", active_limit=7),
            "service": Service(workers=2),
        }
        new = attrs.evolve(SETTINGS, local_domains=("a.org",), **others)
        wanted = attrs.evolve(SETTINGS, local_domains=("a.org",), queue=Queue(active_limit=7))
        self.assertEqual((wanted, list(AT_START)), kept(SETTINGS, new))

    def test_nothing_of_the_start(self) -> None:
        """All else is taken as it is."""
        new = attrs.evolve(SETTINGS, local_domains=("a.org",), queue=Queue(active_limit=7))
        self.assertEqual((new, []), kept(SETTINGS, new))
