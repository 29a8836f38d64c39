"""The servers by the names that tables and options use, and which of them can run here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from bench.servers import aiosmtpd, exim, opensmtpd, ours, postfix
from bench.servers.place import Place, Running

__all__ = ["NAMES", "SHARE", "STARTERS", "unable"]

STARTERS: Final[Mapping[str, Callable[[str, Place], Running]]] = {
    "mta": ours.start,
    "mta, 2 workers": partial(ours.start, workers=True),
    "mta, no reuse": partial(ours.start, keeps=False),
    "Postfix": postfix.start,
    "Postfix, reuse": partial(postfix.start, keeps=True),
    "Exim": exim.start,
    "OpenSMTPD": opensmtpd.start,
    "aiosmtpd": aiosmtpd.start,
}
SHARE: Final = {"Exim": 0.1, "OpenSMTPD": 0.1}  # of the messages of a round: it would take too long with all of them
NAMES: Final = {name.lower().replace(", ", "-").replace(" ", "-"): name for name in STARTERS}  # as options are typed


def unable(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Of these servers those that cannot run here, and why."""
    missing = {}
    if not aiosmtpd.is_there():
        missing["aiosmtpd"] = "not installed: pip install -e '.[bench]'"
    if not ours.can_have_workers(folder):
        missing["mta, 2 workers"] = "this version has no [service] workers"
    return {name: why for name, why in missing.items() if name in names}
