"""Reports: whatever a server has answered, whatever a message began with, a report has its three parts and its fields, and no more.

The octets that go back are canonical, lines and all; a mail program (the standard library's) finds the fields that we wrote, a group
for each recipient, and nothing that somebody else has put there.
"""

from __future__ import annotations

from collections.abc import Iterator

from mta.bounce.notice import Occasion
from mta.bounce.original import header_section
from mta.bounce.status_part import Action, Fate
from mta.envelope import Flag
from tests.bounce.common import HEAD, TOP_FIELDS, claim, parsed, report, status_groups
from tests.fuzz.guided.draw import Draw, joined
from tests.fuzz.guided.observer import is_canonical
from tests.fuzz.guided.target import Target

__all__ = ["TARGET"]


def check(data: bytes) -> None:
    """See the module."""
    draw = Draw(data)
    occasion, whole, utf8 = draw.pick(tuple(Occasion)), draw.flag(), draw.flag()
    words = [part.decode("utf-8", "replace") for part in draw.segments()]
    reply, address, orcpt, envid = [*words, "", "", "", ""][:4]
    head = draw.wire.rpartition(b"\xff")[2]
    told = claim(address or "b@c.test", reply or None, orcpt or None, last_host=reply[:60] or None)
    fates = tuple(Fate(told, draw.pick(tuple(Action))) for _ in range(1 + draw.below(2)))
    flags = int(Flag.SMTPUTF8) * utf8
    out = report(occasion=occasion, fates=fates, head=head, whole=whole, envid=envid or None, flags=flags)
    assert is_canonical(out) and out.endswith(b"\r\n"), "not canonical"
    read = parsed(out)
    assert read.keys() == TOP_FIELDS, read.keys()
    assert len(read.get_payload()) == 3, "other parts"
    assert [len(group) >= 3 for group in status_groups(out)[1:]] == [True] * len(fates), "other groups"
    assert is_canonical(header_section(head))


def seeds() -> Iterator[bytes]:
    """Of each kind."""
    said = b"550 5.1.1 no such user\xffb@c.test\xffrfc822;b@d.test\xffenvid\xff"
    for kind in range(len(Occasion)):
        yield joined([kind, kind % 2], said + HEAD)
    yield joined(
        [0, 1, 1], "451 später\xff".encode("latin-1") + "ü@c.test\n".encode() + b"\xff\xff\xff" + HEAD + "Ä: ü\r\n".encode()
    )
    yield joined([0, 0, 0, 2], b"x" * 999 + b"\xff" + b"y " * 400 + b"\xff\xff\xff X: y\r\n--=_7f\r\n")


WORDS = (
    b"--=_" + b"7f" * 16,
    b"\r\n",
    b"\r\n\r\n",
    b"\xff",
    b" ",
    b"550 5.7.1 ",
    b"Final-Recipient: ",
    b"\xe2\x80\xa8",
    b"utf-8;",
    b"Content-Type: ",
)
TARGET = Target("bounce", check, seeds, WORDS)
