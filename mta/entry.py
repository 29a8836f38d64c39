"""The entry of `twistd mta` and `mta run`: `Options` and `makeService`, which the plugin names.

The configuration is read before the rooms are imported, and then only those are that it asks for: one server (`mta.service`),
or the supervisor of several, which serves nobody itself and whose workers start the sooner.  A configuration with mistakes
prints them all and ends the process with status 1.  Embedders have no use for this: theirs is `mta.service.make_mta`.
"""

from __future__ import annotations

import gc
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from twisted.python import usage

if TYPE_CHECKING:
    from twisted.application.service import IService

    from mta.config.settings import Settings
    from mta.control.socket import Command

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """The options of `twistd mta`."""

    longdesc = "A mail transfer agent: SMTP in, durable queue, SMTP over TLS out."
    optParameters = [["config", "c", "/etc/mta/mta.toml", "The configuration file."]]
    optFlags = [["check", None, "Read the configuration, say ok or every mistake, and end."]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.overrides: list[str] = []

    def opt_set(self, override: str) -> None:
        """KEY=VALUE: lay one key over the file; may be repeated."""
        self.overrides.append(override)


def makeService(options: Options) -> IService:
    """What twistd runs.  Ends the process where there is nothing to serve: status 1 for mistakes, 0 behind --check."""
    gc.disable()  # what is imported stays: to look through it for garbage takes a tenth of the start, and 20 ms ever after
    try:
        return _service(options)
    finally:
        gc.freeze()
        gc.enable()


def _service(options: Options) -> IService:
    from mta.config.loader import load
    from mta.config.mistake import ConfigError

    config = pathlib.Path(options["config"]).absolute()  # twistd as a daemon changes its directory

    def reread() -> Settings:
        return load(config, options.overrides)

    try:
        settings = reread()
    except ConfigError as error:
        _end(str(error), 1)
    if options["check"]:
        _end("ok", 0)
    from twisted.internet import reactor  # installed by twistd before it calls this

    from mta.control.socket import NAME, ControlSocket

    def door(commands: Mapping[str, Command]) -> ControlSocket:
        return ControlSocket(settings.data_dir / NAME, commands, reactor)

    if settings.service.workers > 1:
        from mta.workers.supervisor import Supervisor

        return Supervisor(settings, reactor, reread, door)
    from mta.process import Process
    from mta.service import make_mta

    return Process(lambda: make_mta(settings, reactor=reactor), reactor, reread, door)


def _end(text: str, status: int) -> NoReturn:
    print(text, file=sys.stderr if status else sys.stdout)
    raise SystemExit(status)
