"""`mta queue suspend`, `resume`, `run`, on a whole server."""

from __future__ import annotations

import json

from tests.cli.queue.world import QueueWorld


class DestinationTests(QueueWorld):
    """What becomes of the mail of a destination."""

    async def test_suspend_and_resume(self) -> None:
        """Nothing is tried until it is resumed; the summary says why; then it is tried at once."""
        await self.up()
        result = await self.type("suspend", self.dest, "--why", "new servers")
        self.assertEqual((0, f"{self.dest} is suspended\n"), (result.exit_code, result.stdout))
        caller = await self.caller(self.server)
        await caller.deliver("a@other.test")
        self.assertEqual({"a@other.test": ("waiting", 0)}, await self.states())
        (found,) = json.loads((await self.type("summary", "--json")).stdout)["destinations"]
        self.assertEqual((True, "new servers"), (found["suspended"], found["why"]))
        result = await self.type("resume", self.dest)
        self.assertEqual((0, f"{self.dest} is not suspended\n"), (result.exit_code, result.stdout))
        await self.happened(self.server, "deferred")

    async def test_domain_alone(self) -> None:
        """Means where its MX hosts take the mail."""
        await self.up()
        self.assertEqual("smtp:_mx/example.org is suspended\n", (await self.type("suspend", "Example.ORG")).stdout)
        self.assertEqual(["smtp:_mx/example.org"], json.loads((await self.type("summary", "--json")).stdout)["suspended"])

    async def test_run(self) -> None:
        """What is due sets out, in one stage or two."""
        await self.up()
        for more in ((), ("--two-stage",)):
            result = await self.type("run", *more)
            self.assertEqual((0, "mail for 0 destination(s) has set out\n"), (result.exit_code, result.stdout))
        self.assertEqual([1, 2], [fields["stages"] for fields in self.server.events.of("run")])

    async def test_run_delivers_what_is_only_stored(self) -> None:
        """With mode = "spool" mail waits for it."""
        await self.up('[queue]\nmode = "spool"\n')
        caller = await self.caller(self.server)
        await caller.deliver("you@b.test", b"hello\r\n")
        self.assertEqual({"you@b.test": ("waiting", 0)}, await self.states())
        self.assertEqual("mail for 1 destination(s) has set out\n", (await self.type("run")).stdout)
        await self.happened(self.server, "delivered")

    async def test_service_down(self) -> None:
        """Status 75."""
        await self.up()
        await self.down()
        for arguments in (("suspend", "x"), ("resume", "x"), ("run",)):
            self.assertEqual(75, (await self.type(*arguments)).exit_code)
