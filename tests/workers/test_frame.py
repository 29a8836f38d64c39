"""`mta.workers.frame`: what goes through the pipes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.loader import load
from mta.workers.frame import LIMIT, Errand, Frames, Handed, answered, packed, said, value_of
from tests.config.common import ConfigCase


class FramesTests(SynchronousTestCase):
    """`Frames`."""

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0), st.dictionaries(st.text(), st.integers())), max_size=5), st.integers(1, 50))
    def test_cut_anywhere(self, values: list[object], size: int) -> None:
        """The same values, however the pipe cuts them."""
        data = b"".join(map(packed, values))
        frames, found = Frames(value_of), list[object]()
        for start in range(0, len(data), size):
            found += frames.feed(data[start : start + size])
        self.assertEqual(values, found)

    def test_no_frame(self) -> None:
        """What is too long, or no pickle, is a ValueError, and nothing is waited for."""
        with self.assertRaises(ValueError):
            list(Frames(value_of).feed((LIMIT + 1).to_bytes(4, "big")))
        with self.assertRaises(ValueError):
            list(Frames(value_of).feed(b"\0\0\0\3abc"))
        with self.assertRaises(ValueError):
            packed(b"x" * (LIMIT + 1))

    def test_what_a_worker_says(self) -> None:
        """Plain values, whatever the command gave; what is no answer, or a pickle, is a ValueError and nothing else."""
        (found,) = Frames(said).feed(answered(7, {"ok": True, "restart": ("dns",), "at": Path("/d")}))
        self.assertEqual((7, {"ok": True, "restart": ["dns"], "at": "/d"}), found)
        for data in (b"7", b"[]", b'["7", {}]', b"[true, {}]", b"[7, 8]", b"[" * 100_000, b"\xff", packed((7, {}))[4:]):
            with self.assertRaises(ValueError):
                list(Frames(said).feed(len(data).to_bytes(4, "big") + data))


class ErrandTests(ConfigCase):
    """`Errand`."""

    def test_all_settings_travel(self) -> None:
        """Every kind of value that a configuration has comes out as it went in."""
        path = self.directory / "mta.toml"
        path.write_text(
            'hostname = "a.test"\ndata_dir = "data"\nlocal_domains = ["a.test"]\n[[listen]]\nendpoint = "tcp:0"\n'
            'avoid_tls_for = ["10.0.0.0/8", "::1"]\n[[route]]\nmatch = "*"\nrelay = "[127.0.0.1]:9"\n[[access.dnsbl]]\n'
            'zone = "bl.test"\n[access.greylist]\ndelay = "1m"\n[limits]\nmessage_size = "1MiB"\n'
        )
        errand = Errand(load(path, []), 1, 2, (Handed("tcp:0", 4, 2),), "twisted.internet.epollreactor")
        (found,) = Frames(value_of).feed(packed(errand))
        self.assertEqual(errand, found)
        self.assertIs(type(errand.settings.limits.message_size), type(found.settings.limits.message_size))
