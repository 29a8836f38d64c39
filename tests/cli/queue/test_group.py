"""`mta queue` as it is typed: the commands that there are, and the whole way through a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from twisted.internet.threads import deferToThread

from mta.cli.main import main
from tests.whole.world import World

LOOKING = ("list", "summary", "show", "check")
CARRYING = ("backup", "restore", "export", "import", "move")


class GroupTests(World):
    """The group."""

    def test_help(self) -> None:
        """Every command, and each has a help of its own."""
        help = CliRunner().invoke(main, ["queue", "--help"]).output
        for name in (*LOOKING, *"flush hold release retry remove reroute suspend resume run".split(), *CARRYING):
            self.assertIn(name, help)
            result = CliRunner().invoke(main, ["queue", name, "-h"])
            self.assertEqual((0, True), (result.exit_code, "--data-dir" in result.output), name)

    async def test_beside_a_running_service(self) -> None:
        """twistd has the commands on its control socket; the command finds it by the configuration."""
        mta = await self.process()
        config = str(mta.directory / "mta.toml")

        def typed(*arguments: str) -> tuple[int, str]:
            command = [str(Path(sys.executable).with_name("mta")), "queue", *arguments, "-C", config]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            return done.returncode, done.stdout + done.stderr

        self.assertEqual((0, "the queue is empty\n"), await deferToThread(typed, "list"))
        self.assertEqual((0, "ok\n"), await deferToThread(typed, "check"))
        self.assertEqual(0, (await deferToThread(typed, "suspend", "example.org"))[0])
        await deferToThread(mta.kill9)
        status, said = await deferToThread(typed, "summary")
        self.assertEqual((0, True), (status, "smtp:_mx/example.org" in said), said)
        self.assertEqual(75, (await deferToThread(typed, "resume", "example.org"))[0])
