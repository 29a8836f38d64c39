"""The file of an export: every tar opens it, and damage anywhere is found."""

from __future__ import annotations

import json
import tarfile
from hashlib import sha256
from io import BytesIO

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Message
from mta.queue.carry.archive import Broken, Packing, Unpacking
from mta.queue.ids import id_text
from tests.queue.carry.case import FIRST, NOW, body, message, packed, row

MESSAGES = (message(0, 13), message(1, 512 + 13), message(2, 70_000))
WHOLE = packed(*MESSAGES)
Found = list[tuple[Message, bytes]]


def unpacked(data: bytes, found: Found) -> None:
    """Read it; `found` gets what came whole before it broke."""
    unpacking = Unpacking(BytesIO(data))
    for envelope in unpacking.records():
        prefix = unpacking.beginning(envelope.prefix)
        rest = b"".join(unpacking.pieces())
        found.append((attrs.evolve(envelope.message, prefix=prefix), rest))


def members(data: bytes) -> dict[str, bytes]:
    """As `tar` sees it."""
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


class ArchiveTests(SynchronousTestCase):
    """See the module."""

    def test_there_and_back(self) -> None:
        """Envelopes, prefixes and bodies, of sizes at and off the blocks of tar."""
        found: Found = []
        unpacked(WHOLE, found)
        self.assertEqual([(each, body(each)) for each in MESSAGES], found)

    def test_tar_opens_it(self) -> None:
        """Two members for each message, the second one the message as a mail program reads it; the digest is as documented."""
        found = members(WHOLE)
        names = [f"{id_text(each.id)}.{end}" for each in MESSAGES for end in ("json", "eml")]
        self.assertEqual(["mta-queue.json", *names, "end.json"], list(found))
        self.assertEqual({"format": "mta queue", "version": 1, "made": NOW}, json.loads(found["mta-queue.json"]))
        self.assertEqual({"messages": 3, "recipients": 6}, json.loads(found["end.json"]))
        for each in MESSAGES:
            line, mail = found[f"{id_text(each.id)}.json"], found[f"{id_text(each.id)}.eml"]
            self.assertEqual(each.prefix + body(each), mail)
            self.assertEqual(sha256(line[: line.rindex(b', "sha256"')] + mail).hexdigest(), json.loads(line)["sha256"])
        self.assertEqual(0, len(WHOLE) % 512)

    def test_of_nothing(self) -> None:
        """An empty queue has a file too."""
        found: Found = []
        unpacked(packed(), found)
        self.assertEqual([], found)

    def test_undo(self) -> None:
        """A message whose body broke off is not there; the one behind it is."""
        file = BytesIO()
        packing = Packing(file, NOW)
        for each, data in ((MESSAGES[0], b"12"), (MESSAGES[1], body(MESSAGES[1]))):
            packing.begin(each, (row(each),))
            packing.write(data)
            try:
                packing.end()
            except ValueError:
                packing.undo()
        packing.close()
        found: Found = []
        unpacked(file.getvalue(), found)
        self.assertEqual(([MESSAGES[1]], 1), ([each for each, _ in found], packing.messages))

    @given(st.integers(0, len(WHOLE) - 1024 - 1))
    @settings(deadline=None, max_examples=200)
    def test_cut_anywhere(self, at: int) -> None:
        """What ended before the cut comes, the rest is Broken: a file without its end is never taken for whole."""
        self.check_broken(WHOLE[:at])

    def test_cut_at_the_borders(self) -> None:
        """At every block of tar, and one byte beside it."""
        for border in range(0, len(WHOLE) - 1024, 512):
            for at in (border - 1, border, border + 1):
                if at >= 0:
                    self.check_broken(WHOLE[:at])

    @given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
    @settings(deadline=None, max_examples=200)
    def test_one_byte_of_damage(self, at: int, flip: int) -> None:
        """Wherever it is: no message comes that is not one of those that were exported, and none is missing in silence."""
        data = bytearray(WHOLE)
        data[at] ^= flip
        found: Found = []
        try:
            unpacked(bytes(data), found)
        except Broken:
            self.assertEqual([(each, body(each)) for each in MESSAGES][: len(found)], found)
        else:  # the padding behind the end
            self.assertEqual([(each, body(each)) for each in MESSAGES], found)

    @given(st.binary(max_size=2000))
    @settings(deadline=None, max_examples=100)
    def test_no_export(self, data: bytes) -> None:
        """Anything else, in front of an export or alone."""
        for tried in (data, data + WHOLE) if data else (data,):
            self.assertEqual([], self.check_broken(tried))

    def check_broken(self, data: bytes) -> Found:
        found: Found = []
        self.assertRaises(Broken, unpacked, data, found)
        self.assertEqual([(each, body(each)) for each in MESSAGES][: len(found)], found)
        return found

    def test_which_record(self) -> None:
        """The error names the record, by number and id."""
        second = WHOLE.index(b"y" * 512) + 100
        damaged = bytearray(WHOLE)
        damaged[second] ^= 1
        error = self.assertRaises(Broken, unpacked, bytes(damaged), [])
        self.assertEqual(f"record 2 ({id_text(FIRST + 100)}): its digest is another one", str(error))
        for end, where in ((second, "record 2"), (second + 1000, "behind record 2")):
            error = self.assertRaises(Broken, unpacked, WHOLE[:end], [])
            self.assertEqual(f"{where} ({id_text(FIRST + 100)}): it ends too early", str(error))

    def test_other_versions_and_tars(self) -> None:
        """Refused by name: a later version, a tar of anything else, one whose members were taken out or put elsewhere."""
        later = packed().replace(b'"version": 1', b'"version": 2')
        self.assertIn("version 2", str(self.assertRaises(Broken, unpacked, later, [])))
        other = BytesIO()
        with tarfile.open(fileobj=other, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("hello"))
        self.assertIn("no export", str(self.assertRaises(Broken, unpacked, other.getvalue(), [])))
        parts = members(WHOLE)
        names = list(parts)
        for order in ([0, 3, 4, 1, 2, 5, 6, 7], [0, 1, 2, 5, 6, 7], [0, 1, 4, 7], [0, 2, 1, 7], [0, 1, 2, 1, 2, 7]):
            made = BytesIO()
            with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for number in order:
                    info = tarfile.TarInfo(names[number])
                    info.size = len(parts[names[number]])
                    tar.addfile(info, BytesIO(parts[names[number]]))
            found: Found = []
            self.assertRaises(Broken, unpacked, made.getvalue(), found)
            self.assertTrue(all((each, data) in [(each, body(each)) for each in MESSAGES] for each, data in found))
