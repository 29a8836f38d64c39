"""kill -9 at every numbered point of the crash table: what the client heard, what is left, what arrives after a restart.

The laws of `world` hold for all of them; beside them each point has its line of the table, exactly.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from tests.queue.crash.world import APART, SENDER, TOGETHER, CrashCase, Mail, Remains, failed

SMALL, LARGE = 3_000, 200_000  # bytes
OLD = 2 * 3600  # seconds: more than the hour that a file without a row is left alone


def addresses(count: int, name: str = "user", domains: Sequence[str] = (TOGETHER,)) -> list[str]:
    """Recipients."""
    return [f"{name}{number}@{domains[number % len(domains)]}" for number in range(count)]


def mails(name: str = "user", sizes: Sequence[int] = (SMALL, LARGE)) -> Iterator[Mail]:
    """Small and large, for one recipient and for three."""
    for size in sizes:
        for count in (1, 3):
            yield Mail.made(f"{size} for {count}", size, addresses(count, name))


class PointTests(CrashCase):
    """See the module."""

    async def crash(self, point: str, mail: Mail, *, heard: bool) -> Remains:
        """A new server takes the mail and dies; what it has left."""
        await self.start(point)
        self.assertEqual(heard, await self.send(mail), (point, len(mail.text)))
        return await self.remains()

    async def recover(self, files: int = 0) -> None:
        """The next server, unarmed, does all that was to be done, and leaves so many files."""
        await self.start()
        await self.emptied()
        await self.until(lambda: len(self.files()) <= files, "the removal of files")
        self.assertEqual(files, len(self.files()))
        self.balance()
        self.kill()
        await self.ended()

    async def each(self, point: str, mails: Iterator[Mail], *, heard: bool, rows: bool, taken: int, copies: int) -> None:
        """A crash for each mail.  rows: they are left; taken, copies: by each recipient before the restart and after."""
        for mail in mails:
            left = await self.crash(point, mail, heard=heard)
            large = len(mail.text) >= LARGE
            orphans = int(large and not rows and not point.startswith("1 "))
            self.assertEqual(mail.copies if rows else set(), left.rows)
            self.assertEqual(dict.fromkeys(mail.copies, taken) if taken else {}, left.taken)
            self.assertEqual(int(large and rows) + orphans, left.files)
            await self.recover(orphans)
            self.assertEqual(dict.fromkeys(mail.copies, copies) if copies else {}, self.sink.copies())
            self.fresh()

    # -- before the answer

    async def test_q43_01_while_data_arrives(self) -> None:
        """Nothing is left, not even the file of a large body, which has no name yet."""
        await self.each("1 small", mails(), heard=False, rows=False, taken=0, copies=0)
        await self.each("1 large", mails(sizes=[LARGE]), heard=False, rows=False, taken=0, copies=0)

    async def test_q43_02_large_body_without_a_row(self) -> None:
        """A file without a row is left."""
        await self.each("2", mails(sizes=[LARGE]), heard=False, rows=False, taken=0, copies=0)

    async def test_q43_03_operation_waits_for_the_writer(self) -> None:
        """No row: the client was not answered and sends again.  A large body is as in 2."""
        await self.each("3", mails(), heard=False, rows=False, taken=0, copies=0)

    async def test_q43_04_in_commit(self) -> None:
        """None of the transaction when the log is torn, all of it when only the sync is missing."""
        await self.each("4 torn", mails(), heard=False, rows=False, taken=0, copies=0)
        await self.each("4 sync", mails(), heard=False, rows=True, taken=0, copies=1)

    async def test_q43_05_between_sync_and_answer(self) -> None:
        """It is ours though nobody heard so: delivered once (and the client sends again, RFC 1047)."""
        await self.each("5", mails(), heard=False, rows=True, taken=0, copies=1)

    # -- after it

    async def test_q43_06_before_the_first_attempt(self) -> None:
        """What was taken at its insert is waiting at the restart, and due."""
        await self.each("6", mails(), heard=True, rows=True, taken=0, copies=1)

    async def test_q43_07_before_the_final_dot(self) -> None:
        """The remote has part of it and forgets that: one whole copy."""
        await self.each("7", mails(), heard=True, rows=True, taken=0, copies=1)

    async def test_q43_08_after_the_final_dot(self) -> None:
        """Nobody read the answer: the second copy that cannot be avoided."""
        await self.each("8", mails(), heard=True, rows=True, taken=1, copies=2)

    async def test_q43_09_before_the_settlement(self) -> None:
        """The answer was read and not recorded: a second copy."""
        await self.each("9", mails(), heard=True, rows=True, taken=1, copies=2)

    async def test_q43_10_after_the_settlement(self) -> None:
        """It is not delivered again; the file of a large body is left."""
        await self.each("10", mails(), heard=True, rows=False, taken=1, copies=1)

    async def test_q43_10_lazy_completions(self) -> None:
        """What was committed lazily is not synced: a power cut may undo it, a kill does not."""
        self.more = '[queue]\ncompletions = "lazy"\n'
        self.fresh()
        await self.each("10", mails(), heard=True, rows=False, taken=1, copies=1)

    async def test_q43_08_to_10_of_several_destinations(self) -> None:
        """A recipient that is settled has one copy, whatever became of the other recipients of the message."""
        settled = 0
        for point in ("8", "9", "10"):
            for size in (SMALL, LARGE):
                mail = Mail.made(f"{point} apart", size, addresses(6, domains=APART))
                left = await self.crash(point, mail, heard=True)
                settled += 6 - len(left.rows)
                await self.recover(int(size == LARGE and not left.rows))
                self.assertEqual(set(mail.recipients), {to for _, to in self.sink.copies()})
                self.fresh()
        self.assertGreaterEqual(settled, 4)

    async def test_q43_11_before_the_deferral(self) -> None:
        """Not in five minutes, as the deferral says, but at once: it was not recorded."""
        await self.each("11", mails("later"), heard=True, rows=True, taken=0, copies=1)

    # -- bounces

    async def bounced(self, point: str, rows: int | None, dest: str) -> None:
        """A crash on the way to the report for each mail; there is one report, and it names everybody.

        rows: what is left, None: one for each recipient; all of them at that destination.
        """
        for mail in mails("bad"):
            left = await self.crash(point, mail, heard=True)
            self.assertEqual({dest: len(mail.recipients) if rows is None else rows}, left.dests)
            await self.recover(left.files if rows is not None else 0)
            (report,) = self.sink.reports()
            self.assertEqual((SENDER,), report.recipients)
            self.assertEqual(list(mail.recipients), failed(report.body))
            self.assertEqual({}, self.sink.copies())
            self.fresh()

    async def test_q43_12_before_the_report(self) -> None:
        """The bounce is owed: it was recorded with the failure."""
        await self.bounced("12", None, "bounce:")

    async def test_q43_13_in_the_transaction_of_the_report(self) -> None:
        """Both or neither: the failed recipients wait for their report, or the report waits and they are gone."""
        await self.bounced("13 before", None, "bounce:")
        await self.bounced("13 after", 1, "smtp:route4/" + self.relay.split('"')[1])

    # -- and

    async def test_q43_15_in_a_checkpoint(self) -> None:
        """Half of a page is in the file; the log is whole, and is used again."""
        for mail in mails():
            await self.start("15")
            await self.send(mail)
            await self.remains()
            await self.recover()
            self.fresh()

    async def test_q43_orphans_are_swept(self) -> None:
        """Of the files that crashes have left, those go that are older than an hour."""
        for name in ("old", "young"):
            await self.crash("2", Mail.made(name, LARGE, addresses(1)), heard=False)
        old, young = sorted(self.files(), key=lambda path: path.stat().st_mtime)
        os.utime(old, (time.time() - OLD,) * 2)
        await self.start("sweep")
        await self.until(lambda: not old.exists(), "the sweep of a file")
        self.assertEqual([young], self.files())
