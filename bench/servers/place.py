"""Where a server is started and for what, and what is known of it once it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import attrs

from bench.contest import Contestant
from bench.scenario import Rig
from tests.peers.peers import Server

__all__ = ["PROCESSES", "Place", "Running"]

PROCESSES = 600  # sessions that every server takes at once: more than any scenario has


@attrs.frozen
class Place:
    """folder: of one server, empty.  hop: the port of the next hop on 127.0.0.1.  pair: certificate and key, in the folder."""

    folder: Path
    rig: Rig
    hop: int
    pair: tuple[Path, Path]


@attrs.frozen
class Running:
    """A server that takes mail.

    settings: what is always changed from its default, in its own words.  here: what is changed for this rig.
    """

    contestant: Contestant
    stop: Callable[[], None]
    version: str
    settings: str
    here: str = ""


def peer(server: Server, name: str, log: Path, delivery: re.Pattern[bytes], *about: str) -> Running:
    """A peer of tests/peers.  about: version, settings, here."""
    return Running(Contestant(name, server.port, server.pid, log, delivery), server.stop, *about)


def said(settings: dict[str, str]) -> str:
    """key = value, in one line."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())
